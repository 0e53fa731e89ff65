package limits

import (
	"errors"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// swapOnly is memory.swap.max of version 2, swap alone, for a limit of memory and
// swap together. -1 is no limit, 0 no value: what it means then depends on the other.
func swapOnly(memorySwap, memory int64) (int64, error) {
	switch {
	case memory == -1 && memorySwap == 0:
		// Whoever lifts the limit of memory means swap as well: on version 1, swap would be within it.
		return -1, nil
	case memorySwap == -1, memorySwap == 0, memory == -1:
		return memorySwap, nil
	case memory == 0:
		return 0, errors.New("unable to set swap limit without memory limit")
	case memorySwap < memory:
		return 0, errors.New("memory+swap limit should be >= memory limit")
	}
	return memorySwap - memory, nil
}

// memory limits memory and swap. 0 is no value, -1 no limit.
func (k *compiler) memory(r *specs.LinuxResources) error {
	m := r.Memory
	if m == nil {
		return nil
	}
	//lint:ignore SA1019 deprecated, and said to be so
	if m.Kernel != nil || m.KernelTCP != nil {
		k.warn("linux.resources.memory.kernel", "Kernel memory settings are ignored and will be removed")
	}
	swappy := m.Swappiness != nil && int64(*m.Swappiness) != -1
	if swappy && *m.Swappiness > 100 {
		return fieldErr("linux.resources.memory.swappiness", "invalid memory swappiness value: %d (valid range is 0-100)", *m.Swappiness)
	}
	for _, f := range []struct {
		name string
		v    *int64
	}{{"limit", m.Limit}, {"swap", m.Swap}, {"reservation", m.Reservation}} {
		if value(f.v) < -1 {
			return fieldErr("linux.resources.memory."+f.name, "invalid memory value: %d (-1 is no limit)", *f.v)
		}
	}
	if value(m.Limit) == 0 && value(m.Swap) == 0 && value(m.Reservation) == 0 && !swappy && !value(m.DisableOOMKiller) {
		return nil
	}
	p, err := k.part("memory", "memory")
	if err != nil {
		return err
	}
	if p.v == V2 {
		return p.memoryV2(m, swappy)
	}
	p.memoryV1(m, swappy)
	return nil
}

func (p part) memoryV1(m *specs.LinuxMemory, swappy bool) {
	limit, swap := value(m.Limit), value(m.Swap)
	// Memory must be within memory and swap at any time: which of them goes first
	// depends on the old values.
	if limit != 0 {
		p.add("memory.limit", "memory.limit_in_bytes", strconv.FormatInt(limit, 10)).Again = true
	}
	if limit == -1 && swap == 0 {
		w := p.add("memory.limit", "memory.memsw.limit_in_bytes", "-1")
		w.Again, w.Optional, w.Why = true, true, "no limit of memory is none of swap"
	}
	if swap != 0 {
		p.add("memory.swap", "memory.memsw.limit_in_bytes", strconv.FormatInt(swap, 10)).Again = true
	}
	if r := value(m.Reservation); r != 0 {
		p.add("memory.reservation", "memory.soft_limit_in_bytes", strconv.FormatInt(r, 10))
	}
	if value(m.DisableOOMKiller) {
		p.add("memory.disableOOMKiller", "memory.oom_control", "1")
	}
	if swappy {
		p.add("memory.swappiness", "memory.swappiness", strconv.FormatUint(*m.Swappiness, 10))
	}
}

func (p part) memoryV2(m *specs.LinuxMemory, swappy bool) error {
	limit, swap := value(m.Limit), value(m.Swap)
	only, err := swapOnly(swap, limit)
	if err != nil {
		return &FieldError{Field: "linux.resources.memory.swap", Err: err}
	}
	if value(m.CheckBeforeUpdate) {
		for _, g := range []Guard{{What: "memory+swap limit", Field: "linux.resources.memory.swap"}, {What: "memory limit", Field: "linux.resources.memory.limit"}} {
			v := limit
			if g.What == "memory+swap limit" {
				v = swap
			}
			if v > 0 {
				g.Controller, g.File, g.Limit = "memory", "memory.current", uint64(v)
				p.k.out.Guards = append(p.k.out.Guards, g)
			}
		}
	}
	if only != 0 || swap > 0 {
		w := p.add("memory.swap", "memory.swap.max", bytesOrMax(only))
		// Without swap there is nothing to switch off, or to lift a limit of.
		w.Optional = only <= 0
		if only > 0 && limit > 0 {
			w.Why = "without the limit of memory"
		}
	}
	if limit != 0 {
		p.add("memory.limit", "memory.max", bytesOrMax(limit))
	}
	if r := value(m.Reservation); r != 0 {
		p.add("memory.reservation", "memory.low", bytesOrMax(r))
	}
	if swappy {
		p.k.warn("linux.resources.memory.swappiness", "left out: cgroup version 2 has no swappiness")
	}
	if value(m.DisableOOMKiller) {
		p.k.warn("linux.resources.memory.disableOOMKiller", "left out: cgroup version 2 always ends a process when memory runs out")
	}
	return nil
}

func bytesOrMax(v int64) string {
	if v == -1 {
		return "max"
	}
	return strconv.FormatInt(v, 10)
}
