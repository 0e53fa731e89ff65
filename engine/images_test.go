package engine

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	gcr "github.com/google/go-containerregistry/pkg/v1"
	randomly "github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/internal/testimage"
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

// TestPullRemoved: an image that is removed while its pull ends was pulled all the same, and is gone afterwards, with its layers.
func TestPullRemoved(t *testing.T) {
	img, err := randomly.Image(2048, 2)
	if err != nil {
		t.Fatal(err)
	}
	e := open(t)
	name := testimage.Registry(t, map[string]gcr.Image{"removed:1": img}) + "/removed:1"
	var removed error
	_, err = e.Pull(t.Context(), name, image.PullOptions{Progress: func(p image.Event) {
		if strings.HasPrefix(p.Status, "Digest: ") {
			_, removed = e.RemoveImage(t.Context(), name, false)
		}
	}})
	if err != nil || removed != nil {
		t.Errorf("pull: %v; remove: %v", err, removed)
	}
	s, err := e.Storage()
	if err != nil {
		t.Fatal(err)
	}
	if left, err := s.List(); err != nil || len(left) > 0 {
		t.Errorf("layers are left: %v %v", left, err)
	}
}

// TestImagesAreReady: an image that was imported, loaded or pulled has its index before its first container asks for it.
func TestImagesAreReady(t *testing.T) {
	img, err := randomly.Image(2048, 2)
	if err != nil {
		t.Fatal(err)
	}
	registry := testimage.Registry(t, map[string]gcr.Image{"ready:1": img})
	var archive bytes.Buffer
	for _, way := range []struct {
		name string
		add  func(*image.Store) error
	}{
		{"import", func(s *image.Store) error {
			_, err := s.Import(t.Context(), bytes.NewReader(make([]byte, 1024)), "ready:1", image.ImportOptions{})
			return errors.Join(err, s.Save(t.Context(), &archive, []string{"ready:1"}, image.SaveOptions{}))
		}},
		{"load", func(s *image.Store) error {
			_, err := s.Load(t.Context(), &archive, image.LoadOptions{})
			return err
		}},
		{"pull", func(s *image.Store) error {
			_, err := s.Pull(t.Context(), registry+"/ready:1", image.PullOptions{})
			return err
		}},
		{"pull of all tags", func(s *image.Store) error {
			_, err := s.PullTags(t.Context(), registry+"/ready", image.PullOptions{})
			return err
		}},
	} {
		e := open(t)
		s, err := e.Images()
		if err == nil {
			err = way.add(s)
		}
		if err != nil {
			t.Fatalf("%s: %v", way.name, err)
		}
		if list, err := os.ReadDir(filepath.Join(e.data, "indexes")); err != nil || len(list) != 1 {
			t.Errorf("%s: %d indexes, %v", way.name, len(list), err)
		}
	}
}

// TestImageOfOneThatIsMade: who removes an image does not take it, or its layers, away from a container that is just being started of it.
func TestImageOfOneThatIsMade(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	imported(t, e, nstest.RootFS(t), "made:1", "CMD [\"true\"]")
	c, lock, err := e.create(ctx, Config{Image: "made:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	defer e.discard(&c)
	if _, err := e.RemoveImage(ctx, "made:1", false); !errors.As(err, new(ErrConflict)) {
		t.Errorf("removed: %v", err)
	}
	if p, err := e.PruneImages(ctx, true, nil); err != nil || len(p.Removed) > 0 {
		t.Errorf("pruned: %v, %v", p.Removed, err)
	}
	if _, err := e.RemoveImage(ctx, "made:1", true); err != nil {
		t.Errorf("by force: %v", err)
	}
	s, err := e.Storage()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range c.chain() {
		if _, err := s.Layer(id); err != nil {
			t.Error(err)
		}
	}
}

// TestImageConfigOfTwo: what an image completes is the new container's own, and a Config that a caller uses for two does not carry one image's over to the other.
func TestImageConfigOfTwo(t *testing.T) {
	var img image.Image
	if err := json.Unmarshal([]byte(`{"config": {"Env": ["B=2"], "Labels": {"b": "2"}, "ExposedPorts": {"80": {}}, "Volumes": {"/b": {}},
		"Healthcheck": {"Test": ["CMD", "true"], "Retries": 7}}}`), &img.Config); err != nil {
		t.Fatal(err)
	}
	mine := func() Config {
		return Config{
			Env: append(make([]string, 0, 8), "A=1"), Labels: map[string]string{"a": "1"}, Expose: append(make([]string, 0, 8), "91", "90"),
			Mounts: append(make([]Mount, 0, 8), Mount{Dest: "/a"}), Health: &Health{Interval: time.Minute},
		}
	}
	given := mine()
	c := given
	if left := c.applyImage(img); len(left) > 0 || c.Labels["b"] != "2" || c.Labels["a"] != "1" || len(c.Expose) != 3 || len(c.Mounts) != 2 || c.Health.Retries != 7 || c.Health.Interval != time.Minute {
		t.Errorf("%+v, %q", c, left)
	}
	if !reflect.DeepEqual(given, mine()) {
		t.Errorf("the caller's: %+v, %+v", given, given.Health)
	}
	if m := given.Mounts[:2]; m[1].Dest != "" {
		t.Errorf("the caller's: %+v", m)
	}
}

// TestImageConfigOdd: what an image says that means nothing is left out and named. Of a variable that is there twice the first counts, as for Docker.
func TestImageConfigOdd(t *testing.T) {
	var img image.Image
	if err := json.Unmarshal([]byte(`{"config": {"StopSignal": "FOO", "Env": ["A=1", "A=2", "=x", "B=3"], "ExposedPorts": {"80": {}, "foo": {}, "0/tcp": {}},
		"Volumes": {"data": {}}, "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30, "Timeout": 2000000000, "Retries": -1}}}`), &img.Config); err != nil {
		t.Fatal(err)
	}
	var c Config
	left := c.applyImage(img)
	if want := []string{
		"EXPOSE 0/tcp is no port", "EXPOSE foo is no port", "Retries -1 in Healthcheck is negative", "STOPSIGNAL FOO is no signal", "a duration of 30ns in Healthcheck is less than 1ms",
	}; !slices.Equal(left, want) {
		t.Errorf("%q", left)
	}
	if err := checkHealth(c.Health); err != nil || c.StopSignal != "" || !slices.Equal(c.Env, []string{"A=1", "B=3"}) || !slices.Equal(c.Expose, []string{"80"}) || c.Mounts[0].Dest != "/data" {
		t.Errorf("%+v, %v", c, err)
	}
	if h := c.Health; h.Interval != 0 || h.Timeout != 2*time.Second || h.Retries != 0 || !slices.Equal(h.Test, []string{"CMD", "true"}) {
		t.Errorf("%+v", h)
	}
	img.Config.Config.Healthcheck.Test = []string{"FOO", "x"}
	c = Config{StopSignal: "INT", Env: []string{"B=4"}}
	if left := c.applyImage(img); c.Health != nil || c.StopSignal != "INT" || !slices.Equal(c.Env, []string{"B=4", "A=1"}) || !slices.ContainsFunc(left, func(s string) bool { return strings.HasPrefix(s, "unknown type in Healthcheck") }) {
		t.Errorf("%+v, %q", c, left)
	}
}
