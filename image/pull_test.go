package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

var every = flag.Bool("every", false, "cut a pull after each of its bytes, and not after some")

var other = Platform{OS: "linux", Architecture: "s390x"}

func layersOf(n int) (list [][]byte) {
	for i := range n {
		list = append(list, tarOf(map[string]string{fmt.Sprint("file", i): strings.Repeat(fmt.Sprint("text ", i, " "), 200)}))
	}
	return list
}

// TestPullForms: each form of a manifest and of a layer gives the same image, whole.
func TestPullForms(t *testing.T) {
	for _, docker := range []bool{false, true} {
		for _, kind := range []string{"gzip", "zstd", ""} {
			for _, indexed := range []bool{false, true} {
				t.Run(fmt.Sprint(docker, kind, indexed), func(t *testing.T) {
					f := newFixture()
					tars := layersOf(3)
					d := f.image(Host(), kind, docker, tars...)
					if indexed {
						d = f.index(docker, f.image(other, kind, docker, tars[0]), d)
					}
					f.tags["latest"] = d
					k, s := served(t, f)
					var events []Event
					img, err := s.Pull(t.Context(), k.host+"/a/b", PullOptions{Progress: func(e Event) { events = append(events, e) }})
					if err != nil {
						t.Fatal(err)
					}
					if img.Target.Digest != d.Digest || len(img.Chain()) != 3 || img.Config.Config.Labels["kind"] != kind {
						t.Errorf("%+v", img)
					}
					for i, id := range img.Chain() {
						r, err := s.o.Layers.Open(id)
						if err != nil {
							t.Fatal(err)
						}
						raw, _ := io.ReadAll(r)
						r.Close()
						if !bytes.Equal(raw, tars[i]) {
							t.Errorf("layer %d differs", i)
						}
					}
					if last := events[len(events)-1].Status; !strings.HasPrefix(last, "Status: Downloaded newer image for "+k.host+"/a/b:latest") {
						t.Errorf("last event: %q", last)
					}
					asked := len(k.requests())
					if _, err := s.Pull(t.Context(), k.host+"/a/b", PullOptions{}); err != nil {
						t.Fatal(err)
					}
					for _, r := range k.requests()[asked:] {
						if r.Method == http.MethodGet && r.URL.Path != "/v2/" {
							t.Errorf("pulled again: %s %s", r.Method, r.URL)
						}
					}
				})
			}
		}
	}
}

// TestPullPlatforms: one platform, another one, all of them, and one that is not there.
func TestPullPlatforms(t *testing.T) {
	f := newFixture()
	tars := layersOf(2)
	attest := f.document(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: f.blob([]byte(`{"architecture":"unknown","os":"unknown"}`), "application/vnd.in-toto+json"),
		Layers: []v1.Descriptor{f.blob([]byte(`{"predicate":1}`), "application/vnd.in-toto+json")},
	}, v1.MediaTypeImageManifest)
	attest.Platform = &Platform{OS: "unknown", Architecture: "unknown"}
	attest.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	f.tags["latest"] = f.index(false, attest, f.image(other, "gzip", false, tars[0]), f.image(Host(), "gzip", false, tars[1]))
	k, s := served(t, f)
	name := k.host + "/x"
	img, err := s.Pull(t.Context(), name, PullOptions{Platform: other})
	if err != nil || img.Platform.Architecture != "s390x" {
		t.Fatal(img.Platform, err)
	}
	if n := len(s.o.Layers.(dirLayers).ids()); n != 1 {
		t.Errorf("%d layers", n)
	}
	var missing *PlatformError
	if _, err := s.Get(name, Host()); !errors.As(err, &missing) || !strings.HasPrefix(err.Error(), name+": no matching manifest") {
		t.Errorf("%v", err)
	}
	if img, err = s.Pull(t.Context(), name, PullOptions{}); err != nil || img.Platform.Architecture != Host().Architecture {
		t.Fatal(img.Platform, err)
	}
	if _, err := s.Pull(t.Context(), name, PullOptions{Platform: Platform{OS: "plan9", Architecture: "mips"}}); !errors.As(err, &missing) || !strings.Contains(err.Error(), "linux/s390x") {
		t.Errorf("%v", err)
	}
	if _, err = s.Pull(t.Context(), name, PullOptions{AllPlatforms: true}); err != nil {
		t.Fatal(err)
	}
	for d := range f.documents {
		if _, err := s.readBlob("document", d); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Remove(t.Context(), name, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	empty(t, s)
}

// A cutter is a TCP proxy that cuts a connection when so many bytes of answers have gone through it.
type cutter struct {
	net.Listener
	to   string
	left atomic.Int64 // to the cut
	all  atomic.Int64
}

func newCutter(t testing.TB, to string) *cutter {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{Listener: l, to: to}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.serve(conn)
		}
	}()
	return c
}

