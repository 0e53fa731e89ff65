package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
)

var updateVerb = verb{"update", "ID", "change limits of a container", func(c *command) ([]flag, func([]string) (int, error)) {
	var file string
	var changes []func(*specs.LinuxResources)
	var given []origin
	flags := append([]flag{
		text("resources r", &file, "FILE", `read linux.resources from a JSON file, or from stdin for "-"`),
	}, noting(limitFlags(&changes), limitOrigins(), &given)...)
	return flags, func(args []string) (int, error) {
		id, err := one("update", args)
		if err != nil {
			return 1, err
		}
		x, err := c.runtime.Open(id)
		if err != nil {
			return 1, err
		}
		r := &specs.LinuxResources{}
		if file != "" {
			data, err := readAll(file)
			if err != nil {
				return 1, err
			}
			if r, err = oci.DecodeResources(data); err != nil {
				return 1, fmt.Errorf("%s: %w", file, err)
			}
		}
		for _, f := range changes {
			f(r)
		}
		if err := x.Update(r); err != nil {
			return 1, ofFlag(err, given)
		}
		return 0, nil
	}
}}

func readAll(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(os.Stdin)
	}
	return files.Read(file)
}

func memory(r *specs.LinuxResources) *specs.LinuxMemory {
	if r.Memory == nil {
		r.Memory = &specs.LinuxMemory{}
	}
	return r.Memory
}

func cpu(r *specs.LinuxResources) *specs.LinuxCPU {
	if r.CPU == nil {
		r.CPU = &specs.LinuxCPU{}
	}
	return r.CPU
}

// limitOrigins are the values of linux.resources that flags stand for.
func limitOrigins() []origin {
	return []origin{
		{"--memory", "memory.limit"}, {"--memory-reservation", "memory.reservation"}, {"--memory-swap", "memory.swap"},
		{"--cpu-share", "cpu.shares"}, {"--cpu-period", "cpu.period"}, {"--cpu-quota", "cpu.quota"}, {"--cpu-burst", "cpu.burst"},
		{"--cpu-rt-period", "cpu.realtimePeriod"}, {"--cpu-rt-runtime", "cpu.realtimeRuntime"}, {"--cpu-idle", "cpu.idle"},
		{"--cpuset-cpus", "cpu.cpus"}, {"--cpuset-mems", "cpu.mems"}, {"--pids-limit", "pids.limit"}, {"--blkio-weight", "blockIO.weight"},
	}
}

// limitFlags are the limits that have a flag of their own; each adds a change.
func limitFlags(changes *[]func(*specs.LinuxResources)) []flag {
	add := func(f func(*specs.LinuxResources)) { *changes = append(*changes, f) }
	size := func(name, help string, to func(r *specs.LinuxResources) **int64) flag {
		return flag{names: name, arg: "BYTES", help: help, value: func(s string) error {
			n, err := bytes(s)
			add(func(r *specs.LinuxResources) { *to(r) = &n })
			return err
		}}
	}
	word := func(name, help string, to func(r *specs.LinuxResources) *string) flag {
		return flag{names: name, arg: "LIST", help: help, value: func(s string) error {
			add(func(r *specs.LinuxResources) { *to(r) = s })
			return nil
		}}
	}
	nothing := func(name, help string) flag {
		return flag{names: name, arg: "BYTES", help: help, value: func(string) error { return nil }}
	}
	return []flag{
		orNone(size("memory", "memory limit; -1 is none", func(r *specs.LinuxResources) **int64 { return &memory(r).Limit })),
		orNone(size("memory-reservation", "memory soft limit; -1 is none", func(r *specs.LinuxResources) **int64 { return &memory(r).Reservation })),
		orNone(size("memory-swap", "limit of memory and swap together; -1 is none", func(r *specs.LinuxResources) **int64 { return &memory(r).Swap })),
		nothing("kernel-memory", "not used: the kernel has no such limit any more"),
		nothing("kernel-memory-tcp", "not used: as kernel-memory"),
		orNone(quantity("cpu-share", "weight against others", add, func(r *specs.LinuxResources) **uint64 { return &cpu(r).Shares })),
		orNone(quantity("cpu-period", "length of a period, in microseconds", add, func(r *specs.LinuxResources) **uint64 { return &cpu(r).Period })),
		orNone(quantity("cpu-quota", "time in a period, in microseconds; -1 is no limit", add, func(r *specs.LinuxResources) **int64 { return &cpu(r).Quota })),
		orNone(quantity("cpu-burst", "time that may be saved up, in microseconds", add, func(r *specs.LinuxResources) **uint64 { return &cpu(r).Burst })),
		orNone(quantity("cpu-rt-period", "length of a realtime period, in microseconds", add, func(r *specs.LinuxResources) **uint64 { return &cpu(r).RealtimePeriod })),
		orNone(quantity("cpu-rt-runtime", "realtime in a period, in microseconds", add, func(r *specs.LinuxResources) **int64 { return &cpu(r).RealtimeRuntime })),
		orNone(quantity("cpu-idle", "1 has it run only when nothing else does", add, func(r *specs.LinuxResources) **int64 { return &cpu(r).Idle })),
		word("cpuset-cpus", "processors it may use: 0-2,7", func(r *specs.LinuxResources) *string { return &cpu(r).Cpus }),
		word("cpuset-mems", "memory nodes it may use", func(r *specs.LinuxResources) *string { return &cpu(r).Mems }),
		quantity("pids-limit", "most processes; -1 is no limit", add, func(r *specs.LinuxResources) **int64 {
			if r.Pids == nil {
				r.Pids = &specs.LinuxPids{}
			}
			return &r.Pids.Limit
		}),
		quantity("blkio-weight", "weight of its disk access, 10 to 1000", add, func(r *specs.LinuxResources) **uint16 {
			if r.BlockIO == nil {
				r.BlockIO = &specs.LinuxBlockIO{}
			}
			return &r.BlockIO.Weight
		}),
		{names: "l3-cache-schema mem-bw-schema", arg: "TEXT", help: "not done: resctrl groups of running containers", value: func(string) error {
			return fmt.Errorf("changing a resctrl group is not done: write to its schemata")
		}},
	}
}

