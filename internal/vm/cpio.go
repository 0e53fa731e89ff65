package main

import (
	"bytes"
	"fmt"
)

// A cpioArchive is written in the form that the kernel takes as its first file system:
// "newc", of Documentation/driver-api/early-userspace/buffer-format.rst.
type cpioArchive struct {
	bytes.Buffer
	inode int
}

const (
	cpioDir  = 0o040755
	cpioFile = 0o100755
	cpioChar = 0o020600
)

// add appends an entry. Its directories have to be there before.
func (c *cpioArchive) add(name string, mode int, data []byte) { c.entry(name, mode, 0, 0, data) }

// node appends a character device.
func (c *cpioArchive) node(name string, major, minor int) { c.entry(name, cpioChar, major, minor, nil) }

func (c *cpioArchive) entry(name string, mode, major, minor int, data []byte) {
	c.inode++
	links := 1
	if mode == cpioDir {
		links = 2
	}
	fmt.Fprint(c, "070701")
	for _, field := range []int{c.inode, mode, 0, 0, links, 0, len(data), 0, 0, major, minor, len(name) + 1, 0} {
		fmt.Fprintf(c, "%08x", field)
	}
	c.WriteString(name + "\x00")
	c.pad()
	c.Write(data)
	c.pad()
}

// close appends what ends an archive.
func (c *cpioArchive) close() { c.add("TRAILER!!!", 0, nil) }

func (c *cpioArchive) pad() {
	for c.Len()%4 != 0 {
		c.WriteByte(0)
	}
}
