package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/testimage"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// dirLayers keeps layers in a directory, and their blobs beside them unless forgetful.
type dirLayers struct {
	dir       string
	forgetful bool
}

func (d dirLayers) path(id digest.Digest) string { return filepath.Join(d.dir, id.Encoded()+".tar") }

func (d dirLayers) Stat(id digest.Digest) (int64, error) {
	st, err := os.Stat(d.path(id))
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (d dirLayers) Open(id digest.Digest) (io.ReadCloser, error) { return os.Open(d.path(id)) }

func (d dirLayers) Put(ctx context.Context, r io.Reader, want digest.Digest) (digest.Digest, int64, error) {
	f, err := os.CreateTemp(d.dir, "new-*")
	if err != nil {
		return "", 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), r)
	if err != nil {
		return "", 0, err
	}
	got := digest.NewDigest(digest.SHA256, sum)
	if want != "" && got != want {
		return "", 0, fmt.Errorf("diffID %s, want %s", got, want)
	}
	return got, n, os.Rename(f.Name(), d.path(got))
}

func (d dirLayers) PutBlob(ctx context.Context, blob io.Reader, desc v1.Descriptor, inflate func(io.Reader) (io.ReadCloser, error), want digest.Digest) (int64, error) {
	var keep bytes.Buffer
	tee := io.TeeReader(blob, &keep)
	r, err := inflate(tee)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	whole := readAfter{r, tee}
	_, n, err := d.Put(ctx, whole, want)
	if err == nil && !d.forgetful {
		err = os.WriteFile(filepath.Join(d.dir, desc.Digest.Encoded()+".blob"), keep.Bytes(), 0o600)
	}
	return n, err
}

// readAfter reads one reader, and then what is left of the other, which it throws away.
type readAfter struct{ r, rest io.Reader }

func (r readAfter) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err == io.EOF {
		if _, err := io.Copy(io.Discard, r.rest); err != nil {
			return n, err
		}
	}
	return n, err
}

func (d dirLayers) Blob(_ context.Context, _ digest.Digest, desc v1.Descriptor) (io.ReadCloser, error) {
	if d.forgetful {
		return nil, fs.ErrNotExist
	}
	return os.Open(filepath.Join(d.dir, desc.Digest.Encoded()+".blob"))
}

func (d dirLayers) ids() (list []digest.Digest) {
	files, _ := filepath.Glob(filepath.Join(d.dir, "*.tar"))
	for _, f := range files {
		list = append(list, digest.NewDigestFromEncoded(digest.SHA256, strings.TrimSuffix(filepath.Base(f), ".tar")))
	}
	return list
}

// unreadyLayers keeps layers of which no container can be made.
type unreadyLayers struct{ dirLayers }

func (unreadyLayers) Ready(context.Context, []digest.Digest) error { return unix.ENOSPC }

func (d dirLayers) Ready(_ context.Context, chain []digest.Digest) error {
	for _, id := range chain {
		if _, err := d.Stat(id); err != nil {
			return err
		}
	}
	return nil
}

func (d dirLayers) Sweep(_ context.Context, used func(digest.Digest) bool) (out Swept, err error) {
	for _, id := range d.ids() {
		if !used(id) {
			size, _ := d.Stat(id)
			out.Blobs, out.Bytes = append(out.Blobs, id), out.Bytes+size
			err = errors.Join(err, os.Remove(d.path(id)))
		}
	}
	return out, err
}

func (d dirLayers) Discard(_ context.Context, id digest.Digest) error { return os.Remove(d.path(id)) }

func (d dirLayers) Check(_ context.Context, id digest.Digest) error {
	raw, err := os.ReadFile(d.path(id))
	if err == nil && digest.FromBytes(raw) != id {
		err = &DamagedError{"layer", id, "its bytes have another digest"}
	}
	return err
}

// newStore is an empty store, in a hurry, that knows no settings but those given.
func newStore(t testing.TB, settings *Settings) *Store {
	t.Helper()
	return newStoreAt(t, t.TempDir(), settings)
}

