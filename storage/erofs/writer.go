package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// BlockSize is the unit of all places, in bytes.
const (
	BlockSize = 1 << blockBits
	blockBits = 9
)

// maxBlocks is how many blocks an image or a device has at most: their numbers have 32 bits, and the last
// one means "none".
const maxBlocks = 1<<32 - 1

// An Inode is a file. Two names of one inode are hard links.
type Inode struct {
	Mode     uint32 // type and permissions, as st_mode has them
	UID, GID uint32
	Sec      int64 // of the last change, since 1970
	Nsec     uint32
	Rdev     uint32 // of a device node: [Rdev]
	Device   uint16 // that the content lies on, from 1; 0 is the image itself
	Size     uint64 // of a regular file's content
	Offset   int64  // of the content on its device, whole blocks
	Target   string // of a symbolic link

	Xattrs   []Xattr
	Children map[string]*Inode // of a directory
	Chunks   *Chunks           // in place of Device and Offset

	nlink  uint32
	placed bool
	at     int64  // in the inode area; a multiple of 32
	data   uint32 // block of a directory's or a link's content, where it is not behind the inode
}

// An Xattr is an extended attribute, with its full name.
type Xattr struct{ Name, Value string }

// Chunks are the pieces of a file with holes, in the image itself.
type Chunks struct {
	bits   uint8    // each has BlockSize<<bits bytes
	blocks []uint32 // where each begins; none for a hole
}

const none = 1<<32 - 1

// A Device is a file that contents lie on.
type Device struct {
	Tag  string // up to 64 bytes that name it
	Size int64  // in bytes
}

// Rdev is a device number as inodes have it.
func Rdev(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}

// A Writer writes one image.
type Writer struct {
	w       io.WriterAt
	devices []Device

	mu   sync.Mutex
	next int64 // block that is free
}

// NewWriter begins an image on a file, which is empty. Contents of its own may come from several goroutines.
func NewWriter(w io.WriterAt, devices []Device) *Writer {
	return &Writer{w: w, devices: devices, next: blocks(superOffset + superSize + int64(len(devices))*slotSize)}
}

func blocks(n int64) int64 { return (n + BlockSize - 1) >> blockBits }

// piece is what content is looked at by for holes, and the smallest chunk.
const piece = 4096

