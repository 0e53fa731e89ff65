package systemd

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/cgroup/limits"
	"github.com/kakuri/kakuri/internal/dbus"
)

// Options say which unit a container has.
type Options struct {
	// Path is linux.cgroupsPath as systemd's drivers read it: "SLICE:PREFIX:NAME". A NAME that ends in ".slice" is a slice, any
	// other one a scope, "PREFIX-NAME.scope". Empty is "kakuri-ID.scope" in the default slice.
	Path string
	ID   string
	// Properties are those of the resources, with which the unit starts, and of annotations: [Annotations].
	Properties []limits.Property
	// Unified says that the host has cgroup version 2 alone.
	Unified bool
}

// A Unit is a scope or a slice. It implements cgroup.Unit.
type Unit struct {
	bus         *Bus
	name        string
	slice       string
	path        string
	description string
	unified     bool
	properties  []limits.Property
}

// Unit names a unit, and starts none.
func (b *Bus) Unit(o Options) (*Unit, error) {
	slice, prefix, name := "", "kakuri", o.ID
	if o.Path != "" {
		parts := strings.Split(o.Path, ":")
		if len(parts) != 3 {
			return nil, fmt.Errorf(`config.json linux.cgroupsPath: expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got %q instead`, o.Path)
		}
		slice, prefix, name = parts[0], parts[1], parts[2]
	}
	if slice == "" {
		slice = "system.slice"
		if b.User {
			slice = "user.slice"
		}
	}
	u := &Unit{bus: b, slice: slice, name: name, description: "container " + name, unified: o.Unified, properties: o.Properties}
	if !strings.HasSuffix(name, ".slice") {
		u.name = prefix + "-" + name + ".scope"
	}
	if name == "" || strings.ContainsAny(u.name, "/\x00 ") {
		return nil, fmt.Errorf("config.json linux.cgroupsPath: %q is no name of a unit", u.name)
	}
	above, err := slicePath(slice)
	if err != nil {
		return nil, err
	}
	if b.User {
		own, err := b.property("ControlGroup")
		if err != nil {
			return nil, err
		}
		above = path.Join(fmt.Sprint(own), above)
	}
	u.path = path.Join("/", above, u.name)
	if u.isSlice() {
		// A slice's name says where it is.
		if u.path, err = slicePath(u.name); err != nil {
			return nil, err
		}
		if b.User {
			own, err := b.property("ControlGroup")
			if err != nil {
				return nil, err
			}
			u.path = path.Join(fmt.Sprint(own), u.path)
		}
	}
	return u, nil
}

// slicePath is the cgroup of a slice: dashes in its name are levels. systemd.slice(5).
func slicePath(slice string) (string, error) {
	name, ok := strings.CutSuffix(slice, ".slice")
	bad := fmt.Errorf("config.json linux.cgroupsPath: invalid slice name: %s", slice)
	if !ok || strings.ContainsAny(name, "/\x00") {
		return "", bad
	}
	if name == "-" {
		return "/", nil
	}
	p, prefix := "", ""
	for part := range strings.SplitSeq(name, "-") {
		if part == "" {
			return "", bad
		}
		p += "/" + prefix + part + ".slice"
		prefix += part + "-"
	}
	return p, nil
}

func (u *Unit) isSlice() bool { return strings.HasSuffix(u.name, ".slice") }

// Name is the unit's name.
func (u *Unit) Name() string { return u.name }

// Path implements cgroup.Unit.
func (u *Unit) Path() string { return u.path }

// Start makes the unit with the process pid in it, and waits until it is there.
func (u *Unit) Start(pid int) error {
	if err := u.bus.subscribe(); err != nil {
		return err
	}
	list := u.startProperties(pid)
	start := func() error {
		return u.job(func() ([]any, error) {
			return u.bus.manager("StartTransientUnit", u.name, "replace", list, dbus.Auxiliary{})
		})
	}
	err := start()
	if is(err, "UnitExists") {
		if u.isSlice() {
			return nil
		}
		// One of that name may have failed before, and be kept for people to look at.
		if _, reset := u.bus.manager("ResetFailedUnit", u.name); reset == nil {
			err = start()
		}
	}
	if err != nil {
		return fmt.Errorf("unit %s: %w", u.name, err)
	}
	return nil
}

