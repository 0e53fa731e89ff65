package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/oci"
)

// paused is what a running container is whose processes stand still.
const paused = "paused"

// SummaryOptions say which containers [Engine.Summaries] tells of.
type SummaryOptions struct {
	All      bool // those that do not run, too
	Last     int  // that many, the newest ones, in whatever state; 0 and less for all
	Size     bool // measure what each has written
	Platform bool // read what each one's image is made for
	Filters  Filters
}

// A Summary is what a list tells of a container, in Docker's shape.
type Summary struct {
	ID         string `json:"Id"`
	Names      []string
	Image      string // as it was asked for; the id where that leads to another image by now, or to none
	ImageID    string
	Command    string
	Created    int64 // seconds since 1970
	Ports      []SummaryPort
	SizeRw     int64 `json:",omitempty"`
	SizeRootFs int64 `json:",omitempty"`
	Labels     map[string]string
	State      string // created, running, paused, restarting, exited, …
	Status     string // in words: "Up 2 hours (healthy)"
	HostConfig struct{ NetworkMode string }
	// NetworkSettings has the networks that it is on.
	NetworkSettings struct{ Networks map[string]*Endpoint }
	Health          string `json:",omitempty"`
	Mounts          []MountPoint
	PID             int `json:"Pid"` // of its first process, 0 while it has none
	// Platform is what its image is made for; nil when nobody asked, and for an image that is gone.
	Platform *image.Platform `json:",omitempty"`
}

// Summaries tells of containers, the newest first.
func (e *Engine) Summaries(ctx context.Context, o SummaryOptions) ([]Summary, error) {
	keep, err := o.Filters.containers(e)
	if err != nil {
		return nil, err
	}
	all := o.All || o.Last > 0 || len(o.Filters["status"]) > 0
	list, err := e.List(ListOptions{All: all})
	if err != nil {
		return nil, err
	}
	kept := make([]*Container, 0, len(list))
	for i := range slices.Backward(list) {
		if len(kept) == o.Last && o.Last > 0 {
			break
		}
		if c := &list[i]; keep(c) {
			kept = append(kept, c)
		}
	}
	out := make([]Summary, len(kept))
	r, now := e.runtime(), time.Now()
	inParallel(len(kept), func(i int) {
		out[i] = summarize(r, kept[i], now)
		out[i].Names = append(out[i].Names, e.linkNames(kept[i])...)
	})
	for i := range out {
		if !o.Size {
			break
		}
		if out[i].SizeRw, out[i].SizeRootFs, err = e.size(kept[i]); err != nil {
			return nil, fmt.Errorf("container %s: %w", kept[i].Name, err)
		}
	}
	e.staleNames(out)
	if o.Platform {
		err = e.platforms(out)
	}
	return out, errors.Join(err, ctx.Err())
}

// platforms fills in what images are made for. The image host, and a directory, are this machine's.
func (e *Engine) platforms(list []Summary) error {
	store, err := e.Images()
	if err != nil {
		return err
	}
	host := image.Host()
	known := map[string]*image.Platform{"": &host}
	for i := range list {
		id := list[i].ImageID
		if _, ok := known[id]; !ok {
			known[id] = nil
			if x, err := store.Inspect(id, image.Platform{}); err == nil {
				known[id] = &image.Platform{OS: x.Os, Architecture: x.Architecture, Variant: x.Variant}
			}
		}
		list[i].Platform = known[id]
	}
	return nil
}

func summarize(r *oci.Runtime, c *Container, now time.Time) Summary {
	s := Summary{
		ID: c.ID, Names: []string{"/" + c.Name}, Image: c.Image, ImageID: c.ImageID, Command: commandText(c.Command), Created: c.Created.Unix(),
		Ports: c.summaryPorts(), Labels: c.Config.Labels, State: statusOf(r, c), Mounts: c.mountPoints(), PID: c.PID,
	}
	s.HostConfig.NetworkMode = c.networkAsked()
	s.NetworkSettings.Networks = c.networkSettings().Networks
	if c.Health != nil {
		s.Health = c.health()
	}
	s.Status = c.words(s.State, now)
	return s
}

// commandText is a command line as Docker shows it: arguments with a space are put into quotes, and nothing else is.
func commandText(argv []string) string {
	var b strings.Builder
	for i, arg := range argv {
		switch {
		case i == 0:
			b.WriteString(arg)
		case strings.Contains(arg, " "):
			b.WriteString(" '" + arg + "'")
		default:
			b.WriteString(" " + arg)
		}
	}
	return b.String()
}

// statusOf is a container's, with "paused" for one that runs and stands still.
func statusOf(r *oci.Runtime, c *Container) string {
	if c.Status == monitor.Running && isPaused(r, c.ID) {
		return paused
	}
	return c.Status
}

// words tells how a container is as Docker does.
func (c *Container) words(status string, now time.Time) string {
	up, ended := Age(now.Sub(c.Started)), Age(now.Sub(c.Finished))
	switch status {
	case paused:
		return "Up " + up + " (Paused)"
	case monitor.Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", c.ExitCode, ended)
	case monitor.Running:
		switch c.health() {
		case "none":
			return "Up " + up
		case "starting":
			return "Up " + up + " (health: starting)"
		}
		return "Up " + up + " (" + c.health() + ")"
	case monitor.Removing:
		return "Removal In Progress"
	case monitor.Dead:
		return "Dead"
	case monitor.Created:
		return "Created"
	}
	text := fmt.Sprintf("Exited (%d)", c.ExitCode)
	if !c.Finished.IsZero() {
		text += " " + ended + " ago"
	}
	if cause := c.cause(); cause != "" {
		text += ", " + cause
	}
	return text
}

// cause is what ended a container, where that was not its program's own choice, in two
// or three words; inspect has them all.
func (c *Container) cause() string {
	if c.Death == nil {
		return ""
	}
	switch c.Death.Cause {
	case "oom":
		return "out of memory"
	case "root":
		return "its root file system was lost"
	case "setup":
		return "not started"
	case "signal":
		return "by " + abi.Signal(c.Death.Signal).String()
	case "unknown":
		return "cause not known"
	}
	return ""
}

// PruneMatch is what decides about a container for [Engine.PruneContainers], which keeps
// what it says yes to. The filters are until and label.
func (f Filters) PruneMatch() (keep func(Container) bool, err error) {
	if err := f.Check("label", "label!", "until"); err != nil {
		return nil, err
	}
	until, err := f.Until()
	if err != nil {
		return nil, err
	}
	return func(c Container) bool {
		return !f.Labels(c.Config.Labels) || !until.IsZero() && !c.Created.Before(until)
	}, nil
}
