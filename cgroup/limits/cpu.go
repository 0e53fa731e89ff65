package limits

import (
	"fmt"
	"math"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// weight is cpu.weight of version 2 for cpu.shares of version 1: both have a least,
// a default and a largest value, and the curve goes through all three (2, 1024 and
// 262144 shares are 1, 100 and 10000). It is the formula of runc 1.4 and crun 1.23. 0, which is
// no value, stays 0.
func weight(shares uint64) uint64 {
	switch {
	case shares == 0:
		return 0
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	l := math.Log2(float64(shares))
	// The conversions keep a compiler from fusing the products into the sums, which
	// would give other values on another architecture.
	exponent := float64(float64(float64(l*l)+float64(125*l))/612) - 7.0/34
	return uint64(math.Ceil(math.Pow(10, exponent)))
}

// linearWeight is the formula of older runtimes, a line through the least and the
// largest value. The default of 1024 shares becomes 39 by it, less than half of the
// weight of whatever has no weight set.
func linearWeight(shares uint64) uint64 {
	if shares == 0 {
		return 0
	}
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}

// cpu shares, caps and schedules processor time.
func (k *compiler) cpu(r *specs.LinuxResources) error {
	c := r.CPU
	if c == nil || (value(c.Shares) == 0 && value(c.Quota) == 0 && value(c.Period) == 0 && c.Burst == nil &&
		value(c.RealtimeRuntime) == 0 && value(c.RealtimePeriod) == 0 && c.Idle == nil) {
		return nil
	}
	p, err := k.part("cpu", "cpu")
	if err != nil {
		return err
	}
	if p.v == V2 {
		return p.cpuV2(c)
	}
	return p.cpuV1(c)
}

func (p part) cpuV1(c *specs.LinuxCPU) error {
	if shares := value(c.Shares); shares != 0 {
		// The kernel would move it into its range without a word.
		if shares < 2 {
			return fieldErr("linux.resources.cpu.shares", "the minimum allowed cpu-shares is 2")
		}
		if shares > 262144 {
			return fieldErr("linux.resources.cpu.shares", "the maximum allowed cpu-shares is 262144")
		}
		p.add("cpu.shares", "cpu.shares", strconv.FormatUint(shares, 10)).Again = true // not while it is idle
	}
	// Quota over period must stay within the parent's, burst within the quota: a new
	// one of them may not fit the old other.
	if period := value(c.Period); period != 0 {
		p.add("cpu.period", "cpu.cfs_period_us", strconv.FormatUint(period, 10)).Again = true
	}
	if c.Burst != nil {
		w := p.add("cpu.burst", "cpu.cfs_burst_us", strconv.FormatUint(*c.Burst, 10))
		w.Again, w.Optional = true, true
	}
	if quota := value(c.Quota); quota != 0 {
		p.add("cpu.quota", "cpu.cfs_quota_us", strconv.FormatInt(quota, 10)).Again = true
	}
	if c.Idle != nil {
		p.add("cpu.idle", "cpu.idle", strconv.FormatInt(*c.Idle, 10))
	}
	if period := value(c.RealtimePeriod); period != 0 {
		p.add("cpu.realtimePeriod", "cpu.rt_period_us", strconv.FormatUint(period, 10)).Again = true
	}
	if runtime := value(c.RealtimeRuntime); runtime != 0 {
		p.add("cpu.realtimeRuntime", "cpu.rt_runtime_us", strconv.FormatInt(runtime, 10)).Again = true
	}
	return nil
}

func (p part) cpuV2(c *specs.LinuxCPU) error {
	idle := value(c.Idle) == 1
	if c.Idle != nil {
		p.add("cpu.idle", "cpu.idle", strconv.FormatInt(*c.Idle, 10))
	}
	switch shares := value(c.Shares); {
	case shares != 0 && idle:
		// The kernel refuses a weight for an idle cgroup.
		p.k.warn("linux.resources.cpu.shares", "unable to apply both shares and idle, ignoring shares")
	case shares != 0:
		w := p.add("cpu.shares", "cpu.weight", strconv.FormatUint(weight(shares), 10))
		w.Why = fmt.Sprintf("%d shares; older runtimes say %d", shares, linearWeight(shares))
	}
	if c.Burst != nil {
		p.add("cpu.burst", "cpu.max.burst", strconv.FormatUint(*c.Burst, 10)).Again = true
	}
	quota, period := value(c.Quota), value(c.Period)
	if quota != 0 || period != 0 {
		text, why := "max", ""
		if quota > 0 {
			text = strconv.FormatInt(quota, 10)
		}
		if period == 0 {
			period, why = 100000, "the default period is 100000"
		}
		w := p.add("cpu.quota", "cpu.max", text+" "+strconv.FormatUint(period, 10))
		w.Again, w.Why = true, why
	}
	if value(c.RealtimePeriod) != 0 || value(c.RealtimeRuntime) != 0 {
		p.k.warn("linux.resources.cpu.realtimeRuntime", "left out: cgroup version 2 does not share out realtime")
	}
	return nil
}

// value is what p points to, or zero.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