// Content puts the content of a sparse file into the image: size bytes of r. Zeros take no room.
func (w *Writer) Content(r io.Reader, size int64) (*Chunks, error) {
	c := &Chunks{bits: 3}
	for size>>(blockBits+c.bits) >= 4096 {
		c.bits++
	}
	chunk := int64(BlockSize) << c.bits
	c.blocks = slices.Repeat([]uint32{none}, int((size+chunk-1)/chunk))
	buf := make([]byte, piece)
	for at := int64(0); at < size; at += piece {
		part := buf[:min(piece, size-at)]
		if _, err := io.ReadFull(r, part); err != nil {
			return nil, err
		}
		if zeros(part) {
			continue
		}
		n := at / chunk
		if c.blocks[n] == none {
			place, err := w.alloc(chunk)
			if err != nil {
				return nil, err
			}
			c.blocks[n] = place
		}
		if _, err := w.w.WriteAt(part, int64(c.blocks[n])<<blockBits+at%chunk); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func zeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// alloc gives n bytes of the image away, in whole blocks.
func (w *Writer) alloc(n int64) (uint32, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := w.next
	if n > maxBlocks<<blockBits || at+blocks(n) >= maxBlocks {
		return 0, errors.New("an index has at most 2 TiB: there are too many files, or too much in sparse files")
	}
	w.next += blocks(n)
	return uint32(at), nil
}

// Finish writes all metadata. The image is a function of the tree, the devices and the uuid.
func (w *Writer) Finish(root *Inode, uuid [16]byte) error {
	for i, d := range w.devices {
		if blocks(d.Size) >= maxBlocks {
			return fmt.Errorf("layer %d has %d bytes: an index can point into at most 2 TiB of one", i+1, d.Size)
		}
	}
	if root.Mode&unix.S_IFMT != unix.S_IFDIR {
		return errors.New("the root is not a directory")
	}
	l := &layout{}
	if err := l.place(root, "/"); err != nil {
		return err
	}
	meta, err := w.alloc(l.inodes)
	if err != nil {
		return err
	}
	if l.data, err = w.alloc(l.blocks << blockBits); err != nil {
		return err
	}
	img := &image{meta: make([]byte, blocks(l.inodes)<<blockBits), data: make([]byte, l.blocks<<blockBits), base: l.data}
	img.write(root, root)
	for _, part := range []struct {
		b  []byte
		at uint32
	}{{img.meta, meta}, {img.data, l.data}, {w.super(root, meta, l.count, uuid), 0}} {
		if _, err := w.w.WriteAt(part.b, int64(part.at)<<blockBits); err != nil {
			return err
		}
	}
	return nil
}

// A layout finds the places of all inodes, and what they need.
type layout struct {
	inodes int64  // bytes of the inode area so far
	blocks int64  // of the area behind it: contents of directories and links
	data   uint32 // where that begins
	count  uint64
}

const (
	inodeSize = 64 // of an extended inode: times, and ids of 32 bits
	align     = 32
)

// place gives an inode, and all below it, their places.
func (l *layout) place(i *Inode, name string) error {
	if i.nlink++; i.placed {
		return nil
	}
	i.placed = true
	l.count++
	size := inodeSize + xattrSize(i.Xattrs)
	if n := xattrSize(i.Xattrs); n > maxXattrs {
		return fmt.Errorf("%q: extended attributes of %d bytes: an inode of EROFS has room for %d", name, n, maxXattrs)
	}
	switch i.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		size = l.chunks(i, size)
	case unix.S_IFDIR:
		i.nlink++
		size = l.inline(i, size, dirSize(i))
	case unix.S_IFLNK:
		size = l.inline(i, size, int64(len(i.Target)))
	default:
		l.begin(i, inodeSize)
	}
	l.inodes = i.at + size
	for _, child := range sorted(i.Children) {
		c := i.Children[child]
		if c.Mode&unix.S_IFMT == unix.S_IFDIR {
			i.nlink++ // its ".."
		}
		if err := l.place(c, child); err != nil {
			return err
		}
	}
	return nil
}

func sorted(children map[string]*Inode) []string { return slices.Sorted(maps.Keys(children)) }

// begin finds where an inode may begin whose first whole bytes may lie in no two blocks.
func (l *layout) begin(i *Inode, whole int64) {
	at := (l.inodes + align - 1) &^ (align - 1)
	if whole <= BlockSize && at%BlockSize+whole > BlockSize {
		at = blocks(at) << blockBits
	}
	i.at = at
}

// inline places an inode whose content lies behind it, where it fits in one block together, and elsewhere otherwise.
func (l *layout) inline(i *Inode, size, content int64) int64 {
	i.data = none
	if size+content <= BlockSize {
		l.begin(i, size+content)
		return size + content
	}
	l.begin(i, inodeSize)
	if content == 0 {
		return size
	}
	i.data = uint32(min(l.blocks, maxBlocks))
	l.blocks += blocks(content)
	return size
}

// chunks places a regular file and the indexes of its chunks, which are aligned to their size.
func (l *layout) chunks(i *Inode, size int64) int64 {
	l.begin(i, inodeSize)
	if n := i.chunkCount(); n > 0 {
		size = (size+chunkIndex-1)&^(chunkIndex-1) + n*chunkIndex
	}
	return size
}

const chunkIndex = 8

// chunkBits is the size of a regular file's chunks: content that lies in one piece is one chunk, up to 1 TiB.
func (i *Inode) chunkBits() uint8 {
	if i.Chunks != nil {
		return i.Chunks.bits
	}
	bits := uint8(3)
	for uint64(BlockSize)<<bits < i.Size && bits < 31 {
		bits++
	}
	return bits
}

func (i *Inode) chunkCount() int64 {
	chunk := uint64(BlockSize) << i.chunkBits()
	return int64((i.Size + chunk - 1) / chunk)
}

// Names of extended attributes have a number for their beginning.
var prefixes = [...]struct {
	prefix string
	index  byte
}{
	{"user.", 1}, {"system.posix_acl_access", 2}, {"system.posix_acl_default", 3}, {"trusted.", 4}, {"security.", 6},
}

const (
	xattrHeader = 12
	xattrEntry  = 4
	maxXattrs   = 1<<16*4 - xattrHeader
)

// KnownXattr reports whether an attribute of this name can be kept.
func KnownXattr(name string) bool {
	_, rest := splitXattr(name)
	return rest != name && len(rest) < 256
}

func splitXattr(name string) (index byte, rest string) {
	for _, p := range prefixes {
		if rest, ok := strings.CutPrefix(name, p.prefix); ok && (rest == "") == (p.index == 2 || p.index == 3) {
			return p.index, rest
		}
	}
	return 0, name
}

func xattrSize(list []Xattr) int64 {
	if len(list) == 0 {
		return 0
	}
	size := int64(xattrHeader)
	for _, x := range list {
		_, rest := splitXattr(x.Name)
		size += (xattrEntry + int64(len(rest)+len(x.Value)) + 3) &^ 3
	}
	return size
}

const dirent = 12

// dirBlocks tells how the names of a directory, sorted, are spread over blocks: how many are in each.
func dirBlocks(names []string) (counts []int, last int64) {
	used, n := int64(0), 0
	for _, name := range names {
		need := dirent + int64(len(name))
		if used+need > BlockSize {
			counts, used, n = append(counts, n), 0, 0
		}
		used, n = used+need, n+1
	}
	return append(counts, n), used
}

func dirNames(i *Inode) []string {
	names := append(sorted(i.Children), ".", "..")
	slices.Sort(names)
	return names
}

func dirSize(i *Inode) int64 {
	counts, last := dirBlocks(dirNames(i))
	return int64(len(counts)-1)<<blockBits + last
}

// An image is what is written, in memory.
type image struct {
	meta, data []byte
	base       uint32 // block of data
}

var le = binary.LittleEndian

// Layouts of an inode's content: erofs_fs.h.
const (
	flatPlain  = 0
	flatInline = 2
	chunkBased = 4

	chunkIndexes = 0x20 // the chunks have indexes
)

func (m *image) write(i, parent *Inode) {
	b := m.meta[i.at:]
	if le.Uint32(b) != 0 {
		return // another name of it came before
	}
	layout, raw, size := uint16(flatPlain), uint32(0), i.Size
	tail := i.at + inodeSize + xattrSize(i.Xattrs)
	switch i.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if size == 0 {
			break
		}
		layout, raw = chunkBased, chunkIndexes|uint32(i.chunkBits())
		m.chunks(i, (tail+chunkIndex-1)&^(chunkIndex-1))
	case unix.S_IFDIR:
		size = uint64(dirSize(i))
		layout, raw = m.content(i, tail, m.dir(i, parent, size))
	case unix.S_IFLNK:
		size = uint64(len(i.Target))
		layout, raw = m.content(i, tail, []byte(i.Target))
	default:
		raw, size = i.Rdev, 0
	}
	le.PutUint16(b, 1|layout<<1) // extended
	if n := xattrSize(i.Xattrs); n > 0 {
		le.PutUint16(b[2:], uint16((n-xattrHeader)/4+1))
		putXattrs(b[inodeSize:], i.Xattrs)
	}
	le.PutUint16(b[4:], uint16(i.Mode))
	le.PutUint64(b[8:], size)
	le.PutUint32(b[16:], raw)
	le.PutUint32(b[20:], uint32(i.at/align)+1)
	le.PutUint32(b[24:], i.UID)
	le.PutUint32(b[28:], i.GID)
	le.PutUint64(b[32:], uint64(i.Sec))
	le.PutUint32(b[40:], i.Nsec)
	le.PutUint32(b[44:], i.nlink)
	for _, name := range sorted(i.Children) {
		m.write(i.Children[name], i)
	}
}

