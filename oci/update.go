package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/kakuri/kakuri/cgroup"
	"github.com/kakuri/kakuri/cgroup/limits"
	"github.com/kakuri/kakuri/oci/specjson"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// DecodeResources reads resources of runtime-spec from JSON, and checks them.
func DecodeResources(data []byte) (*specs.LinuxResources, error) {
	r, err := specjson.DecodeResources(data)
	if err == nil {
		_, err = specjson.ValidateResources(r)
	}
	return r, err
}

// Update changes limits of a container to what changes says; what that leaves out stays. Rules for devices
// are no matter of it.
func (c *Container) Update(changes *specs.LinuxResources) error {
	return c.locked(func() error {
		switch s := c.Status(); s {
		case specs.StateStopped, specs.StateCreating:
			return fmt.Errorf("%w: it is %s", ErrNotRunning, s)
		}
		config, err := c.Spec()
		if err != nil {
			return err
		}
		if config.Linux == nil {
			config.Linux = &specs.Linux{}
		}
		now := limits.Merge(config.Linux.Resources, changes)
		if _, err := specjson.ValidateResources(now); err != nil {
			return err
		}
		err = c.withOpened(c.group, "update", func(g *group) error { return g.update(now, c.runtime.warn) })
		if none := (*NoCgroupError)(nil); errors.As(err, &none) && changesNothing(changes) {
			err = nil // podman asks so for a container's restart policy, of a user's containers as well
		}
		if err != nil {
			return err
		}
		config.Linux.Resources = now
		var data bytes.Buffer
		if err := json.NewEncoder(&data).Encode(config); err != nil {
			return err
		}
		return c.write("config.json", data.Bytes())
	})
}

// changesNothing reports whether no control group is needed for what is asked for.
func changesNothing(r *specs.LinuxResources) bool {
	if r == nil {
		return true
	}
	without := *r
	without.Devices = nil
	_, err := limits.Compile(&without, nil)
	return err == nil
}

// update has limits in the place of those in force, but for device rules.
func (g *group) update(r *specs.LinuxResources, warn func(string)) error {
	without := *r
	without.Devices = nil
	if g.unit != nil {
		without = *limits.Percents(&without)
	}
	l, err := limits.Compile(&without, g.Controllers())
	if err != nil {
		return err
	}
	if g.unit != nil {
		version, err := g.bus.Version()
		if err != nil {
			return err
		}
		properties, warnings, err := limits.Properties(&without, g.Controllers(), version)
		if err != nil {
			return err
		}
		for _, w := range warnings {
			warn(w)
		}
		// Systemd asks nobody.
		if _, err := g.Apply(limits.Limits{Guards: l.Guards}); err != nil {
			return err
		}
		if err := g.unit.Set(properties); err != nil {
			return err
		}
	}
	l.Devices = nil
	_, err = g.Apply(l)
	return err
}

// Stats reads the counters of the container's cgroup.
func (c *Container) Stats() (s cgroup.Stats, err error) {
	if c.Status() == specs.StateStopped {
		return s, fmt.Errorf("container with id %s is not running", c.ID)
	}
	err = c.withGroup("statistics", func(g *group) error {
		s, err = g.Stats()
		return err
	})
	return s, err
}

// An Event is one line of what Events tells, as runc prints it.
type Event struct {
	Type string `json:"type"` // stats, oom
	ID   string `json:"id"`
	Data any    `json:"data,omitempty"`
}

// Events tells of a container until it ends or ctx does: its counters at each interval, and each time that its memory
// runs out.
func (c *Container) Events(ctx context.Context, interval time.Duration, tell func(Event) error) error {
	if c.Status() == specs.StateStopped {
		return fmt.Errorf("container with id %s is not running", c.ID)
	}
	return c.withGroup("events", func(g *group) error {
		oom, err := g.OOM(ctx)
		if err != nil {
			return err
		}
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case _, more := <-oom:
				if !more {
					return nil
				}
				if err := tell(Event{Type: "oom", ID: c.ID}); err != nil {
					return err
				}
			case <-tick.C:
				if more, err := c.tellStats(g, tell); err != nil || !more {
					return err
				}
			}
		}
	})
}

// tellStats tells a container's counters, and reports whether more of them can come.
func (c *Container) tellStats(g *group, tell func(Event) error) (more bool, err error) {
	if c.Status() == specs.StateStopped {
		return false, nil
	}
	s, err := g.Stats()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, tell(Event{Type: "stats", ID: c.ID, Data: s})
}