func (c *cutter) serve(conn net.Conn) {
	defer conn.Close()
	up, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer up.Close()
	go func() { _, _ = io.Copy(struct{ io.Writer }{up}, conn); up.Close() }() // not by splice(2), whose pipes Go keeps
	buf := make([]byte, 4096)
	for {
		n, err := up.Read(buf)
		c.all.Add(int64(n))
		if left := c.left.Add(-int64(n)); left < 0 && left+int64(n) >= 0 {
			_, _ = conn.Write(buf[:left+int64(n)])
			return
		}
		if n > 0 {
			if _, err := conn.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// TestPullCutEverywhere: a connection that is cut after any byte of a pull costs time, and nothing else.
func TestPullCutEverywhere(t *testing.T) {
	f := newFixture()
	f.tags["latest"] = f.index(false, f.image(Host(), "gzip", false, layersOf(2)...))
	k := serve(t, f)
	c := newCutter(t, k.host)
	name := c.Addr().String() + "/a"
	s := newStore(t, nil)
	pull := func() Image {
		t.Helper()
		img, err := s.Pull(t.Context(), name, PullOptions{})
		if err != nil {
			t.Fatalf("cut after %d bytes: %v", c.left.Load(), err)
		}
		return img
	}
	c.left.Store(1 << 60)
	whole := pull()
	total := c.all.Load()
	step := int64(13) // every byte takes a minute
	if *every {
		step = 1
	}
	for at := int64(0); at < total; at += step {
		if _, err := s.Remove(t.Context(), name, RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
		c.left.Store(at)
		img := pull()
		if img.Manifest.Digest != whole.Manifest.Digest || len(s.missing(img)) > 0 {
			t.Fatalf("cut after %d bytes: %v", at, img)
		}
		for _, id := range img.Chain() {
			if err := s.o.Layers.Check(t.Context(), id); err != nil {
				t.Fatalf("cut after %d bytes: %v", at, err)
			}
		}
	}
}

// TestPullResumes: after a cut in the middle of a layer the rest is asked for, and no more.
func TestPullResumes(t *testing.T) {
	f := newFixture()
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(i * i >> 3)
	}
	f.tags["latest"] = f.image(Host(), "", false, tarOf(map[string]string{"noise": string(noise)}))
	for _, ranges := range []bool{true, false} {
		k := serve(t, f)
		var served, cuts atomic.Int64
		k.before = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/blobs/") {
				return false
			}
			if !ranges {
				r.Header.Del("Range")
			}
			out := &dropper{ResponseWriter: w, left: 1 << 40, served: &served}
			if cuts.Add(1) < 8 {
				out.left = 300 << 10
			}
			k.answer(out, r)
			if out.left <= 0 {
				panic(http.ErrAbortHandler)
			}
			return true
		}
		s := newStore(t, nil)
		if _, err := s.Pull(t.Context(), k.host+"/a", PullOptions{}); err != nil {
			if ranges {
				t.Fatal(err)
			}
			continue // 300 KiB of 1 MiB at a time, from the beginning: that cannot come to an end
		}
		if !ranges {
			t.Error("a registry without ranges that cuts always gave an image")
		}
		if n := served.Load(); n > 2<<20 {
			t.Errorf("%d bytes were sent for 1 MiB", n)
		}
	}
}

// TestMaxLayer: a layer ends where the settings say, however little of it has to come for that.
func TestMaxLayer(t *testing.T) {
	const size = 1 << 20
	k := serve(t, latest(tarOf(map[string]string{"zeros": strings.Repeat("\x00", size)})))
	for most, good := range map[int64]bool{size: false, 2 * size: true} {
		s := newStore(t, &Settings{MaxLayer: most})
		if _, err := s.Pull(t.Context(), k.host+"/a", PullOptions{}); (err == nil) != good || err != nil && !strings.Contains(err.Error(), "maxLayer") {
			t.Errorf("%d: %v", most, err)
		}
	}
}

// TestPullDrips: a registry that gives each connection little is not waited for to the end, be that ever so near.
func TestPullDrips(t *testing.T) {
	f := newFixture()
	noise := make([]byte, 64*enough/10)
	for i := range noise {
		noise[i] = byte(i * i >> 3)
	}
	f.tags["latest"] = f.image(Host(), "", false, tarOf(map[string]string{"noise": string(noise)}))
	k := serve(t, f)
	var served, asked atomic.Int64
	k.before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		out := &dropper{ResponseWriter: w, left: enough / 10, served: &served}
		k.answer(out, r)
		if out.left <= 0 {
			asked.Add(1)
			panic(http.ErrAbortHandler)
		}
		return true
	}
	s := newStore(t, nil)
	_, err := s.Pull(t.Context(), k.host+"/a", PullOptions{})
	if n, most := asked.Load(), int64(s.net.patience().tries); err == nil || n > most+1 { // net/http asks once more where a kept connection was closed
		t.Errorf("asked %d times, want %d: %v", n, most, err)
	}
}

// A dropper writes no more than so many bytes.
type dropper struct {
	http.ResponseWriter
	left   int64
	served *atomic.Int64
}

func (d *dropper) Write(p []byte) (int, error) {
	if d.left <= 0 {
		return 0, errors.New("cut")
	}
	p = p[:min(int64(len(p)), d.left)]
	n, err := d.ResponseWriter.Write(p)
	d.left -= int64(n)
	d.served.Add(int64(n))
	return n, err
}

