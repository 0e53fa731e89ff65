// Package tree lays the layers of an image over each other: entries of tars become trees of inodes, and whiteouts
// of one layer take away what lower ones have.
//
//	t, err := tree.Scan(ctx, archive.NewReader(tar, archive.ReaderOptions{Limits: tree.Limits()}), size, w.Content)
//	tree.OnDevice(t.Root, 1)
//	root := t.Over(lower)
//
// What it may not do: look at a file system. All names are looked up in the tree.
package tree
