// Package storage keeps the layers of images, shows them as root file systems, and
// keeps what containers write above them.
//
//	s, err := storage.Open(storage.Options{Data: "/var/lib/kakuri", Run: "/run/kakuri"})
//	layer, err := s.Put(ctx, tar, diffID) // verified, whole or not there
//	view, err := s.View(ctx, []digest.Digest{layer.DiffID}, id)
//	upper, err := view.NewUpper(storage.Upper{ID: id})
//	root := &plan.Root{Layers: view.Layers(upper, false), Reason: "image debian:12"}
//
// A [Layer] is a tar, kept byte for byte under the digest of its bytes, the diffID of image-spec. A chain is
// the diffIDs of an image, the lowest first. There are three drivers that show a chain, chosen by trial:
// "erofs" writes one small index of all its tars, which the kernel mounts with the tars as the
// devices that its files lie on; "dirs" unpacks each layer into a directory; "fuse-overlayfs" does that too, and has a program
// lay them over each other, for an ordinary user whose kernel does not. Above either lies an overlay,
// whose upper directory [View.NewUpper] makes.
//
// Several processes may work on one store. Files appear whole, by link(2) or rename(2), or not at all; a
// process that is killed leaves files without a name, or such that the next [Open] takes away.
// Locks are taken in this order: an image's or container's (of other rooms), the store's, a chain's.
//
// What it may not do: know of manifests, containers or registries; look up a path that comes out of a layer.
package storage
