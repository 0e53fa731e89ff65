package limits

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"

	"github.com/kakuri/kakuri/abi"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// A Property is one of a systemd unit: systemd.resource-control(5), and
// org.freedesktop.systemd1(5) for names and types. Value is a bool, string, uint32, uint64, int32, int64, float64, byte,
// []byte, []string, []uint32 or [][2]string.
type Property struct {
	Name  string
	Value any
}

// String returns the property as plans show it.
func (p Property) String() string {
	if n, ok := p.Value.(uint64); ok && n == math.MaxUint64 {
		return p.Name + "=infinity"
	}
	return fmt.Sprintf("%s=%v", p.Name, p.Value)
}

// Properties gives what systemd of the version given has to know of r: it writes what it
// knows of a unit again whenever it likes, over what others have written. What it has no
// property for, or an old version has none, is for [Compile] alone; so are device rules
// that it cannot say. The warnings say what could not be had at all.
func Properties(r *specs.LinuxResources, c Controllers, version int) (list []Property, warnings []string, err error) {
	if r == nil {
		return nil, nil, nil
	}
	s := &properties{version: version, unified: c.unified()}
	for _, part := range []func(*specs.LinuxResources) error{s.devices, s.memory, s.cpu, s.blockIO, s.pids, s.cpuset, s.files} {
		if err := part(r); err != nil {
			return nil, nil, err
		}
	}
	return s.list, s.warnings, nil
}

type properties struct {
	version  int
	unified  bool
	list     []Property
	warnings []string
}

func (s *properties) add(name string, value any) {
	s.list = append(s.list, Property{name, value})
}

func (s *properties) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf(format, args...))
}

// infinity is systemd's word for no limit.
const infinity = uint64(math.MaxUint64)

// devices gives systemd the same policy, since its own is in force beside ours.
func (s *properties) devices(r *specs.LinuxResources) error {
	if r.Devices == nil {
		return nil
	}
	d, err := devicesOf(r)
	if err != nil {
		return err
	}
	// The empty list takes away what an existing unit has.
	s.add("DeviceAllow", [][2]string{})
	if d.Denylist() {
		// Systemd knows lists of what is allowed only. It is told to keep out; the exceptions are ours.
		s.add("DevicePolicy", "auto")
		return nil
	}
	s.add("DevicePolicy", "strict")
	var allow [][2]string
	for _, e := range d.exceptions {
		kind := "char"
		if e.Type == 'b' {
			kind = "block"
		}
		var path string
		switch {
		case e.Major == Any && e.Minor == Any:
			path = kind + "-*"
		case e.Major == Any:
			s.warn("linux.resources.devices: systemd has no words for %c *:%d, and refuses it", e.Type, e.Minor)
			continue
		case e.Minor == Any:
			path = fmt.Sprintf("%s-%d", kind, e.Major)
		default:
			path = fmt.Sprintf("/dev/%s/%d:%d", kind, e.Major, e.Minor)
		}
		allow = append(allow, [2]string{path, e.Access.String()})
	}
	s.add("DeviceAllow", allow)
	return nil
}

func (s *properties) memory(r *specs.LinuxResources) error {
	m := r.Memory
	if m == nil {
		return nil
	}
	if limit := value(m.Limit); limit != 0 {
		name := "MemoryMax"
		if !s.unified {
			name = "MemoryLimit"
		}
		s.add(name, uint64(limit)) // -1 is infinity
	}
	if !s.unified {
		return nil
	}
	if v := value(m.Reservation); v != 0 {
		s.add("MemoryLow", uint64(v))
	}
	swap, err := swapOnly(value(m.Swap), value(m.Limit))
	if err != nil {
		return &FieldError{Field: "linux.resources.memory.swap", Err: err}
	}
	if swap != 0 || value(m.Swap) > 0 {
		s.add("MemorySwapMax", uint64(swap))
	}
	return nil
}

func (s *properties) cpu(r *specs.LinuxResources) error {
	c := r.CPU
	if c == nil {
		return nil
	}
	shares := value(c.Shares)
	idle := s.idle(c.Idle != nil && *c.Idle == 1)
	switch {
	case s.unified && shares != 0 && idle && s.version >= 252:
		s.warn("linux.resources.cpu: unable to apply both CPUWeight and CpuIdle to systemd, ignoring CPUWeight")
	case !s.unified && shares != 0:
		s.add("CPUShares", shares)
	case s.unified && shares != 0 && !idle:
		s.add("CPUWeight", weight(shares))
	}
	s.quota(value(c.Quota), value(c.Period))
	return nil
}

// idle tells systemd that the unit is idle: as a weight of 0, since version 252.
func (s *properties) idle(idle bool) bool {
	if !idle || !s.unified {
		return false
	}
	if s.version >= 252 {
		s.add("CPUWeight", uint64(0))
	}
	return true
}

// Percents gives r with a quota of processor time in whole percents, rounded up, as systemd keeps it: what is written to the
// file beside systemd is the same then.
func Percents(r *specs.LinuxResources) *specs.LinuxResources {
	if r == nil || r.CPU == nil || value(r.CPU.Quota) <= 0 {
		return r
	}
	with, cpu := *r, *r.CPU
	period := value(cpu.Period)
	if period == 0 {
		period = 100000
	}
	if perSec := uint64(*cpu.Quota) * 1000000 / period; perSec%10000 != 0 {
		quota := int64(wholePercents(perSec) * period / 1000000)
		cpu.Quota, with.CPU = &quota, &cpu
	}
	return &with
}

