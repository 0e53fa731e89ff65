package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// Update changes limits of a container: change gets those in force, and what it makes of them is applied and kept. Rules
// for devices stay as they are.
func (c *Container) Update(change func(*specs.LinuxResources) error) error {
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
		r := config.Linux.Resources
		if r == nil {
			r = &specs.LinuxResources{}
			config.Linux.Resources = r
		}
		if err := change(r); err != nil {
			return err
		}
		if _, err := specjson.ValidateResources(r); err != nil {
			return err
		}
		err = c.withGroup("update", func(g *cgroup.Group) error {
			h, err := cgroup.Detect()
			if err != nil {
				return err
			}
			now := *r
			now.Devices = nil
			l, err := limits.Compile(&now, h.Controllers())
			if err != nil {
				return err
			}
			l.Devices = nil
			_, err = g.Apply(l)
			return err
		})
		if err != nil {
			return err
		}
		var data bytes.Buffer
		if err := json.NewEncoder(&data).Encode(config); err != nil {
			return err
		}
		return c.write("config.json", data.Bytes())
	})
}

// Stats reads the counters of the container's cgroup.
func (c *Container) Stats() (s cgroup.Stats, err error) {
	if c.Status() == specs.StateStopped {
		return s, fmt.Errorf("container with id %s is not running", c.ID)
	}
	err = c.withGroup("statistics", func(g *cgroup.Group) error {
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
	return c.withGroup("events", func(g *cgroup.Group) error {
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
				if c.Status() == specs.StateStopped {
					return nil
				}
				s, err := g.Stats()
				if errors.Is(err, ErrNotExist) {
					return nil
				}
				if err != nil {
					return err
				}
				if err := tell(Event{Type: "stats", ID: c.ID, Data: s}); err != nil {
					return err
				}
			}
		}
	})
}
