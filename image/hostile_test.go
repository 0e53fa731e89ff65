package image

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/hostile"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/storage"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// keeper has layers in package storage, as the engine does.
type keeper struct{ s *storage.Store }

func gone(err error) error {
	if errors.As(err, new(*storage.NoLayerError)) {
		return fs.ErrNotExist
	}
	return err
}

func (k keeper) Stat(d digest.Digest) (int64, error) {
	l, err := k.s.Layer(d)
	return l.Size, gone(err)
}

func (k keeper) Open(d digest.Digest) (io.ReadCloser, error) {
	l, err := k.s.Layer(d)
	if err != nil {
		return nil, gone(err)
	}
	return l.Open()
}

func (k keeper) Put(ctx context.Context, tar io.Reader, want digest.Digest) (digest.Digest, int64, error) {
	l, err := k.s.Put(ctx, tar, want)
	return l.DiffID, l.Size, err
}

func (k keeper) PutBlob(ctx context.Context, blob io.Reader, d v1.Descriptor, inflate func(io.Reader) (io.ReadCloser, error), want digest.Digest) (int64, error) {
	l, err := k.s.PutBlob(ctx, blob, d.Digest, inflate, want, true)
	return l.Size, err
}

func (k keeper) Blob(_ context.Context, diff digest.Digest, d v1.Descriptor) (io.ReadCloser, error) {
	f, err := k.s.Blob(diff, d.Digest)
	return f, gone(err)
}

func (k keeper) Ready(ctx context.Context, chain []digest.Digest) error {
	_, err := k.s.View(ctx, chain, "")
	return err
}

func (k keeper) Sweep(_ context.Context, used func(digest.Digest) bool) (Swept, error) {
	removed, n, err := k.s.GC(used)
	return Swept{removed, n}, err
}

func (k keeper) Discard(_ context.Context, d digest.Digest) error { return k.s.Remove(d) }

func (k keeper) Check(ctx context.Context, d digest.Digest) error { return k.s.Check(ctx, d) }

