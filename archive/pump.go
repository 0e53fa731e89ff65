package archive

import "io"

// Pump connects who writes a stream with who reads it; the reader's error comes first, since the writer's is of it.
func Pump(write func(io.Writer) error, read func(io.Reader) error) error {
	r, w := io.Pipe()
	written := make(chan error)
	go func() {
		err := write(w)
		w.CloseWithError(err)
		written <- err
	}()
	err := read(r)
	if err == nil {
		_, err = io.Copy(io.Discard, r) // up to the writer's end
	}
	r.CloseWithError(err)
	if werr := <-written; err == nil {
		err = werr
	}
	return err
}
