package archive

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// TestCloseOfRead: a stream that is closed while somebody waits for what it reads ends for him, as where a program to which it was fed has ended.
func TestCloseOfRead(t *testing.T) {
	var packed bytes.Buffer
	z, err := zstd.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 4<<20)
	rand.New(rand.NewSource(1)).Read(text)
	z.Write(text)
	z.Close()
	r, w := io.Pipe()
	go w.Write(packed.Next(1 << 20))
	d, kind, err := Decompress(r, Limits{})
	if err != nil || kind != Zstd {
		t.Fatal(kind, err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, d)
		ended <- err
	}()
	w.Write(packed.Next(1)) // the Read that takes it is under way
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	go w.Write(packed.Bytes()) // until nobody reads
	defer r.Close()
	if err := <-ended; !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
}
