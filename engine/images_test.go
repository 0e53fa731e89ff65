package engine

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestKeepBlobs: with the setting, a layer's compressed form comes back, and is a blob of the images' layout; without it there is none.
func TestKeepBlobs(t *testing.T) {
	for _, keep := range []bool{true, false} {
		config := t.TempDir()
		t.Setenv("XDG_CONFIG_HOME", config)
		if keep {
			if err := os.MkdirAll(config+"/kakuri", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(config+"/kakuri/registries.json", []byte(`{"keepBlobs": true}`), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		e := openAt(t, t.TempDir())
		s, err := e.Storage()
		if err != nil {
			t.Fatal(err)
		}
		k := keeper{s, filepath.Join(e.data, "images")}
		var blob bytes.Buffer
		z := gzip.NewWriter(&blob)
		z.Write(make([]byte, 1024))
		z.Close()
		desc := v1.Descriptor{Digest: digest.FromBytes(blob.Bytes()), Size: int64(blob.Len())}
		diff := digest.FromBytes(make([]byte, 1024))
		inflate := func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }
		for range 2 { // once more is the same
			if n, err := k.PutBlob(t.Context(), bytes.NewReader(blob.Bytes()), desc, inflate, diff); err != nil || n != 1024 {
				t.Fatalf("%d, %v", n, err)
			}
		}
		r, err := k.Blob(t.Context(), diff, desc)
		if !keep {
			if !os.IsNotExist(err) {
				t.Errorf("without the setting: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(got, blob.Bytes()) {
			t.Errorf("%d bytes, want %d: %v", len(got), blob.Len(), err)
		}
		if got, err := os.ReadFile(filepath.Join(k.layout, "blobs/sha256", desc.Digest.Encoded())); err != nil || !bytes.Equal(got, blob.Bytes()) {
			t.Errorf("in the layout: %d bytes, %v", len(got), err)
		}
	}
}
