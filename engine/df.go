package engine

import (
	"context"

	"github.com/kakuri/kakuri/image"
	"github.com/opencontainers/go-digest"
)

// DiskUsage is what there is on the disk, and what of it nobody uses.
type DiskUsage struct {
	Images     []ImageUsage
	Containers []Summary // with SizeRw
	Volumes    []Volume  // with UsageData

	LayersSize      int64 // bytes of all images' layers, each counted once
	LayersUnused    int64 // of those that no container needs
	ContainersSize  int64
	ContainersIdle  int64 // of those that do not run
	VolumesSize     int64
	VolumesUnused   int64
	ImagesTotal     int // one that is there by two manifests is one
	ImagesInUse     int
	ContainersAlive int
	VolumesInUse    int
}

// ImageUsage is an image, and how many containers there are of it.
type ImageUsage struct {
	image.Summary
	Containers int
}

// DF measures what images, containers and volumes take.
func (e *Engine) DF(ctx context.Context) (DiskUsage, error) {
	var u DiskUsage
	for _, part := range []func(context.Context, *DiskUsage) error{e.dfImages, e.dfContainers, e.dfVolumes} {
		if err := part(ctx, &u); err != nil {
			return u, err
		}
	}
	return u, nil
}

func (e *Engine) dfImages(ctx context.Context, u *DiskUsage) error {
	s, err := e.Images()
	if err != nil {
		return err
	}
	layers, err := e.Storage()
	if err != nil {
		return err
	}
	list, err := s.List(ctx, image.ListOptions{Shared: true})
	if err != nil {
		return err
	}
	users, err := e.ImageUsers()
	if err != nil {
		return err
	}
	for id, needed := range u.addImages(list, func(id digest.Digest) int { return len(users[id]) }) {
		l, err := layers.Layer(id)
		if err != nil {
			continue // it is missing: Check tells
		}
		u.LayersSize += l.Size
		if !needed {
			u.LayersUnused += l.Size
		}
	}
	return nil
}

// addImages counts images, whose containers users counts, and gives their layers by whether a container needs them.
func (u *DiskUsage) addImages(list []image.Summary, users func(id digest.Digest) int) (layers map[digest.Digest]bool) {
	layers, known := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	for _, i := range list {
		n := users(i.ID)
		if !known[i.ID] {
			known[i.ID] = true
			u.ImagesTotal++
			u.ImagesInUse += min(n, 1)
		}
		u.Images = append(u.Images, ImageUsage{i, n})
		for _, id := range i.Chain() {
			layers[id] = layers[id] || n > 0
		}
	}
	return layers
}

func (e *Engine) dfContainers(ctx context.Context, u *DiskUsage) (err error) {
	u.Containers, err = e.Summaries(ctx, SummaryOptions{All: true, Size: true})
	for _, c := range u.Containers {
		u.ContainersSize += c.SizeRw
		if c.PID != 0 {
			u.ContainersAlive++
		} else {
			u.ContainersIdle += c.SizeRw
		}
	}
	return err
}

func (e *Engine) dfVolumes(ctx context.Context, u *DiskUsage) (err error) {
	u.Volumes, err = e.VolumeList(ctx, nil, true)
	for _, v := range u.Volumes {
		u.VolumesSize += v.UsageData.Size
		if v.UsageData.RefCount > 0 {
			u.VolumesInUse++
		} else {
			u.VolumesUnused += v.UsageData.Size
		}
	}
	return err
}

// size measures what a container has written, and with its image's layers.
func (e *Engine) size(c *Container) (own, all int64, err error) {
	if !c.Config.fromImage() {
		return 0, 0, nil
	}
	layers, err := e.Storage()
	if err != nil {
		return 0, 0, err
	}
	if own, err = layers.UpperUsage(c.ID); err != nil {
		return 0, 0, err
	}
	all = own
	for _, id := range c.chain() {
		if l, err := layers.Layer(id); err == nil {
			all += l.Size
		}
	}
	return own, all, nil
}
