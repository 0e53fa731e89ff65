// Package erofs writes images of the file system EROFS that hold metadata only: names, owners, times,
// attributes, and where on other files (the devices of the image) the content of each regular file lies.
//
//	w := erofs.NewWriter(file, []erofs.Device{{Tag: hex, Size: size}})
//	root := &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Children: map[string]*erofs.Inode{
//		"hello": {Mode: unix.S_IFREG | 0o644, Size: 6, Device: 1, Offset: 512},
//	}}
//	err := w.Finish(root, uuid)
//
// The block is of 512 bytes, as tar's: content that a tar holds begins at a block. Content that lies nowhere as it
// is, as that of sparse files, goes into the image itself ([Writer.Content]). Names of one inode are hard links.
// The format: fs/erofs/erofs_fs.h of Linux, and its documentation at erofs.docs.kernel.org.
//
// It is not github.com/erofs/go-erofs because version 0.3.1 of that writes no hard links, puts the chunk indexes of files with
// extended attributes where the kernel does not look for them, and lets a whiteout hide names of its own layer that
// sort before it. Its reader is what the tests read our images with.
//
// What it may not do: read a tar, or know of layers.
package erofs
