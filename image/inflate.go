package image

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// A BombError is something compressed that grows beyond what settings allow.
type BombError struct {
	Bytes, From int64 // what came out of how much
	Limit       string
}

func (e *BombError) Error() string {
	return fmt.Sprintf("%d bytes became more than %d, which is beyond %s of /etc/kakuri/registries.json: is it meant to fill the disk?", e.From, e.Bytes, e.Limit)
}

// window bounds what a zstd stream may ask to keep in memory, in bytes. zstd itself makes no larger one below --ultra.
const window = 128 << 20

// inflater gives the function that inflates a layer of a media type, within the limits of settings.
func (s *Settings) inflater(mediaType string) (func(io.Reader) (io.ReadCloser, error), error) {
	kind, ok := compression(mediaType)
	if !ok {
		return nil, fmt.Errorf("layer: media type %q is not known", mediaType)
	}
	return func(r io.Reader) (io.ReadCloser, error) { return s.inflate(kind, r) }, nil
}

// inflate opens a compressed stream: gzip of any number of members, zstd of any number of frames, or "" for none.
func (s *Settings) inflate(kind string, r io.Reader) (io.ReadCloser, error) {
	in := &counter{r: r}
	var out io.ReadCloser
	switch kind {
	case "":
		out = io.NopCloser(in)
	case "gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		out = z
	case "zstd":
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(window), zstd.WithDecoderMaxMemory(uint64(s.maxLayer())), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		out = z.IOReadCloser()
	}
	return &bounded{ReadCloser: out, in: in, max: s.maxLayer(), ratio: s.maxRatio(), kind: kind}, nil
}

// A counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// bounded ends a stream that grows too large, or too much larger than what it is made of.
type bounded struct {
	io.ReadCloser
	in         *counter
	n          int64
	max, ratio int64
	kind       string
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	if b.n > b.max {
		return n, &BombError{b.n, b.in.n, "maxLayer"}
	}
	if b.kind != "" && b.n > freeRatio && b.n/b.ratio > b.in.n {
		return n, &BombError{b.n, b.in.n, "maxRatio"}
	}
	if err != nil && err != io.EOF && b.kind != "" {
		err = fmt.Errorf("%s: %w", b.kind, err)
	}
	return n, err
}

// sniff tells by its first bytes how a stream is compressed.
func sniff(r *bufio.Reader) string {
	head, _ := r.Peek(6)
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return "gzip"
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "zstd"
	case len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}):
		return "zstd" // a skippable frame, as zstd:chunked has
	case bytes.HasPrefix(head, []byte("BZh")):
		return "bzip2"
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return "xz"
	}
	return ""
}
