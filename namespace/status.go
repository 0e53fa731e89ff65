package namespace

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/kakuri/kakuri/abi"
)

// parseStatus takes the lines of proc_pid_status(5) that a Process has; the others, of
// which newer kernels have more, are skipped. The name in the first line is escaped
// there, so that it cannot pass for another line.
func (p *Process) parseStatus(data []byte) error {
	var buf []string
	uids := false
	err := lines(data, func(line []byte) error {
		key, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return fmt.Errorf("line %q has no colon", line)
		}
		uids = uids || string(key) == "Uid"
		var err error
		if buf, err = p.statusLine(string(key), value, buf); err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
		return nil
	})
	if err == nil && !uids {
		return errors.New("no line with user ids")
	}
	return err
}

// statusLine takes one line apart, with buf as room for its columns.
func (p *Process) statusLine(key string, value []byte, buf []string) ([]string, error) {
	var err error
	switch key {
	case "PPid", "Threads", "Seccomp", "Seccomp_filters", "NoNewPrivs":
		var n int
		n, err = integer(string(bytes.TrimSpace(value)))
		switch key {
		case "PPid":
			p.Parent = n
		case "Threads":
			p.Threads = n
		case "Seccomp":
			p.Seccomp = SeccompMode(min(n, 255))
		case "Seccomp_filters":
			p.Filters = n
		case "NoNewPrivs":
			p.NoNewPrivs = n == 1
		}
	case "Umask":
		var n uint64
		n, err = strconv.ParseUint(string(bytes.TrimSpace(value)), 8, 12)
		p.Umask = int(n)
	case "Uid", "Gid":
		buf = fields(value, buf)
		ids := &p.UIDs
		if key == "Gid" {
			ids = &p.GIDs
		}
		err = ids.set(buf)
	case "Groups":
		buf = fields(value, buf)
		p.Groups, err = each(buf, func(s string) (uint32, error) {
			n, err := number(s, 32)
			return uint32(n), err
		})
	case "NSpid":
		buf = fields(value, buf)
		var pids []int
		if pids, err = each(buf, integer); err == nil && len(pids) > 0 {
			p.PIDs = pids
		}
	case "CapInh":
		err = capabilities(value, &p.Caps.Inheritable)
	case "CapPrm":
		err = capabilities(value, &p.Caps.Permitted)
	case "CapEff":
		err = capabilities(value, &p.Caps.Effective)
	case "CapBnd":
		err = capabilities(value, &p.Caps.Bounding)
	case "CapAmb":
		err = capabilities(value, &p.Caps.Ambient)
	}
	return buf, err
}

// set takes the columns real, effective, saved, file system.
func (ids *IDs) set(columns []string) error {
	n, err := each(columns, func(s string) (uint32, error) {
		n, err := number(s, 32)
		return uint32(n), err
	})
	if err != nil {
		return err
	}
	if len(n) != 4 {
		return fmt.Errorf("%d ids, want 4", len(n))
	}
	*ids = IDs{n[0], n[1], n[2], n[3]}
	return nil
}

func capabilities(value []byte, into *abi.CapSet) error {
	n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64)
	if err != nil {
		return errors.New("not a set of capabilities")
	}
	*into = abi.CapSet(n)
	return nil
}

// each parses all of list; nil for an empty one.
func each[T any](list []string, parse func(string) (T, error)) ([]T, error) {
	var out []T
	for _, s := range list {
		v, err := parse(s)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}
