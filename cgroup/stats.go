package cgroup

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/cgroup/limits"
)

// Stats is a reading of a cgroup's counters. As JSON it is what runc's events command prints as data, name for
// name, which callers read: containerd's shim for one.
type Stats struct {
	CPU     CPU                `json:"cpu"`
	CPUSet  CPUSet             `json:"cpuset"`
	Memory  Memory             `json:"memory"`
	Pids    Pids               `json:"pids"`
	BlockIO BlockIO            `json:"blkio"`
	Hugetlb map[string]Hugetlb `json:"hugetlb"` // by page size
	// IntelRdt is of another part of the kernel, and left empty here.
	IntelRdt struct{} `json:"intel_rdt"`
	// NetworkInterfaces are those of the container's network namespace, for whoever can look there.
	NetworkInterfaces []NetworkInterface `json:"network_interfaces"`
}

// CPU is processor time, in nanoseconds.
type CPU struct {
	Usage      CPUUsage   `json:"usage,omitzero"`
	Throttling Throttling `json:"throttling,omitzero"`
	PSI        *PSI       `json:"psi,omitempty"`
}

// CPUUsage is time used; by processor on version 1 only.
type CPUUsage struct {
	Total        uint64   `json:"total,omitempty"`
	PerCPU       []uint64 `json:"percpu,omitempty"`
	PerCPUKernel []uint64 `json:"percpu_kernel,omitempty"`
	PerCPUUser   []uint64 `json:"percpu_user,omitempty"`
	Kernel       uint64   `json:"kernel"`
	User         uint64   `json:"user"`
}

// Throttling is what the quota did: in how many periods it was in force, in how many it was used up, and for how
// long processes then waited, in nanoseconds.
type Throttling struct {
	Periods          uint64 `json:"periods,omitempty"`
	ThrottledPeriods uint64 `json:"throttledPeriods,omitempty"`
	ThrottledTime    uint64 `json:"throttledTime,omitempty"`
}

// CPUSet is what cpuset files of version 1 say.
type CPUSet struct {
	CPUs                  []uint16 `json:"cpus,omitempty"`
	CPUExclusive          uint64   `json:"cpu_exclusive"`
	Mems                  []uint16 `json:"mems,omitempty"`
	MemHardwall           uint64   `json:"mem_hardwall"`
	MemExclusive          uint64   `json:"mem_exclusive"`
	MemoryMigrate         uint64   `json:"memory_migrate"`
	MemorySpreadPage      uint64   `json:"memory_spread_page"`
	MemorySpreadSlab      uint64   `json:"memory_spread_slab"`
	MemoryPressure        uint64   `json:"memory_pressure"`
	SchedLoadBalance      uint64   `json:"sched_load_balance"`
	SchedRelaxDomainLevel int64    `json:"sched_relax_domain_level"`
}

// Memory is in bytes. Swap is memory and swap together, as version 1 counts it.
type Memory struct {
	Cache     uint64            `json:"cache,omitempty"`
	Usage     MemoryEntry       `json:"usage,omitzero"`
	Swap      MemoryEntry       `json:"swap,omitzero"`
	Kernel    MemoryEntry       `json:"kernel,omitzero"`
	KernelTCP MemoryEntry       `json:"kernelTCP,omitzero"`
	Raw       map[string]uint64 `json:"raw,omitempty"` // memory.stat
	PSI       *PSI              `json:"psi,omitempty"`
}

