package erofs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// An Image is an image that a [Writer] wrote, for reading without the kernel. It may be used by several
// goroutines.
type Image struct {
	r       io.ReaderAt
	devices []io.ReaderAt
	meta    int64 // where inodes begin
	root    int64
}

// Open reads an image. The devices are those that it was written with, in the same order.
func Open(r io.ReaderAt, devices []io.ReaderAt) (*Image, error) {
	written, err := Devices(r)
	if err != nil {
		return nil, err
	}
	if len(written) != len(devices) {
		return nil, fmt.Errorf("the image has %d devices, not %d", len(written), len(devices))
	}
	super := make([]byte, superSize)
	if _, err := r.ReadAt(super, superOffset); err != nil {
		return nil, err
	}
	if super[12] != blockBits {
		return nil, fmt.Errorf("an image with blocks of 2^%d bytes is not of this program", super[12])
	}
	return &Image{r: r, devices: devices, meta: int64(le.Uint32(super[40:])) << blockBits, root: int64(le.Uint16(super[14:]))}, nil
}

// A File is a file of an image.
type File struct {
	Inode        // without children
	Number int64 // the same for all names of one file
	Nlink  uint32

	img    *Image
	layout uint16
	raw    uint32
	tail   int64 // of the image: where what is behind the inode begins
}

var errDamaged = errors.New("the image is damaged")

// Root is the image's root directory.
func (m *Image) Root() (*File, error) { return m.file(m.root) }

func (m *Image) file(number int64) (*File, error) {
	at := m.meta + number*align
	b := make([]byte, inodeSize)
	if _, err := m.r.ReadAt(b, at); err != nil {
		return nil, errDamaged
	}
	if le.Uint16(b)&1 == 0 {
		return nil, errDamaged
	}
	f := &File{img: m, Number: number, layout: le.Uint16(b) >> 1 & 7, raw: le.Uint32(b[16:]), Nlink: le.Uint32(b[44:])}
	f.Mode, f.Size = uint32(le.Uint16(b[4:])), le.Uint64(b[8:])
	f.UID, f.GID, f.Sec, f.Nsec = le.Uint32(b[24:]), le.Uint32(b[28:]), int64(le.Uint64(b[32:])), le.Uint32(b[40:])
	f.tail = at + inodeSize
	if n := int64(le.Uint16(b[2:])); n > 0 {
		xattrs := make([]byte, xattrHeader+4*(n-1))
		if _, err := m.r.ReadAt(xattrs, f.tail); err != nil {
			return nil, errDamaged
		}
		if err := f.readXattrs(xattrs[xattrHeader:]); err != nil {
			return nil, err
		}
		f.tail += int64(len(xattrs))
	}
	switch f.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target, err := f.inline()
		f.Target = string(target)
		return f, err
	case unix.S_IFCHR, unix.S_IFBLK:
		f.Rdev = f.raw
	}
	return f, nil
}

func (f *File) readXattrs(b []byte) error {
	for len(b) > 0 {
		name, value := int(b[0]), int(le.Uint16(b[2:]))
		size := (xattrEntry + name + value + 3) &^ 3
		if size > len(b) {
			return errDamaged
		}
		for _, p := range prefixes {
			if p.index == b[1] {
				f.Xattrs = append(f.Xattrs, Xattr{p.prefix + string(b[xattrEntry:xattrEntry+name]), string(b[xattrEntry+name : xattrEntry+name+value])})
			}
		}
		b = b[size:]
	}
	return nil
}

// inline reads the content of a directory or a link.
func (f *File) inline() ([]byte, error) {
	at := f.tail
	if f.layout == flatPlain {
		at = int64(f.raw) << blockBits
	}
	if f.Size > 1<<31 {
		return nil, errDamaged
	}
	// As much as there is, whatever the size says.
	b, err := io.ReadAll(io.NewSectionReader(f.img.r, at, int64(f.Size)))
	if err != nil || uint64(len(b)) != f.Size {
		return nil, errDamaged
	}
	return b, nil
}

// IsDir reports whether the file is a directory.
func (f *File) IsDir() bool { return f.Mode&unix.S_IFMT == unix.S_IFDIR }