func newStoreAt(t testing.TB, dir string, settings *Settings) *Store {
	t.Helper()
	if settings == nil {
		settings = &Settings{}
	}
	layers := dirLayers{dir: filepath.Join(dir, "layers")}
	if err := os.MkdirAll(layers.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{Dir: filepath.Join(dir, "images"), Layers: layers, Settings: settings, DockerConfig: filepath.Join(dir, "docker")})
	if err != nil {
		t.Fatal(err)
	}
	s.net.pace = pace{stall: 5 * time.Second, backoff: time.Millisecond, maxWait: 3 * time.Second}
	return s
}

// empty fails a test whose store is not as it was at the beginning.
func empty(t testing.TB, s *Store) {
	t.Helper()
	list, err := s.roots()
	if err != nil || len(list) > 0 {
		t.Errorf("names: %v %v", list, err)
	}
	if _, err := s.Sweep(context.Background()); err != nil {
		t.Error(err)
	}
	if ids := s.o.Layers.(dirLayers).ids(); len(ids) > 0 {
		t.Errorf("layers: %v", ids)
	}
	var files []string
	_ = filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(s.dir, path); !d.IsDir() && !slices.Contains([]string{"oci-layout", "lock", "adding", "index.json", spare}, rel) {
			files = append(files, rel)
		}
		return err
	})
	if len(files) > 0 {
		t.Errorf("files: %v", files)
	}
}

// tarOf makes a layer.
func tarOf(files map[string]string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for k := range files {
			if !yield(k) {
				return
			}
		}
	}) {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			panic(err)
		}
		if _, err := w.Write([]byte(files[name])); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func deflate(kind string, raw []byte) []byte {
	var b bytes.Buffer
	var w io.WriteCloser
	switch kind {
	case "gzip":
		w, _ = gzip.NewWriterLevel(&b, 9)
	case "zstd":
		w, _ = zstd.NewWriter(&b)
	default:
		return raw
	}
	if _, err := w.Write(raw); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// A fixture is documents and blobs, as a registry or a layout has them.
type fixture struct {
	blobs     map[digest.Digest][]byte
	documents map[digest.Digest]v1.Descriptor // media types
	tags      map[string]v1.Descriptor
	gzip      func([]byte) []byte // another compressor than klauspost's
}

// latest is a fixture with one image, of these layers.
func latest(tars ...[]byte) *fixture {
	f := newFixture()
	f.tags["latest"] = f.image(Host(), "gzip", false, tars...)
	return f
}

func newFixture() *fixture {
	return &fixture{blobs: map[digest.Digest][]byte{}, documents: map[digest.Digest]v1.Descriptor{}, tags: map[string]v1.Descriptor{}}
}

func (f *fixture) blob(raw []byte, mediaType string) v1.Descriptor {
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	f.blobs[d.Digest] = raw
	return d
}

func (f *fixture) document(v any, mediaType string) v1.Descriptor {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return f.rawDocument(raw, mediaType)
}

// manyDocuments are manifests of one image, as large as one may be, which together are more than are held of an index.
func (f *fixture) manyDocuments() (list []v1.Descriptor) {
	d := f.image(Host(), "gzip", false, layersOf(1)...)
	for i := range 9 {
		raw := bytes.Replace(f.blobs[d.Digest], []byte("{"), fmt.Appendf(nil, `{"n":%d,"x":%q,`, i, strings.Repeat("x", maxManifest-1<<10)), 1)
		list = append(list, f.rawDocument(raw, d.MediaType))
	}
	return list
}

func (f *fixture) rawDocument(raw []byte, mediaType string) v1.Descriptor {
	d := f.blob(raw, mediaType)
	f.documents[d.Digest] = d
	return d
}

// image adds an image with layers of these tars.
func (f *fixture) image(p Platform, kind string, docker bool, tars ...[]byte) v1.Descriptor {
	c := ConfigFile{}
	c.Platform = p
	c.RootFS.Type = "layers"
	c.RootFS.DiffIDs = []digest.Digest{}
	c.Config.Cmd = []string{"sh"}
	c.Config.Labels = map[string]string{"kind": kind}
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c.Created = &created
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, Layers: []v1.Descriptor{}}
	layer, config := v1.MediaTypeImageLayer, v1.MediaTypeImageConfig
	if kind != "" {
		layer += "+" + kind
	}
	if docker {
		m.MediaType, config, layer = dockerManifest, dockerConfig, dockerLayer
		if kind != "" {
			layer += "." + kind
		}
	}
	for i, raw := range tars {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromBytes(raw))
		c.History = append(c.History, v1.History{CreatedBy: fmt.Sprint("layer ", i)})
		packed := deflate(kind, raw)
		if f.gzip != nil {
			packed = f.gzip(raw)
		}
		m.Layers = append(m.Layers, f.blob(packed, layer))
	}
	raw, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	m.Config = f.blob(raw, config)
	d := f.document(m, m.MediaType)
	d.Platform = &p
	return d
}

