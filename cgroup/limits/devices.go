package limits

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Access is what may be done with a device node, a set of bits: bpf.h.
type Access uint8

// The bits, as the kernel passes them to a program.
const (
	MknodAccess Access = 1 << iota
	ReadAccess
	WriteAccess
	allAccess = MknodAccess | ReadAccess | WriteAccess
)

// String returns the letters of version 1's files: "rwm".
func (a Access) String() string {
	s := ""
	for _, f := range accessLetters {
		if a&f.bit != 0 {
			s += string(f.letter)
		}
	}
	return s
}

var accessLetters = [...]struct {
	bit    Access
	letter byte
}{{ReadAccess, 'r'}, {WriteAccess, 'w'}, {MknodAccess, 'm'}}

// parseAccess passes over other letters, as runc does; who checks a config.json warns of them.
func parseAccess(s string) (Access, error) {
	var a Access
	for _, f := range accessLetters {
		if strings.IndexByte(s, f.letter) >= 0 {
			a |= f.bit
		}
	}
	if a == 0 {
		return 0, errors.New("device access cannot be empty: it has letters of rwm")
	}
	return a, nil
}

// Any is the number that stands for all major or minor numbers.
const Any = -1

// A Rule allows or denies devices. Type 'a' is all devices and all access: its other fields do not count.
type Rule struct {
	Allow        bool
	Type         byte // 'a', 'b' or 'c'
	Major, Minor int64
	Access       Access
}

// String returns the rule as version 1's devices.allow and devices.deny take it.
func (r Rule) String() string {
	if r.Type == 'a' {
		return "a *:* rwm"
	}
	number := func(n int64) string {
		if n == Any {
			return "*"
		}
		return strconv.FormatInt(n, 10)
	}
	return fmt.Sprintf("%c %s:%s %s", r.Type, number(r.Major), number(r.Minor), r.Access)
}

