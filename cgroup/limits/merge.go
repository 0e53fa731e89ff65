package limits

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Merge gives the resources of a container after an update: what changes says, and of what it leaves out, what was. All of it is
// to be written then: a new limit of swap needs the one of memory, a new period the quota, and to write a value once more changes
// nothing. Device rules are no matter of updates, and stay. Neither argument is changed.
func Merge(old, changes *specs.LinuxResources) *specs.LinuxResources {
	r, c := value(old), value(changes)
	r.Memory = mergeMemory(r.Memory, c.Memory)
	r.CPU = mergeCPU(r.CPU, c.CPU)
	r.BlockIO = mergeBlockIO(r.BlockIO, c.BlockIO)
	if c.Pids != nil && c.Pids.Limit != nil {
		r.Pids = c.Pids
	}
	if c.HugepageLimits != nil {
		r.HugepageLimits = c.HugepageLimits
	}
	set(&r.Network, c.Network)
	if c.Rdma != nil {
		r.Rdma = c.Rdma
	}
	if c.Unified != nil {
		both := map[string]string{}
		for _, m := range []map[string]string{r.Unified, c.Unified} {
			for file, value := range m {
				both[file] = value
			}
		}
		r.Unified = both
	}
	return &r
}

// set replaces what *to points to when there is something new.
func set[T any](to **T, from *T) {
	if from != nil {
		*to = from
	}
}

func mergeMemory(old, changes *specs.LinuxMemory) *specs.LinuxMemory {
	if changes == nil {
		return old
	}
	m := value(old)
	set(&m.Limit, changes.Limit)
	set(&m.Reservation, changes.Reservation)
	set(&m.Swap, changes.Swap)
	set(&m.Swappiness, changes.Swappiness)
	set(&m.DisableOOMKiller, changes.DisableOOMKiller)
	m.CheckBeforeUpdate = changes.CheckBeforeUpdate // of this update, not of later ones
	if value(changes.Limit) == -1 && changes.Swap == nil {
		m.Swap = nil // no limit of memory is none of swap
	}
	return &m
}

func mergeCPU(old, changes *specs.LinuxCPU) *specs.LinuxCPU {
	if changes == nil {
		return old
	}
	c := value(old)
	set(&c.Shares, changes.Shares)
	set(&c.Quota, changes.Quota)
	set(&c.Period, changes.Period)
	set(&c.Burst, changes.Burst)
	set(&c.RealtimePeriod, changes.RealtimePeriod)
	set(&c.RealtimeRuntime, changes.RealtimeRuntime)
	set(&c.Idle, changes.Idle)
	if changes.Cpus != "" {
		c.Cpus = changes.Cpus
	}
	if changes.Mems != "" {
		c.Mems = changes.Mems
	}
	// An idle cgroup has no weight: whichever is new counts.
	switch {
	case value(changes.Idle) == 1 && changes.Shares == nil:
		c.Shares = nil
	case value(changes.Shares) != 0 && changes.Idle == nil && value(c.Idle) == 1:
		c.Idle = new(int64)
	}
	return &c
}

func mergeBlockIO(old, changes *specs.LinuxBlockIO) *specs.LinuxBlockIO {
	if changes == nil {
		return old
	}
	b := value(old)
	set(&b.Weight, changes.Weight)
	set(&b.LeafWeight, changes.LeafWeight)
	b.WeightDevice = upsert(b.WeightDevice, changes.WeightDevice, func(d specs.LinuxWeightDevice) specs.LinuxBlockIODevice { return d.LinuxBlockIODevice })
	device := func(d specs.LinuxThrottleDevice) specs.LinuxBlockIODevice { return d.LinuxBlockIODevice }
	b.ThrottleReadBpsDevice = upsert(b.ThrottleReadBpsDevice, changes.ThrottleReadBpsDevice, device)
	b.ThrottleWriteBpsDevice = upsert(b.ThrottleWriteBpsDevice, changes.ThrottleWriteBpsDevice, device)
	b.ThrottleReadIOPSDevice = upsert(b.ThrottleReadIOPSDevice, changes.ThrottleReadIOPSDevice, device)
	b.ThrottleWriteIOPSDevice = upsert(b.ThrottleWriteIOPSDevice, changes.ThrottleWriteIOPSDevice, device)
	return &b
}

// upsert replaces the entries of devices that have one, or several, for the last one counts, and adds the others.
func upsert[T any](list, changes []T, device func(T) specs.LinuxBlockIODevice) []T {
	list = slices.Clone(list)
	for _, c := range changes {
		i := slices.IndexFunc(list, func(e T) bool { return device(e) == device(c) })
		if i < 0 {
			list = append(list, c)
			continue
		}
		list[i] = c
		rest := slices.DeleteFunc(list[i+1:], func(e T) bool { return device(e) == device(c) })
		list = list[:i+1+len(rest)]
	}
	return list
}