// TestPullHostile: what a registry may send that is not right. Each gives an error that says so, and a store as it was.
func TestPullHostile(t *testing.T) {
	type world struct {
		*fixture
		d v1.Descriptor // of a good image
		m v1.Manifest
	}
	bomb := deflate("gzip", make([]byte, 280<<20))
	rebuild := func(w *world, edit func(m *v1.Manifest)) {
		edit(&w.m)
		w.tags["latest"] = w.document(w.m, w.m.MediaType)
	}
	config := func(w *world, edit func(c map[string]any)) {
		var c map[string]any
		if err := json.Unmarshal(w.blobs[w.m.Config.Digest], &c); err != nil {
			t.Fatal(err)
		}
		edit(c)
		raw, _ := json.Marshal(c)
		rebuild(w, func(m *v1.Manifest) { m.Config = w.blob(raw, m.Config.MediaType) })
	}
	// The layer is cut in its middle, and then comes with what a range is said to be.
	cutAndRange := func(said func(from, size int) (int, int)) func(w *world, k *fake) {
		return func(w *world, k *fake) {
			layer := w.m.Layers[0].Digest
			k.before = func(rw http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, string(layer)) {
					return false
				}
				all := w.blobs[layer]
				if r.Header.Get("Range") == "" {
					rw.Header().Set("Content-Length", strconv.Itoa(len(all)))
					_, _ = rw.Write(all[:len(all)/2])
					_ = http.NewResponseController(rw).Flush()
					panic(http.ErrAbortHandler)
				}
				var at int
				_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at)
				from, size := said(at, len(all))
				rw.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(all)-1, size))
				rw.WriteHeader(http.StatusPartialContent)
				_, _ = rw.Write(all[at:])
				return true
			}
		}
	}
	raw := func(w *world, body, mediaType string) { w.tags["latest"] = w.rawDocument([]byte(body), mediaType) }
	for _, test := range []struct {
		name string
		do   func(w *world, k *fake)
		want string
	}{
		{"manifest of another digest", func(w *world, k *fake) {
			k.before = func(rw http.ResponseWriter, r *http.Request) bool {
				rw.Header().Set("Docker-Content-Digest", "sha256:"+digest64)
				rw.Header().Set("Content-Type", v1.MediaTypeImageManifest)
				_, _ = rw.Write(w.blobs[w.d.Digest])
				return strings.Contains(r.URL.Path, "/manifests/")
			}
		}, "other bytes than those of its Docker-Content-Digest"},
		{"config of other bytes", func(w *world, k *fake) {
			w.blobs[w.m.Config.Digest] = bytes.Replace(w.blobs[w.m.Config.Digest], []byte("sh"), []byte("sx"), 1)
		}, "other bytes"},
		{"layer of other bytes", func(w *world, k *fake) {
			b := bytes.Clone(w.blobs[w.m.Layers[0].Digest])
			b[len(b)-9] ^= 1
			w.blobs[w.m.Layers[0].Digest] = b
		}, ""},
		{"layer of another diffID", func(w *world, k *fake) {
			config(w, func(c map[string]any) {
				c["rootfs"] = map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest64}}
			})
		}, "diffID"},
		{"too many diffIDs", func(w *world, k *fake) {
			config(w, func(c map[string]any) {
				c["rootfs"] = map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest64, "sha256:" + digest64}}
			})
		}, "2 diff_ids for 1 layers"},
		{"a path for a diffID", func(w *world, k *fake) {
			config(w, func(c map[string]any) {
				c["rootfs"] = map[string]any{"type": "layers", "diff_ids": []string{"sha256:../../../etc/passwd"}}
			})
		}, "hexadecimal"},
		{"a path for a layer's digest", func(w *world, k *fake) {
			rebuild(w, func(m *v1.Manifest) { m.Layers[0].Digest = "sha256:../../x" })
		}, "hexadecimal"},
		{"upper case", func(w *world, k *fake) {
			rebuild(w, func(m *v1.Manifest) { m.Config.Digest = digest.Digest("sha256:" + strings.ToUpper(digest64)) })
		}, "hexadecimal"},
		{"negative size", func(w *world, k *fake) {
			rebuild(w, func(m *v1.Manifest) { m.Layers[0].Size = -1 })
		}, "-1 bytes"},
		{"smaller than said", func(w *world, k *fake) {
			rebuild(w, func(m *v1.Manifest) { m.Layers[0].Size++ })
		}, "its manifest says"},
		{"larger than said", func(w *world, k *fake) {
			rebuild(w, func(m *v1.Manifest) { m.Layers[0].Size-- })
		}, "its manifest says"},
		{"config too large", func(w *world, k *fake) {
			rebuild(w, func(m *v1.Manifest) { m.Config.Size = 1 << 40 })
		}, "at most"},
		{"manifest too large", func(w *world, k *fake) {
			raw(w, `{"schemaVersion":2,"x":"`+strings.Repeat("x", maxManifest)+`"}`, v1.MediaTypeImageManifest)
		}, "larger than"},
		{"manifest without end", func(w *world, k *fake) {
			k.before = func(rw http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				rw.Header().Set("Content-Type", v1.MediaTypeImageManifest)
				for i := 0; i < 1000; i++ {
					if _, err := rw.Write(make([]byte, 64<<10)); err != nil {
						return true
					}
				}
				return true
			}
		}, "larger than"},
		{"nested deep", func(w *world, k *fake) {
			raw(w, `{"schemaVersion":2,"x":`+strings.Repeat("[", 1<<20)+strings.Repeat("]", 1<<20)+`}`, v1.MediaTypeImageManifest)
		}, "deep"},
		{"schema 1", func(w *world, k *fake) {
			raw(w, `{"schemaVersion":1,"fsLayers":[]}`, "application/vnd.docker.distribution.manifest.v1+prettyjws")
		}, "schema 1"},
		{"index and manifest (CVE-2021-41190)", func(w *world, k *fake) {
			body, _ := json.Marshal(map[string]any{"schemaVersion": 2, "config": w.m.Config, "layers": w.m.Layers, "manifests": []v1.Descriptor{w.d}})
			raw(w, string(body), v1.MediaTypeImageManifest)
		}, "CVE-2021-41190"},
		{"two lists of layers, by case", func(w *world, k *fake) {
			body, _ := json.Marshal(w.m)
			raw(w, strings.Replace(string(body), `"layers":`, `"Layers":[],"layers":`, 1), v1.MediaTypeImageManifest)
		}, "twice"},
		{"two lists of layers, by an escape", func(w *world, k *fake) {
			body, _ := json.Marshal(w.m)
			raw(w, strings.Replace(string(body), `"layers":`, `"l\u0061yers" :[],"layers":`, 1), v1.MediaTypeImageManifest)
		}, "twice"},
		{"two lists of layers, by a letter that is the same to a decoder", func(w *world, k *fake) {
			body, _ := json.Marshal(w.m)
			raw(w, strings.Replace(string(body), `"layers":`, `"layerſ":[],"layers":`, 1), v1.MediaTypeImageManifest)
		}, "twice"},
		{"two lists of layers, by much space", func(w *world, k *fake) {
			body, _ := json.Marshal(w.m)
			raw(w, strings.Replace(string(body), `"layers":`, `"layers"`+strings.Repeat(" ", 100)+`:[],"layers":`, 1), v1.MediaTypeImageManifest)
		}, "twice"},
		{"header and body differ", func(w *world, k *fake) {
			body, _ := json.Marshal(w.m)
			raw(w, string(body), dockerManifest)
		}, "the body says"},
		{"index served as manifest", func(w *world, k *fake) {
			raw(w, `{"schemaVersion":2,"manifests":[]}`, v1.MediaTypeImageManifest)
		}, "does not fit"},
		{"an html page", func(w *world, k *fake) { raw(w, `<html>`, "text/html") }, "JSON"},
		{"an artifact", func(w *world, k *fake) {
			rebuild(w, func(m *v1.Manifest) { m.Config.MediaType = "application/vnd.example" })
		}, "no image but an artifact"},
		{"unknown layer", func(w *world, k *fake) {
			rebuild(w, func(m *v1.Manifest) { m.Layers[0].MediaType = v1.MediaTypeImageLayer + "+xz" })
		}, "is not known"},
		{"cyclic index", func(w *world, k *fake) { // by a registry that serves an index for a digest that is not its own
			w.tags["latest"] = w.index(false, v1.Descriptor{MediaType: v1.MediaTypeImageIndex, Digest: "sha256:" + digest.Digest(digest64), Size: 9, Platform: &v1.Platform{OS: "linux", Architecture: Host().Architecture}})
			w.documents["sha256:"+digest.Digest(digest64)] = w.tags["latest"]
		}, "other bytes"},
		{"indexes too deep", func(w *world, k *fake) {
			d := w.d
			for range 20 {
				d.Platform = &v1.Platform{OS: "linux", Architecture: Host().Architecture}
				d = w.index(false, d)
			}
			w.tags["latest"] = d
		}, "deep"},
		{"index with another size", func(w *world, k *fake) {
			d := w.d
			d.Size--
			w.tags["latest"] = w.index(false, d)
		}, "its index says"},
		{"index with another media type", func(w *world, k *fake) { // the body says none, and would be read as what the registry says
			body, _ := json.Marshal(w.m)
			d := w.rawDocument(bytes.Replace(body, []byte(`"mediaType":"`+w.m.MediaType+`",`), nil, 1), dockerManifest)
			d.MediaType, d.Platform = v1.MediaTypeImageManifest, &v1.Platform{OS: "linux", Architecture: Host().Architecture}
			w.tags["latest"] = w.index(false, d)
		}, "and its index says"},
		{"a layer that is two", func(w *world, k *fake) {
			w.m.Layers = append(w.m.Layers, w.m.Layers[0])
			config(w, func(c map[string]any) {
				ids := c["rootfs"].(map[string]any)["diff_ids"].([]any)
				c["rootfs"] = map[string]any{"type": "layers", "diff_ids": append(ids, "sha256:"+digest64)}
			})
		}, "configs say that it is"},
		{"another range than asked for", cutAndRange(func(from, size int) (int, int) { return from - 1, size }), "got range"},
		{"a range of another blob", cutAndRange(func(from, size int) (int, int) { return from, size + 1 }), "got range"},
		{"gzip bomb", func(w *world, k *fake) {
			rebuild(w, func(m *v1.Manifest) { m.Layers[0] = w.blob(bomb, m.Layers[0].MediaType) })
		}, "bytes for one compressed byte"},
		{"no gzip", func(w *world, k *fake) {
			rebuild(w, func(m *v1.Manifest) { m.Layers[0] = w.blob([]byte("this is no gzip"), m.Layers[0].MediaType) })
		}, "diffID"},
		{"zstd with a window of 2 GiB", func(w *world, k *fake) {
			rebuild(w, func(m *v1.Manifest) {
				m.Layers[0] = w.blob([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0}, v1.MediaTypeImageLayerZstd)
			})
		}, "zstd"},
		{"a blob without end behind a layer", func(w *world, k *fake) {
			rebuild(w, func(m *v1.Manifest) {
				m.Layers[0].Digest, m.Layers[0].Size = "sha256:"+digest.Digest(digest64), math.MaxInt64
			})
		}, "maxLayer"},
		{"layers of nothing", func(w *world, k *fake) { // 4 MiB that became 600
			raw(w, `{"schemaVersion":2,"layers":[`+strings.Repeat("{},", 1<<20)+`{}]}`, v1.MediaTypeImageManifest)
		}, "more than 262144 values"},
		{"a history of nothing", func(w *world, k *fake) {
			rebuild(w, func(m *v1.Manifest) {
				c := w.blobs[m.Config.Digest]
				m.Config = w.blob(bytes.Replace(c, []byte(`"history":[`), []byte(`"history":[`+strings.Repeat("{},", 1<<20)), 1), m.Config.MediaType)
			})
		}, "more than 262144 values"},
		{"labels beyond number", func(w *world, k *fake) {
			config(w, func(c map[string]any) {
				labels := map[string]string{}
				for i := range maxValues + 1 {
					labels[strconv.Itoa(i)] = ""
				}
				c["config"] = map[string]any{"Labels": labels}
			})
		}, "more than 262144 values"},
		{"a long media type", func(w *world, k *fake) {
			rebuild(w, func(m *v1.Manifest) { m.Layers[0].MediaType = strings.Repeat("x", 1<<20) })
		}, "is not known"},
		{"a long type of artifact", func(w *world, k *fake) {
			rebuild(w, func(m *v1.Manifest) { m.ArtifactType, m.Config.MediaType = strings.Repeat("x", 1<<20), "x" })
		}, "no image but an artifact"},
		{"a long digest", func(w *world, k *fake) {
			rebuild(w, func(m *v1.Manifest) { m.Layers[0].Digest = digest.Digest(strings.Repeat("x", 1<<20)) })
		}, "not known"},
		{"a long size", func(w *world, k *fake) {
			raw(w, `{"schemaVersion":`+strings.Repeat("1", 1<<20)+`}`, v1.MediaTypeImageManifest)
		}, "cannot unmarshal number 1111"},
		{"a long time", func(w *world, k *fake) {
			config(w, func(c map[string]any) { c["created"] = strings.Repeat("1", 1<<20) })
		}, "time"},
		{"many long platforms", func(w *world, k *fake) {
			var list []v1.Descriptor
			for range 1000 {
				w.d.Platform = &v1.Platform{OS: "plan9", Architecture: strings.Repeat("x", 1000)}
				list = append(list, w.d)
			}
			w.tags["latest"] = w.index(false, list...)
		}, " and 980 more"},
		{"foreign layer", func(w *world, k *fake) {
			rebuild(w, func(m *v1.Manifest) {
				m.Layers[0].URLs = []string{k.url + "/elsewhere"}
				m.Layers[0].Digest = "sha256:" + digest.Digest(digest64)
			})
		}, "which is not asked"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := &world{fixture: newFixture()}
			w.d = w.image(Host(), "gzip", false, layersOf(1)...)
			if err := json.Unmarshal(w.blobs[w.d.Digest], &w.m); err != nil {
				t.Fatal(err)
			}
			w.tags["latest"] = w.d
			k := serve(t, w.fixture)
			test.do(w, k)
			s := newStore(t, nil)
			_, err := s.Pull(t.Context(), k.host+"/a", PullOptions{})
			if err == nil {
				t.Fatalf("no error, want %q", test.want)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			for _, r := range k.requests() {
				if strings.Contains(r.URL.Path, "elsewhere") {
					t.Error("a foreign URL was fetched")
				}
			}
			if left, err := s.Check(t.Context(), false); err != nil || len(left) > 0 {
				t.Errorf("left over: %v %v", left, err)
			}
			if len(err.Error()) > 16<<10 {
				t.Errorf("%d bytes are told", len(err.Error()))
			}
			if strings.Contains(err.Error(), "manifest unknown") {
				t.Errorf("the manifest is known: %v", err)
			}
			empty(t, s)
		})
	}
}

