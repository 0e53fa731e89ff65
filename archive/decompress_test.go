package archive

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// compress has a program of the machine compress b: what others write is to be read.
func compress(t *testing.T, b []byte, program string, args ...string) []byte {
	t.Helper()
	c := exec.Command(program, args...)
	c.Stdin = bytes.NewReader(b)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v", program, err)
	}
	return out
}

func TestDecompress(t *testing.T) {
	text := bytes.Repeat([]byte("what is in the archive\n"), 10000)
	var z bytes.Buffer
	w, _ := zstd.NewWriter(&z)
	w.Write(text)
	w.Close()
	for kind, b := range map[Compression][]byte{
		None:  text,
		Gzip:  compress(t, text, "gzip", "-c"),
		Bzip2: compress(t, text, "bzip2", "-c"),
		XZ:    append(compress(t, text[:1000], "xz", "-c"), compress(t, text[1000:], "xz", "-c", "-9", "--block-size=50000", "--check=sha256")...),
		Zstd:  z.Bytes(),
	} {
		r, got, err := Decompress(bytes.NewReader(b), Limits{})
		if err != nil || got != kind {
			t.Errorf("%q: taken for %q, %v", kind, got, err)
			continue
		}
		out, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(out, text) {
			t.Errorf("%q: %d bytes, %v", kind, len(out), err)
		}
		r.Close()
		// Cut in the middle it is an error, and one that names the format.
		r, _, err = Decompress(bytes.NewReader(b[:len(b)/2]), Limits{})
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if (err == nil) != (kind == None) || err != nil && !strings.HasPrefix(err.Error(), string(kind)+": ") {
			t.Errorf("%q, cut: %v", kind, err)
		}
	}
	for _, short := range []string{"", "x", "\x1f"} {
		r, kind, err := Decompress(strings.NewReader(short), Limits{})
		if err != nil || kind != None {
			t.Errorf("%q: %q, %v", short, kind, err)
			continue
		}
		if b, err := io.ReadAll(r); string(b) != short || err != nil {
			t.Errorf("%q: %q, %v", short, b, err)
		}
	}
}

// TestBomb: a megabyte that would become a gigabyte ends at the slack.
func TestBomb(t *testing.T) {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	zeros := make([]byte, 1<<20)
	for range 300 {
		w.Write(zeros)
	}
	w.Close()
	r, _, err := Decompress(&b, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, r)
	var limit *LimitError
	if !errors.As(err, &limit) || n > DefaultLimits().Slack+1<<20 {
		t.Errorf("%d bytes came out, %v", n, err)
	}
}

// TestWindow: headers that ask for gigabytes of memory do not get them.
func TestWindow(t *testing.T) {
	// Empty frames of zstd with windows of 128 MiB, 256 MiB and 2 GiB, and xz with a dictionary of 1.5 GiB.
	for window, refused := range map[byte]bool{0x88: false, 0x90: true, 0xa8: true} {
		r, _, err := Decompress(bytes.NewReader([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, window, 0x01, 0x00, 0x00}), Limits{})
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		if refused != errors.Is(err, zstd.ErrWindowSizeExceeded) || !refused && err != nil {
			t.Errorf("zstd, %#x: %v", window, err)
		}
	}
	stream, err := os.ReadFile("testdata/dict.xz")
	if err != nil {
		t.Fatal(err)
	}
	before := resident(t)
	r, _, err := Decompress(bytes.NewReader(stream), Limits{})
	if err == nil {
		_, err = io.ReadAll(r)
	}
	if grown := resident(t) - before; err == nil || !strings.Contains(err.Error(), "dictionary") || grown > 64<<20 {
		t.Errorf("xz: %d more bytes resident, %v", grown, err)
	}
	// The same behind a block, and a stream, that are well.
	small := compress(t, []byte("well"), "xz", "-c")
	r, _, err = Decompress(bytes.NewReader(append(append(small, 0, 0, 0, 0), stream...)), Limits{})
	if err == nil {
		_, err = io.ReadAll(r)
	}
	if grown := resident(t) - before; err == nil || !strings.Contains(err.Error(), "dictionary") || grown > 64<<20 {
		t.Errorf("xz, the second stream: %d more bytes resident, %v", grown, err)
	}
}

// resident is the memory of this process that is there.
func resident(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var pages int64
	for _, c := range strings.Fields(string(b))[1] {
		pages = pages*10 + int64(c-'0')
	}
	return pages * int64(os.Getpagesize())
}