// MemoryEntry is one kind of memory. The largest number stands for no limit.
type MemoryEntry struct {
	Limit   uint64 `json:"limit"`
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

// Pids counts tasks. A Limit of 0 is none.
type Pids struct {
	Current uint64 `json:"current,omitempty"`
	Limit   uint64 `json:"limit,omitempty"`
}

// BlockIO counts by device and operation.
type BlockIO struct {
	ServiceBytes []BlockIOEntry `json:"ioServiceBytesRecursive,omitempty"`
	Serviced     []BlockIOEntry `json:"ioServicedRecursive,omitempty"`
	Queued       []BlockIOEntry `json:"ioQueueRecursive,omitempty"`
	ServiceTime  []BlockIOEntry `json:"ioServiceTimeRecursive,omitempty"`
	WaitTime     []BlockIOEntry `json:"ioWaitTimeRecursive,omitempty"`
	Merged       []BlockIOEntry `json:"ioMergedRecursive,omitempty"`
	Time         []BlockIOEntry `json:"ioTimeRecursive,omitempty"`
	Sectors      []BlockIOEntry `json:"sectorsRecursive,omitempty"`
	PSI          *PSI           `json:"psi,omitempty"`
}

// BlockIOEntry is a count of a device.
type BlockIOEntry struct {
	Major uint64 `json:"major,omitempty"`
	Minor uint64 `json:"minor,omitempty"`
	Op    string `json:"op,omitempty"`
	Value uint64 `json:"value,omitempty"`
}

// Hugetlb is in bytes.
type Hugetlb struct {
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

// PSI is how much time processes lost for want of a resource, some of them or all at
// once: Documentation/accounting/psi.rst.
type PSI struct {
	Some PSIData `json:"some,omitzero"`
	Full PSIData `json:"full,omitzero"`
}

// PSIData is in percent, over the last 10, 60 and 300 seconds, and in microseconds altogether.
type PSIData struct {
	Avg10  float64 `json:"avg10"`
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`
	Total  uint64  `json:"total"`
}

// NetworkInterface counts what went through one. It has no tags: runc prints the names as they are here.
type NetworkInterface struct {
	Name                                    string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Stats reads the counters. What the kernel or the cgroup does not have is 0.
func (g *Group) Stats() (Stats, error) {
	s := Stats{Hugetlb: map[string]Hugetlb{}}
	var errs []error
	for _, n := range g.nodes {
		dir, err := n.open()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r := reader{dir: dir, n: n, s: &s}
		if n.h.Version == limits.V2 {
			r.v2(g.host.Unified())
		} else {
			r.v1()
		}
		errs = append(errs, r.errs...)
	}
	err := errors.Join(errs...)
	if err != nil && g.opts.Rootless {
		err = nil // as far as can be seen
	}
	return s, err
}

// A reader collects from one directory, and goes on after an error.
type reader struct {
	dir  int
	n    *node
	s    *Stats
	errs []error
}

// text reads a file; one that is not there is empty.
func (r *reader) text(file string) (string, bool) {
	t, err := readFile(r.dir, file)
	switch {
	case err == nil:
		return t, true
	case gone(err), errors.Is(err, unix.ENOTSUP): // ENOTSUP: a counter that is switched off, such as PSI
	default:
		r.fail(file, err)
	}
	return "", false
}

func (r *reader) fail(file string, err error) {
	if err != nil {
		r.errs = append(r.errs, r.n.errorf("read %s: %w", file, err))
	}
}

func (r *reader) number(file string) (uint64, bool) {
	t, ok := r.text(file)
	if !ok {
		return 0, false
	}
	v, err := number(strings.TrimSpace(t))
	r.fail(file, err)
	return v, err == nil
}

func (r *reader) value(file string) uint64 {
	v, _ := r.number(file)
	return v
}

// table reads a file of lines "KEY NUMBER".
func (r *reader) table(file string) map[string]uint64 {
	t, ok := r.text(file)
	if !ok {
		return nil
	}
	m, err := parseTable(t)
	r.fail(file, err)
	return m
}

func parseTable(text string) (map[string]uint64, error) {
	m := map[string]uint64{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		key, value, ok := strings.Cut(line, " ")
		if !ok || key == "" {
			return nil, fmt.Errorf("line %q has not the form KEY NUMBER", line)
		}
		v, err := number(value)
		if err != nil {
			return nil, err
		}
		m[key] = v
	}
	return m, nil
}

// v1 reads what belongs to the controllers of a version 1 hierarchy.
func (r *reader) v1() {
	for _, c := range r.n.h.Controllers {
		switch c {
		case "cpu":
			t := r.table("cpu.stat")
			r.s.CPU.Throttling = Throttling{t["nr_periods"], t["nr_throttled"], t["throttled_time"]}
		case "cpuacct":
			r.cpuacct()
		case "cpuset":
			r.cpuset()
		case "memory":
			r.memoryV1()
		case "pids":
			r.pids()
		case "blkio":
			r.blkioV1()
		case "hugetlb":
			r.hugetlb(".usage_in_bytes", ".max_usage_in_bytes", ".failcnt")
		}
	}
}

func (r *reader) cpuacct() {
	u := &r.s.CPU.Usage
	const tick = 1e9 / abi.UserHZ
	t := r.table("cpuacct.stat")
	u.User, u.Kernel = t["user"]*tick, t["system"]*tick
	u.Total = r.value("cpuacct.usage")
	if t, ok := r.text("cpuacct.usage_percpu"); ok {
		var err error
		u.PerCPU, err = numbers(strings.Fields(t))
		r.fail("cpuacct.usage_percpu", err)
	}
	if t, ok := r.text("cpuacct.usage_all"); ok {
		var err error
		u.PerCPUUser, u.PerCPUKernel, err = parseUsageAll(t)
		r.fail("cpuacct.usage_all", err)
	}
}

func numbers(fields []string) ([]uint64, error) {
	list := make([]uint64, len(fields))
	for i, f := range fields {
		var err error
		if list[i], err = number(f); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// parseUsageAll reads lines "CPU USER SYSTEM" below a head line.
func parseUsageAll(text string) (user, kernel []uint64, err error) {
	if head := firstLine(text); !strings.HasPrefix(head, "cpu user system") {
		return nil, nil, fmt.Errorf("its head is %q", head)
	}
	_, rest, _ := strings.Cut(text, "\n")
	for line := range strings.Lines(rest) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		v, err := numbers(f[1:3])
		if err != nil {
			return nil, nil, err
		}
		user, kernel = append(user, v[0]), append(kernel, v[1])
	}
	return user, kernel, nil
}

func (r *reader) cpuset() {
	c := &r.s.CPUSet
	for _, f := range []struct {
		name string
		to   *[]uint16
	}{{"cpus", &c.CPUs}, {"mems", &c.Mems}} {
		file := r.n.file("cpuset." + f.name)
		if t, ok := r.text(file); ok && strings.TrimSpace(t) != "" {
			var err error
			*f.to, err = parseList(strings.TrimSpace(t))
			r.fail(file, err)
		}
	}
	for _, f := range []struct {
		name string
		to   *uint64
	}{
		{"cpu_exclusive", &c.CPUExclusive}, {"mem_hardwall", &c.MemHardwall}, {"mem_exclusive", &c.MemExclusive}, {"memory_migrate", &c.MemoryMigrate},
		{"memory_spread_page", &c.MemorySpreadPage}, {"memory_spread_slab", &c.MemorySpreadSlab}, {"memory_pressure", &c.MemoryPressure},
		{"sched_load_balance", &c.SchedLoadBalance},
	} {
		*f.to = r.value(r.n.file("cpuset." + f.name))
	}
	file := r.n.file("cpuset.sched_relax_domain_level")
	if t, ok := r.text(file); ok {
		v, err := strconv.ParseInt(strings.TrimSpace(t), 10, 64) // -1 is its default
		c.SchedRelaxDomainLevel = v
		r.fail(file, err)
	}
}

// parseList reads a list of numbers such as "0-3,7".
func parseList(text string) (list []uint16, err error) {
	ranges, ok := abi.ParseList(text)
	if !ok {
		return nil, fmt.Errorf("%q is no list of numbers", text)
	}
	for _, r := range ranges {
		for v := r.First; v <= r.Last; v++ {
			list = append(list, uint16(v))
		}
	}
	return list, nil
}

func (r *reader) memoryV1() {
	m := &r.s.Memory
	if m.Raw = r.table("memory.stat"); m.Raw == nil {
		return
	}
	m.Cache = m.Raw["cache"]
	for _, f := range []struct {
		prefix string
		to     *MemoryEntry
	}{{"memory", &m.Usage}, {"memory.memsw", &m.Swap}, {"memory.kmem", &m.Kernel}, {"memory.kmem.tcp", &m.KernelTCP}} {
		usage, ok := r.number(f.prefix + ".usage_in_bytes")
		if !ok {
			continue
		}
		*f.to = MemoryEntry{
			Usage: usage, Limit: r.value(f.prefix + ".limit_in_bytes"),
			Max: r.value(f.prefix + ".max_usage_in_bytes"), Failcnt: r.value(f.prefix + ".failcnt"),
		}
	}
}

// pids is the same for both versions.
func (r *reader) pids() {
	p := &r.s.Pids
	var ok bool
	if p.Current, ok = r.number("pids.current"); !ok {
		// Without the controller the processes can still be counted.
		t, _ := r.text("cgroup.procs")
		p.Current = uint64(strings.Count(t, "\n"))
		return
	}
	if p.Limit = r.value("pids.max"); p.Limit == 1<<64-1 {
		p.Limit = 0
	}
}

// blkioV1 takes the first of the sets of files that the kernel has: what it counts depends on its
// schedulers, and on how it was built.
func (r *reader) blkioV1() {
	b := &r.s.BlockIO
	type file struct {
		name string
		to   *[]BlockIOEntry
	}
	set := func(prefix string) []file {
		return []file{
			{prefix + "sectors_recursive", &b.Sectors}, {prefix + "io_service_time_recursive", &b.ServiceTime}, {prefix + "io_wait_time_recursive", &b.WaitTime},
			{prefix + "io_merged_recursive", &b.Merged}, {prefix + "io_queued_recursive", &b.Queued}, {prefix + "time_recursive", &b.Time},
			{prefix + "io_serviced_recursive", &b.Serviced}, {prefix + "io_service_bytes_recursive", &b.ServiceBytes},
		}
	}
	for _, files := range [][]file{
		set("blkio.bfq."), set("blkio.bfq.")[6:], set("blkio."), set("blkio.throttle.")[6:],
		{{"blkio.throttle.io_serviced", &b.Serviced}, {"blkio.throttle.io_service_bytes", &b.ServiceBytes}},
	} {
		found := false
		for i, f := range files {
			t, ok := r.text(f.name)
			if !ok {
				break
			}
			list, err := parseBlkio(t)
			if r.fail(f.name, err); err != nil || len(list) == 0 && i == 0 {
				break // a scheduler that no device uses
			}
			*f.to, found = list, true
		}
		if found {
			return
		}
	}
}

// parseBlkio reads lines "MAJOR:MINOR OPERATION NUMBER" or "MAJOR:MINOR NUMBER", and leaves the sum of all devices out.
func parseBlkio(text string) ([]BlockIOEntry, error) {
	var list []BlockIOEntry
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		f := strings.Fields(line)
		if len(f) == 2 && f[0] == "Total" {
			continue
		}
		if len(f) != 2 && len(f) != 3 {
			return nil, fmt.Errorf("line %q has not the form DEVICE OPERATION NUMBER", line)
		}
		e, err := device(f[0])
		if err != nil {
			return nil, err
		}
		if len(f) == 3 {
			e.Op = f[1]
		}
		if e.Value, err = number(f[len(f)-1]); err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

func device(s string) (BlockIOEntry, error) {
	major, minor, ok := strings.Cut(s, ":")
	a, err1 := strconv.ParseUint(major, 10, 64)
	b, err2 := strconv.ParseUint(minor, 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return BlockIOEntry{}, fmt.Errorf("%q is no device", s)
	}
	return BlockIOEntry{Major: a, Minor: b}, nil
}

// v2 reads a version 2 cgroup: all of it, or on a host with both versions what version 1 has not.
func (r *reader) v2(unified bool) {
	r.hugetlb(".current", "", ".events")
	for _, c := range []struct {
		controller string
		read       func()
		psi        **PSI
	}{{"cpu", r.cpuV2, &r.s.CPU.PSI}, {"memory", r.memoryV2, &r.s.Memory.PSI}, {"io", r.ioV2, &r.s.BlockIO.PSI}, {"pids", r.pids, nil}} {
		if !unified && !r.n.h.has(c.controller) {
			continue
		}
		c.read()
		if c.psi == nil {
			continue
		}
		if t, ok := r.text(c.controller + ".pressure"); ok {
			psi, err := parsePSI(t)
			*c.psi = psi
			r.fail(c.controller+".pressure", err)
		}
	}
}

func (r *reader) cpuV2() {
	t := r.table("cpu.stat")
	r.s.CPU.Usage.Total, r.s.CPU.Usage.User, r.s.CPU.Usage.Kernel = t["usage_usec"]*1000, t["user_usec"]*1000, t["system_usec"]*1000
	r.s.CPU.Throttling = Throttling{t["nr_periods"], t["nr_throttled"], t["throttled_usec"] * 1000}
}

func (r *reader) ioV2() {
	if t, ok := r.text("io.stat"); ok {
		var err error
		r.s.BlockIO.ServiceBytes, r.s.BlockIO.Serviced, err = parseIO(t)
		r.fail("io.stat", err)
	}
}

func (r *reader) memoryV2() {
	m := &r.s.Memory
	if m.Raw = r.table("memory.stat"); m.Raw == nil {
		return
	}
	m.Cache = m.Raw["file"]
	usage, ok := r.number("memory.current")
	if !ok { // the root: it counts, and has no file for the sum
		m.Usage = MemoryEntry{Usage: m.Raw["anon"] + m.Raw["file"], Limit: 1<<64 - 1}
		return
	}
	m.Usage = MemoryEntry{Usage: usage, Limit: r.value("memory.max"), Max: r.value("memory.peak")}
	if swap, ok := r.number("memory.swap.current"); ok {
		m.Swap = MemoryEntry{Usage: swap + usage, Limit: r.value("memory.swap.max")}
	} else {
		m.Swap = MemoryEntry{Usage: usage}
	}
	// Both together, as version 1 has it. A peak of both is not to be had.
	if m.Swap.Limit != 1<<64-1 {
		m.Swap.Limit += m.Usage.Limit
	}
}

// parseIO reads io.stat: lines "MAJOR:MINOR KEY=NUMBER ...".
func parseIO(text string) (bytes, ops []BlockIOEntry, err error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue // a device that has been idle has a line without numbers
		}
		d, err := device(f[0])
		if err != nil {
			return nil, nil, err
		}
		for _, item := range f[1:] {
			key, value, ok := strings.Cut(item, "=")
			to := &bytes
			switch {
			case !ok:
				continue
			case key == "rbytes", key == "rios":
				d.Op = "Read"
			case key == "wbytes", key == "wios":
				d.Op = "Write"
			default:
				continue // discards, and what cost models add
			}
			if strings.HasSuffix(key, "ios") {
				to = &ops
			}
			if d.Value, err = number(value); err != nil {
				return nil, nil, err
			}
			*to = append(*to, d)
		}
	}
	return bytes, ops, nil
}

// parsePSI reads lines "some avg10=0.00 avg60=0.00 avg300=0.00 total=0".
func parsePSI(text string) (*PSI, error) {
	var psi PSI
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		to := map[string]*PSIData{"some": &psi.Some, "full": &psi.Full}[f[0]]
		if to == nil {
			continue
		}
		for _, item := range f[1:] {
			key, value, ok := strings.Cut(item, "=")
			if !ok {
				return nil, fmt.Errorf("%q has not the form KEY=NUMBER", item)
			}
			var err error
			switch key {
			case "avg10":
				to.Avg10, err = strconv.ParseFloat(value, 64)
			case "avg60":
				to.Avg60, err = strconv.ParseFloat(value, 64)
			case "avg300":
				to.Avg300, err = strconv.ParseFloat(value, 64)
			case "total":
				to.Total, err = strconv.ParseUint(value, 10, 64)
			}
			if err != nil {
				return nil, fmt.Errorf("%q is no number", value)
			}
		}
	}
	return &psi, nil
}

// hugetlb reads what there is of each page size: reserved pages where the kernel counts those.
func (r *reader) hugetlb(usage, most, failures string) {
	for _, size := range r.pageSizes(usage) {
		prefix := "hugetlb." + size
		h := Hugetlb{}
		var ok bool
		if h.Usage, ok = r.number(prefix + ".rsvd" + usage); ok {
			if most != "" {
				prefix += ".rsvd"
			}
		} else {
			h.Usage = r.value(prefix + usage)
		}
		if most != "" {
			h.Max, h.Failcnt = r.value(prefix+most), r.value(prefix+failures)
		} else {
			h.Failcnt = r.table(prefix + failures)["max"]
		}
		r.s.Hugetlb[size] = h
	}
}

// pageSizes finds the sizes by the names of the files.
func (r *reader) pageSizes(suffix string) []string {
	names, err := files(r.dir)
	r.fail(".", err)
	var sizes []string
	for _, name := range names {
		rest, ok := strings.CutPrefix(name, "hugetlb.")
		size, ok2 := strings.CutSuffix(rest, suffix)
		if ok && ok2 && !strings.Contains(size, ".") {
			sizes = append(sizes, size)
		}
	}
	slices.Sort(sizes)
	return sizes
}
