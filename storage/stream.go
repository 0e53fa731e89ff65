package storage

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// A piece is a part of a stream that several readers look at.
type piece struct {
	buf  []byte
	n    int
	refs atomic.Int32
}

// A pieceReader is one of the readers of a stream.
type pieceReader struct {
	in   chan *piece
	pool chan *piece
	cur  *piece
	at   int
}

// Read implements [io.Reader].
func (r *pieceReader) Read(p []byte) (int, error) {
	if r.cur == nil {
		next, ok := <-r.in
		if !ok {
			return 0, io.EOF
		}
		r.cur, r.at = next, 0
	}
	n := copy(p, r.cur.buf[r.at:r.cur.n])
	if r.at += n; r.at == r.cur.n {
		r.done()
	}
	return n, nil
}

// WriteTo implements [io.WriterTo]: nothing is copied.
func (r *pieceReader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		if r.cur == nil {
			next, ok := <-r.in
			if !ok {
				return total, nil
			}
			r.cur, r.at = next, 0
		}
		n, err := w.Write(r.cur.buf[r.at:r.cur.n])
		total += int64(n)
		r.done()
		if err != nil {
			return total, err
		}
	}
}

// done gives the piece back.
func (r *pieceReader) done() {
	if r.cur.refs.Add(-1) == 0 {
		r.pool <- r.cur
	}
	r.cur = nil
}

// drain passes over the rest of the stream, for the others.
func (r *pieceReader) drain() {
	for r.cur != nil {
		r.done()
	}
	for r.cur = range r.in {
		r.done()
	}
}

// errStopped is the end of a stream of which a reader wants no more.
var errStopped = errors.New("a reader of the stream failed")

// spread reads r to its end, and has each of several readers read all of it at the same time. Where one fails, the
// others get an end of file, too, and the error is that one's alone: theirs is of a stream that was cut. What a reader leaves over is passed over.
func spread(ctx context.Context, r io.Reader, readers ...func(io.Reader) error) error {
	const size, count = 256 << 10, 8
	pool := make(chan *piece, count)
	for range count {
		pool <- &piece{buf: make([]byte, size)}
	}
	var wg sync.WaitGroup
	var failed atomic.Pointer[error] // the first
	ins := make([]chan *piece, len(readers))
	for i, read := range readers {
		ins[i] = make(chan *piece, count)
		wg.Go(func() {
			pr := &pieceReader{in: ins[i], pool: pool}
			if err := read(pr); err != nil {
				failed.CompareAndSwap(nil, &err)
			}
			pr.drain()
		})
	}
	err := feed(r, ins, pool, func() error {
		if failed.Load() != nil {
			return errStopped
		}
		return ctx.Err()
	})
	for _, in := range ins {
		close(in)
	}
	wg.Wait()
	if err != nil && err != errStopped {
		return err // the readers saw a stream that was cut
	}
	if first := failed.Load(); first != nil {
		return *first
	}
	return nil
}

// feed gives what r has to all readers.
func feed(r io.Reader, ins []chan *piece, pool chan *piece, stop func() error) error {
	for {
		if err := stop(); err != nil {
			return err
		}
		p := <-pool
		var err error
		for p.n = 0; p.n < len(p.buf) && err == nil; {
			var n int
			n, err = r.Read(p.buf[p.n:])
			p.n += n
		}
		if p.n > 0 {
			p.refs.Store(int32(len(ins)))
			for _, in := range ins {
				in <- p
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
