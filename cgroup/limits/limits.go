package limits

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A Version is one of the two versions of control groups: cgroups(7).
type Version uint8

// The versions. A controller is at one of them at a time.
const (
	Absent Version = iota
	V1
	V2
)

// Controllers says at which version a host has each controller, by the kernel's
// names: "cpu", "memory"; version 2's "io" is "blkio" here as well. "devices" has
// no controller in version 2; it counts as one that is there.
type Controllers map[string]Version

// unified reports whether no controller is at version 1.
func (c Controllers) unified() bool {
	v2 := false
	for _, v := range c {
		if v == V1 {
			return false
		}
		v2 = v2 || v == V2
	}
	return v2
}

// A Write is a value for a file of the container's cgroup.
type Write struct {
	Controller string  // whose file it is: "memory"
	Version    Version // of that controller's hierarchy
	File       string  // "memory.max"
	Value      string
	Field      string // where it comes from: "linux.resources.memory.limit"
	Why        string // how the value comes from the field's, empty when it is the same

	// Again says that the kernel may refuse the value as long as another file of the
	// controller has its old one (EINVAL): it is then to be tried once more after
	// the controller's other writes. So no old value has to be known.
	Again bool
	// Optional says that a kernel without the file is no fault.
	Optional bool
	// Else is what to write in its place where the file is missing.
	Else *Write
}

// String returns the write as a plan shows it.
func (w Write) String() string { return "write " + w.File + " " + w.Value }

// A Guard is a condition for all writes: the number in File must be below Limit.
type Guard struct {
	Controller string
	File       string
	Limit      uint64
	What       string // "memory limit"
	Field      string
}

// Refused is the error when usage does not allow for the limit.
func (g Guard) Refused(usage uint64) error {
	return fieldErr(g.Field, "rejecting %s %d <= usage %d: ask for more, or leave checkBeforeUpdate out", g.What, g.Limit, usage)
}

// String returns the guard as a plan shows it.
func (g Guard) String() string { return fmt.Sprintf("require %s < %d", g.File, g.Limit) }

// Limits is a container's resources as control groups take them.
type Limits struct {
	Guards   []Guard
	Writes   []Write
	Devices  *Devices // nil leaves devices as they are
	Warnings []string // what was asked for and is left out, and why
}

// Controllers lists the controllers that the writes need, by the kernel's names.
func (l Limits) Controllers() []string {
	var names []string
	for _, w := range l.Writes {
		if w.Controller != "" && !slices.Contains(names, w.Controller) {
			names = append(names, w.Controller)
		}
	}
	return names
}

// Needs reports whether a write needs the controller that version 2 lists as name in cgroup.controllers.
func (l Limits) Needs(name string) bool {
	if name == "io" {
		name = "blkio" // the kernel's name of it is the old one
	}
	return slices.Contains(l.Controllers(), name)
}

// A FieldError is a fault of config.json, or what this host cannot do of it.
type FieldError struct {
	Field string // "linux.resources.memory.limit"
	Cause string // what put it there, such as a flag, where nobody has written a config.json; see [Because]
	Err   error
}

// Error implements error.
func (e *FieldError) Error() string {
	if e.Cause != "" {
		return e.Cause + ": " + e.Err.Error()
	}
	return "config.json " + e.Field + ": " + e.Err.Error()
}

// Unwrap gives the fault itself.
func (e *FieldError) Unwrap() error { return e.Err }

// Because has a [FieldError] in err name what put its field there. Causes are by the path of a field; where it has none itself, those of fields below it count.
func Because(err error, causes map[string]string) error {
	var f *FieldError
	if !errors.As(err, &f) {
		return err
	}
	if f.Cause = causes[f.Field]; f.Cause == "" {
		var below []string
		for field, cause := range causes {
			if strings.HasPrefix(field, f.Field+".") {
				below = append(below, cause)
			}
		}
		slices.Sort(below)
		f.Cause = strings.Join(slices.Compact(below), ", ") // --cpus is two fields
	}
	return err
}

func fieldErr(field, format string, args ...any) error {
	return &FieldError{Field: field, Err: fmt.Errorf(format, args...)}
}

// ErrNoUnified is the error for linux.resources.unified where a controller that it
// names is not at version 2.
var ErrNoUnified = errors.New("invalid configuration: cannot use unified on cgroup v1")

// ErrMissing is the error for a limit whose controller is not there.
var ErrMissing = errors.New("no hierarchy that can be written to has this controller")

