package specjson

import (
	"math"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// resources checks what does not depend on which cgroup version the host has.
func (c *checker) resources(r *specs.LinuxResources) {
	for i := range r.Devices {
		c.deviceRule(i, &r.Devices[i])
	}
	if r.Memory != nil {
		c.memory(r.Memory)
	}
	if r.CPU != nil {
		c.cpu(r.CPU)
	}
	// Any negative pids.limit is none: Docker passes on what --pids-limit had.
	if r.BlockIO != nil {
		c.blockIO(r.BlockIO)
	}
	for i := range r.HugepageLimits {
		size := r.HugepageLimits[i].Pagesize
		c.word(place{"hugepageLimits", i, "pageSize"}, size, isPageSize(size), "a size such as 64KB, 2MB or 1GB", "see /sys/kernel/mm/hugepages")
	}
	if r.Network != nil {
		for i := range r.Network.Priorities {
			name := r.Network.Priorities[i].Name
			c.word(place{"network.priorities", i, "name"}, name, isInterfaceName(name), "the name of a network interface", "see ip-link(8)")
		}
	}
	for _, device := range sortedKeys(r.Rdma) {
		c.rdma(device, r.Rdma[device])
	}
	for _, file := range sortedKeys(r.Unified) {
		path := join("unified", member(file))
		c.word(at(path), file, isCgroupFile(file), "the name of a file in a cgroup, such as memory.high", "see cgroups(7)")
		c.plain(at(path), r.Unified[file])
	}
}

// deviceRule checks a rule of the device controller. A number of -1 is all
// numbers, as an absent one: dockerd writes it.
func (c *checker) deviceRule(i int, rule *specs.LinuxDeviceCgroup) {
	switch rule.Type {
	case "", "a", "b", "c":
	default:
		c.refuse(place{"devices", i, "type"}.String(), "one of a, b and c", quote(rule.Type), "b is for block devices, c for all others")
	}
	for _, number := range [2]struct {
		field string
		value *int64
		most  int64
	}{{"major", rule.Major, maxMajor}, {"minor", rule.Minor, maxMinor}} {
		if v := number.value; v != nil && (*v < -1 || *v > number.most) {
			c.refuse(place{"devices", i, number.field}.String(), "an integer from 0 to "+decimal(number.most), decimal(*v), "remove it for all devices")
		}
	}
	switch rest := strings.Trim(rule.Access, "rwm"); {
	case !strings.ContainsAny(rule.Access, "rwm"): // of all that is left a rule about nothing
		c.refuse(place{"devices", i, "access"}.String(), "some of r, w and m", quote(rule.Access), `write "rwm" for any access`)
	case rest != "":
		// runc takes such rules, and its own tests have one.
		c.warn(place{"devices", i, "access"}.String(), "some of r, w and m", quote(rule.Access), "other letters are ignored")
	}
}

// limit wants a number, or -1 for none.
func (c *checker) limit(path string, n *int64) {
	if n != nil && *n < -1 {
		c.refuse(path, "a limit, or -1 for none", decimal(*n), "write -1")
	}
}

func (c *checker) memory(m *specs.LinuxMemory) {
	c.limit("memory.limit", m.Limit)
	c.limit("memory.reservation", m.Reservation)
	c.limit("memory.swap", m.Swap)
	//lint:ignore SA1019 deprecated, and still written
	c.limit("memory.kernel", m.Kernel)
	c.limit("memory.kernelTCP", m.KernelTCP)
	if m.Limit != nil && m.Swap != nil && *m.Swap > 0 && *m.Limit > *m.Swap {
		c.refuse("memory.swap", "at least memory.limit, "+decimal(*m.Limit), decimal(*m.Swap), "it limits memory and swap together")
	}
	const none = math.MaxUint64 // -1 as some engines write it, which leaves the value alone, as with runc
	if m.Swappiness != nil && *m.Swappiness > 100 && *m.Swappiness != none {
		c.refuse("memory.swappiness", "an integer from 0 to 100", natural(*m.Swappiness), "higher means more swapping")
	}
}

func (c *checker) cpu(p *specs.LinuxCPU) {
	if p.Burst != nil && p.Quota != nil && *p.Quota > 0 && *p.Burst > uint64(*p.Quota) {
		c.refuse("cpu.burst", "at most cpu.quota, "+decimal(*p.Quota), natural(*p.Burst), "lower it, or raise quota")
	}
	if p.Idle != nil && *p.Idle != 0 && *p.Idle != 1 {
		c.refuse("cpu.idle", "0 or 1", decimal(*p.Idle), "1 is SCHED_IDLE")
	}
	c.numberList(at("cpu.cpus"), p.Cpus)
	c.numberList(at("cpu.mems"), p.Mems)
}

func (c *checker) blockIO(b *specs.LinuxBlockIO) {
	for i := range b.WeightDevice {
		d := &b.WeightDevice[i]
		c.deviceNumbers("blockIO.weightDevice", i, d.Major, d.Minor)
		if d.Weight == nil && d.LeafWeight == nil {
			c.refuse(place{"blockIO.weightDevice", i, ""}.String(), "weight or leafWeight", "neither", "add one, or remove the entry")
		}
	}
	c.throttle("blockIO.throttleReadBpsDevice", b.ThrottleReadBpsDevice)
	c.throttle("blockIO.throttleWriteBpsDevice", b.ThrottleWriteBpsDevice)
	c.throttle("blockIO.throttleReadIOPSDevice", b.ThrottleReadIOPSDevice)
	c.throttle("blockIO.throttleWriteIOPSDevice", b.ThrottleWriteIOPSDevice)
}

func (c *checker) throttle(base string, devices []specs.LinuxThrottleDevice) {
	for i := range devices {
		c.deviceNumbers(base, i, devices[i].Major, devices[i].Minor)
	}
}

func (c *checker) rdma(device string, limits specs.LinuxRdma) {
	path := join("rdma", member(device))
	c.word(at(path), device, device != "" && !strings.ContainsAny(device, "/ \t\n\x00"), "the name of an RDMA device", "see /sys/class/infiniband")
	if limits.HcaHandles == nil && limits.HcaObjects == nil {
		c.refuse(path, "hcaHandles or hcaObjects", "neither", "add one, or remove the entry")
	}
}

// isPageSize follows the pattern of runtime-spec's schema; the text becomes part of
// a file's name.
func isPageSize(s string) bool {
	for _, unit := range [3]string{"KB", "MB", "GB"} {
		if number, ok := strings.CutSuffix(s, unit); ok {
			return isNumericID(number) && number != "0"
		}
	}
	return false
}

// isCgroupFile tells whether s is a name of one component, with a controller before
// its first dot: anything else would be a file of another cgroup, or none.
func isCgroupFile(s string) bool {
	controller, rest, _ := strings.Cut(s, ".")
	return controller != "" && rest != "" && !strings.ContainsAny(s, "/\n\x00")
}
