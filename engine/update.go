package engine

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/kakuri/kakuri/cgroup/limits"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// An UpdateConfig is what [Engine.Update] changes of a container.
type UpdateConfig struct {
	Resources Resources // zero fields stay as they are; rules for devices are not among what can be changed
	Restart   *Restart  // nil stays as it is
}

// Update changes limits and the restart policy of a container, running or not. The warnings say what the host could not do.
func (e *Engine) Update(ctx context.Context, ref string, u UpdateConfig) (warnings []string, err error) {
	if err := checkRestart(u.Restart); err != nil {
		return nil, err
	}
	err = e.changing(ctx, ref, func(c *Container) error {
		warnings, err = e.updateHeld(c, u)
		return err
	})
	return warnings, err
}

// updateHeld updates a container that is held: see [Engine.changing].
func (e *Engine) updateHeld(c *Container, u UpdateConfig) (warnings []string, err error) {
	if c.Status == monitor.Removing || c.Status == monitor.Dead {
		return nil, ErrConflict{`Container is marked for removal and cannot be "update".`}
	}
	if u.Restart != nil && c.Config.AutoRemove && !u.Restart.Never() {
		return nil, ErrConflict{"Restart policy cannot be updated because AutoRemove is enabled for the container"}
	}
	if c.Active() {
		warnings, err = e.updateLive(c, &updating{Config: u})
	} else if err = c.Config.update(u); err == nil {
		err = errors.Join(c.updateTask(u), c.writeRecord()) // the next start makes all else anew
	}
	if err != nil {
		return warnings, err
	}
	e.event(c, "update", nil)
	return warnings, nil
}

// update changes what was asked for.
func (c *Config) update(u UpdateConfig) (err error) {
	if u.Resources.asked() {
		if c.Resources, err = c.Resources.with(u.Resources, limitsSwap()); err != nil {
			return err
		}
	}
	if u.Restart != nil {
		c.Restart = *u.Restart
	}
	return nil
}

// updating is an update of a container that runs: what is to be, and files as they were, by name.
type updating struct {
	Config UpdateConfig
	Was    map[string]string
}

// updateLive changes a container that runs, whose lock is held: all of it, or nothing where the kernel or the disk refuses a part.
func (e *Engine) updateLive(c *Container, u *updating) (warnings []string, err error) {
	if err := c.Config.update(u.Config); err != nil {
		return nil, err
	}
	res, causes, err := c.Config.Resources.spec(c.Config.Resources.Memory > 0 && limitsSwap())
	if err != nil {
		return nil, err
	}
	if u.Config.Resources.PidsLimit == nil {
		res.Pids = nil
	}
	if !u.Config.Resources.asked() {
		res = nil
	}
	if u.Was == nil {
		if u.Was, err = c.contents("config.json", "task.json", "container.json"); err != nil {
			return nil, err
		}
		if err := e.intend(c.ID, intent{Update: u}); err != nil {
			return nil, err
		}
	}
	if err = errors.Join(c.updateSpec(res), c.updateTask(u.Config), c.writeRecord()); err == nil {
		warnings, err = e.updateGroup(c, res, causes)
	}
	if errors.Is(err, limits.ErrMissing) || errors.As(err, new(*oci.NoCgroupError)) {
		res = nil // nothing of it is in force, and nothing that was could be put there again
	}
	if err != nil {
		if back := e.updateBack(c, u, res); back != nil {
			return warnings, errors.Join(err, back)
		}
	}
	return warnings, errors.Join(err, e.fulfilled(c.ID))
}