// TestPullPinned: a digest in the name is compared with what comes (regclient GHSA-qv35).
func TestPullPinned(t *testing.T) {
	f := newFixture()
	good := f.image(Host(), "gzip", false, layersOf(1)...)
	bad := f.image(Host(), "gzip", false, layersOf(2)...)
	k, s := served(t, f)
	name := k.host + "/a@" + string(good.Digest)
	f.documents[good.Digest] = bad
	if _, err := s.Pull(t.Context(), name, PullOptions{}); err == nil || !strings.Contains(err.Error(), "other bytes") {
		t.Errorf("%v", err)
	}
	empty(t, s)
	f.documents[good.Digest] = good
	img, err := s.Pull(t.Context(), k.host+"/a:tag@"+string(good.Digest), PullOptions{})
	if err != nil || img.Target.Digest != good.Digest {
		t.Fatal(img, err)
	}
	if img, err = s.Get(name, Platform{}); err != nil || len(img.RepoTags()) != 0 || !slices.Contains(img.RepoDigests(), name) {
		t.Errorf("%v %v %v", img.RepoTags(), img.RepoDigests(), err)
	}
}

// TestPullRetries: 429 with and without a time, 5xx, and answers that never come.
func TestPullRetries(t *testing.T) {
	for _, test := range []struct {
		status int
		header string
		fail   int // how often
		ok     bool
	}{
		{429, "0", 2, true}, {429, "1", 1, true}, {503, "", 3, true}, {500, "", 2, true}, {502, "", 2, true}, {504, "", 1, true},
		{429, "3600", 1, false}, {503, "", 1000, false}, {404, "", 1, false}, {403, "", 1, false},
	} {
		for _, what := range []string{"/manifests/", "/blobs/"} {
			k := serve(t, latest(layersOf(1)...))
			failed := map[string]int{}
			k.before = func(w http.ResponseWriter, r *http.Request) bool {
				k.mu.Lock()
				defer k.mu.Unlock()
				if !strings.Contains(r.URL.Path, what) || failed[r.URL.Path] == test.fail {
					return false
				}
				failed[r.URL.Path]++
				if test.header != "" {
					w.Header().Set("Retry-After", test.header)
				}
				w.WriteHeader(test.status)
				return true
			}
			s := newStore(t, nil)
			_, err := s.Pull(t.Context(), k.host+"/a", PullOptions{})
			if (err == nil) != test.ok {
				t.Errorf("%+v %s: %v", test, what, err)
			}
			if !test.ok {
				empty(t, s)
			}
		}
	}
}

