package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/plan"
)

// resctrlDir finds where the resctrl file system is mounted.
func resctrlDir() (string, error) {
	data, err := files.Read("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		before, after, _ := strings.Cut(line, " - ")
		if f := strings.Fields(before); strings.HasPrefix(after, "resctrl ") && len(f) > 4 {
			return f[4], nil
		}
	}
	return "", errors.New("linux.intelRdt: no resctrl file system is mounted: mount it at /sys/fs/resctrl, on a processor that has resource control, or take the field out")
}

func joinResctrl(op *plan.JoinResctrl, pid int) error {
	dir, err := resctrlDir()
	if err != nil {
		return err
	}
	return joinResctrlAt(dir, op, pid)
}

// joinResctrlAt puts pid into its group below dir: runtime-spec, config-linux.md, "IntelRdt".
func joinResctrlAt(dir string, op *plan.JoinResctrl, pid int) error {
	group := filepath.Join(dir, op.Group)
	made := false
	if _, err := os.Stat(group); errors.Is(err, os.ErrNotExist) {
		if !op.Make {
			return fmt.Errorf("linux.intelRdt.closID: there is no group %s, and no schemata to make it with", op.Group)
		}
		if err := os.Mkdir(group, 0o755); err != nil {
			return fmt.Errorf("linux.intelRdt: %w", err)
		}
		made = true
	}
	if err := setSchemata(group, op.Schemata, made); err != nil {
		return err
	}
	tasks := filepath.Join(group, "tasks")
	if err := writeResctrl(tasks, strconv.Itoa(pid)); err != nil {
		return err
	}
	if op.Monitor == "" {
		return nil
	}
	monitor := filepath.Join(group, "mon_groups", op.Monitor)
	if err := os.Mkdir(monitor, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("linux.intelRdt.enableMonitoring: %w", err)
	}
	return writeResctrl(filepath.Join(monitor, "tasks"), strconv.Itoa(pid))
}

// setSchemata writes the lines of a new group, and wants those of one that is there.
func setSchemata(group string, lines []string, made bool) error {
	if len(lines) == 0 {
		return nil
	}
	file := filepath.Join(group, "schemata")
	if made {
		return writeResctrl(file, strings.Join(lines, "\n")+"\n")
	}
	data, err := files.Read(file)
	if err != nil {
		return err
	}
	var have []string
	for line := range strings.Lines(string(data)) {
		have = append(have, compactSchema(line))
	}
	for _, line := range lines {
		if !slices.Contains(have, compactSchema(line)) {
			return fmt.Errorf("linux.intelRdt: the group %s is there, and its schemata have no line %s", filepath.Base(group), line)
		}
	}
	return nil
}

// compactSchema is a line without blanks and leading zeros, which the kernel adds.
func compactSchema(line string) string {
	name, values, _ := strings.Cut(strings.TrimSpace(line), ":")
	var list []string
	for v := range strings.SplitSeq(values, ";") {
		id, value, _ := strings.Cut(v, "=")
		list = append(list, strings.TrimLeft(strings.TrimSpace(id), "0")+"="+strings.TrimLeft(strings.TrimSpace(value), "0"))
	}
	return name + ":" + strings.Join(list, ";")
}

func writeResctrl(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return fmt.Errorf("linux.intelRdt: %w", err)
	}
	_, err = f.WriteString(text)
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("linux.intelRdt: %w: see info/last_cmd_status of resctrl", err)
	}
	return nil
}

func removeResctrl(op *plan.RemoveResctrl) error {
	dir, err := resctrlDir()
	if err != nil {
		return nil // no file system, no group
	}
	return removeResctrlAt(dir, op)
}

func removeResctrlAt(dir string, op *plan.RemoveResctrl) error {
	var errs []error
	remove := func(name string) {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("linux.intelRdt: %w", err))
		}
	}
	if op.Monitor != "" {
		remove(filepath.Join(dir, op.Of, "mon_groups", op.Monitor))
	}
	if op.Group != "" {
		remove(filepath.Join(dir, op.Group))
	}
	return errors.Join(errs...)
}