// DeviceRules reads linux.resources.devices.
func DeviceRules(list []specs.LinuxDeviceCgroup) ([]Rule, error) {
	rules := make([]Rule, 0, len(list))
	for i, d := range list {
		field := fmt.Sprintf("linux.resources.devices[%d]", i)
		r := Rule{Allow: d.Allow, Type: 'a', Major: Any, Minor: Any}
		switch d.Type {
		case "", "a":
		case "b", "c":
			r.Type = d.Type[0]
		default:
			return nil, fieldErr(field+".type", "invalid cgroup device type %q: there are a, b and c", d.Type)
		}
		for _, n := range []struct {
			name string
			from *int64
			to   *int64
		}{{"major", d.Major, &r.Major}, {"minor", d.Minor, &r.Minor}} {
			if n.from == nil {
				continue
			}
			if *n.from < Any || *n.from > 1<<32-1 {
				return nil, fieldErr(field+"."+n.name, "%d is no device number", *n.from)
			}
			*n.to = *n.from
		}
		var err error
		if r.Access, err = parseAccess(d.Access); err != nil {
			return nil, &FieldError{Field: field + ".access", Err: err}
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// nodes is the devices that an exception is for.
type nodes struct {
	Type         byte
	Major, Minor int64
}

func (n nodes) match(typ byte, major, minor uint32) bool {
	return n.Type == typ && (n.Major == Any || n.Major == int64(major)) && (n.Minor == Any || n.Minor == int64(minor))
}

// An exception is what a policy answers differently for some devices.
type exception struct {
	nodes
	Access Access
}

// Devices is a policy for device nodes as the kernel of version 1 keeps it: allow
// everything or nothing, but for exceptions. The zero value allows nothing.
type Devices struct {
	allowAll   bool
	exceptions []exception // each nodes once, in the order of the rules
}

// NewDevices applies rules in their order, as writes to devices.allow and
// devices.deny would do: a rule for all devices sets the policy anew, a rule that agrees with it takes
// access out of the exceptions, another one adds it.
//
// The kernel of version 1 takes a rule out of the exceptions for exactly the same
// devices only, and ignores it silently otherwise. A config.json that would have this
// happen (allow all character devices, then deny one of them) is refused, as runc does.
func NewDevices(rules []Rule) (Devices, error) {
	var d Devices
	for _, r := range rules {
		if err := d.apply(r); err != nil {
			return Devices{}, err
		}
	}
	return d, nil
}

func (d *Devices) apply(r Rule) error {
	n := nodes{r.Type, r.Major, r.Minor}
	switch {
	case r.Type == 'a':
		*d = Devices{allowAll: r.Allow}
	case r.Allow == d.allowAll:
		return d.remove(n, r.Access)
	default:
		d.set(n, d.access(n)|r.Access)
	}
	return nil
}

func (d *Devices) find(n nodes) int {
	return slices.IndexFunc(d.exceptions, func(e exception) bool { return e.nodes == n })
}

// access is the access of the exception for exactly n.
func (d *Devices) access(n nodes) Access {
	if i := d.find(n); i >= 0 {
		return d.exceptions[i].Access
	}
	return 0
}

func (d *Devices) set(n nodes, a Access) {
	i := d.find(n)
	switch {
	case i >= 0 && a == 0:
		d.exceptions = slices.Delete(d.exceptions, i, i+1)
	case i >= 0:
		d.exceptions[i].Access = a
	case a != 0:
		d.exceptions = append(d.exceptions, exception{n, a})
	}
}

func (d *Devices) remove(n nodes, a Access) error {
	for _, wider := range []nodes{{n.Type, Any, n.Minor}, {n.Type, n.Major, Any}, {n.Type, Any, Any}} {
		if wider != n && d.access(wider)&a != 0 {
			one := Rule{Type: n.Type, Major: n.Major, Minor: n.Minor, Access: a}
			all := Rule{Type: n.Type, Major: wider.Major, Minor: wider.Minor, Access: d.access(wider)}
			return fmt.Errorf("rule %q cannot punch a hole in the rule %q that came before it: name the devices one by one", one, all)
		}
	}
	d.set(n, d.access(n)&^a)
	return nil
}

// AllowAll reports whether every access to every device is allowed.
func (d Devices) AllowAll() bool { return d.allowAll && len(d.exceptions) == 0 }

// Denylist reports whether the policy allows all but its exceptions.
func (d Devices) Denylist() bool { return d.allowAll }

// Allows is the policy's answer, as the kernel of version 1 gives it: where nothing is allowed, one exception has
// to cover all of the access; where all is, one that forbids any part of it is enough.
func (d Devices) Allows(typ byte, major, minor uint32, a Access) bool {
	for _, e := range d.exceptions {
		if !e.match(typ, major, minor) {
			continue
		}
		if d.allowAll && e.Access&a != 0 {
			return false
		}
		if !d.allowAll && a&^e.Access == 0 {
			return true
		}
	}
	return d.allowAll
}

// Rules gives the rules that make the policy out of one that allows nothing.
func (d Devices) Rules() []Rule { return d.From(Devices{}) }

// From gives the fewest rules that lead from the policy old to d. Access that both
// allow is allowed all the time, unless everything has to be set anew: where the mode changes, and
// where old allows all, since the kernel does not tell the exceptions of such a policy.
func (d Devices) From(old Devices) []Rule {
	var rules []Rule
	if old.allowAll || old.allowAll != d.allowAll {
		rules = append(rules, Rule{Allow: d.allowAll, Type: 'a', Major: Any, Minor: Any, Access: allAccess})
		old = Devices{allowAll: d.allowAll}
	}
	add := func(allow bool, e exception, a Access) {
		if a != 0 {
			rules = append(rules, Rule{allow, e.Type, e.Major, e.Minor, a})
		}
	}
	for _, e := range old.exceptions {
		add(d.allowAll, e, e.Access&^d.access(e.nodes))
	}
	for _, e := range d.exceptions {
		add(!d.allowAll, e, e.Access&^old.access(e.nodes))
	}
	return rules
}

// Equal reports whether both policies answer alike, as far as a reading of version 1's devices.list can tell.
func (d Devices) Equal(o Devices) bool {
	if d.allowAll || o.allowAll {
		return d.allowAll == o.allowAll
	}
	return len(d.exceptions) == len(o.exceptions) && !slices.ContainsFunc(d.exceptions, func(e exception) bool { return o.access(e.nodes) != e.Access })
}

// String is the policy in one line, as plans show it: "deny all but c 1:3 rwm, c 5:0 rwm".
func (d Devices) String() string {
	s := "deny all"
	if d.allowAll {
		s = "allow all"
	}
	for i, e := range d.exceptions {
		if i == 0 {
			s += " but "
		} else {
			s += ", "
		}
		s += Rule{Type: e.Type, Major: e.Major, Minor: e.Minor, Access: e.Access}.String()
	}
	return s
}

// ParseDevices reads what [Devices.String] gave.
func ParseDevices(text string) (Devices, error) {
	var d Devices
	policy, rest, some := strings.Cut(text, " but ")
	switch policy {
	case "allow all":
		d.allowAll = true
	case "deny all":
	default:
		return Devices{}, fmt.Errorf("device policy %q: it begins with neither \"allow all\" nor \"deny all\"", text)
	}
	if !some {
		return d, nil
	}
	for part := range strings.SplitSeq(rest, ", ") {
		r, err := parseRule(part)
		if err != nil {
			return Devices{}, fmt.Errorf("device policy %q: %q: %w", text, part, err)
		}
		if r.Type == 'a' {
			return Devices{}, fmt.Errorf("device policy %q: %q is no exception", text, part)
		}
		d.set(nodes{r.Type, r.Major, r.Minor}, r.Access)
	}
	return d, nil
}

// ParseDevicesList reads version 1's devices.list. It shows what is allowed; a policy that allows
// all but some shows as one that allows all.
func ParseDevicesList(text string) (Devices, error) {
	var d Devices
	for line := range strings.Lines(text) {
		r, err := parseRule(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return Devices{}, fmt.Errorf("devices.list: line %q: %w", strings.TrimSuffix(line, "\n"), err)
		}
		if err := d.apply(r); err != nil {
			return Devices{}, fmt.Errorf("devices.list: %w", err)
		}
		if d.allowAll {
			return d, nil
		}
	}
	return d, nil
}

func parseRule(line string) (Rule, error) {
	f := strings.FieldsFunc(line, func(c rune) bool { return c == ' ' || c == ':' })
	if len(f) != 4 {
		return Rule{}, errors.New("it has not the form TYPE MAJOR:MINOR ACCESS")
	}
	r := Rule{Allow: true, Type: f[0][0]}
	if len(f[0]) != 1 || !strings.Contains("abc", f[0]) {
		return Rule{}, fmt.Errorf("type %q is none of a, b and c", f[0])
	}
	for i, to := range []*int64{&r.Major, &r.Minor} {
		if f[1+i] == "*" {
			*to = Any
			continue
		}
		n, err := strconv.ParseUint(f[1+i], 10, 32)
		if err != nil {
			return Rule{}, err
		}
		*to = int64(n)
	}
	var err error
	r.Access, err = parseAccess(f[3])
	return r, err
}