// Each calls each for the names of a directory, in their order, without "." and "..".
func (f *File) Each(each func(name string, number int64) error) error {
	data, err := f.inline()
	if err != nil {
		return err
	}
	for len(data) > 0 {
		block := data[:min(BlockSize, len(data))]
		data = data[len(block):]
		if len(block) < dirent {
			return errDamaged
		}
		count := int(le.Uint16(block[8:])) / dirent
		for k := range count {
			name, err := direntName(block, k, count)
			if err != nil {
				return err
			}
			if name == "." || name == ".." {
				continue
			}
			if err := each(name, int64(le.Uint64(block[k*dirent:]))); err != nil {
				return err
			}
		}
	}
	return nil
}

func direntName(block []byte, k, count int) (string, error) {
	if count*dirent > len(block) {
		return "", errDamaged
	}
	at, end := int(le.Uint16(block[k*dirent+8:])), len(block)
	if k+1 < count {
		end = int(le.Uint16(block[(k+1)*dirent+8:]))
	}
	if at > end || end > len(block) {
		return "", errDamaged
	}
	return strings.TrimRight(string(block[at:end]), "\x00"), nil
}

// File reads the file of a number that Each gave.
func (f *File) File(number int64) (*File, error) { return f.img.file(number) }

// Child finds a name in a directory, fs.ErrNotExist where it is not there.
func (f *File) Child(name string) (*File, error) {
	if !f.IsDir() {
		return nil, fs.ErrNotExist
	}
	number, found := int64(0), errors.New("found")
	err := f.Each(func(n string, k int64) error {
		if n == name {
			number = k
			return found
		}
		return nil
	})
	if err == found {
		return f.img.file(number)
	}
	if err == nil {
		err = fs.ErrNotExist
	}
	return nil, err
}

// maxLinks is the kernel's, see path_resolution(7).
const maxLinks = 40

// Lookup finds a path, and follows links as though the image's root was the root. The error is an [*fs.PathError].
func (m *Image) Lookup(p string) (*File, error) {
	root, err := m.Root()
	if err != nil {
		return nil, err
	}
	links := 0
	stack, err := walk([]*File{root}, p, &links)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: p, Err: err}
	}
	return stack[len(stack)-1], nil
}

func walk(stack []*File, p string, links *int) ([]*File, error) {
	if strings.HasPrefix(p, "/") {
		stack = stack[:1]
	}
	p = strings.TrimRight(p, "/")
	for p != "" {
		var name string
		name, p, _ = strings.Cut(p, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			stack = stack[:max(1, len(stack)-1)]
			continue
		}
		next, err := stack[len(stack)-1].Child(name)
		if err != nil {
			return nil, err
		}
		if next.Mode&unix.S_IFMT != unix.S_IFLNK {
			stack = append(stack[:len(stack):len(stack)], next)
			continue
		}
		if *links++; *links > maxLinks {
			return nil, unix.ELOOP
		}
		if stack, err = walk(stack, next.Target, links); err != nil {
			return nil, err
		}
	}
	return stack, nil
}

// Content is the content of a regular file. Holes read as zeros.
func (f *File) Content() *io.SectionReader {
	return io.NewSectionReader(f, 0, int64(f.Size))
}

// ReadAt implements [io.ReaderAt].
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(f.Size) {
		return 0, io.EOF
	}
	short := int64(len(p)) > int64(f.Size)-off
	if short {
		p = p[:int64(f.Size)-off]
	}
	n, err := 0, error(nil)
	for n < len(p) && err == nil {
		var k int
		k, err = f.readChunk(p[n:], off+int64(n))
		n += k
	}
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

func (f *File) readChunk(p []byte, off int64) (int, error) {
	if f.layout != chunkBased {
		return 0, errDamaged
	}
	bits := blockBits + f.raw&0x1f
	index := make([]byte, chunkIndex)
	if _, err := f.img.r.ReadAt(index, (f.tail+chunkIndex-1)&^(chunkIndex-1)+off>>bits*chunkIndex); err != nil {
		return 0, errDamaged
	}
	within := off & (1<<bits - 1)
	p = p[:min(int64(len(p)), 1<<bits-within)]
	block, device := le.Uint32(index[4:]), int(le.Uint16(index[2:]))
	if block == none {
		clear(p)
		return len(p), nil
	}
	from := f.img.r
	if device > len(f.img.devices) {
		return 0, errDamaged
	} else if device > 0 {
		from = f.img.devices[device-1]
	}
	n, err := from.ReadAt(p, int64(block)<<blockBits+within)
	if n == len(p) {
		err = nil
	} else if err == nil || err == io.EOF {
		err = errDamaged
	}
	return n, err
}
