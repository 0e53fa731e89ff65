//go:build !thin

package archive

import (
	"bufio"
	"compress/bzip2"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// decoder undoes a compression, and gives what ends it.
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