// TestPullStalls: a registry that sends next to nothing does not keep us.
func TestPullStalls(t *testing.T) {
	for _, what := range []string{"silence", "drip", "no answer"} {
		f := latest(layersOf(1)...)
		k := serve(t, f)
		done := make(chan struct{})
		k.before = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/blobs/") {
				return false
			}
			if what == "no answer" {
				<-done
				return true
			}
			raw := f.blobs[digest.Digest(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])]
			w.Header().Set("Content-Length", fmt.Sprint(len(raw)))
			for i := range raw {
				if _, err := w.Write(raw[i : i+1]); err != nil {
					return true
				}
				w.(http.Flusher).Flush()
				pause := time.Hour
				if what == "drip" {
					pause = 10 * time.Millisecond
				}
				select {
				case <-done:
					return true
				case <-r.Context().Done():
					return true
				case <-time.After(pause):
				}
			}
			return true
		}
		s := newStore(t, nil)
		s.net.pace = pace{stall: 200 * time.Millisecond, minRate: 100_000, backoff: time.Millisecond, tries: 3}
		if what == "drip" {
			s.net.pace.stall = time.Second
		}
		_, err := s.Pull(t.Context(), k.host+"/a", PullOptions{})
		var stalled *stallError
		if !errors.As(err, &stalled) {
			t.Errorf("%s: %v", what, err)
		}
		close(done)
		empty(t, s)
	}
}

