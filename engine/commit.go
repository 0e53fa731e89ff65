package engine

import (
	"context"
	"fmt"

	"github.com/kakuri/kakuri/storage"
)

// A Change is a path of a container that is not as its image has it.
type Change = storage.Change

// Diff lists what a container has changed of its image, sorted by path.
func (e *Engine) Diff(ctx context.Context, ref string) ([]Change, error) {
	c, view, err := e.changed(ctx, ref)
	if err != nil {
		return nil, err
	}
	places, err := e.places(ctx, &c)
	if err != nil {
		return nil, err
	}
	return view.Diff(ctx, c.ID, places)
}

// changed finds a container that writes beside its image, and the image's files.
func (e *Engine) changed(ctx context.Context, ref string) (Container, *storage.View, error) {
	c, err := e.Find(ref)
	if err != nil {
		return c, nil, err
	}
	if len(c.Chain) == 0 {
		return c, nil, fmt.Errorf("container %s is not of an image of the store, but of %s: what it changes is not kept apart", c.Name, c.Image)
	}
	if c.Config.ReadOnly {
		return c, nil, fmt.Errorf("container %s has a read-only root file system: it changes nothing", c.Name)
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
	b, err := e.build(ctx, c.Record, true)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, m := range b.spec.Mounts {
		list = append(list, m.Destination)
	}
	return list, nil
}
