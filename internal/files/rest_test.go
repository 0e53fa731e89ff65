package files

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// TestRest: what is in a pipe is read after its deadline, too, and not waited for beyond that, though somebody could still write.
func TestRest(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	text := strings.Repeat("what was written before the end\n", 100)
	if _, err := w.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := r.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(make([]byte, 10)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("without it: %d bytes, %v", n, err)
	}
	if got, err := io.ReadAll(Rest(r)); string(got) != text || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q, %v", got, err)
	}
	// Nor is more read than was there, however much somebody goes on to write.
	late := Rest(r)
	if _, err := w.WriteString("now"); err != nil {
		t.Fatal(err)
	}
	if n, err := late.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := w.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(late); string(got) != "ow" {
		t.Errorf("%q was read beyond what was there", got)
	}
	if _, err := io.CopyN(io.Discard, Rest(r), int64(len(text))); err != nil {
		t.Error(err)
	}
	w.Close()
	if n, err := Rest(r).Read(make([]byte, 10)); n != 0 || err == nil {
		t.Errorf("at its end: %d bytes, %v", n, err)
	}
}