// TestPullSwitched: a registry that answers with another protocol, of which no reader would ever see the end, is not read.
func TestPullSwitched(t *testing.T) {
	for _, what := range []string{"/manifests/", "/blobs/", "/token"} {
		k := serve(t, pullable())
		k.before = func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case strings.Contains(r.URL.Path, what):
				w.Header().Set("Connection", "Upgrade")
				w.Header().Set("Upgrade", "h2c")
				w.WriteHeader(http.StatusSwitchingProtocols)
				if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
					conn.Close() // or a reader would wait for ever, and the test with it
				}
				return true
			case what == "/token" && r.URL.Path != "/v2/":
				w.Header().Set("WWW-Authenticate", `Bearer realm="`+k.url+`/token"`)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			return false
		}
		s := newStore(t, nil)
		if _, err := s.Pull(t.Context(), k.host+"/a", PullOptions{}); err == nil || !strings.Contains(err.Error(), "which it was not asked to") {
			t.Errorf("%s: %v", what, err)
		}
		empty(t, s)
	}
}

// TestPullNoResolver: a name server that nobody is behind is asked again for a moment, and one that did not answer in the resolver's time not
// at all; who waits is told.
func TestPullNoResolver(t *testing.T) {
	was := net.DefaultResolver
	defer func() { net.DefaultResolver = was }()
	for retries, cause := range []error{os.ErrDeadlineExceeded, 2: syscall.ECONNREFUSED} {
		if cause == nil {
			continue
		}
		net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, cause }}
		s := newStore(t, nil)
		var told []string
		_, err := s.Pull(t.Context(), "registry.example:5000/a", PullOptions{Progress: func(e Event) {
			if strings.HasPrefix(e.Status, "Retrying in ") && e.ID == "registry.example:5000" { // without a name of its own a terminal has it at the end alone
				told = append(told, e.Status)
			}
		}})
		var dns *net.DNSError
		if !errors.As(err, &dns) || !strings.Contains(err.Error(), "lookup registry.example") {
			t.Errorf("%v: %v", cause, err)
		}
		if len(told) != retries || retries > 0 && !strings.Contains(told[0], "lookup registry.example") {
			t.Errorf("%v: told of %q, want %d retries", cause, told, retries)
		}
	}
}

