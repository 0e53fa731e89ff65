package engine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/cgroup"
	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/storage"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// A Change is a path of a container that is not as its image has it.
type Change = storage.Change

// Diff lists what a container has changed of its image, sorted by path.
func (e *Engine) Diff(ctx context.Context, ref string) ([]Change, error) {
	c, view, err := e.changed(ctx, ref)
	if err != nil || c.Config.ReadOnly {
		return nil, err
	}
	places, err := e.places(ctx, &c)
	if err != nil {
		return nil, err
	}
	list, err := view.Diff(ctx, c.ID, places)
	return list, c.orGone(ref, err)
}

// orGone is that there is no such container, in the place of the error of who found its files missing, where it was removed meanwhile.
func (c *Container) orGone(ref string, err error) error {
	if c.gone(err) {
		return ErrNoSuchContainer{ref}
	}
	return err
}

// gone reports whether an error is that of who found a container's files missing, since it was removed meanwhile.
func (c *Container) gone(err error) bool { return errors.Is(err, os.ErrNotExist) && !exists(c.dir) }

// changed finds a container that writes beside its image, and the image's files.
func (e *Engine) changed(ctx context.Context, ref string) (Container, *storage.View, error) {
	c, err := e.Find(ref)
	if err != nil {
		return c, nil, err
	}
	if len(c.Chain) == 0 {
		return c, nil, fmt.Errorf("container %s is not of an image of the store, but of %s: what it changes is not kept apart", c.Name, c.Image)
	}
	s, err := e.Storage()
	if err != nil {
		return c, nil, err
	}
	view, err := s.View(ctx, c.chain(), "")
	return c, view, err
}

// places are where something is mounted in a container: directories and files that are made for that are no changes.
func (e *Engine) places(ctx context.Context, c *Container) ([]string, error) {
	b, err := e.build(ctx, c.offline(), true)
	if err != nil {
		return nil, err
	}
	list := []string{plan.DockerenvPath} // which is made as the places of mounts are
	for _, m := range b.spec.Mounts {
		list = append(list, m.Destination)
	}
	return list, nil
}

// CommitOptions are those of [Engine.Commit].
type CommitOptions struct {
	Name    string // of the new image; empty leaves it with its id only
	Author  string
	Message string
	Changes []string // lines of a Dockerfile
	Running bool     // do not pause the container meanwhile
	Pause   bool     // it is an error where it cannot be paused; else that is a warning
}

// Commit makes an image of a container: its image, what it has changed as one layer more, and what it runs. Volumes are not
// part of it.
func (e *Engine) Commit(ctx context.Context, ref string, o CommitOptions) (img image.Image, err error) {
	images, err := e.Images()
	if err != nil {
		return img, err
	}
	release, err := images.Hold(ctx)
	if err != nil {
		return img, err
	}
	defer release()
	c, view, err := e.changed(ctx, ref)
	if err != nil {
		return img, err
	}
	from, err := images.Get(c.ImageID, image.Platform{})
	if err != nil {
		return img, fmt.Errorf("image of container %s: %w", c.Name, err)
	}
	config := from.Config
	config.Config = committed(from.Config.Config, &c)
	if err := image.Change(&config.Config, o.Changes); err != nil {
		return img, err
	}
	layer, err := e.layerOf(ctx, &c, view, o)
	if err = c.orGone(ref, err); err != nil {
		return img, fmt.Errorf("changes of container %s: %w", c.Name, err)
	}
	img, err = images.Compose(ctx, &from, config, image.NewLayer{
		DiffID: layer.DiffID, Size: layer.Size, CreatedBy: strings.Join(c.Command, " "), Author: o.Author, Comment: o.Message,
	}, o.Name)
	if err == nil {
		name := o.Name
		if r, err := image.ParseReference(name); err == nil {
			name = r.Tagged().Familiar() // as the event tag has it
		}
		e.event(&c, "commit", map[string]string{"comment": o.Message, "imageID": img.ID.String(), "imageRef": name})
	}
	return img, err
}

// layerOf keeps what a container has changed as a layer: none, with the zero value, if that is nothing, as with a root file system that is read-only.
func (e *Engine) layerOf(ctx context.Context, c *Container, view *storage.View, o CommitOptions) (layer storage.Layer, failed error) {
	if c.Config.ReadOnly {
		return layer, nil
	}
	e.complain(e.sweepPaused())
	if !o.Running && c.Status == monitor.Running && !e.paused(c.ID) {
		switch resume, err := e.pauseFor(ctx, c.ID); {
		case err == nil:
			defer func() { failed = errors.Join(failed, resume()) }()
		case errors.As(err, new(*oci.NoCgroupError)) || errors.Is(err, cgroup.ErrNoFreezer):
			if o.Pause {
				return layer, fmt.Errorf("%w: leave --pause away, and it is read while it runs", err)
			}
			if e.warn != nil {
				e.warn(fmt.Sprintf("container %s cannot be paused, and is read while it runs: %v", c.Name, err))
			}
		case !errors.As(err, new(ErrNotRunning)) && !errors.As(err, new(ErrConflict)): // the same
			return layer, err
		}
	}
	places, err := e.places(ctx, c)
	if err != nil {
		return layer, err
	}
	s, err := e.Storage()
	if err != nil {
		return layer, err
	}
	err = archive.Pump(func(w io.Writer) error { return view.DiffTar(ctx, c.ID, places, w) }, func(r io.Reader) (err error) {
		b := bufio.NewReader(r)
		if begin, _ := b.Peek(2 * tarBlock); bytes.Equal(begin, make([]byte, 2*tarBlock)) {
			return nil // it is at its end
		}
		layer, err = s.Put(ctx, b, "")
		return err
	})
	return layer, err
}

// tarBlock is the size of a block of a tar archive in bytes. Two of zeros end it.
const tarBlock = 512

// committed is an image's config with what a container of it was asked to be: ports and places of -v without a name, too, as with Docker.
func committed(from image.Config, of *Container) image.Config {
	to, c := from, &of.Config
	to.User, to.Env, to.Entrypoint, to.Cmd = c.User, slices.DeleteFunc(slices.Clone(c.Env), func(e string) bool { return !strings.Contains(e, "=") }), slices.Clone(c.Entrypoint), slices.Clone(c.Command)
	to.WorkingDir, to.StopSignal = c.Workdir, c.StopSignal
	to.Labels = map[string]string{}
	for k, v := range c.Labels {
		to.Labels[k] = v
	}
	if len(to.Labels) == 0 {
		to.Labels = nil
	}
	exposed, _ := c.exposedPorts() // they were looked at when it was made, and are the image's, too
	to.ExposedPorts = nil
	for _, x := range exposed {
		if to.ExposedPorts == nil {
			to.ExposedPorts = map[string]struct{}{}
		}
		to.ExposedPorts[x.String()] = struct{}{}
	}
	to.Volumes = maps.Clone(from.Volumes)
	for _, m := range c.Mounts {
		if m.byVolumeFlag() && of.anonymous(m.Dest) {
			if to.Volumes == nil {
				to.Volumes = map[string]struct{}{}
			}
			to.Volumes[path.Clean(m.Dest)] = struct{}{}
		}
	}
	if h := c.Health; h != nil {
		to.Healthcheck = &dockerspec.HealthcheckConfig{
			Test: slices.Clone(h.Test), Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
		}
	}
	return to
}
