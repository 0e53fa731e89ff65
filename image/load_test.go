package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// An entry of an archive that a test makes by hand.
type entry struct {
	name, body, link string
	kind             byte
}

func archiveOf(entries ...entry) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Typeflag: e.kind, Name: e.name, Linkname: e.link, Size: int64(len(e.body)), Mode: 0o644}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// layoutOf is an OCI layout of a fixture, with an index.json of these roots.
func (f *fixture) layoutOf(roots ...v1.Descriptor) []entry {
	index, _ := json.Marshal(v1.Index{Manifests: roots})
	index = append([]byte(`{"schemaVersion":2,`), index[bytes.IndexByte(index, '"'):]...)
	index = bytes.Replace(index, []byte(`"schemaVersion":0,`), nil, 1)
	list := []entry{{name: "oci-layout", body: `{"imageLayoutVersion":"1.0.0"}`}, {name: "index.json", body: string(index)}}
	for d, raw := range f.blobs {
		list = append(list, entry{name: blobPathIn(d), body: string(raw)})
	}
	return list
}

func named(d v1.Descriptor, name string) v1.Descriptor {
	d.Annotations = map[string]string{"io.containerd.image.name": name}
	d.Platform = nil
	return d
}

// saved gives an archive of images of a store.
func saved(t testing.TB, s *Store, o SaveOptions, refs ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Save(t.Context(), &b, refs, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// two is a store with two images that share layers; one has two names.
func two(t testing.TB) (s *Store, a, b Image) {
	t.Helper()
	f := newFixture()
	tars := layersOf(4)
	f.tags["a"] = f.image(Host(), "gzip", false, tars[:3]...)
	f.tags["b"] = f.index(true, f.image(Host(), "gzip", true, tars[0], tars[1], tars[3], tars[0]), f.image(other, "gzip", true, tars[2]))
	k := serve(t, f)
	s = newStore(t, nil)
	var err error
	copyTo(t, s, k.host+"/x:a", "example/a:1", PullOptions{})
	copyTo(t, s, k.host+"/x:b", "example/b:1", PullOptions{AllPlatforms: true})
	for _, tag := range []string{k.host + "/x:a", k.host + "/x:b"} {
		if _, err := s.Remove(t.Context(), tag, RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Tag(t.Context(), "example/a:1", "example/a:2"); err != nil {
		t.Fatal(err)
	}
	if a, err = s.Get("example/a:1", Platform{}); err != nil {
		t.Fatal(err)
	}
	if b, err = s.Get("example/b:1", Platform{}); err != nil {
		t.Fatal(err)
	}
	return s, a, b
}

// TestSaveLoad: what is saved is loaded with the same names and ids, from each format, file, pipe and compression.
func TestSaveLoad(t *testing.T) {
	s, a, b := two(t)
	for _, format := range []string{DockerArchive, OCIArchive} {
		raw := saved(t, s, SaveOptions{Format: format}, "example/a:1", "example/a:2", "example/b:1")
		if !bytes.Equal(raw, saved(t, s, SaveOptions{Format: format}, "example/a:1", "example/a:2", "example/b:1")) {
			t.Errorf("%s: two saves differ", format)
		}
		for _, kind := range []string{"", "gzip", "zstd", "file"} {
			to := newStore(t, nil)
			var in io.Reader = bytes.NewReader(deflate(kind, raw))
			if kind == "file" {
				name := filepath.Join(t.TempDir(), "a.tar")
				if err := os.WriteFile(name, raw, 0o600); err != nil {
					t.Fatal(err)
				}
				f, err := os.Open(name)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				in = f
			}
			list, err := to.Load(t.Context(), in, LoadOptions{})
			if err != nil || len(list) != 2 {
				t.Fatalf("%s %s: %v %v", format, kind, list, err)
			}
			for ref, want := range map[string]Image{"example/a:1": a, "example/a:2": a, "example/b:1": b} {
				got, err := to.Get(ref, Platform{})
				if err != nil || got.ID != want.ID || !slices.Equal(got.Chain(), want.Chain()) {
					t.Errorf("%s %s: %s: %v", format, kind, ref, err)
				}
				if format == OCIArchive && got.Target.Digest != want.Target.Digest {
					t.Errorf("%s: %s has another manifest", format, ref)
				}
				if left := to.missing(got); len(left) > 0 {
					t.Errorf("%s: %s lacks %v", format, ref, left)
				}
			}
			found, err := to.Check(t.Context(), true)
			if err != nil || len(found) > 0 {
				t.Errorf("%s: %v %v", format, found, err)
			}
		}
	}
}

// TestSaveSelections: by id without a name, by a repository with all its tags, for another platform, into a directory.
func TestSaveSelections(t *testing.T) {
	s, a, b := two(t)
	load := func(raw []byte) (*Store, []Loaded) {
		t.Helper()
		to := newStore(t, nil)
		list, err := to.Load(t.Context(), bytes.NewReader(raw), LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return to, list
	}
	if _, list := load(saved(t, s, SaveOptions{}, a.ID.String())); len(list) != 1 || len(list[0].Names) != 0 || list[0].Image.ID != a.ID {
		t.Errorf("%+v", list)
	}
	if _, list := load(saved(t, s, SaveOptions{}, "example/a")); len(list) != 1 || len(list[0].Names) != 2 {
		t.Errorf("%+v", list)
	}
	for _, format := range []string{DockerArchive, OCIArchive} {
		if _, list := load(saved(t, s, SaveOptions{Format: format, Platforms: []Platform{other}}, "example/b:1")); len(list) != 1 || list[0].Image.Platform.Architecture != "s390x" {
			t.Errorf("%s: %+v", format, list)
		}
	}
	for _, format := range []string{DockerArchive, OCIArchive} {
		to, list := load(saved(t, s, SaveOptions{Format: format, Platforms: []Platform{Host(), other, Host()}}, "example/b:1"))
		if len(list) != 1 || list[0].Image.ID != b.ID {
			t.Errorf("%s: two platforms: %+v", format, list)
		}
		if i, err := to.Get("example/b:1", other); err != nil || i.Platform.Architecture != "s390x" || len(to.missing(i)) > 0 {
			t.Errorf("%s: the second of two platforms: %+v %v", format, i, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "out")
	if err := s.SaveDir(t.Context(), dir, []string{"example/b:1"}, SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	to := newStore(t, nil)
	if list, err := to.LoadDir(t.Context(), f, LoadOptions{Platforms: []Platform{Host()}}); err != nil || len(list) != 1 || list[0].Image.ID != b.ID {
		t.Errorf("%+v %v", list, err)
	}
	if len(to.o.Layers.(dirLayers).ids()) != 3 {
		t.Error("layers of another platform were loaded")
	}
	if err := s.SaveDir(t.Context(), dir, []string{"example/b:1"}, SaveOptions{}); err == nil {
		t.Error("a directory that is not empty was written to")
	}
	for _, refs := range [][]string{nil, {"nobody"}, {"example/a:1", "nobody"}} {
		if err := s.Save(t.Context(), io.Discard, refs, SaveOptions{}); err == nil {
			t.Errorf("%v: no error", refs)
		}
	}
}

// TestLoadForms: archives as old and other programs write them.
func TestLoadForms(t *testing.T) {
	tars := layersOf(2)
	f := newFixture()
	d := f.image(Host(), "gzip", false, tars...)
	var m v1.Manifest
	if err := json.Unmarshal(f.blobs[d.Digest], &m); err != nil {
		t.Fatal(err)
	}
	config := string(f.blobs[m.Config.Digest])
	manifest := func(layers ...string) entry {
		raw, _ := json.Marshal([]archived{{Config: "c.json", RepoTags: []string{"old/name:1", "old/name:2"}, Layers: layers}})
		return entry{name: "manifest.json", body: string(raw)}
	}
	for _, test := range []struct {
		name    string
		entries []entry
	}{
		{"docker before 25", []entry{{name: "one/layer.tar", body: string(tars[0])}, {name: "two/layer.tar", body: string(tars[1])}, {name: "c.json", body: config}, manifest("one/layer.tar", "two/layer.tar")}},
		{"manifest first", []entry{manifest("a.tar", "b.tar"), {name: "c.json", body: config}, {name: "b.tar", body: string(tars[1])}, {name: "a.tar", body: string(tars[0])}}},
		{"links", []entry{{name: "x/", kind: tar.TypeDir}, {name: "a.tar", body: string(tars[0])}, {name: "x/layer.tar", link: "../a.tar", kind: tar.TypeSymlink}, {name: "b.tar", body: string(tars[1])}, {name: "y", link: "b.tar", kind: tar.TypeLink}, {name: "c.json", body: config}, manifest("x/layer.tar", "y")}},
		{"compressed layers", []entry{{name: "a", body: string(deflate("gzip", tars[0]))}, {name: "b", body: string(deflate("zstd", tars[1]))}, {name: "c.json", body: config}, manifest("a", "b")}},
		{"./ names", []entry{{name: "./a", body: string(tars[0])}, {name: "./b", body: string(tars[1])}, {name: "./c.json", body: config}, manifest("a", "./b"), {name: "./x", body: ""}}},
		{"layout", f.layoutOf(named(d, "docker.io/old/name:1"), named(d, "docker.io/old/name:2"))},
		{"layout, names in manifest.json", append(f.layoutOf(d), entry{name: "manifest.json", body: strings.ReplaceAll(manifest("x").body, "c.json", blobPathIn(m.Config.Digest))})},
	} {
		s := newStore(t, nil)
		list, err := s.Load(t.Context(), bytes.NewReader(archiveOf(test.entries...)), LoadOptions{})
		if err != nil || len(list) != 1 || !slices.Equal(list[0].Names, []string{"old/name:1", "old/name:2"}) || list[0].Image.ID != m.Config.Digest {
			t.Errorf("%s: %+v %v", test.name, list, err)
			continue
		}
		if left := s.missing(list[0].Image); len(left) > 0 {
			t.Errorf("%s: %v", test.name, left)
		}
	}
}

// TestLoadHostile: archives that mean harm. Each: an error that says so, and a store as it was (CVE-2014-9356, 2017-14992, 2023-25153,
// 2025-11395).
func TestLoadHostile(t *testing.T) {
	tars := layersOf(1)
	f := newFixture()
	d := f.image(Host(), "gzip", false, tars...)
	var m v1.Manifest
	if err := json.Unmarshal(f.blobs[d.Digest], &m); err != nil {
		t.Fatal(err)
	}
	config := entry{name: "c.json", body: string(f.blobs[m.Config.Digest])}
	layer := entry{name: "a", body: string(tars[0])}
	manifest := func(config, tag string, layers ...string) entry {
		raw, _ := json.Marshal([]archived{{Config: config, RepoTags: []string{tag}, Layers: layers}})
		return entry{name: "manifest.json", body: string(raw)}
	}
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte(config.body), 0o600); err != nil {
		t.Fatal(err)
	}
	with := func(edit func(f *fixture) v1.Descriptor) []byte {
		g := newFixture()
		g.image(Host(), "gzip", false, tars...)
		d := edit(g)
		return archiveOf(g.layoutOf(named(d, "x:1"))...)
	}
	good := archiveOf(layer, config, manifest("c.json", "x:1", "a"))
	bomb := deflate("gzip", append(bytes.Clone(good), make([]byte, 280<<20)...))
	for _, test := range []struct {
		name string
		raw  []byte
		want string
	}{
		{"empty", nil, "empty"},
		{"text", []byte(strings.Repeat("this is no tar\n", 100)), "archive"},
		{"no manifest", archiveOf(layer), "manifest.json"},
		{"one of before manifest.json", archiveOf(layer, entry{name: "repositories", body: "{}"}), "Docker before 1.10"},
		{"no image", archiveOf(entry{name: "manifest.json", body: "[]"}), "names no image"},
		{"no list", archiveOf(entry{name: "manifest.json", body: `{"schemaVersion":2}`}), "skopeo's dir:"},
		{"manifest.json of 5 MiB", archiveOf(entry{name: "manifest.json", body: "[" + strings.Repeat(" ", 5<<20) + "]"}), "at most"},
		{"config of 9 MiB", archiveOf(entry{name: "c.json", body: strings.Repeat(" ", 9<<20)}, layer, manifest("c.json", "x:1", "a")), "at most"},
		{"config outside", archiveOf(layer, manifest("../../../../../../../.."+outside, "x:1", "a")), "not exist"},
		{"config outside, absolute", archiveOf(layer, manifest(outside, "x:1", "a")), "not exist"},
		{"config by a link", archiveOf(layer, entry{name: "c.json", link: outside, kind: tar.TypeSymlink}, manifest("c.json", "x:1", "a")), "not exist"},
		{"links in a circle", archiveOf(layer, entry{name: "c.json", link: "d", kind: tar.TypeSymlink}, entry{name: "d", link: "c.json", kind: tar.TypeSymlink}, manifest("c.json", "x:1", "a")), "not exist"},
		{"no layer", archiveOf(config, manifest("c.json", "x:1", "a")), "not exist"},
		{"too few layers", archiveOf(config, layer, manifest("c.json", "x:1")), "1 diff_ids for 0 layers"},
		{"another layer", archiveOf(config, entry{name: "a", body: string(tarOf(map[string]string{"x": "y"}))}, manifest("c.json", "x:1", "a")), "diffID"},
		{"twice", archiveOf(config, layer, layer, manifest("c.json", "x:1", "a")), "twice"},
		{"twice, by another spelling", archiveOf(config, layer, entry{name: "./b/../a"}, manifest("c.json", "x:1", "a")), "twice"},
		{"a device", archiveOf(config, layer, entry{name: "dev", kind: tar.TypeBlock}, manifest("c.json", "x:1", "a")), "type"},
		{"a FIFO", archiveOf(config, entry{name: "a", kind: tar.TypeFifo}, manifest("c.json", "x:1", "a")), "type"},
		{"no name", archiveOf(config, layer, manifest("c.json", "../x", "a")), "reference"},
		{"a name with a digest", archiveOf(config, layer, manifest("c.json", "x@sha256:"+digest64, "a")), "no digest"},
		{"truncated", good[:len(good)-1600], ""},
		{"bomb", bomb, "bytes for one compressed byte"},
		{"xz that is none", []byte("\xfd7zXZ\x00 and no more"), "xz"},
		{"lying digest of a manifest", with(func(g *fixture) v1.Descriptor {
			g.blobs[d.Digest] = append(g.blobs[d.Digest], ' ')
			d := d
			d.Size++
			return d
		}), "other bytes"},
		{"lying size of a manifest", with(func(g *fixture) v1.Descriptor { d := d; d.Size++; return d }), "its descriptor says"},
		{"lying digest of a config", with(func(g *fixture) v1.Descriptor {
			g.blobs[m.Config.Digest] = []byte(strings.Replace(config.body, "sh", "sx", 1))
			return d
		}), "other bytes"},
		{"lying digest of a layer", with(func(g *fixture) v1.Descriptor {
			raw := bytes.Clone(g.blobs[m.Layers[0].Digest])
			raw[3] ^= 0xff
			g.blobs[m.Layers[0].Digest] = raw
			return d
		}), ""},
		{"trailing bytes in a layer", with(func(g *fixture) v1.Descriptor {
			g.blobs[m.Layers[0].Digest] = append(bytes.Clone(g.blobs[m.Layers[0].Digest]), "junk"...)
			return d
		}), "its manifest says"},
		{"digest with a path", with(func(g *fixture) v1.Descriptor { d := d; d.Digest = "sha256:../../../x"; return d }), "hexadecimal"},
		{"cyclic index", with(func(g *fixture) v1.Descriptor {
			a := v1.Descriptor{MediaType: v1.MediaTypeImageIndex, Digest: "sha256:" + digest.Digest(digest64), Size: 10}
			i := g.index(false, a)
			g.blobs[a.Digest] = g.blobs[i.Digest]
			return i
		}), "its descriptor says"},
		{"deep index", with(func(g *fixture) v1.Descriptor {
			d := d
			for range 10 {
				d.Annotations = nil
				d = g.index(false, d)
			}
			return d
		}), "deep"},
		{"wide and deep index", with(func(g *fixture) v1.Descriptor { // 1000 to the fourth visits, if each were made
			d := d
			for range 4 {
				d = g.index(false, slices.Repeat([]v1.Descriptor{d}, 1000)...)
			}
			return d
		}), ""},
		{"index of nothing", with(func(g *fixture) v1.Descriptor { return g.index(false) }), "none of its images"},
		{"artifact", with(func(g *fixture) v1.Descriptor {
			m := m
			m.Layers = []v1.Descriptor{{MediaType: "text/plain", Digest: "sha256:" + digest.Digest(digest64), Size: 3}}
			return g.document(m, m.MediaType)
		}), "not known"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStore(t, nil)
			list, err := s.Load(t.Context(), bytes.NewReader(test.raw), LoadOptions{})
			if test.name == "wide and deep index" {
				if err != nil || len(list) != 1 {
					t.Errorf("%v %v", list, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			empty(t, s)
		})
	}
}

// TestLoadManyNames: names of an archive are noted at once, and so at one time, not each by going through all that are there, with the store locked for hours; and
// they have an end, since each is read by every later command.
func TestLoadManyNames(t *testing.T) {
	f := newFixture()
	d := f.image(Host(), "", false, layersOf(1)...)
	var m v1.Manifest
	if err := json.Unmarshal(f.blobs[d.Digest], &m); err != nil {
		t.Fatal(err)
	}
	config := entry{name: "c", body: string(f.blobs[m.Config.Digest])}
	layer := entry{name: "l", body: string(f.blobs[m.Layers[0].Digest])}
	listed := func(entries ...archived) entry {
		raw, _ := json.Marshal(entries)
		return entry{name: "manifest.json", body: string(raw)}
	}
	tags := make([]string, maxNames+1)
	for i := range tags {
		tags[i] = fmt.Sprint("a:", i)
	}
	one := func(tags []string) entry { return listed(archived{"c", tags, []string{"l"}}) }
	s := newStore(t, nil)
	load := func(entries ...entry) error {
		_, err := s.Load(t.Context(), bytes.NewReader(archiveOf(entries...)), LoadOptions{})
		return err
	}
	if err := load(config, layer, one(tags[:maxNames])); err != nil {
		t.Fatal(err)
	}
	list, err := s.roots()
	if err != nil || len(list) != maxNames {
		t.Errorf("%d names, %v", len(list), err)
	}
	times := map[string]bool{}
	for _, r := range list {
		times[r.Annotations[tagTime]] = true
	}
	if len(times) != 1 {
		t.Errorf("noted at %d times", len(times))
	}

	s = newStore(t, nil)
	layout := f.layoutOf(d)
	many := make([]v1.Descriptor, maxNames+1)
	for i := range many {
		many[i] = named(d, tags[i])
	}
	for name, archive := range map[string][]entry{
		"manifest.json":               {config, layer, one(tags)},
		"manifest.json, without":      {config, layer, listed(slices.Repeat([]archived{{"c", nil, []string{"l"}}}, maxNames+1)...)},
		"manifest.json beside layout": append(layout, config, layer, listed(slices.Repeat([]archived{{"c", nil, []string{"l"}}}, maxNames+1)...)),
		"index.json":                  f.layoutOf(many...),
	} {
		if err := load(archive...); err == nil || !strings.Contains(err.Error(), "more than 10000 names") {
			t.Errorf("%s: %v", name, err)
		}
	}
	empty(t, s)
}

// TestSetNames: what names led to stays without them, unless it has another one; the image's notes go with each of its names, and what is noted of a name's push
// stays with that.
func TestSetNames(t *testing.T) {
	of := func(d digest.Digest, notes ...string) root {
		r := root{Digest: d, Annotations: map[string]string{}}
		for i := 0; i < len(notes); i += 2 {
			r.Annotations[notes[i]] = notes[i+1]
		}
		return r
	}
	for _, c := range []struct {
		names      []string
		list, want []root
	}{
		{nil, nil, []root{of("new")}},
		{nil, []root{of("new", parent, "p")}, []root{of("new", parent, "p")}},
		{nil, []root{of("new", refName, "a")}, []root{of("new", refName, "a")}},
		{[]string{"a", "b", "a"}, []root{of("new", origin, "o")}, []root{of("new", refName, "a", origin, "o"), of("new", refName, "b", origin, "o")}},
		{[]string{"a"}, []root{of("old", refName, "a", pushed, "r@d"), of("x", refName, "x")}, []root{of("old"), of("x", refName, "x"), of("new", refName, "a")}},
		{[]string{"a", "b"}, []root{of("old", refName, "a"), of("old", refName, "b")}, []root{of("old"), of("new", refName, "a"), of("new", refName, "b")}},
		{[]string{"a"}, []root{of("old", refName, "a"), of("old", refName, "b")}, []root{of("old", refName, "b"), of("new", refName, "a")}},
		{[]string{"b", "a"}, []root{of("new", refName, "a", pushed, "r@d", parent, "p")}, []root{of("new", refName, "b", parent, "p"), of("new", refName, "a", pushed, "r@d", parent, "p")}},
	} {
		for i := range c.want {
			if c.want[i].Digest == "new" && (c.names != nil || nameOf(c.want[i]) == "") {
				c.want[i].Annotations[tagTime] = "1970-01-01T00:00:00Z"
			}
		}
		if got := setNames(slices.Clone(c.list), root{Digest: "new"}, time.Unix(0, 0), c.names...); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q to %v: %v, want %v", c.names, c.list, got, c.want)
		}
	}
}

// TestLoadManyDocuments: what a load holds of an index is bounded, as with a pull: 50 MB that were compressed were gigabytes.
func TestLoadManyDocuments(t *testing.T) {
	f := newFixture()
	s := newStore(t, nil)
	archive := archiveOf(f.layoutOf(f.index(false, f.manyDocuments()...))...)
	if _, err := s.Load(t.Context(), bytes.NewReader(archive), LoadOptions{}); err == nil || !strings.Contains(err.Error(), "its manifests have more than") {
		t.Error(err)
	}
	empty(t, s)
}

// TestLoadDirHostile: a directory's links and FIFOs are not followed.
func TestLoadDirHostile(t *testing.T) {
	f := newFixture()
	d := f.image(Host(), "gzip", false, layersOf(1)...)
	for _, fault := range []string{"none", "index", "blobs", "blob", "fifo"} {
		dir, outside := t.TempDir(), t.TempDir()
		for _, e := range f.layoutOf(named(d, "x:1")) {
			name := filepath.Join(dir, e.name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(e.body), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		move := map[string]string{"index": "index.json", "blobs": "blobs", "blob": blobPathIn(d.Digest)}[fault]
		if move != "" {
			err := errors.Join(os.Rename(filepath.Join(dir, move), filepath.Join(outside, "x")), os.Symlink(filepath.Join(outside, "x"), filepath.Join(dir, move)))
			if err != nil {
				t.Fatal(err)
			}
		}
		if fault == "fifo" {
			name := filepath.Join(dir, blobPathIn(d.Digest))
			if err := errors.Join(os.Remove(name), mkfifo(name)); err != nil {
				t.Fatal(err)
			}
		}
		root, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		s := newStore(t, nil)
		_, err = s.LoadDir(t.Context(), root, LoadOptions{})
		root.Close()
		if (err == nil) != (fault == "none") {
			t.Errorf("%s: %v", fault, err)
		}
	}
}

// TestImport: a tar becomes an image of one layer, with what --change says.
func TestImport(t *testing.T) {
	s := newStore(t, nil)
	raw := tarOf(map[string]string{"bin/sh": "#!"})
	img, err := s.Import(t.Context(), bytes.NewReader(deflate("gzip", raw)), "imported", ImportOptions{
		Changes: []string{`CMD ["sh","-c"]`, "ENV A=1 B=\"2 3\"", "EXPOSE 80 53/udp", "LABEL x=y", "USER me", "WORKDIR /w", "VOLUME /v", "ENTRYPOINT run it", "HEALTHCHECK --interval=3s CMD true"},
		Message: "a message",
	})
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.Inspect("imported", Platform{})
	if err != nil || in.ID != img.ID.String() || in.Comment != "a message" || len(in.RootFS.Layers) != 1 || in.RootFS.Layers[0] != digest.FromBytes(raw) {
		t.Errorf("%+v %v", in, err)
	}
	c := img.Config.Config
	if fmt.Sprintln(c.Cmd, c.Env, c.User, c.WorkingDir, c.Labels, c.Entrypoint, c.Healthcheck.Test) != "[sh -c] [A=1 B=2 3] me /w map[x:y] [/bin/sh -c run it] [CMD-SHELL true]\n" {
		t.Errorf("%+v", c)
	}
	if _, err := s.Import(t.Context(), bytes.NewReader(raw), "", ImportOptions{Platform: Platform{OS: "windows", Architecture: "amd64"}}); err == nil {
		t.Error("an image for an operating system that no container has was made")
	}
	for _, bad := range []string{"FROM x", "CMD", "", "ENV =1", `ENV "a`, "EXPOSE 99999", "EXPOSE x", "HEALTHCHECK MAYBE", "HEALTHCHECK --retries=x CMD y"} {
		if _, err := s.Import(t.Context(), bytes.NewReader(raw), "", ImportOptions{Changes: []string{bad}}); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	// A commit on top of it.
	release, err := s.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, size, err := s.o.Layers.Put(t.Context(), bytes.NewReader(tarOf(map[string]string{"new": "file"})), "")
	if err != nil {
		t.Fatal(err)
	}
	top, err := s.Compose(t.Context(), &img, img.Config, NewLayer{DiffID: id, Size: size, CreatedBy: "sh", Author: "me"}, "committed:1")
	release()
	if err != nil || len(top.Chain()) != 2 || top.Config.Author != "me" {
		t.Errorf("%+v %v", top, err)
	}
	for _, below := range []string{img.ID.String(), "<missing>"} { // the id of what it was made on top of, while that is here
		history, err := s.History("committed:1", Platform{})
		if err != nil || len(history) != 2 || history[0].ID != top.ID.String() || history[0].Size != size || history[1].ID != below || history[1].Comment != "a message" {
			t.Errorf("%+v %v; want %s", history, err, below)
		}
		if below == "<missing>" {
			break
		}
		if len(history[1].Tags) != 1 || history[1].Tags[0] != "imported:latest" {
			t.Errorf("tags of what is below: %q", history[1].Tags)
		}
		if err := s.Tag(t.Context(), "committed:1", "again"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Remove(t.Context(), "committed:1", RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := s.Tag(t.Context(), "again", "committed:1"); err != nil {
			t.Fatal(err)
		}
		if in, err := s.Inspect("committed:1", Platform{}); err != nil || in.Parent != img.ID.String() {
			t.Errorf("parent %q, %v", in.Parent, err)
		}
		if _, err := s.Remove(t.Context(), "imported", RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKeepBlobs: where settings say so the store has the layers as they came, too: it is an OCI layout that can be loaded, pushes and
// archives are byte for byte without the origin, a damaged blob is found and fetched again, and they go with their image.
func TestKeepBlobs(t *testing.T) {
	f := newFixture()
	tars := layersOf(3)
	f.tags["latest"] = f.image(Host(), "zstd", false, tars[:2]...)
	k := serve(t, f)
	s := newStore(t, &Settings{})
	name := k.host + "/a"
	pull := func() Image {
		t.Helper()
		img, err := s.Pull(t.Context(), name, PullOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	if img := pull(); s.keeps(img.Layers[0]) {
		t.Error("kept, and nobody wanted it")
	}
	s.o.Settings.KeepBlobs = true
	img := pull() // was here already, but not so
	for _, l := range img.Layers {
		if !s.keeps(l) {
			t.Errorf("%s is not kept", l.Digest)
		}
	}
	if err := os.WriteFile(s.blobPath(img.Layers[1].Digest), make([]byte, img.Layers[1].Size), 0o600); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Repair(t.Context(), name, PullOptions{}); err != nil || len(found) != 1 || found[0].What != "blob" {
		t.Errorf("%v %v", found, err)
	}
	if found, err := s.Check(t.Context(), true); err != nil || len(found) > 0 {
		t.Errorf("%v %v", found, err)
	}
	imported, err := s.Import(t.Context(), bytes.NewReader(tars[2]), "imported", ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	k.server.Close()
	s.o.Layers = dirLayers{s.o.Layers.(dirLayers).dir, true}
	root, err := os.Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	to := newStore(t, nil)
	list, err := to.LoadDir(t.Context(), root, LoadOptions{})
	if err != nil || len(list) != 2 || list[0].Image.Target.Digest != img.Target.Digest || list[1].Image.ID != imported.ID {
		t.Errorf("%+v %v", list, err)
	}
	if err := s.Save(t.Context(), io.Discard, []string{name}, SaveOptions{Format: OCIArchive}); err != nil {
		t.Error(err)
	}
	there := target(t, nil) + "/b"
	if err := s.Tag(t.Context(), name, there); err != nil {
		t.Fatal(err)
	}
	if d, err := s.Push(t.Context(), there, PushOptions{}); err != nil || d != img.Target.Digest {
		t.Errorf("%s, want %s: %v", d, img.Target.Digest, err)
	}
	for _, ref := range []string{name, there, "imported"} {
		if _, err := s.Remove(t.Context(), ref, RemoveOptions{}); err != nil {
			t.Error(err)
		}
	}
	empty(t, s)
}

// TestLoadUnready: an image that no container can be made of yet, as on a disk that is nearly full, is loaded all the same, and that is told.
func TestLoadUnready(t *testing.T) {
	from, a, _ := two(t)
	raw := saved(t, from, SaveOptions{}, a.ID.String())
	s := newStore(t, nil)
	s.o.Layers = unreadyLayers{s.o.Layers.(dirLayers)}
	list, err := s.Load(t.Context(), bytes.NewReader(raw), LoadOptions{})
	if len(list) != 1 || !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "the image is here, and cannot be run yet") {
		t.Errorf("%d images, %v", len(list), err)
	}
	if _, err := s.Get(a.ID.String(), Platform{}); err != nil {
		t.Error(err)
	}
}