func wholePercents(perSec uint64) uint64 { return (perSec + 9999) / 10000 * 10000 }

// quota tells systemd time per second of real time, in whole percents: [Percents].
func (s *properties) quota(quota int64, period uint64) {
	if quota == 0 && period == 0 {
		return
	}
	if period != 0 && s.version >= 242 {
		s.add("CPUQuotaPeriodUSec", period)
	}
	perSec := infinity
	if quota > 0 {
		if period == 0 {
			period = 100000
		}
		perSec = wholePercents(uint64(quota) * 1000000 / period)
	}
	s.add("CPUQuotaPerSecUSec", perSec)
}

func (s *properties) blockIO(r *specs.LinuxResources) error {
	if r.BlockIO != nil && value(r.BlockIO.Weight) != 0 && !s.unified {
		s.add("BlockIOWeight", uint64(*r.BlockIO.Weight))
	}
	return nil
}

func (s *properties) pids(r *specs.LinuxResources) error {
	if r.Pids == nil || r.Pids.Limit == nil {
		return nil
	}
	switch limit := *r.Pids.Limit; {
	case limit < 0:
		s.add("TasksMax", infinity)
	default:
		s.add("TasksMax", max(uint64(limit), 1))
	}
	return nil
}

func (s *properties) cpuset(r *specs.LinuxResources) error {
	if r.CPU == nil {
		return nil
	}
	for _, f := range []struct{ name, field, list string }{
		{"AllowedCPUs", "cpus", r.CPU.Cpus}, {"AllowedMemoryNodes", "mems", r.CPU.Mems},
	} {
		if f.list == "" {
			continue
		}
		if err := s.bits(f.name, f.list); err != nil {
			return &FieldError{Field: "linux.resources.cpu." + f.field, Err: err}
		}
	}
	return nil
}

// bits adds a list of processors or memory nodes, which systemd takes since version 244.
func (s *properties) bits(name, list string) error {
	mask, err := listMask(list)
	if err == nil && s.version >= 244 {
		s.add(name, mask)
	}
	return err
}

// listMask turns a list of numbers as cpuset files take it into a mask, the lowest number in
// the lowest bit of the first byte.
func listMask(list string) ([]byte, error) {
	ranges, ok := ParseList(list)
	if !ok || len(ranges) == 0 {
		return nil, fmt.Errorf("%q is no list of numbers such as 0-3,7", list)
	}
	mask := make([]byte, ranges[len(ranges)-1].Last/8+1)
	for _, r := range ranges {
		for n := r.First; n <= r.Last; n++ {
			mask[n/8] |= 1 << (n % 8)
		}
	}
	return mask, nil
}

// ParseList reads a list of processors or memory nodes as cpuset files take it: as [abi.ParseList] does, and with
// any white space in the place of a comma.
func ParseList(list string) ([]abi.Range, bool) {
	parts := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	return abi.ParseList(strings.Join(parts, ","))
}

// files translates files of version 2 that systemd has properties for.
func (s *properties) files(r *specs.LinuxResources) error {
	idle := strings.TrimSpace(r.Unified["cpu.idle"]) == "1"
	for _, file := range sortedKeys(r.Unified) {
		v := strings.TrimSpace(r.Unified[file])
		if err := s.file(file, v, idle); err != nil {
			return fieldErr("linux.resources.unified", "%s: %w", file, err)
		}
	}
	return nil
}

func (s *properties) file(file, v string, idle bool) error {
	number := func(name string) error {
		n := infinity
		if v != "max" {
			var err error
			if n, err = strconv.ParseUint(v, 10, 64); err != nil {
				return err
			}
		}
		if name == "TasksMax" {
			n = max(n, 1)
		}
		s.add(name, n)
		return nil
	}
	switch file {
	case "cpu.idle":
		s.idle(idle)
	case "cpu.weight":
		if idle {
			s.warn("unable to apply both cpu.weight and cpu.idle to systemd, ignoring cpu.weight")
			return nil
		}
		return number("CPUWeight")
	case "cpu.max":
		f := strings.Fields(v)
		if len(f) < 1 || len(f) > 2 {
			return fmt.Errorf("%q has not the form QUOTA PERIOD", v)
		}
		var quota int64
		period := uint64(100000)
		var err1, err2 error
		if f[0] != "max" {
			quota, err1 = strconv.ParseInt(f[0], 10, 64)
		}
		if len(f) == 2 {
			period, err2 = strconv.ParseUint(f[1], 10, 64)
		}
		if err := errors.Join(err1, err2); err != nil || period == 0 {
			return fmt.Errorf("%q has not the form QUOTA PERIOD", v)
		}
		s.quota(quota, period)
	case "cpuset.cpus":
		return s.bits("AllowedCPUs", v)
	case "cpuset.mems":
		return s.bits("AllowedMemoryNodes", v)
	case "memory.high":
		return number("MemoryHigh")
	case "memory.low":
		return number("MemoryLow")
	case "memory.min":
		return number("MemoryMin")
	case "memory.max":
		return number("MemoryMax")
	case "memory.swap.max":
		return number("MemorySwapMax")
	case "pids.max":
		return number("TasksMax")
	}
	return nil
}

// StartProperties are properties that systemd takes at a unit's start only.
func StartProperties(r *specs.LinuxResources, version int) []Property {
	if r == nil || version < 253 {
		return nil
	}
	switch strings.TrimSpace(r.Unified["memory.oom.group"]) {
	case "0":
		return []Property{{"OOMPolicy", "continue"}}
	case "1":
		return []Property{{"OOMPolicy", "kill"}}
	}
	return nil
}
