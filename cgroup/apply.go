package cgroup

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/cgroup/limits"
)

// Apply writes the values of l, and then its device rules, for a new cgroup or one in use. The notices say what a
// caller without rights had to leave out that was no limit. An error names the file; what was written
// before it stays.
func (g *Group) Apply(l limits.Limits) (notices []string, err error) {
	for _, guard := range l.Guards {
		if err := g.guard(guard); err != nil {
			return nil, err
		}
	}
	for _, run := range runs(l.Writes) {
		if err := g.writeAll(run); err != nil {
			return nil, err
		}
	}
	if l.Devices == nil {
		return nil, nil
	}
	err = g.setDevices(*l.Devices)
	if err != nil && g.opts.Rootless {
		// An ordinary user can make no nodes, and whoever gave a device to read gave it knowingly.
		return []string{fmt.Sprintf("device rules are left out: %v", err)}, nil
	}
	return nil, err
}

// Usage that cannot be read, of a cgroup without the controller for one, guards nothing.
func (g *Group) guard(guard limits.Guard) error {
	n := g.of(guard.Controller, limits.V2)
	if n == nil {
		return nil
	}
	dir, err := n.open()
	if err != nil {
		return err
	}
	if usage, err := readNumber(dir, guard.File); err == nil && usage >= guard.Limit {
		return guard.Refused(usage)
	}
	return nil
}

// runs cuts the writes where the controller changes.
func runs(writes []limits.Write) [][]limits.Write {
	var list [][]limits.Write
	for i, w := range writes {
		if i == 0 || w.Controller != writes[i-1].Controller || w.Version != writes[i-1].Version {
			list = append(list, nil)
		}
		list[len(list)-1] = append(list[len(list)-1], w)
	}
	return list
}

// writeAll writes what belongs to one controller, and goes on as long as each round leaves fewer
// values that the kernel refuses because of the others.
func (g *Group) writeAll(writes []limits.Write) error {
	for len(writes) > 0 {
		var later []limits.Write
		var first error
		for _, w := range writes {
			err := g.write(w)
			if err != nil && w.Again && errors.Is(err, unix.EINVAL) {
				later = append(later, w)
				first = errors.Join(first, err)
				continue
			}
			if err != nil {
				return err
			}
		}
		if len(later) == len(writes) {
			return first
		}
		writes = later
	}
	return nil
}

func (g *Group) write(w limits.Write) error {
	n := g.of(w.Controller, w.Version)
	if n == nil {
		err := fmt.Errorf("cannot set %s limit: container could not join or create cgroup", w.Controller)
		if g.opts.Rootless && w.Version == limits.V1 {
			err = fmt.Errorf("%w: those of version 1 are root's alone: an ordinary user's containers have limits on a machine with version 2", err)
		}
		return &limits.FieldError{Field: w.Field, Err: err}
	}
	dir, err := n.open()
	if err != nil {
		return err
	}
	err = writeFile(dir, n.file(w.File), w.Value)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT) && w.Else != nil:
		return g.write(*w.Else)
	case errors.Is(err, unix.ENOENT) && w.Optional:
		return nil
	}
	return &limits.FieldError{Field: w.Field, Err: n.refused(dir, w, err)}
}

// refused says why a value was not taken.
func (n *node) refused(dir int, w limits.Write, err error) error {
	what := n.errorf("write %q to %s: %w", w.Value, n.file(w.File), err)
	switch {
	case w.Version == limits.V2 && w.Controller != "" && (errors.Is(err, unix.ENOENT) || permission(err)) && !n.enabled(dir, w.Controller):
		if w.Field == "linux.resources.unified" {
			return fmt.Errorf("unified resource %q can't be set: controller %q not available: %w", w.File, w.Controller, what)
		}
		return fmt.Errorf("cannot set %s limit: container could not join or create cgroup with this controller: "+
			"have it delegated, by Delegate= of the user's manager for one: %w", w.Controller, what)
	case w.File == "memory.limit_in_bytes" && errors.Is(err, unix.EBUSY):
		usage, err1 := readNumber(dir, "memory.usage_in_bytes")
		peak, err2 := readNumber(dir, "memory.max_usage_in_bytes")
		if err1 == nil && err2 == nil {
			return fmt.Errorf("unable to set memory limit to %s (current usage: %d, peak usage: %d): %w", w.Value, usage, peak, what)
		}
	case strings.HasPrefix(w.File, "memory.memsw.") && errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: this kernel does not count swap: see swapaccount= of its command line", what)
	case strings.HasPrefix(w.File, "blkio.leaf_weight") && errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: leaf weights went with the scheduler cfq, Linux 5.0", what)
	case strings.HasPrefix(w.File, "hugetlb.") && errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: this machine has no pages of that size", what)
	case strings.HasSuffix(w.File, "weight") && errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: no scheduler of this kernel takes weights", what)
	}
	return what
}

// enabled reports whether a version 2 cgroup has a controller.
func (n *node) enabled(dir int, controller string) bool {
	have, err := readFile(dir, "cgroup.controllers")
	if err != nil {
		return false
	}
	for name := range strings.FieldsSeq(have) {
		if kernelName(name) == controller {
			return true
		}
	}
	return false
}

// setDevices puts a device policy in force.
func (g *Group) setDevices(d limits.Devices) error {
	if n := g.of("devices", limits.V1); n != nil {
		return n.setDeviceList(d)
	}
	n := g.of("", limits.V2)
	if n == nil {
		return errors.New("cannot set devices: the container has no cgroup")
	}
	dir, err := n.open()
	if err != nil {
		return err
	}
	if err := setDeviceFilter(dir, d); err != nil {
		return n.errorf("device filter: %w", err)
	}
	return nil
}

// setDeviceList writes the rules that lead from the policy in force to d, and reads the result: the
// kernel ignores some rules silently.
func (n *node) setDeviceList(d limits.Devices) error {
	dir, err := n.open()
	if err != nil {
		return err
	}
	list := func() (limits.Devices, error) {
		text, err := readFile(dir, "devices.list")
		if err != nil {
			return limits.Devices{}, n.errorf("read devices.list: %w", err)
		}
		return limits.ParseDevicesList(text)
	}
	now, err := list()
	if err != nil {
		return err
	}
	if now.AllowAll() && d.AllowAll() {
		return nil
	}
	if err := n.writeRules(dir, d.From(now)); err != nil {
		return err
	}
	if now, err = list(); err != nil {
		return err
	}
	if !now.Equal(d) {
		return n.errorf("devices: asked for %s, the kernel has %s", d, now)
	}
	return nil
}

// writeRules writes device rules in their order; rules of a kind go to one file, which is opened once for them.
func (n *node) writeRules(dir int, rules []limits.Rule) error {
	file, fd := "", -1
	defer func() { unix.Close(fd) }()
	for _, r := range rules {
		to := "devices.deny"
		if r.Allow {
			to = "devices.allow"
		}
		var err error
		if to != file {
			unix.Close(fd)
			file = to
			fd, err = openFile(dir, file, unix.O_WRONLY)
		}
		if err == nil {
			err = writeValue(fd, r.String())
		}
		if r.Type == 'a' && errors.Is(err, unix.EINVAL) {
			return n.errorf("write %q to %s: %w: there are cgroups below it, and what it allows is set as a whole only where there are none: it takes another cgroup", r, file, err)
		}
		if err != nil {
			return n.errorf("write %q to %s: %w: nothing is allowed here that is not in the cgroup above", r, file, err)
		}
	}
	return nil
}