// content puts the content of a directory or a link behind its inode or into the data.
func (m *image) content(i *Inode, tail int64, content []byte) (layout uint16, raw uint32) {
	if i.data == none {
		copy(m.meta[tail:], content)
		return flatInline, 0
	}
	copy(m.data[int64(i.data)<<blockBits:], content)
	return flatPlain, m.base + i.data
}

func (m *image) chunks(i *Inode, at int64) {
	for n := range i.chunkCount() {
		b := m.meta[at+n*chunkIndex:]
		block, device := uint64(i.Offset>>blockBits)+uint64(n)<<i.chunkBits(), i.Device
		if i.Chunks != nil {
			block, device = uint64(i.Chunks.blocks[n]), 0
		}
		le.PutUint16(b[2:], device)
		le.PutUint32(b[4:], uint32(block))
	}
}

func putXattrs(b []byte, list []Xattr) {
	le.PutUint32(b, 1<<32-1) // the filter says nothing
	b = b[xattrHeader:]
	for _, x := range list {
		index, rest := splitXattr(x.Name)
		b[0], b[1] = byte(len(rest)), index
		le.PutUint16(b[2:], uint16(len(x.Value)))
		copy(b[xattrEntry:], rest)
		copy(b[xattrEntry+len(rest):], x.Value)
		b = b[(xattrEntry+len(rest)+len(x.Value)+3)&^3:]
	}
}