// errMissing is what callers know from runc for a controller that is not there, and what switches it on, memory's on the machines that are delivered without.
func errMissing(controller string) error {
	err := fmt.Errorf("cannot set %s limit: container could not join or create cgroup: %w: it has to be delegated to the caller (Delegate= of systemd), and the kernel has to have it: without cgroup_disable=%[1]s on its command line",
		controller, ErrMissing)
	if controller == "memory" {
		err = fmt.Errorf("%w, on a Raspberry Pi with cgroup_enable=memory", err)
	}
	return err
}

// Compile turns r into limits for a host with the controllers c. The same arguments
// give the same limits. An error is a [*FieldError].
func Compile(r *specs.LinuxResources, c Controllers) (Limits, error) {
	k := &compiler{has: c}
	if r == nil {
		return k.out, nil
	}
	for _, part := range []func(*specs.LinuxResources) error{k.pids, k.memory, k.blockIO, k.cpu, k.cpuset, k.hugepages, k.network, k.rdma, k.unified, k.devices} {
		if err := part(r); err != nil {
			return Limits{}, err
		}
	}
	return k.out, nil
}

// A compiler collects the limits of one Compile.
type compiler struct {
	has Controllers
	out Limits
}

func (k *compiler) warn(field, text string) {
	k.out.Warnings = append(k.out.Warnings, field+": "+text)
}

// at gives the version of a controller that a field needs.
func (k *compiler) at(controller, field string) (Version, error) {
	v := k.has[controller]
	if v == Absent {
		return v, &FieldError{Field: "linux.resources." + field, Err: errMissing(controller)}
	}
	return v, nil
}

// A part makes the writes of one controller.
type part struct {
	k          *compiler
	controller string
	v          Version
}

func (k *compiler) part(controller, field string) (part, error) {
	v, err := k.at(controller, field)
	return part{k, controller, v}, err
}

// make gives a write without adding it.
func (p part) make(field, file, value string) Write {
	return Write{Controller: p.controller, Version: p.v, File: file, Value: value, Field: "linux.resources." + field}
}

// add adds a write, which the caller may qualify before it adds another one.
func (p part) add(field, file, value string) *Write {
	p.k.out.Writes = append(p.k.out.Writes, p.make(field, file, value))
	return &p.k.out.Writes[len(p.k.out.Writes)-1]
}

// pick chooses by version.
func (p part) pick(v1, v2 string) string {
	if p.v == V2 {
		return v2
	}
	return v1
}

// pids limits the number of tasks. 0 is made 1, as runc does: systemd does not take
// 0, and a cgroup with one task and one with none left to add differ in nothing.
func (k *compiler) pids(r *specs.LinuxResources) error {
	if r.Pids == nil || r.Pids.Limit == nil {
		return nil
	}
	p, err := k.part("pids", "pids.limit")
	if err != nil {
		return err
	}
	switch limit := *r.Pids.Limit; {
	case limit > 0:
		p.add("pids.limit", "pids.max", strconv.FormatInt(limit, 10))
	case limit == 0:
		p.add("pids.limit", "pids.max", "1").Why = "0 is written as 1"
	default:
		p.add("pids.limit", "pids.max", "max").Why = "negative is no limit"
	}
	return nil
}

// cpuset binds to processors and memory nodes.
func (k *compiler) cpuset(r *specs.LinuxResources) error {
	if r.CPU == nil || (r.CPU.Cpus == "" && r.CPU.Mems == "") {
		return nil
	}
	p, err := k.part("cpuset", "cpu.cpus")
	if err != nil {
		return err
	}
	for _, f := range []struct{ field, file, value string }{
		{"cpu.cpus", "cpuset.cpus", r.CPU.Cpus}, {"cpu.mems", "cpuset.mems", r.CPU.Mems},
	} {
		if strings.ContainsAny(f.value, "\n\x00") {
			return fieldErr("linux.resources."+f.field, "%q is no list of numbers", f.value)
		}
		if f.value != "" {
			p.add(f.field, f.file, f.value)
		}
	}
	return nil
}

// hugepages limits huge pages in use and, where the kernel counts those, reserved.
func (k *compiler) hugepages(r *specs.LinuxResources) error {
	for i, l := range r.HugepageLimits {
		field := fmt.Sprintf("hugepageLimits[%d]", i)
		p, err := k.part("hugetlb", field)
		if err != nil {
			return err
		}
		if !pageSize(l.Pagesize) {
			return fieldErr("linux.resources."+field+".pageSize", "%q is no page size, such as 64KB, 2MB or 1GB", l.Pagesize)
		}
		value, suffix := strconv.FormatUint(l.Limit, 10), p.pick(".limit_in_bytes", ".max")
		p.add(field, "hugetlb."+l.Pagesize+suffix, value)
		p.add(field, "hugetlb."+l.Pagesize+".rsvd"+suffix, value).Optional = true
	}
	return nil
}

