package content

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
)

// A child reads what this process has read for it, perhaps out of a compressed stream. That this failed it has to know: with the end of a pipe for it, what had come until then would be
// the whole archive. So the pipe has pieces, each behind its length in four bytes. One of no length is the end, and behind it is why there is no more, which is nothing where all was read.

// feed writes all of in for a child, and gives the error of in or ctx, of which the child is told.
func feed(ctx context.Context, w io.Writer, in io.Reader) error {
	const head = 4
	piece := make([]byte, head+64<<10)
	for {
		n, err := in.Read(piece[head:])
		if n > 0 {
			binary.NativeEndian.PutUint32(piece, uint32(n))
			if _, bad := w.Write(piece[:head+n]); bad != nil {
				return nil // the child has ended, and says why
			}
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			continue
		}
		end := make([]byte, head)
		if err == io.EOF {
			err = nil
		} else {
			end = append(end, err.Error()...)
		}
		w.Write(end)
		return err
	}
}

// A fed reader gives what feed has written. A pipe that ends earlier is that of a process that has been killed.
type fed struct {
	from io.Reader
	left uint32 // of the piece
	end  error
}

// Read implements [io.Reader].
func (f *fed) Read(p []byte) (int, error) {
	if f.left == 0 && f.end == nil {
		f.next()
	}
	if f.end != nil {
		return 0, f.end
	}
	n, err := f.from.Read(p[:min(len(p), int(f.left))])
	f.left -= uint32(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next begins another piece.
func (f *fed) next() {
	var head [4]byte
	if _, err := io.ReadFull(f.from, head[:]); err != nil {
		f.end = io.ErrUnexpectedEOF
		return
	}
	if f.left = binary.NativeEndian.Uint32(head[:]); f.left > 0 {
		return
	}
	why, err := io.ReadAll(f.from)
	switch {
	case err != nil:
		f.end = err
	case len(why) > 0:
		f.end = errors.New(string(why))
	default:
		f.end = io.EOF
	}
}