// orNone is a flag whose empty value is none at all, as it is with runc, which has texts there: a script has --memory "$limit".
func orNone(f flag) flag {
	value := f.value
	f.value = func(s string) error {
		if s == "" {
			return nil
		}
		return value(s)
	}
	return f
}

// quantity is a flag with a number.
func quantity[T int64 | uint64 | uint16](name, help string, add func(func(*specs.LinuxResources)), to func(r *specs.LinuxResources) **T) flag {
	return flag{names: name, arg: "N", help: help, value: func(s string) error {
		n, err := strconv.ParseInt(s, 10, 64)
		v := T(n)
		switch {
		case errors.Is(err, strconv.ErrSyntax):
			return errors.New("it is a whole number")
		case err != nil || int64(v) != n || v < 0 != (n < 0):
			return errors.New("out of range")
		}
		add(func(r *specs.LinuxResources) { *to(r) = &v })
		return nil
	}}
}

// bytes reads a size: "64m" as docker has it, in powers of 1024.
func bytes(s string) (int64, error) {
	number, shift := strings.ToLower(s), 0
	number = strings.TrimSuffix(strings.TrimSuffix(number, "b"), "i")
	for i, unit := range []string{"k", "m", "g", "t", "p"} {
		if n, ok := strings.CutSuffix(number, unit); ok {
			number, shift = n, 10*(i+1)
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("want a number of bytes, or one with k, m, g, t or p")
	}
	if n<<shift>>shift != n {
		return 0, fmt.Errorf("out of range")
	}
	return n << shift, nil
}

var eventsVerb = verb{"events", "ID", "print counters and out-of-memory events of a container, as JSON", func(c *command) ([]flag, func([]string) (int, error)) {
	var once bool
	interval := 5 * time.Second
	flags := []flag{
		yes("stats", &once, "print the counters once, and end"),
		{names: "interval", arg: "TIME", help: "time between counters, default 5s", value: func(s string) (err error) {
			interval, err = time.ParseDuration(s)
			if err != nil {
				return errors.New("it is a time such as 500ms, 5s or 1m")
			}
			if interval <= 0 {
				return errors.New("duration interval must be greater than 0")
			}
			return nil
		}},
	}
	return flags, func(args []string) (int, error) {
		id, err := one("events", args)
		if err != nil {
			return 1, err
		}
		x, err := c.runtime.Open(id)
		if err != nil {
			return 1, err
		}
		out := json.NewEncoder(os.Stdout)
		if once {
			s, err := x.Stats()
			if err == nil {
				err = out.Encode(oci.Event{Type: "stats", ID: id, Data: s})
			}
			if err != nil {
				return 1, err
			}
			return 0, nil
		}
		if err := x.Events(background, interval, func(e oci.Event) error { return out.Encode(e) }); err != nil {
			return 1, err
		}
		return 0, nil
	}
}}