// pageSize reports whether s is a size as names of files have it.
func pageSize(s string) bool {
	number := strings.TrimRight(s, "KMGB")
	unit := s[len(number):]
	_, err := strconv.ParseUint(number, 10, 32)
	return err == nil && number[0] != '0' && (unit == "KB" || unit == "MB" || unit == "GB")
}

// network marks packets. Version 2 has no files for that; there it is a program's work.
func (k *compiler) network(r *specs.LinuxResources) error {
	n := r.Network
	if n == nil {
		return nil
	}
	if k.has.unified() {
		if (n.ClassID != nil && *n.ClassID != 0) || len(n.Priorities) > 0 {
			k.warn("linux.resources.network", "left out: cgroup version 2 has no net_cls and net_prio")
		}
		return nil
	}
	if n.ClassID != nil && *n.ClassID != 0 {
		p, err := k.part("net_cls", "network.classID")
		if err != nil {
			return err
		}
		p.add("network.classID", "net_cls.classid", strconv.FormatUint(uint64(*n.ClassID), 10))
	}
	for i, prio := range n.Priorities {
		field := fmt.Sprintf("network.priorities[%d]", i)
		p, err := k.part("net_prio", field)
		if err != nil {
			return err
		}
		if prio.Name == "" || strings.ContainsAny(prio.Name, " \t\n/\x00") {
			return fieldErr("linux.resources."+field+".name", "%q is no network interface", prio.Name)
		}
		p.add(field, "net_prio.ifpriomap", fmt.Sprintf("%s %d", prio.Name, prio.Priority))
	}
	return nil
}

// rdma limits handles and objects of each adapter.
func (k *compiler) rdma(r *specs.LinuxResources) error {
	for _, device := range sortedKeys(r.Rdma) {
		field := "rdma." + device
		p, err := k.part("rdma", field)
		if err != nil {
			return err
		}
		if device == "" || strings.ContainsAny(device, " \t\n\x00") {
			return fieldErr("linux.resources.rdma", "%q is no name of a device", device)
		}
		value := device
		if n := r.Rdma[device].HcaHandles; n != nil {
			value += fmt.Sprintf(" hca_handle=%d", *n)
		}
		if n := r.Rdma[device].HcaObjects; n != nil {
			value += fmt.Sprintf(" hca_object=%d", *n)
		}
		if value != device {
			p.add(field, "rdma.max", value)
		}
	}
	return nil
}

// unified takes files of version 2 as they are, after all others: it is what the
// author of config.json said with the kernel's own words.
func (k *compiler) unified(r *specs.LinuxResources) error {
	for _, file := range sortedKeys(r.Unified) {
		field := "linux.resources.unified"
		controller, _, ok := strings.Cut(file, ".")
		switch {
		case strings.Contains(file, "/"):
			return fieldErr(field, "unified resource %q must be a file name (no slashes)", file)
		case !ok || controller == "" || strings.ContainsAny(file, "\x00\n"):
			return fieldErr(field, "unified resource %q must be in the form CONTROLLER.PARAMETER", file)
		}
		name := controller
		if name == "io" {
			name = "blkio"
		}
		switch v := k.has[name]; {
		case controller == "cgroup" && k.has.unified(), v == V2:
		case v == V1 || !k.has.unified():
			return &FieldError{Field: field, Err: fmt.Errorf("%w: %s", ErrNoUnified, file)}
		default:
			return fieldErr(field, "unified resource %q can't be set: controller %q not available", file, controller)
		}
		if controller == "cgroup" {
			name = ""
		}
		p := part{k, name, V2}
		for line := range strings.Lines(r.Unified[file]) {
			if line = strings.TrimSuffix(line, "\n"); line != "" {
				p.add("unified", file, line)
			}
		}
	}
	return nil
}

// devices makes the policy for device nodes.
func (k *compiler) devices(r *specs.LinuxResources) error {
	if r.Devices == nil {
		return nil
	}
	d, err := devicesOf(r)
	if err != nil {
		return err
	}
	k.out.Devices = &d
	return nil
}

// devicesOf is the policy that the device rules of r come to.
func devicesOf(r *specs.LinuxResources) (Devices, error) {
	rules, err := DeviceRules(r.Devices)
	if err != nil {
		return Devices{}, err
	}
	d, err := NewDevices(rules)
	if err != nil {
		return Devices{}, &FieldError{Field: "linux.resources.devices", Err: err}
	}
	return d, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
