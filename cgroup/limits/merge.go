package limits

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Merge gives the resources of a container after an update: what changes says, and of what it leaves out, what was. It is for
// the values that depend on each other: a new limit of swap needs the old one of memory, a new period the old quota. Devices
// are not among what an update changes. Neither argument is changed.
func Merge(old, changes *specs.LinuxResources) *specs.LinuxResources {
	if old == nil {
		old = &specs.LinuxResources{}
	}
	if changes == nil {
		changes = &specs.LinuxResources{}
	}
	r := *old
	r.Devices = nil
	r.Memory = mergeMemory(value(old.Memory), value(changes.Memory))
	r.CPU = mergeCPU(value(old.CPU), value(changes.CPU))
	r.BlockIO = mergeBlockIO(value(old.BlockIO), value(changes.BlockIO))
	// These are written when they are given, and stay as they are when not.
	r.Pids, r.Unified = changes.Pids, changes.Unified
	if changes.HugepageLimits != nil {
		r.HugepageLimits = changes.HugepageLimits
	}
	if changes.Network != nil {
		r.Network = changes.Network
	}
	if changes.Rdma != nil {
		r.Rdma = changes.Rdma
	}
	return &r
}

// set replaces what *to points to when there is something new.
func set[T any](to **T, from *T) {
	if from != nil {
		*to = from
	}
}

func mergeMemory(m, changes specs.LinuxMemory) *specs.LinuxMemory {
	set(&m.Limit, changes.Limit)
	set(&m.Reservation, changes.Reservation)
	set(&m.Swap, changes.Swap)
	set(&m.Swappiness, changes.Swappiness)
	set(&m.DisableOOMKiller, changes.DisableOOMKiller)
	set(&m.CheckBeforeUpdate, changes.CheckBeforeUpdate)
	if changes.Limit != nil && *changes.Limit == -1 && changes.Swap == nil {
		m.Swap = nil // no limit of memory is none of swap
	}
	return &m
}

func mergeCPU(c, changes specs.LinuxCPU) *specs.LinuxCPU {
	set(&c.Shares, changes.Shares)
	set(&c.RealtimePeriod, changes.RealtimePeriod)
	set(&c.RealtimeRuntime, changes.RealtimeRuntime)
	quota, period := value(changes.Quota), value(changes.Period)
	if (quota == 0) == (period == 0) {
		c.Quota, c.Period = changes.Quota, changes.Period // both, or neither and then they are left alone
	} else if quota != 0 {
		c.Quota = changes.Quota
	} else {
		c.Period = changes.Period
	}
	c.Burst, c.Idle, c.Cpus, c.Mems = changes.Burst, changes.Idle, changes.Cpus, changes.Mems
	if changes.Idle != nil && changes.Shares == nil {
		c.Shares = nil // an idle cgroup takes no weight
	}
	return &c
}

func mergeBlockIO(b, changes specs.LinuxBlockIO) *specs.LinuxBlockIO {
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

// upsert replaces the entries of devices that have one, and adds the others.
func upsert[T any](list, changes []T, device func(T) specs.LinuxBlockIODevice) []T {
	list = slices.Clone(list)
	for _, c := range changes {
		i := slices.IndexFunc(list, func(e T) bool { return device(e) == device(c) })
		if i < 0 {
			list = append(list, c)
		} else {
			list[i] = c
		}
	}
	return list
}
