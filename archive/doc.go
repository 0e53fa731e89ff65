// Package archive moves trees of files between tar streams and directories, where
// both sides may be hostile: the stream is somebody's image or somebody's container's
// answer, and the directory may be changed by a running container meanwhile.
//
// Whoever calls gives a directory by its descriptor, the root. Every name is looked up
// below it by openat2(2): with RESOLVE_IN_ROOT where links of the tree may be followed
// (they lead no farther than the root), and with RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS where
// not. No path of the host is made of a name of the stream.
//
// [Apply] unpacks, [Write] packs. [Reader] is what Apply reads by: it holds a stream to
// [Limits], refuses names that lead out of the root, and tells whiteouts from files.
// Whoever keeps a tar without unpacking it reads by the same [Reader], so that both
// accept the same archives. [Decompress] undoes gzip, bzip2, xz and zstd, in this process:
// no program is looked up for it.
//
//	root, err := os.Open(dir)
//	...
//	in, _, err := archive.Decompress(stream, archive.Limits{})
//	...
//	done, err := archive.Apply(ctx, root, in, archive.Options{})
//
// What it may not do: know what an image, a layer or a container is.
package archive
