package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/opencontainers/go-digest"
)

// ImageUsers are the containers that need each image, by the image's id.
func (e *Engine) ImageUsers() (map[digest.Digest][]Container, error) {
	list, err := e.List(ListOptions{All: true, making: true})
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

// staleNames puts an image's id in the place of a name that leads to another image by now, or to none, as Docker does. A store that cannot be read leaves names as
// they are.
func (e *Engine) staleNames(list []Summary) {
	if !slices.ContainsFunc(list, func(s Summary) bool { return s.ImageID != "" }) {
		return // who has no images needs no store
	}
	store, err := e.Images()
	if err != nil {
		return
	}
	leads := map[[2]string]bool{}
	for i := range list {
		s := &list[i]
		if s.ImageID == "" {
			continue // the image host, or a directory
		}
		key := [2]string{s.Image, s.ImageID}
		ok, known := leads[key]
		if !known {
			ok = leadsTo(store, s.Image, s.ImageID)
			leads[key] = ok
		}
		if !ok {
			s.Image = s.ImageID
		}
	}
}

func leadsTo(store *image.Store, name, id string) bool {
	i, err := store.Get(name, image.Platform{})
	if err != nil {
		return !errors.As(err, new(*image.NotFoundError))
	}
	if i.ID.String() == id {
		return true
	}
	other, err := store.Get(id, image.Platform{}) // one for another platform has the name, too
	return err == nil && other.NamedBy(name)
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
			case !force && len(platforms) == 0 && i.NamedBy(ref):
				return ErrConflict{fmt.Sprintf("conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s", ref, files.ShortID(c.ID), files.ShortID(i.ID.Encoded()))}
			case c.Active():
				return ErrConflict{fmt.Sprintf("conflict: unable to delete %s (cannot be forced) - image is being used by running container %s", files.ShortID(i.ID.Encoded()), files.ShortID(c.ID))}
			case !force:
				return ErrConflict{fmt.Sprintf("conflict: unable to delete %s (must be forced) - image is being used by stopped container %s", files.ShortID(i.ID.Encoded()), files.ShortID(c.ID))}
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
	pruned, err := s.Prune(ctx, image.PruneOptions{All: all, Filters: image.Filters(f), InUse: func(i image.Image) bool { return len(users[i.ID]) > 0 }})
	return pruned, e.pruned("image", pruned.SpaceReclaimed, err)
}