func (f *fixture) index(docker bool, list ...v1.Descriptor) v1.Descriptor {
	mediaType := v1.MediaTypeImageIndex
	if docker {
		mediaType = dockerIndex
	}
	return f.document(v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaType, Manifests: list}, mediaType)
}

// attestation is what BuildKit says of an image, with the config of one, and the layer in which it stands.
func (f *fixture) attestation(of v1.Descriptor) (d, statement v1.Descriptor) {
	statement = f.blob([]byte(`{"predicate":1}`), "application/vnd.in-toto+json")
	d = f.document(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: f.blob([]byte(`{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":["`+statement.Digest+`"]}}`), v1.MediaTypeImageConfig),
		Layers: []v1.Descriptor{statement},
	}, v1.MediaTypeImageManifest)
	d.Platform = &Platform{OS: "unknown", Architecture: "unknown"}
	d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": of.Digest.String()}
	return d, statement
}

// A fake is a registry that serves a fixture, for reading, with what a test puts in front of it.
type fake struct {
	*fixture
	t      testing.TB
	host   string
	url    string
	server *httptest.Server
	before func(w http.ResponseWriter, r *http.Request) bool // true: it was answered

	mu   sync.Mutex
	seen []*http.Request
}

// served is a registry with what a fixture has, and an empty store that knows no settings.
func served(t testing.TB, f *fixture) (*fake, *Store) {
	t.Helper()
	return serve(t, f), newStore(t, nil)
}

func serve(t testing.TB, f *fixture) *fake {
	t.Helper()
	k := &fake{fixture: f, t: t}
	testimage.Loopback(t)
	k.server = httptest.NewServer(k)
	k.listen()
	return k
}

func (k *fake) listen() {
	k.url = k.server.URL
	_, k.host, _ = strings.Cut(k.url, "://")
	k.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	k.t.Cleanup(k.server.Close)
}

func (k *fake) requests() []*http.Request {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.seen)
}

func (k *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	k.seen = append(k.seen, r.Clone(context.Background()))
	before := k.before
	k.mu.Unlock()
	if before != nil && before(w, r) {
		return
	}
	k.answer(w, r)
}

func (k *fake) answer(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v2/" {
		return
	}
	rest := strings.TrimPrefix(r.URL.Path, "/v2/")
	if repo, id, ok := strings.Cut(rest, "/manifests/"); ok && repo != "" {
		k.mu.Lock()
		d, found := k.tags[id]
		if !found {
			d, found = k.documents[digest.Digest(id)]
		}
		raw := k.blobs[d.Digest]
		k.mu.Unlock()
		if !found {
			http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`, http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", d.MediaType)
		w.Header().Set("Docker-Content-Digest", d.Digest.String())
		w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
		if r.Method != http.MethodHead {
			_, _ = w.Write(raw)
		}
		return
	}
	if _, id, ok := strings.Cut(rest, "/blobs/"); ok {
		k.mu.Lock()
		raw, found := k.blobs[digest.Digest(id)]
		k.mu.Unlock()
		if !found {
			http.Error(w, `{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}`, http.StatusNotFound)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(raw))
		return
	}
	http.NotFound(w, r)
}

func mkfifo(name string) error { return unix.Mkfifo(name, 0o600) }
