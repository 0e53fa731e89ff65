package image

import (
	"fmt"
	"io"

	"github.com/kakuri/kakuri/archive"
)

// A TooLargeError is a layer or an archive that is larger than settings allow.
type TooLargeError struct{ Max int64 } // bytes

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("it is larger than %d bytes, the maxLayer of /etc/kakuri/registries.json", e.Max)
}

// inflate opens a stream that may be compressed, as its first bytes tell: what a media type says of it is not always so, and the
// diffID is what counts. It ends where the settings' limits are passed.
func (s *Settings) inflate(r io.Reader) (io.ReadCloser, error) {
	out, _, err := archive.Decompress(r, archive.Limits{Ratio: s.maxRatio()})
	if err != nil {
		return nil, err
	}
	return &bounded{out, s.maxLayer(), s.maxLayer()}, nil
}

// bounded ends a stream that is too large.
type bounded struct {
	io.ReadCloser
	left, max int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, &TooLargeError{b.max}
	}
	return n, err
}
