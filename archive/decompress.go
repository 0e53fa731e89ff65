package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// A Compression is how a stream is compressed.
type Compression string

const (
	None  Compression = ""
	Gzip  Compression = "gzip"
	Bzip2 Compression = "bzip2"
	XZ    Compression = "xz"
	Zstd  Compression = "zstd"
)

// maxWindow bounds the memory of zstd: what zstd --long writes, and no more.
const maxWindow = 128 << 20

// DetectCompression tells by the first bytes of a stream how it is compressed; six are enough.
func DetectCompression(head []byte) Compression {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return Gzip
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}),
		len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}): // a frame to skip
		return Zstd
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return XZ
	case bytes.HasPrefix(head, []byte("BZh")):
		return Bzip2
	}
	return None
}

// Decompress undoes the compression of a stream, if it has one. What comes out is held to
// l.Ratio; its error is a [*LimitError]. Closing it gives memory back, be it while somebody
// reads it, and does not close r.
func Decompress(r io.Reader, l Limits) (io.ReadCloser, Compression, error) {
	l = l.or()
	in := &counter{r: r}
	b := bufio.NewReaderSize(in, 64<<10)
	head, err := b.Peek(6)
	if err != nil && err != io.EOF {
		return nil, None, err
	}
	kind := DetectCompression(head)
	out, done, err := decoder(b, kind)
	if err != nil {
		return nil, kind, fmt.Errorf("%s: %w", kind, err)
	}
	return &decompressed{r: out, done: done, in: in, kind: kind, l: l}, kind, nil
}

func decoder(b *bufio.Reader, kind Compression) (out io.Reader, done func(), err error) {
	nothing := func() {}
	switch kind {
	case Gzip:
		out, err = gzip.NewReader(b)
	case Bzip2:
		out = bzip2.NewReader(b)
	case XZ:
		out, err = xz.NewReader(newXZGuard(b))
	case Zstd:
		var d *zstd.Decoder
		d, err = zstd.NewReader(b, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err == nil {
			return d, d.Close, nil
		}
	default:
		out = b
	}
	return out, nothing, err
}

// decompressed counts what comes out against what went in.
type decompressed struct {
	r    io.Reader
	done func()
	in   *counter
	out  int64
	kind Compression
	l    Limits

	mu              sync.Mutex
	reading, closed bool
}

func (d *decompressed) Read(p []byte) (int, error) {
	if !d.begin() {
		return 0, fs.ErrClosed
	}
	defer d.end()
	n, err := d.r.Read(p)
	d.out += int64(n)
	if d.kind == None {
		return n, err
	}
	if d.out > d.l.Slack && d.out/d.l.Ratio > d.in.n {
		return 0, &LimitError{"bytes for one compressed byte", d.l.Ratio}
	}
	if err != nil && err != io.EOF && !errors.As(err, new(*LimitError)) {
		err = fmt.Errorf("%s: %w", d.kind, err)
	}
	return n, err
}

// begin reports whether there is anything to read from. What is read is closed by end at the earliest.
func (d *decompressed) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reading = !d.closed
	return d.reading
}

func (d *decompressed) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reading = false; d.closed {
		d.done()
	}
}

func (d *decompressed) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed && !d.reading {
		d.done()
	}
	d.closed = true
	return nil
}
