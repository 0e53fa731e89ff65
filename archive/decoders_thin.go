//go:build thin

package archive

import (
	"bufio"
	"errors"
	"io"
)

// decoder of a program that leaves compressed streams to the whole one, see [github.com/kakuri/kakuri/engine].
func decoder(b *bufio.Reader, kind Compression) (out io.Reader, done func(), err error) {
	if kind == None {
		return b, func() {}, nil
	}
	return nil, nil, errors.New("this program was built to leave that to kakuri-full")
}
