// Package image keeps images, and moves them: references, registries, archives.
//
//	s, err := image.Open(image.Options{Dir: "/var/lib/kakuri/images", Layers: layers})
//	img, err := s.Pull(ctx, "busybox", image.PullOptions{Progress: print})
//	img, err = s.Get("busybox", image.Platform{})
//	err = s.Save(ctx, w, []string{"busybox"}, image.SaveOptions{})
//
// A [Store] is a directory in the form of an OCI image layout: index.json has the names, blobs the
// indexes, manifests and configs. Layers are kept by whoever implements [Layers], as tars by diffID.
// Any number of processes may use one directory at once, and one that is killed leaves nothing half
// made in sight: a blob appears when it is whole, and a name after all that it needs.
//
// Every byte that comes in is compared with its digest before anything uses it, and its size with a limit.
//
// What it may not do: run anything, but for the credential helpers that the user's configuration names; mount; resolve a name
// of an archive in the file system.
package image
