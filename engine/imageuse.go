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
// that a container needs is not removed, with force only for those that run. With platforms it is their images that are taken out of an
// index.
func (e *Engine) RemoveImage(ctx context.Context, ref string, force bool, platforms ...image.Platform) ([]image.Removed, error) {
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
	return s.Remove(ctx, ref, image.RemoveOptions{Force: force, Blocked: blocked, Platforms: platforms})
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
	return s.Prune(ctx, image.PruneOptions{All: all, Filters: image.Filters(f), InUse: func(i image.Image) bool { return len(users[i.ID]) > 0 }})
}