// dir is the content of a directory: in each block places and types, and then the names.
func (m *image) dir(i, parent *Inode, size uint64) []byte {
	out := make([]byte, size)
	names := dirNames(i)
	counts, _ := dirBlocks(names)
	for n, count := range counts {
		b := out[n<<blockBits:]
		at := count * dirent
		for k, name := range names[:count] {
			to := i.Children[name]
			switch name {
			case ".":
				to = i
			case "..":
				to = parent
			}
			le.PutUint64(b[k*dirent:], uint64(to.at/align))
			le.PutUint16(b[k*dirent+8:], uint16(at))
			b[k*dirent+10] = fileType(to.Mode)
			at += copy(b[at:], name)
		}
		names = names[count:]
	}
	return out
}

func fileType(mode uint32) byte {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 1
	case unix.S_IFDIR:
		return 2
	case unix.S_IFCHR:
		return 3
	case unix.S_IFBLK:
		return 4
	case unix.S_IFIFO:
		return 5
	case unix.S_IFSOCK:
		return 6
	}
	return 7
}

const (
	superOffset = 1024
	superSize   = 128
	slotSize    = 128
	magic       = 0xe0f5e1e2

	incompatChunked = 0x4
	incompatDevices = 0x8
)

// super is the superblock with the table of devices, from the image's first byte on.
func (w *Writer) super(root *Inode, meta uint32, count uint64, uuid [16]byte) []byte {
	out := make([]byte, superOffset+superSize+len(w.devices)*slotSize)
	b := out[superOffset:]
	le.PutUint32(b, magic)
	b[12] = blockBits
	le.PutUint16(b[14:], uint16(root.at/align))
	le.PutUint64(b[16:], count)
	le.PutUint32(b[36:], uint32(w.next))
	le.PutUint32(b[40:], meta)
	copy(b[48:], uuid[:])
	le.PutUint32(b[80:], incompatChunked|incompatDevices)
	le.PutUint16(b[86:], uint16(len(w.devices)))
	le.PutUint16(b[88:], (superOffset+superSize)/slotSize)
	for n, d := range w.devices {
		slot := b[superSize+n*slotSize:]
		copy(slot[:64], d.Tag)
		le.PutUint32(slot[64:], uint32(blocks(d.Size)))
	}
	return out
}

// Devices reads what an image was written with, with sizes of whole blocks. An image that has lost its end is an error: the kernel mounts it, and fails at what is gone.
func Devices(r io.ReaderAt) ([]Device, error) {
	super := make([]byte, superSize)
	if _, err := r.ReadAt(super, superOffset); err != nil {
		return nil, err
	}
	if le.Uint32(super) != magic {
		return nil, errors.New("not an EROFS image")
	}
	if size := int64(le.Uint32(super[36:])) << blockBits; size > 0 {
		if _, err := r.ReadAt(make([]byte, 1), size-1); err == io.EOF {
			return nil, fmt.Errorf("the image is cut: it had %d bytes", size)
		} else if err != nil {
			return nil, err
		}
	}
	table := make([]byte, int(le.Uint16(super[86:]))*slotSize)
	if _, err := r.ReadAt(table, int64(le.Uint16(super[88:]))*slotSize); err != nil {
		return nil, err
	}
	var list []Device
	for t := range slices.Chunk(table, slotSize) {
		list = append(list, Device{strings.TrimRight(string(t[:64]), "\x00"), int64(le.Uint32(t[64:])) << blockBits})
	}
	return list, nil
}
