package engine

import (
	"testing"

	"github.com/kakuri/kakuri/image"
	"github.com/opencontainers/go-digest"
)

// An image that is there by two manifests with names is one, and in use once.
func TestDFCountsTwinsOnce(t *testing.T) {
	a, b := digest.FromString("a"), digest.FromString("b")
	var list []image.Summary
	for _, id := range []digest.Digest{a, b, a} {
		i := image.Image{ID: id}
		i.Config.RootFS.DiffIDs = []digest.Digest{id}
		list = append(list, image.Summary{Image: i})
	}
	var u DiskUsage
	layers := u.addImages(list, func(id digest.Digest) int { return map[digest.Digest]int{a: 2}[id] })
	if u.ImagesTotal != 2 || u.ImagesInUse != 1 || len(u.Images) != 3 || !layers[a] || layers[b] || len(layers) != 2 {
		t.Errorf("%d images, %d in use, %d listed, layers %v", u.ImagesTotal, u.ImagesInUse, len(u.Images), layers)
	}
}
