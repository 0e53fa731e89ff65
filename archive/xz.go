package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// xzGuard reads along with the decoder of xz, to see the header of each block before it does: it says how
// much memory the decoder is to take, up to 4 GiB, and the decoder takes it. The format is that of
// xz-file-format.txt, of which only sizes are read here; what is malformed is left to the decoder.
type xzGuard struct {
	r    *bufio.Reader
	walk func() (n int, err error) // looks at what comes next: so many bytes may pass
	pass int                       // bytes that may pass before walk is asked again
	free bool                      // nothing is looked at any more
	sum  int                       // bytes of a block's check
	size int                       // bytes of the block's data so far, for its padding
}

func newXZGuard(r *bufio.Reader) *xzGuard {
	g := &xzGuard{r: r}
	g.walk = g.stream
	return g
}

func (g *xzGuard) Read(p []byte) (int, error) {
	if err := g.next(); err != nil {
		return 0, err
	}
	if !g.free {
		p = p[:min(len(p), g.pass)]
	}
	n, err := g.r.Read(p)
	g.pass -= n
	return n, err
}

func (g *xzGuard) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(g, b[:])
	return b[0], err
}

func (g *xzGuard) next() (err error) {
	for g.pass == 0 && !g.free && err == nil {
		g.pass, err = g.walk()
	}
	if err == io.EOF {
		g.free, err = true, nil // the decoder meets the end itself
	}
	return err
}

// stream is the header of a stream, or the padding before one.
func (g *xzGuard) stream() (int, error) {
	head, err := g.r.Peek(12)
	if len(head) >= 4 && head[0] == 0 {
		return 4, nil
	}
	if err != nil {
		return 0, err
	}
	g.sum = []int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}[head[7]&0xf]
	g.walk = g.block
	return 12, nil
}

// block is the header of a block, or the index behind the last one.
func (g *xzGuard) block() (int, error) {
	first, err := g.r.Peek(1)
	if err != nil {
		return 0, err
	}
	if first[0] == 0 {
		g.index()
		return 1, nil
	}
	n := (int(first[0]) + 1) * 4
	head, err := g.r.Peek(n)
	if err != nil {
		return 0, err
	}
	size, err := xzDictionary(head)
	if err != nil {
		return 0, err
	}
	if size > maxWindow {
		return 0, fmt.Errorf("a dictionary of %d bytes: %d are given", size, maxWindow)
	}
	g.walk, g.size = g.chunk, 0
	return n, nil
}

// chunk is a piece of LZMA2, with its sizes in front.
func (g *xzGuard) chunk() (int, error) {
	head, err := g.r.Peek(1)
	if err != nil {
		return 0, err
	}
	n := 1
	switch control := head[0]; {
	case control == 0:
		g.size++
		g.walk = g.block
		return 1 + (4-g.size%4)%4 + g.sum, nil
	case control >= 0x80:
		if head, err = g.r.Peek(5); err != nil {
			return 0, err
		}
		n = 5 + int(head[3])<<8 + int(head[4]) + 1
		if control >= 0xc0 {
			n++
		}
	default:
		if head, err = g.r.Peek(3); err != nil {
			return 0, err
		}
		n = 3 + int(head[1])<<8 + int(head[2]) + 1
	}
	g.size += n
	return n, nil
}

// index lets the index pass, which the decoder checks against the blocks, and the footer. Its length is
// only known by reading it, a number at a time.
func (g *xzGuard) index() {
	g.size = 1
	left := -1 // numbers to come: first how many records there are
	g.walk = func() (int, error) {
		if left == 0 {
			g.walk = g.stream
			return (4-g.size%4)%4 + 4 + 12, nil
		}
		number, n, err := g.number()
		if err != nil {
			return 0, err
		}
		if left < 0 {
			left = 2 * int(min(number, 1<<40))
		} else {
			left--
		}
		g.size += n
		return n, nil
	}
}

// number is a multibyte integer that comes next.
func (g *xzGuard) number() (value uint64, n int, err error) {
	for n < 9 {
		head, err := g.r.Peek(n + 1)
		if err != nil {
			return 0, 0, err
		}
		value |= uint64(head[n]&0x7f) << (7 * n)
		n++
		if head[n-1]&0x80 == 0 {
			return value, n, nil
		}
	}
	return 0, 0, errors.New("a number of more than nine bytes")
}

// xzDictionary reads how much memory a block asks for. LZMA2 is the only filter that the decoder has.
func xzDictionary(head []byte) (uint64, error) {
	flags, at := head[1], 2
	for _, bit := range []byte{0x40, 0x80} { // the compressed and the uncompressed size
		if flags&bit != 0 {
			for at < len(head) && head[at]&0x80 != 0 {
				at++
			}
			at++
		}
	}
	if flags&0x3f != 0 || at+3 > len(head) || head[at] != 0x21 || head[at+1] != 1 {
		return 0, errors.New("a filter other than LZMA2, which this decoder has not")
	}
	code := head[at+2] & 0x3f
	if code > 40 {
		return 0, errors.New("a dictionary that is out of range")
	}
	return (2 | uint64(code&1)) << (code/2 + 11), nil
}