// stored is a store of images over package storage.
func stored(t testing.TB) *Store {
	t.Helper()
	dir := nstest.Dir(t)
	layers, err := storage.Open(storage.Options{Data: dir + "/data", Run: dir + "/run", Driver: "dirs"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{Dir: dir + "/data/images", Layers: keeper{layers}, Settings: &Settings{}, DockerConfig: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestHostileLayers: archives that mean harm come as a layer of a pull, of both kinds of archive, and as an import. Those that are to be
// refused leave nothing; nothing outside is touched.
func TestHostileLayers(t *testing.T) {
	nstest.Root(t)
	canary := hostile.NewCanary(t)
	for _, a := range hostile.Archives(canary.Dir) {
		if a.Big {
			continue // TestPullHostile and TestLoadHostile have bombs of their own
		}
		t.Run(a.Name, func(t *testing.T) {
			raw, err := io.ReadAll(a.Open())
			if err != nil {
				t.Fatal(err)
			}
			ways := map[string]func(s *Store) error{
				"import": func(s *Store) error {
					_, err := s.Import(t.Context(), bytes.NewReader(raw), "x", ImportOptions{})
					return err
				},
			}
			if !a.Compressed {
				f := newFixture()
				d := f.image(Host(), "gzip", false, raw)
				f.tags["latest"] = d
				var m v1.Manifest
				if err := json.Unmarshal(f.blobs[d.Digest], &m); err != nil {
					t.Fatal(err)
				}
				manifest, _ := json.Marshal([]archived{{Config: "c", RepoTags: []string{"x:1"}, Layers: []string{"l"}}})
				ways["load"] = func(s *Store) error {
					_, err := s.Load(t.Context(), bytes.NewReader(archiveOf(entry{name: "l", body: string(raw)}, entry{name: "c", body: string(f.blobs[m.Config.Digest])},
						entry{name: "manifest.json", body: string(manifest)})), LoadOptions{})
					return err
				}
				ways["load of a layout"] = func(s *Store) error {
					_, err := s.Load(t.Context(), bytes.NewReader(archiveOf(f.layoutOf(named(d, "x:1"))...)), LoadOptions{})
					return err
				}
				ways["pull"] = func(s *Store) error {
					_, err := s.Pull(t.Context(), serve(t, f).host+"/x", PullOptions{})
					return err
				}
			}
			for way, do := range ways {
				s := stored(t)
				err := do(s)
				if a.Layer == hostile.Refused && err == nil || a.Layer == hostile.Taken && err != nil {
					t.Errorf("%s: %v, want it %v", way, err, a.Layer)
				}
				list, e := s.List(t.Context(), ListOptions{})
				if e != nil || (err == nil) != (len(list) == 1) {
					t.Errorf("%s: %v, and the store has %v, %v", way, err, list, e)
				}
				if err != nil {
					if _, e := s.Sweep(t.Context()); e != nil {
						t.Error(e)
					}
					if layers, e := s.o.Layers.(keeper).s.List(); e != nil || len(layers) > 0 {
						t.Errorf("%s: %v %v", way, layers, e)
					}
				}
			}
			canary.Check(t)
		})
	}
}

// TestImportOfHostileServer: what a server compresses on the way comes to the bounds of archives as it is, or a bomb would pass them; and it leads nobody from https
// to where there is none, nor nearer to this machine.
func TestImportOfHostileServer(t *testing.T) {
	nstest.Loopback(t)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(make([]byte, 1<<20))
	_ = z.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	}))
	defer server.Close()
	in, err := OpenURL(t.Context(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if got, err := io.ReadAll(in); err != nil || !bytes.Equal(got, bomb.Bytes()) {
		t.Errorf("%d bytes of %d, %v", len(got), bomb.Len(), err)
	}

	// To a neighbour as near as the server itself, and to one that is nearer.
	for to, want := range map[string]string{server.URL: "", "http://169.254.169.254/latest": "169.254.169.254 is nearer to this machine than the server that sent us there"} {
		other := httptest.NewServer(http.RedirectHandler(to, http.StatusFound))
		defer other.Close()
		in, err := OpenURL(t.Context(), other.URL)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("to %s: %v, want %q", to, err, want)
		}
		if err == nil {
			in.Close()
		}
	}

	check := sourceClient(http.ProxyFromEnvironment).CheckRedirect
	request := func(url string) *http.Request { return httptest.NewRequest(http.MethodGet, url, nil) }
	if err := check(request("http://a/"), []*http.Request{request("https://a/"), request("https://b/")}); err == nil {
		t.Error("from https to http")
	}
	if err := check(request("https://b/"), []*http.Request{request("http://a/")}); err != nil {
		t.Error(err)
	}
	for _, redirects := range []int{maxRedirects, maxRedirects + 1} {
		before := slices.Repeat([]*http.Request{request("http://a/")}, redirects)
		if err := check(request("http://b/"), before); (err == nil) != (redirects == maxRedirects) {
			t.Errorf("%d redirects: %v", redirects, err)
		}
	}
}

// TestImportByProxy: a proxy may be as near as it likes, however its name is written, and lets nobody behind it send us nearer than the network that is everybody's.
func TestImportByProxy(t *testing.T) {
	nstest.Loopback(t)
	near := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "near") }))
	defer near.Close()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/lead" {
			http.Redirect(w, r, near.URL, http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, "far")
	}))
	defer proxy.Close()
	_, port, _ := net.SplitHostPort(proxy.Listener.Addr().String())
	client := sourceClient(func(q *http.Request) (*url.URL, error) {
		if q.URL.Hostname() == "127.0.0.1" { // as ProxyFromEnvironment does
			return nil, nil
		}
		return &url.URL{Scheme: "http", Host: "LocalHost:" + port}, nil
	})
	r, err := client.Get("http://far.example/")
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(r.Body); string(body) != "far" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
	r.Body.Close()
	if r, err := client.Get("http://far.example/lead"); err == nil || !strings.Contains(err.Error(), "127.0.0.1 is nearer to this machine than the server that sent us there") {
		t.Errorf("to loopback: %v", err)
		if err == nil {
			r.Body.Close()
		}
	}
}

// TestImportOfRebound: the name that was typed is not reached nearer once its server has sent us back to it, when its addresses are others.
func TestImportOfRebound(t *testing.T) {
	nstest.Loopback(t)
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	l := &lead{}
	for i, want := range []string{"", "", "127.0.0.1 is nearer to this machine than the server that sent us there"} {
		if i == 2 {
			l.near = public // as where the name had led elsewhere before
		}
		c, err := l.dial(t.Context(), "tcp", server.Listener.Addr().String())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v, want %q", i, err, want)
		}
		if err == nil {
			c.Close()
		}
	}
}