// TestPullSlowDisk: a keeper of layers that takes longer than a registry may is no stall.
func TestPullSlowDisk(t *testing.T) {
	f := newFixture()
	f.tags["latest"] = f.image(Host(), "", false, tarOf(map[string]string{"a": strings.Repeat("x", 300<<10)}))
	k, s := served(t, f)
	s.net.pace = pace{stall: 200 * time.Millisecond, minRate: 1 << 10, backoff: time.Millisecond, tries: 1}
	s.o.Layers = slowLayers{s.o.Layers.(dirLayers), time.Second}
	// A machine that stands still for so long is one: not each time.
	var err error
	for range 5 {
		if _, err = s.Pull(t.Context(), k.host+"/a", PullOptions{}); !errors.As(err, new(*stallError)) {
			break
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// slowLayers rest in the middle of a layer.
type slowLayers struct {
	dirLayers
	rest time.Duration
}

func (s slowLayers) PutBlob(ctx context.Context, blob io.Reader, d v1.Descriptor, inflate func(io.Reader) (io.ReadCloser, error), want digest.Digest) (int64, error) {
	var head bytes.Buffer
	if _, err := io.CopyN(&head, blob, 10<<10); err != nil {
		return 0, err
	}
	<-time.After(s.rest)
	return s.dirLayers.PutBlob(ctx, io.MultiReader(&head, blob), d, inflate, want)
}

// TestPullCancelled: a context ends a pull, whatever it waits for.
func TestPullCancelled(t *testing.T) {
	k := serve(t, latest(layersOf(1)...))
	ctx, cancel := context.WithCancel(t.Context())
	k.before = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			cancel()
			<-r.Context().Done()
			return true
		}
		return false
	}
	s := newStore(t, nil)
	if _, err := s.Pull(ctx, k.host+"/a", PullOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	empty(t, s)
}

// TestPullVerifier: an image that is refused leaves no trace, and no layer of it is fetched.
func TestPullVerifier(t *testing.T) {
	f := latest(layersOf(1)...)
	f.tags["sig"] = f.image(other, "", false)
	k, s := served(t, f)
	refused := errors.New("nobody signed it")
	s.o.Verify = func(ctx context.Context, c Candidate) error {
		if digest.FromBytes(c.Raw) != c.Target.Digest || c.Target.Digest != f.tags["latest"].Digest {
			t.Errorf("%+v", c)
		}
		if _, d, err := c.Fetch(ctx, "sig"); err != nil || d.Digest != f.tags["sig"].Digest {
			t.Error(d, err)
		}
		return refused
	}
	if _, err := s.Pull(t.Context(), k.host+"/a", PullOptions{}); !errors.Is(err, refused) {
		t.Errorf("%v", err)
	}
	for _, r := range k.requests() {
		if strings.Contains(r.URL.Path, "/blobs/") {
			t.Error(r.URL)
		}
	}
	empty(t, s)
}

// TestPullMirror: a mirror is asked first; what it lacks, or cuts, or falsifies, comes from the registry.
func TestPullMirror(t *testing.T) {
	for _, fault := range []string{"none", "down", "empty", "no blobs", "wrong blobs"} {
		f := latest(layersOf(2)...)
		origin, mirror := serve(t, f), serve(t, f)
		mirror.before = func(w http.ResponseWriter, r *http.Request) bool {
			blob := strings.Contains(r.URL.Path, "/blobs/")
			if fault == "empty" || fault == "no blobs" && blob {
				http.NotFound(w, r)
				return true
			}
			if fault == "wrong blobs" && blob {
				d := digest.Digest(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
				_, _ = w.Write(make([]byte, len(f.blobs[d])))
				return true
			}
			return false
		}
		if fault == "down" {
			mirror.server.Close()
		}
		s := newStore(t, &Settings{Registries: map[string]Registry{origin.host: {Mirrors: []string{mirror.url + "/cache"}}}})
		retries := 0
		_, err := s.Pull(t.Context(), origin.host+"/a", PullOptions{Progress: func(e Event) {
			if strings.HasPrefix(e.Status, "Retrying in ") {
				retries++
			}
		}})
		if retries > 0 {
			t.Errorf("%s: %d retries", fault, retries)
		}
		if fault == "wrong blobs" {
			if err == nil {
				t.Error("wrong bytes were taken")
			}
			empty(t, s)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", fault, err)
		}
		if n := len(origin.requests()); (n == 0) != (fault == "none") {
			t.Errorf("%s: the registry was asked %d times", fault, n)
		}
		for _, r := range mirror.requests() {
			if r.URL.Path != "/v2/" && !strings.HasPrefix(r.URL.Path, "/v2/cache/a/") {
				t.Errorf("%s: %s", fault, r.URL)
			}
		}
		if fault != "empty" {
			continue
		}
		for _, status := range []int{http.StatusNotFound, http.StatusTeapot} { // what the mirror says of the image says nothing of it
			origin.before = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(status); return true }
			_, err := s.Pull(t.Context(), origin.host+"/b", PullOptions{})
			if err == nil || strings.Contains(err.Error(), "manifest unknown") != (status == http.StatusNotFound) || !strings.Contains(err.Error(), "a mirror says: ") {
				t.Errorf("%d: %v", status, err)
			}
		}
	}
}

// TestPullParallel: many pulls at once, of two stores on one directory, and removals beside them: what is there is whole.
func TestPullParallel(t *testing.T) {
	f := newFixture()
	tars := layersOf(6)
	for i := range 6 {
		f.tags[fmt.Sprint("t", i)] = f.image(Host(), "gzip", false, tars[:i+1]...)
	}
	k := serve(t, f)
	dir := t.TempDir()
	stores := []*Store{newStoreAt(t, dir, nil), newStoreAt(t, dir, nil)}
	err := inParallel(t.Context(), 8, make([]int, 40), func(ctx context.Context, _ int) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	err = inParallel(t.Context(), 6, make([]int, 60), func(ctx context.Context, _ int) error {
		i := n.Add(1)
		name := fmt.Sprintf("%s/a:t%d", k.host, i%6)
		s := stores[i%2]
		if i%5 == 0 {
			_, err := s.Remove(ctx, name, RemoveOptions{})
			var none *NotFoundError
			if errors.As(err, &none) {
				err = nil
			}
			return err
		}
		_, err := s.Pull(ctx, name, PullOptions{})
		var none *NotFoundError
		if errors.As(err, &none) { // removed between the name and the answer
			err = nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	found, err := stores[0].Check(t.Context(), true)
	for _, x := range found {
		if x.Err != nil {
			t.Error(x)
		}
	}
	if err != nil {
		t.Error(err)
	}
	list, err := stores[0].List(t.Context(), ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range list {
		if _, err := stores[1].Remove(t.Context(), x.ID.String(), RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
	empty(t, stores[0])
}

// TestPullOtherSystem: an image of another system, without an index that has others, is refused before its layers are fetched, unless it is meant. That of
// another processor is not: there may be an emulator.
func TestPullOtherSystem(t *testing.T) {
	f := newFixture()
	windows := Platform{OS: "windows", Architecture: Host().Architecture}
	f.tags["latest"] = f.image(windows, "gzip", false, layersOf(1)...)
	f.tags["other"] = f.image(other, "gzip", false, layersOf(2)...)
	k, s := served(t, f)
	const words = `image operating system "windows" cannot be used on this platform`
	if _, err := s.Pull(t.Context(), k.host+"/a", PullOptions{}); err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("%v", err)
	}
	if n := len(s.o.Layers.(dirLayers).ids()); n != 0 {
		t.Errorf("%d layers of it were fetched", n)
	}
	for name, o := range map[string]PullOptions{"/a": {Platform: windows}, "/a:other": {}} {
		if _, err := s.Pull(t.Context(), k.host+name, o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range []struct {
		p    Platform
		want string
	}{{windows, words}, {other, "(linux/s390x) does not match"}, {Host(), ""}, {Platform{}, ""}, {Platform{OS: "linux"}, ""}} {
		foreign, err := Runs(c.p)
		if got := fmt.Sprint(foreign, err); c.want == "" && got != "<nil>" || !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q, %v", c.p, foreign, err)
		}
	}
}

// TestPullRefused: a registry that nobody is behind is not asked again, and one that was there a moment ago is.
func TestPullRefused(t *testing.T) {
	f := newFixture()
	f.tags["latest"] = f.image(Host(), "", false, layersOf(1)...)
	k, s := served(t, f)
	s.net.pace.backoff = time.Millisecond
	retries := 0
	pull := func() error {
		retries = 0
		_, err := s.Pull(t.Context(), k.host+"/a", PullOptions{Progress: func(e Event) {
			if strings.HasPrefix(e.Status, "Retrying in ") {
				retries++
			}
		}})
		return err
	}
	k.before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		k.server.Listener.Close()
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	if err := pull(); !errors.Is(err, syscall.ECONNREFUSED) || retries != 2 { // of the answer, and of the first refusal
		t.Errorf("a registry that goes away: %d retries, %v", retries, err)
	}
	if err := pull(); !errors.Is(err, syscall.ECONNREFUSED) || retries > 0 {
		t.Errorf("one that is not there: %d retries, %v", retries, err)
	}
}

// TestPullSHA512: a manifest may name its layers by sha512; they are kept by their diffID like others, and come back by that name.
func TestPullSHA512(t *testing.T) {
	nstest.Root(t)
	f := newFixture()
	d := f.image(Host(), "gzip", false, layersOf(1)...)
	var m v1.Manifest
	if err := json.Unmarshal(f.blobs[d.Digest], &m); err != nil {
		t.Fatal(err)
	}
	packed := f.blobs[m.Layers[0].Digest]
	m.Layers[0].Digest = digest.SHA512.FromBytes(packed)
	f.blobs[m.Layers[0].Digest] = packed
	f.tags["latest"] = f.document(m, m.MediaType)
	for _, settings := range []*Settings{{}, {KeepBlobs: true}} {
		s := stored(t)
		s.net.settings = settings
		name := serve(t, f).host + "/a"
		if _, err := s.Pull(t.Context(), name, PullOptions{}); err != nil {
			t.Fatal(err)
		}
		r, err := s.o.Layers.Blob(t.Context(), digest.FromBytes(layersOf(1)[0]), m.Layers[0])
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(got, packed) {
			t.Errorf("%d bytes of %d: %v", len(got), len(packed), err)
		}
		var saved bytes.Buffer
		if err := s.Save(t.Context(), &saved, []string{name}, SaveOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := stored(t).Load(t.Context(), &saved, LoadOptions{}); err != nil {
			t.Error(err)
		}
		if left, err := s.Check(t.Context(), true); err != nil || len(left) > 0 {
			t.Errorf("check: %v %v", left, err)
		}
	}
}

// TestPullLyingSize: a manifest that lies of a layer which is here already is refused as any other: sizes are added up where images are listed.
func TestPullLyingSize(t *testing.T) {
	f := pullable()
	k, s := served(t, f)
	if _, err := s.Pull(t.Context(), k.host+"/a", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	var m v1.Manifest
	if err := json.Unmarshal(f.blobs[f.tags["latest"].Digest], &m); err != nil {
		t.Fatal(err)
	}
	m.Layers[0].Size = math.MaxInt64
	f.tags["lie"] = f.document(m, m.MediaType)
	if _, err := s.Pull(t.Context(), k.host+"/a:lie", PullOptions{}); !errors.As(err, new(*TooLargeError)) {
		t.Error(err)
	}
}

// TestPullManyLayers: an image of more layers than can be laid over each other is refused before it has a name.
func TestPullManyLayers(t *testing.T) {
	f := newFixture()
	tars := make([][]byte, 1001)
	one := layersOf(1)[0]
	for i := range tars {
		tars[i] = one
	}
	f.tags["latest"] = f.image(Host(), "", false, tars...)
	s := newStore(t, nil)
	if _, err := s.Pull(t.Context(), serve(t, f).host+"/a", PullOptions{}); err == nil || !strings.Contains(err.Error(), "1001 layers, want 1000 at most") {
		t.Error(err)
	}
	empty(t, s)
}

// TestPullManyDocuments: what a pull of all platforms holds of an index is bounded.
func TestPullManyDocuments(t *testing.T) {
	f := newFixture()
	f.tags["latest"] = f.index(false, f.manyDocuments()...)
	s := newStore(t, nil)
	_, err := s.Pull(t.Context(), serve(t, f).host+"/a", PullOptions{AllPlatforms: true})
	if err == nil || !strings.Contains(err.Error(), "its manifests have more than") {
		t.Error(err)
	}
	empty(t, s)
}