// contents are files of a container's directory, as far as they are there.
func (c *Container) contents(names ...string) (map[string]string, error) {
	list := map[string]string{}
	for _, name := range names {
		data, err := files.Read(c.dir + "/" + name)
		if err == nil {
			list[name] = string(data)
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return list, nil
}

// updateBack has a container's files be as before an update that failed, and the limits that it had in force; of tried, what had none has none.
func (e *Engine) updateBack(c *Container, u *updating, tried *specs.LinuxResources) error {
	var errs []error
	for name, text := range u.Was {
		errs = append(errs, replaceOther(c.dir, name, []byte(text), name == "container.json" && !c.Config.AutoRemove))
	}
	c.written = nil
	if err := errors.Join(errs...); err != nil || tried == nil {
		return err
	}
	var s specs.Spec
	if err := monitor.ReadJSON(c.dir+"/config.json", &s); err != nil || s.Linux == nil {
		return err
	}
	if _, err := e.updateGroup(c, limits.Merge(unlimited(tried), s.Linux.Resources), nil); err != nil {
		return fmt.Errorf("its limits of before: %w", err)
	}
	return nil
}

// unlimited are limits as if none had been asked for: of memory and swap, of processors' time, of processes.
func unlimited(r *specs.LinuxResources) *specs.LinuxResources {
	none, out := int64(-1), &specs.LinuxResources{}
	if m := r.Memory; m != nil && (m.Limit != nil || m.Swap != nil) {
		out.Memory = &specs.LinuxMemory{Limit: &none, Swap: &none}
	}
	if r.CPU != nil && r.CPU.Quota != nil {
		out.CPU = &specs.LinuxCPU{Quota: &none}
	}
	if r.Pids != nil && r.Pids.Limit != nil {
		out.Pids = &specs.LinuxPids{Limit: &none}
	}
	return out
}

// updateGroup changes the limits of a container's control group, where it has one now. An error names what is the cause of a limit.
func (e *Engine) updateGroup(c *Container, res *specs.LinuxResources, causes []limitCause) (warnings []string, err error) {
	if res == nil {
		return nil, nil
	}
	r := e.runtime()
	r.Warn = func(s string) { warnings = append(warnings, s) }
	box, err := r.Open(c.ID)
	if errors.Is(err, oci.ErrNotExist) {
		return nil, nil // it has just ended, or waits for its next start
	}
	if err != nil {
		return nil, err
	}
	err = limits.Because(e.withoutCgroup(c, box.Update(res)), byField(causes))
	if hasEnded(err) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("cannot update container %s: %w", c.ID, err)
	}
	return warnings, err
}

// updateSpec changes the limits of the spec by which the monitor starts the container again.
func (c *Container) updateSpec(changes *specs.LinuxResources) error {
	if changes == nil {
		return nil
	}
	var s specs.Spec
	if err := monitor.ReadJSON(c.dir+"/config.json", &s); err != nil {
		return err
	}
	if s.Linux == nil {
		s.Linux = &specs.Linux{}
	}
	s.Linux.Resources = limits.Merge(s.Linux.Resources, changes)
	return monitor.WriteJSON(c.dir, "config.json", &s)
}

// updateTask changes what the monitor reads at the next end of the container. One that was never started has no task yet.
func (c *Container) updateTask(u UpdateConfig) error {
	if u.Restart == nil || !exists(c.dir+"/task.json") {
		return nil
	}
	t, err := c.task()
	if err != nil {
		return err
	}
	t.Restart = monitor.Restart{Policy: u.Restart.Policy, Retries: u.Restart.Retries}
	return monitor.WriteJSON(c.dir, "task.json", &t)
}

// checkRestart reports what is wrong with a restart policy, in Docker's words.
func checkRestart(r *Restart) error {
	if r == nil {
		return nil
	}
	switch r.Policy {
	case "", "no", "always", "unless-stopped":
		if r.Retries != 0 {
			return fmt.Errorf("invalid restart policy: maximum retry count can only be used with 'on-failure'")
		}
	case "on-failure":
		if r.Retries < 0 {
			return fmt.Errorf("invalid restart policy: maximum retry count cannot be negative")
		}
	default:
		return fmt.Errorf("invalid restart policy: unknown policy '%s'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'", r.Policy)
	}
	return nil
}

// with are the limits r with changes, by Docker's rules of what may be changed after what; canSwap says that the host can limit swap.
func (r Resources) with(u Resources, canSwap bool) (Resources, error) {
	oldSwap := r.MemorySwap
	if oldSwap == 0 && r.Memory > 0 && canSwap {
		oldSwap = 2 * r.Memory // the default
	}
	for _, rule := range []struct {
		broken bool
		text   string
	}{
		{len(u.DeviceRules) > 0, "device cgroup rules cannot be updated"},
		{u.OOMKillDisable, "--oom-kill-disable cannot be updated"},
		{u.NanoCPUs > 0 && r.CPUPeriod > 0, "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"},
		{u.NanoCPUs > 0 && r.CPUQuota > 0, "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set"},
		{u.CPUPeriod > 0 && r.NanoCPUs > 0, "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"},
		{u.CPUQuota > 0 && r.NanoCPUs > 0, "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"},
		{u.Memory > 0 && oldSwap > 0 && u.Memory > oldSwap && u.MemorySwap == 0, "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"},
	} {
		if rule.broken {
			return r, ErrConflict{rule.text}
		}
	}
	if u.Memory > 0 && u.MemorySwap == 0 && r.MemorySwap == 0 {
		r.MemorySwap = oldSwap
	}
	change(&r.BlkioWeight, u.BlkioWeight)
	change(&r.NanoCPUs, u.NanoCPUs)
	change(&r.CPUShares, u.CPUShares)
	change(&r.CPUPeriod, u.CPUPeriod)
	change(&r.CPUQuota, u.CPUQuota)
	change(&r.CPURealtimePeriod, u.CPURealtimePeriod)
	change(&r.CPURealtimeRuntime, u.CPURealtimeRuntime)
	change(&r.CpusetCpus, u.CpusetCpus)
	change(&r.CpusetMems, u.CpusetMems)
	change(&r.Memory, u.Memory)
	change(&r.MemoryReservation, u.MemoryReservation)
	change(&r.MemorySwap, u.MemorySwap)
	change(&r.MemorySwappiness, u.MemorySwappiness)
	change(&r.KernelMemory, u.KernelMemory)
	change(&r.PidsLimit, u.PidsLimit)
	for _, l := range []struct{ to, from *[]DeviceRate }{
		{&r.DeviceReadBps, &u.DeviceReadBps}, {&r.DeviceWriteBps, &u.DeviceWriteBps}, {&r.DeviceReadIOps, &u.DeviceReadIOps}, {&r.DeviceWriteIOps, &u.DeviceWriteIOps},
	} {
		if len(*l.from) > 0 {
			*l.to = *l.from
		}
	}
	if len(u.BlkioWeightDevice) > 0 {
		r.BlkioWeightDevice = u.BlkioWeightDevice
	}
	return r, r.Check()
}

// change replaces what has a new value.
func change[T comparable](to *T, v T) {
	var none T
	if v != none {
		*to = v
	}
}
