package engine

import (
	"context"
	"fmt"

	"github.com/kakuri/kakuri/image"
	"github.com/opencontainers/go-digest"
)

// ImageUsers are the containers that need each image, by the image's id.
func (e *Engine) ImageUsers() (map[digest.Digest][]Container, error) {
	list, err := e.List(ListOptions{All: true})
	if err != nil {
		return nil, err
	}
	users := map[digest.Digest][]Container{}
	for _, c := range list {
		if c.ImageID != "" {
			id := digest.Digest(c.ImageID)
			users[id] = append(users[id], c)
		}
	}
	return users, nil
}

// RemoveImage takes a name from an image, and the image itself with its last name, or with an id. One
// that a container needs is not removed, with force only for those that run.
func (e *Engine) RemoveImage(ctx context.Context, ref string, force bool) ([]image.Removed, error) {
	s, err := e.Images()
	if err != nil {
		return nil, err
	}
	users, err := e.ImageUsers()
	if err != nil {
		return nil, err
	}
	blocked := func(i image.Image, force bool) error {
		for _, c := range users[i.ID] {
			switch {
			case c.Active():
				return ErrConflict{fmt.Sprintf("conflict: unable to delete %s (cannot be forced) - image is being used by running container %s", shortID(i.ID.Encoded()), shortID(c.ID))}
			case !force:
				return ErrConflict{fmt.Sprintf("conflict: unable to delete %s (must be forced) - image is being used by stopped container %s", shortID(i.ID.Encoded()), shortID(c.ID))}
			}
		}
		return nil
	}
	removed, err := s.Remove(ctx, ref, image.RemoveOptions{Force: force, Blocked: blocked})
	e.tellRemoved(removed)
	return removed, err
}

// PruneImages removes the images that no container needs: those without a name, or all of them.
// The filters are until and label.
func (e *Engine) PruneImages(ctx context.Context, all bool, f Filters) (image.Pruned, error) {
	s, err := e.Images()
	if err != nil {
		return image.Pruned{}, err
	}
	users, err := e.ImageUsers()
	if err != nil {
		return image.Pruned{}, err
	}
	done, err := s.Prune(ctx, image.PruneOptions{All: all, Filters: image.Filters(f), InUse: func(i image.Image) bool { return len(users[i.ID]) > 0 }})
	e.tellRemoved(done.Removed)
	return done, err
}

func (e *Engine) tellRemoved(list []image.Removed) {
	for _, r := range list {
		if r.Deleted != "" {
			e.tell("image", "delete", r.Deleted, map[string]string{"name": r.Deleted})
		} else {
			e.tell("image", "untag", r.Untagged, map[string]string{"name": r.Untagged})
		}
	}
}

// ImageEvent tells of what was done to an image: tag, push, save, load, import.
func (e *Engine) ImageEvent(action, id, name string) {
	e.tell("image", action, id, map[string]string{"name": name})
}