// startProperties are those of every unit of ours, then those it was given: of two with one name the latter counts.
func (u *Unit) startProperties(pid int) dbus.Properties {
	list := dbus.Properties{{Name: "Description", Value: u.description}}
	if u.isSlice() {
		list = append(list, dbus.Property{Name: "Wants", Value: []string{u.slice}})
	} else {
		list = append(list, dbus.Property{Name: "Slice", Value: u.slice}, dbus.Property{Name: "Delegate", Value: true}, dbus.Property{Name: "PIDs", Value: []uint32{uint32(pid)}})
	}
	io := "IOAccounting"
	if !u.unified {
		io = "BlockIOAccounting"
	}
	list = append(list,
		dbus.Property{Name: "MemoryAccounting", Value: true}, dbus.Property{Name: "CPUAccounting", Value: true}, dbus.Property{Name: io, Value: true}, dbus.Property{Name: "TasksAccounting", Value: true},
		dbus.Property{Name: "DefaultDependencies", Value: false})
	return append(list, encodable(u.properties)...)
}

func encodable(list []limits.Property) dbus.Properties {
	out := make(dbus.Properties, len(list))
	for i, p := range list {
		out[i] = dbus.Property{Name: p.Name, Value: p.Value}
	}
	return out
}

// Set changes properties of the running unit, until the next start of the machine.
func (u *Unit) Set(list []limits.Property) error {
	if len(list) == 0 {
		return nil
	}
	if _, err := u.bus.manager("SetUnitProperties", u.name, true, encodable(list)); err != nil {
		return fmt.Errorf("unit %s: unable to set unit properties: %w", u.name, err)
	}
	return nil
}

// Attach moves pid into the unit's cgroup, or into sub below it.
func (u *Unit) Attach(pid int, sub string) error {
	if slices.Contains(strings.Split(sub, "/"), "..") {
		return fmt.Errorf("bad sub cgroup path: %s", sub)
	}
	if _, err := u.bus.manager("AttachProcessesToUnit", u.name, path.Join("/", sub), []uint32{uint32(pid)}); err != nil {
		return fmt.Errorf("unit %s: adding pid %d to cgroups: %w", u.name, pid, err)
	}
	return nil
}

// Stop ends the unit, and has systemd forget it if it failed. One that is gone is no fault.
func (u *Unit) Stop() error {
	if err := u.bus.subscribe(); err != nil {
		return err
	}
	err := u.job(func() ([]any, error) { return u.bus.manager("StopUnit", u.name, "replace") })
	var result *jobError
	if is(err, "NoSuchUnit") || errors.As(err, &result) {
		err = nil // its cgroup is looked after by the caller
	}
	if _, reset := u.bus.manager("ResetFailedUnit", u.name); err == nil && reset != nil && !is(reset, "NoSuchUnit") {
		err = reset
	}
	if err != nil {
		return fmt.Errorf("unit %s: %w", u.name, err)
	}
	return nil
}

// A jobError is the end of a job that did not do what it was for.
type jobError struct{ result string }

func (e *jobError) Error() string { return "its job ended as " + e.result }

// job starts a job, and waits for its end.
func (u *Unit) job(start func() ([]any, error)) error {
	body, err := start()
	if err != nil {
		return err
	}
	if len(body) == 0 {
		return errors.New("systemd: no job was given")
	}
	job, ok := body[0].(dbus.ObjectPath)
	if !ok {
		return fmt.Errorf("systemd: an answer of an unexpected type, %T", body[0])
	}
	result := ""
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = u.bus.Signal(ctx, func(m *dbus.Message) bool {
		// JobRemoved: id, job, unit, result.
		if m.Interface != managerInterface || m.Member != "JobRemoved" || len(m.Body) != 4 {
			return false
		}
		if of, ok := m.Body[1].(dbus.ObjectPath); !ok || of != job {
			return false
		}
		result = fmt.Sprint(m.Body[3])
		return true
	})
	if err != nil {
		return fmt.Errorf("systemd: the end of a job was waited for in vain: %w", err)
	}
	if result != "done" {
		return &jobError{result}
	}
	return nil
}

// is reports whether err is an answer of the manager's with that name.
func is(err error, name string) bool {
	var e *Error
	return errors.As(err, &e) && strings.TrimPrefix(e.Name, "org.freedesktop.systemd1.") == name
}
