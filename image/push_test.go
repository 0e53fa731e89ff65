package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	gcr "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/kakuri/kakuri/internal/testimage"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// target is somebody else's registry, for writing: go-containerregistry's.
func target(t testing.TB, wrap func(http.Handler) http.Handler) (host string) {
	t.Helper()
	var h http.Handler = registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		h = wrap(h)
	}
	testimage.Loopback(t)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	_, host, _ = strings.Cut(server.URL, "://")
	return host
}

// valid has go-containerregistry pull what was pushed, and check it whole.
func valid(t testing.TB, ref string) {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	d, err := gcr.Get(r)
	if err != nil {
		t.Fatal(err)
	}
	if d.MediaType.IsIndex() {
		index, err := d.ImageIndex()
		if err == nil {
			err = validate.Index(index)
		}
		if err != nil {
			t.Error(err)
		}
		return
	}
	img, err := d.Image()
	if err == nil {
		err = validate.Image(img)
	}
	if err != nil {
		t.Error(err)
	}
}

// copyTo pulls an image, gives it a name at another registry, and pushes it there.
func copyTo(t testing.TB, s *Store, from, to string, o PullOptions) {
	t.Helper()
	if _, err := s.Pull(t.Context(), from, o); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), from, to); err != nil {
		t.Fatal(err)
	}
}

// TestPush: what was pulled goes out byte for byte, in each form, and is whole for another client.
func TestPush(t *testing.T) {
	for _, docker := range []bool{false, true} {
		for _, kind := range []string{"gzip", "zstd"} {
			f := newFixture()
			want := f.image(Host(), kind, docker, layersOf(3)...)
			f.tags["latest"] = want
			k := serve(t, f)
			to := target(t, nil) + "/team/app:1"
			s := newStore(t, nil)
			copyTo(t, s, k.host+"/a", to, PullOptions{})
			var last Event
			d, err := s.Push(t.Context(), to, PushOptions{Progress: func(e Event) { last = e }})
			if err != nil || d != want.Digest || last.Aux == nil || last.Aux.Digest != d || last.Aux.Tag != "1" {
				t.Fatalf("%s, want %s: %v %+v", d, want.Digest, err, last)
			}
			if kind == "gzip" {
				valid(t, to)
			}
			again := newStore(t, nil)
			if img, err := again.Pull(t.Context(), to, PullOptions{}); err != nil || img.Target.Digest != want.Digest {
				t.Error(img.Target, err)
			}
		}
	}
}

// TestPushAgain: a layer that is not kept compressed goes out byte for byte all the same: from where it came, or made again as
// Docker's builders made it. So does an oci-archive.
func TestPushAgain(t *testing.T) {
	tars := layersOf(3)
	for _, test := range []struct {
		name          string
		docker, there bool // made by Docker's builders; the origin answers
	}{{"origin", false, true}, {"made again", true, false}, {"neither", false, false}} {
		f := newFixture()
		if test.docker {
			f.gzip = func(raw []byte) []byte {
				var b bytes.Buffer
				if _, _, err := compress(t.Context(), &b, bytes.NewReader(raw), true); err != nil {
					t.Fatal(err)
				}
				return b.Bytes()
			}
		}
		want := f.image(Host(), "gzip", false, tars...)
		f.tags["latest"] = want
		k := serve(t, f)
		to := target(t, nil) + "/app"
		s := newStore(t, nil)
		s.o.Layers = dirLayers{s.o.Layers.(dirLayers).dir, true}
		copyTo(t, s, k.host+"/a", to, PullOptions{})
		if _, err := s.Remove(t.Context(), k.host+"/a", RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
		if !test.there {
			k.server.Close()
		}
		err := s.Save(t.Context(), io.Discard, []string{to}, SaveOptions{Format: OCIArchive})
		if (err == nil) != (test.name != "neither") {
			t.Errorf("%s: save: %v", test.name, err)
		}
		d, err := s.Push(t.Context(), to, PushOptions{})
		if err != nil || (d == want.Digest) != (test.name != "neither") {
			t.Errorf("%s: %s, want %s: %v", test.name, d, want.Digest, err)
		}
		valid(t, to)
	}
}

// TestPushPlain: layers of an archive, which have no compressed form, are compressed on the way, always to the same bytes; the image is the same. What came
// without compression from a registry goes out as it came.
func TestPushPlain(t *testing.T) {
	f := latest(layersOf(2)...)
	f.tags["plain"] = f.image(Host(), "", true, layersOf(2)...)
	k := serve(t, f)
	to := target(t, nil) + "/app"
	for _, tag := range []string{"latest", "plain"} {
		s := newStore(t, nil)
		s.o.Layers = dirLayers{s.o.Layers.(dirLayers).dir, true}
		copyTo(t, s, k.host+"/a:"+tag, to+":"+tag, PullOptions{})
		if tag == "plain" {
			if d, err := s.Push(t.Context(), to+":"+tag, PushOptions{}); err != nil || d != f.tags["plain"].Digest {
				t.Errorf("%s, want %s: %v", d, f.tags["plain"].Digest, err)
			}
			raw := saved(t, s, SaveOptions{}, to+":"+tag)
			s = newStore(t, nil)
			if _, err := s.Load(t.Context(), bytes.NewReader(raw), LoadOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		before, err := s.Get(to+":"+tag, Platform{})
		if err != nil {
			t.Fatal(err)
		}
		first, err := s.Push(t.Context(), to+":"+tag, PushOptions{})
		if err != nil {
			t.Fatal(err)
		}
		valid(t, to+":"+tag)
		second, err := s.Push(t.Context(), to+":"+tag, PushOptions{})
		if err != nil || first != second {
			t.Error(first, second, err)
		}
		after, err := s.Get(to+":"+tag, Platform{})
		if err != nil || after.ID != before.ID || !slices.Contains(after.RepoDigests(), to+"@"+string(first)) {
			t.Errorf("%v %v", after.RepoDigests(), err)
		}
		if unknown := to + "@" + string(before.Target.Digest); first != before.Target.Digest && slices.Contains(after.RepoDigests(), unknown) {
			t.Errorf("the registry has no %s", unknown)
		}
		// What it went out as is what it is there: a pull of it changes nothing.
		var told []string
		same, err := s.Pull(t.Context(), to+":"+tag, PullOptions{Progress: func(e Event) { told = append(told, e.Status) }})
		if want := []string{"Digest: " + string(first), "Status: Image is up to date for " + to + ":" + tag}; err != nil || same.Target.Digest != before.Target.Digest || !slices.Equal(told[max(0, len(told)-2):], want) {
			t.Errorf("%s, want %s: %q, want %q: %v", same.Target.Digest, before.Target.Digest, told, want, err)
		}
		again := newStore(t, nil)
		if img, err := again.Pull(t.Context(), to+":"+tag, PullOptions{}); err != nil || img.ID != before.ID {
			t.Error(img.ID, err)
		}
		if _, err := s.Get(to+"@"+string(first), Platform{}); err != nil {
			t.Error(err)
		}
	}
}

// TestTwin: an image that was pushed with another manifest, and came back beside itself, is one image still: who takes a name of it away removes no image, and it is not listed once more
// without a name.
func TestTwin(t *testing.T) {
	f := latest(layersOf(2)...)
	k := serve(t, f)
	to := target(t, nil) + "/app:1"
	s := newStore(t, nil)
	copyTo(t, s, k.host+"/a", to, PullOptions{})
	raw := saved(t, s, SaveOptions{}, to)
	s = newStore(t, nil)
	if _, err := s.Load(t.Context(), bytes.NewReader(raw), LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), to, "kept"); err != nil {
		t.Fatal(err)
	}
	was, err := s.Get("kept", Platform{})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := s.Push(t.Context(), to, PushOptions{}); err != nil || d == was.Target.Digest {
		t.Fatalf("%s: %v", d, err)
	}
	inUse := errors.New("a container needs it")
	needed := func(Image, bool) error { return inUse }
	for _, force := range []bool{false, true, true} {
		out, err := s.Remove(t.Context(), to, RemoveOptions{Force: force, Blocked: needed})
		if err != nil || slices.ContainsFunc(out, func(r Removed) bool { return r.Deleted == was.ID.String() }) {
			t.Errorf("%v: %v", out, err)
		}
		if list, err := s.List(t.Context(), ListOptions{All: true}); err != nil || len(list) != 1 || list[0].ID != was.ID {
			t.Errorf("%d listed: %v", len(list), err)
		}
		if back, err := s.Pull(t.Context(), to, PullOptions{}); err != nil || back.ID != was.ID || back.Target.Digest == was.Target.Digest {
			t.Errorf("%s %s: %v", back.ID, back.Target.Digest, err)
		}
		if n, err := s.Count(); err != nil || n != 1 {
			t.Errorf("%d images: %v", n, err)
		}
	}
	// The same where another image takes the name.
	f.tags["other"] = f.image(Host(), "gzip", false, layersOf(3)...)
	if _, err := s.Pull(t.Context(), k.host+"/a:other", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), k.host+"/a:other", to); err != nil {
		t.Fatal(err)
	}
	if list, err := s.List(t.Context(), ListOptions{All: true}); err != nil || len(list) != 2 {
		t.Errorf("%d listed: %v", len(list), err)
	}
}

// TestTwinNotes: what is noted of an image is there still when the name goes that it was noted with, and another manifest stays; its layers are shared with nobody.
func TestTwinNotes(t *testing.T) {
	f := newFixture()
	one := f.image(Host(), "gzip", false, layersOf(2)...)
	var m v1.Manifest
	if err := json.Unmarshal(f.blobs[one.Digest], &m); err != nil {
		t.Fatal(err)
	}
	m.Annotations = map[string]string{"another": "manifest"}
	f.tags["one"], f.tags["other"] = one, f.document(m, m.MediaType)
	k, s := served(t, f)
	for _, tag := range []string{"one", "other"} {
		if _, err := s.Pull(t.Context(), k.host+"/a:"+tag, PullOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.List(t.Context(), ListOptions{Shared: true})
	if err != nil || len(list) != 2 || list[0].ID != list[1].ID || list[0].SharedSize != 0 {
		t.Fatalf("%+v, %v", list, err)
	}
	err = s.change(t.Context(), func(list []root) ([]root, error) {
		for _, r := range list {
			if r.Digest == one.Digest {
				r.Annotations[parent] = "sha256:" + strings.Repeat("a", 64)
			}
		}
		return list, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f.tags["one"] = f.image(Host(), "gzip", false, layersOf(3)...)
	if _, err := s.Pull(t.Context(), k.host+"/a:one", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if list, err := s.List(t.Context(), ListOptions{}); err != nil || len(list) != 2 {
		t.Errorf("%d listed, %v", len(list), err)
	}
	if i, err := s.Inspect(k.host+"/a:other", Platform{}); err != nil || i.Parent == "" {
		t.Errorf("%q, %v", i.Parent, err)
	}
}

// TestTwinInIndex: an image that an index leads to, too, is not deleted with its other name.
func TestTwinInIndex(t *testing.T) {
	f := newFixture()
	mine := f.image(Host(), "gzip", false, layersOf(2)...)
	f.tags["many"], f.tags["one"] = f.index(false, mine, f.image(other, "gzip", false, layersOf(3)...)), mine
	k, s := served(t, f)
	for _, tag := range []string{"many", "one"} {
		if _, err := s.Pull(t.Context(), k.host+"/a:"+tag, PullOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	deleted := func(r Removed) bool { return r.Deleted != "" }
	out, err := s.Remove(t.Context(), k.host+"/a:one", RemoveOptions{Blocked: func(Image, bool) error { return errors.New("a container needs it") }})
	if err != nil || slices.ContainsFunc(out, deleted) {
		t.Errorf("%v, %v", out, err)
	}
	if out, err = s.Remove(t.Context(), k.host+"/a:many", RemoveOptions{}); err != nil || !slices.ContainsFunc(out, deleted) {
		t.Errorf("%v, %v", out, err)
	}
}

// TestPushIndex: an index with all its platforms, or one of them where not all are here.
func TestPushIndex(t *testing.T) {
	f := newFixture()
	tars := layersOf(3)
	mine := f.image(Host(), "gzip", false, tars...)
	f.tags["latest"] = f.index(false, mine, f.image(other, "gzip", false, tars[:2]...))
	k := serve(t, f)
	to := target(t, nil) + "/app"
	for _, all := range []bool{false, true} {
		s := newStore(t, nil)
		copyTo(t, s, k.host+"/a", to, PullOptions{AllPlatforms: all})
		want := mine.Digest
		if all {
			want = f.tags["latest"].Digest
		}
		if d, err := s.Push(t.Context(), to, PushOptions{}); err != nil || d != want {
			t.Errorf("all %v: %s, want %s: %v", all, d, want, err)
		}
		valid(t, to)
		if !all {
			continue
		}
		if d, err := s.Push(t.Context(), to, PushOptions{Platform: Host()}); err != nil || d != mine.Digest {
			t.Errorf("%s, want %s: %v", d, mine.Digest, err)
		}
		s.o.Layers = dirLayers{s.o.Layers.(dirLayers).dir, true}
		k.server.Close()
		blobs, _ := filepath.Glob(filepath.Join(s.o.Layers.(dirLayers).dir, "*.blob"))
		for _, b := range blobs {
			if err := os.Remove(b); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Push(t.Context(), target(t, nil)+"/app", PushOptions{}); err == nil {
			t.Error("pushed under a name that it has not")
		}
	}
}

// TestPushOtherIndex: where layers are not to be had as they came, an index goes out all the same, of the manifests that were sent in their place: also what
// attests one of them names that.
func TestPushOtherIndex(t *testing.T) {
	f := newFixture()
	mine := f.image(Host(), "gzip", false, layersOf(2)...)
	attest, _ := f.attestation(mine)
	below := f.index(false, f.image(other, "gzip", false, layersOf(3)...))
	below.Platform = &other
	f.tags["latest"] = f.index(false, mine, attest, below)
	k := serve(t, f)
	to := target(t, nil) + "/app"
	s := newStore(t, nil)
	s.o.Layers = dirLayers{s.o.Layers.(dirLayers).dir, true}
	copyTo(t, s, k.host+"/a", to, PullOptions{AllPlatforms: true})
	k.server.Close()
	d, err := s.Push(t.Context(), to, PushOptions{})
	if err != nil || d == f.tags["latest"].Digest {
		t.Fatal(d, err)
	}
	if again, err := s.Push(t.Context(), to, PushOptions{}); err != nil || again != d {
		t.Errorf("%s, then %s: %v", d, again, err)
	}
	pulled := newStore(t, nil)
	img, err := pulled.Pull(t.Context(), to, PullOptions{AllPlatforms: true})
	if err != nil || img.Target.Digest != d {
		t.Fatal(img.Target, err)
	}
	root, err := pulled.readDocument(img.Target)
	if err != nil {
		t.Fatal(err)
	}
	list := root.index.Manifests
	if list[0].Digest == mine.Digest || list[1].Annotations[attests] != list[0].Digest.String() || list[2].Digest == below.Digest {
		t.Errorf("%+v", list)
	}
	if was, err := s.Get(to, Platform{}); err != nil || img.ID != was.ID {
		t.Errorf("%s, and was %s: %v", img.ID, was.ID, err)
	}
}

// TestPushFaults: an upload that breaks begins anew; what the registry has is not sent; what cannot be sent is an error.
func TestPushFaults(t *testing.T) {
	k := serve(t, pullable())
	var faults, puts, posts atomic.Int64
	to := target(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/uploads/") {
				puts.Add(1)
			}
			if r.Method == http.MethodPost {
				posts.Add(1)
			}
			if n := faults.Add(1); r.Method != http.MethodHead && n%4 == 1 && n < 30 {
				_, _ = io.CopyN(io.Discard, r.Body, 50)
				switch n % 3 {
				case 0:
					panic(http.ErrAbortHandler)
				case 1:
					w.WriteHeader(http.StatusServiceUnavailable)
				default:
					w.Header().Set("Retry-After", "0")
					w.WriteHeader(http.StatusTooManyRequests)
				}
				return
			}
			h.ServeHTTP(w, r)
		})
	}) + "/app"
	s := newStore(t, nil)
	copyTo(t, s, k.host+"/a", to, PullOptions{})
	if _, err := s.Push(t.Context(), to, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	faults.Store(100)
	valid(t, to)
	puts.Store(0)
	posts.Store(0)
	if _, err := s.Push(t.Context(), to, PushOptions{}); err != nil || puts.Load() > 0 || posts.Load() > 0 {
		t.Errorf("%d uploads, %d begun, %v", puts.Load(), posts.Load(), err)
	}
	if _, err := s.Push(t.Context(), "nobody/has:this", PushOptions{}); err == nil {
		t.Error("no error")
	}
}

// TestPushNobody: no layer is compressed for a registry that is not there.
func TestPushNobody(t *testing.T) {
	f := newFixture()
	f.tags["latest"] = f.image(Host(), "", true, layersOf(1)...)
	k, s := served(t, f)
	s.o.Layers = dirLayers{s.o.Layers.(dirLayers).dir, true}
	copyTo(t, s, k.host+"/a:latest", "127.0.0.1:1/a:latest", PullOptions{})
	raw := saved(t, s, SaveOptions{}, "127.0.0.1:1/a:latest")
	s = newStore(t, nil)
	if _, err := s.Load(t.Context(), bytes.NewReader(raw), LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	var told []string
	_, err := s.Push(t.Context(), "127.0.0.1:1/a:latest", PushOptions{Progress: func(e Event) { told = append(told, e.Status) }})
	if !errors.Is(err, syscall.ECONNREFUSED) || slices.Contains(told, "Compressing") {
		t.Errorf("%q: %v", told, err)
	}
}

// TestPushRefused: who is not let push is told why, in words that scripts know from Docker, and once what to do.
func TestPushRefused(t *testing.T) {
	for _, test := range []struct {
		challenge string
		login     bool
		want      string
	}{
		{`Basic realm="x"`, false, "401 Unauthorized: authorization failed: no basic auth credentials"},
		{`Basic realm="x"`, true, "401 Unauthorized: unauthorized: authentication required"},
		{`Bearer realm="http://HOST/token",service="x"`, true, "401 Unauthorized: denied: requested access to the resource is denied"},
	} {
		k, s := served(t, pullable())
		copyTo(t, s, k.host+"/a:latest", k.host+"/b:latest", PullOptions{})
		k.guard(strings.ReplaceAll(test.challenge, "HOST", k.host), func(string) bool { return false }, func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.WriteString(w, `{"token":"granted"}`)
			return true
		})
		if test.login {
			login(t, s, k.host)
		}
		_, err := s.Push(t.Context(), k.host+"/b:latest", PushOptions{})
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Count(err.Error(), "login "+k.host) != 1 ||
			!strings.Contains(err.Error(), "push access denied for "+k.host+"/b, repository does not exist or may require") {
			t.Errorf("%s, login %v: %v", test.challenge, test.login, err)
		}
		other, _ := ParseReference(k.host + "/c")
		if cause := errors.Unwrap(errors.Unwrap(err)); unwelcome(other, cause) != cause {
			t.Errorf("of another repository's layer: %v", unwelcome(other, cause))
		}
		if err := s.PushTags(t.Context(), k.host+"/b", PushOptions{}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s, all tags: %v", test.challenge, err)
		}
	}
}

// TestPushMount: a layer that another repository of the registry has is not sent again.
func TestPushMount(t *testing.T) {
	k := serve(t, pullable())
	var puts, mounts atomic.Int64
	host := target(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/uploads/") {
				puts.Add(1)
			}
			// go-containerregistry's has one set of blobs for all repositories: hide them from the second one.
			if r.Method == http.MethodHead && strings.HasPrefix(r.URL.Path, "/v2/second/blobs/") {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			if r.FormValue("mount") != "" && r.FormValue("from") == "first" { // and it knows no mounts
				mounts.Add(1)
				w.WriteHeader(http.StatusCreated)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	s := newStore(t, nil)
	copyTo(t, s, k.host+"/a", host+"/first", PullOptions{})
	if _, err := s.Push(t.Context(), host+"/first", PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), host+"/first", host+"/second"); err != nil {
		t.Fatal(err)
	}
	puts.Store(0)
	if _, err := s.Push(t.Context(), host+"/second", PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if mounts.Load() != 2 || puts.Load() > 1 { // the config
		t.Errorf("%d mounts, %d uploads", mounts.Load(), puts.Load())
	}
}

// TestPushMountElsewhere: a registry that begins an upload in place of a mount has nobody else's server asked to delete something.
func TestPushMountElsewhere(t *testing.T) {
	k := serve(t, pullable())
	other := twin(t, pullable())
	mounts := 0
	host := target(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodHead && strings.HasPrefix(r.URL.Path, "/v2/second/blobs/"):
				w.WriteHeader(http.StatusNotFound)
			case r.FormValue("mount") != "":
				mounts++
				w.Header().Set("Location", other.url+"/v2/theirs/manifests/latest")
				w.WriteHeader(http.StatusAccepted)
			default:
				h.ServeHTTP(w, r)
			}
		})
	})
	s := newStore(t, nil)
	copyTo(t, s, k.host+"/a", host+"/first", PullOptions{})
	if err := s.Tag(t.Context(), host+"/first", host+"/second"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Push(t.Context(), host+"/second", PushOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, r := range other.requests() {
		t.Errorf("%s %s", r.Method, r.URL)
	}
	if mounts == 0 {
		t.Error("nothing was to be mounted")
	}
}

// TestTagsEndless: pages of tags that go on and on, each of them within bounds, are held for as long as memory lasts.
func TestTagsEndless(t *testing.T) {
	k := serve(t, newFixture())
	tags := make([]string, 100_000)
	for i := range tags {
		tags[i] = fmt.Sprint("t", i)
	}
	page, _ := json.Marshal(map[string]any{"tags": tags})
	k.before = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Link", `</v2/a/tags/list?last=x>; rel="next"`)
		_, _ = w.Write(page)
		return true
	}
	_, err := newStore(t, nil).tags(t.Context(), k.host+"/a", nil)
	if n := len(k.requests()); n > 5 || err == nil || !strings.Contains(err.Error(), "tags of a: more than") {
		t.Errorf("%d pages, %v", n, err)
	}
}

// TestTags: pages of tags, all tags pulled, all tags pushed.
func TestTags(t *testing.T) {
	host := target(t, nil)
	k, s := served(t, pullable())
	copyTo(t, s, k.host+"/a", host+"/app:t0", PullOptions{})
	for i := 1; i < 5; i++ {
		if err := s.Tag(t.Context(), host+"/app:t0", fmt.Sprint(host, "/app:t", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PushTags(t.Context(), host+"/app", PushOptions{}); err != nil {
		t.Fatal(err)
	}
	again := newStore(t, nil)
	if list, err := again.PullTags(t.Context(), host+"/app", PullOptions{}); err != nil || len(list) != 5 {
		t.Fatal(len(list), err)
	}
	list, err := again.List(t.Context(), ListOptions{})
	if err != nil || len(list) != 1 || len(list[0].RepoTags()) != 5 {
		t.Errorf("%+v %v", list, err)
	}
	for _, bad := range []string{"app:tag", "app@sha256:" + digest64, "A"} {
		if _, err := again.PullTags(t.Context(), host+"/"+bad, PullOptions{}); err == nil {
			t.Errorf("%s: no error", bad)
		}
		if err := again.PushTags(t.Context(), host+"/"+bad, PushOptions{}); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
	// Signatures and the like are tags of a registry without a place of its own for them. They are left out.
	k.tags["sha256-sig"] = k.document(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, ArtifactType: "application/x.signature",
		Config: k.blob([]byte("{}"), v1.MediaTypeEmptyJSON), Layers: []v1.Descriptor{k.blob([]byte("{}"), v1.MediaTypeEmptyJSON)},
	}, v1.MediaTypeImageManifest)
	for tags, want := range map[string]int{`"sha256-sig","latest"`: 1, `"sha256-sig"`: 0} {
		k.before = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/tags/list") {
				return false
			}
			_, _ = io.WriteString(w, `{"tags":[`+tags+`]}`)
			return true
		}
		var told []string
		list, err := newStore(t, nil).PullTags(t.Context(), k.host+"/a", PullOptions{Progress: func(e Event) { told = append(told, e.Status) }})
		if len(list) != want || (err == nil) != (want > 0) || !slices.ContainsFunc(told, func(s string) bool {
			return strings.HasSuffix(s, `:sha256-sig: it is no image but an artifact of type "application/x.signature": left out`)
		}) {
			t.Errorf("%s: %d images, %v, %q", tags, len(list), err, told)
		}
	}
	// A listing that leads elsewhere, or never ends, or names what is no tag.
	other := twin(t, pullable())
	other.before = func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.WriteString(w, `{"tags":["b"]}`)
		return true
	}
	for _, page := range []struct{ body, link, want string }{
		{`{"tags":["a"]}`, `<` + other.url + `/v2/a/tags/list>; rel="next"`, "the next page is at another host"}, {`{"tags":["../x"]}`, "", "is no tag"}, {`[]`, "", "tags of a"},
	} {
		k.before = func(w http.ResponseWriter, r *http.Request) bool {
			if page.link != "" {
				w.Header().Set("Link", page.link)
			}
			_, _ = io.WriteString(w, page.body)
			return strings.HasSuffix(r.URL.Path, "/tags/list")
		}
		if _, err := s.tags(context.Background(), k.host+"/a", nil); err == nil || !strings.Contains(err.Error(), page.want) {
			t.Errorf("%+v: %v", page, err)
		}
	}
	if n := len(other.requests()); n > 0 {
		t.Errorf("another host was asked %d times", n)
	}
}

// TestAttestations: those of BuildKit have the config of an image. They go where the image goes: by pull, push, save and load.
func TestAttestations(t *testing.T) {
	f := newFixture()
	image := f.image(Host(), "gzip", false, layersOf(2)...)
	attest, statement := f.attestation(image)
	f.tags["latest"] = f.index(false, image, attest)
	k := serve(t, f)
	whole := func(s *Store, name string) {
		t.Helper()
		if found, err := s.Check(t.Context(), true); err != nil || len(found) > 0 {
			t.Errorf("check: %v %v", found, err)
		}
		for _, d := range []v1.Descriptor{attest, statement} {
			if _, err := s.readBlob("blob", d.Digest); err != nil {
				t.Error(err)
			}
		}
		if img, err := s.Get(name, Platform{}); err != nil || img.Target.Digest != f.tags["latest"].Digest {
			t.Errorf("%v %v", img.Target, err)
		}
		if all, err := s.every(f.tags["latest"]); err != nil || len(all) != 1 {
			t.Errorf("images: %v %v", all, err)
		}
	}
	from, to := newStore(t, nil), target(t, nil)+"/app"
	copyTo(t, from, k.host+"/a", to, PullOptions{AllPlatforms: true})
	whole(from, to)
	if d, err := from.Push(t.Context(), to, PushOptions{}); err != nil || d != f.tags["latest"].Digest {
		t.Errorf("push: %s %v", d, err)
	}
	raw := saved(t, from, SaveOptions{Format: OCIArchive}, to)
	loaded := newStore(t, nil)
	if _, err := loaded.Load(t.Context(), bytes.NewReader(raw), LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	whole(loaded, to)
}

// TestLargeAttestation: what an index has beside images is held in memory, and has to be small.
func TestLargeAttestation(t *testing.T) {
	f := newFixture()
	image := f.image(Host(), "gzip", false, layersOf(1)...)
	attest, statement := f.attestation(image)
	large := f.blob(make([]byte, maxConfig+1), statement.MediaType)
	var m v1.Manifest
	if err := json.Unmarshal(f.blobs[attest.Digest], &m); err != nil {
		t.Fatal(err)
	}
	m.Layers[0] = large
	d := f.document(m, m.MediaType)
	d.Platform, d.Annotations = attest.Platform, attest.Annotations
	f.tags["latest"] = f.index(false, image, d)
	k, s := serve(t, f), newStore(t, nil)
	if _, err := s.Pull(t.Context(), k.host+"/a", PullOptions{AllPlatforms: true}); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("%v", err)
	}
}

// TestPushForeign: a layer that Docker's form calls foreign, and that is made anew, is one of Docker's form, as the manifest is.
func TestPushForeign(t *testing.T) {
	f := newFixture()
	plain := f.image(Host(), "gzip", true, layersOf(1)...)
	f.tags["latest"] = f.rawDocument(bytes.ReplaceAll(f.blobs[plain.Digest], []byte("rootfs.diff."), []byte("rootfs.foreign.diff.")), dockerManifest)
	k := serve(t, f)
	to := target(t, nil) + "/app"
	s := newStore(t, nil)
	s.o.Layers = dirLayers{s.o.Layers.(dirLayers).dir, true}
	copyTo(t, s, k.host+"/a", to, PullOptions{})
	k.server.Close()
	if d, err := s.Push(t.Context(), to, PushOptions{}); err != nil || d == f.tags["latest"].Digest {
		t.Fatal(d, err)
	}
	valid(t, to)
	again := newStore(t, nil)
	img, err := again.Pull(t.Context(), to, PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := again.readDocument(img.Target)
	if err != nil || doc.manifest.MediaType != dockerManifest || doc.manifest.Layers[0].MediaType != dockerLayer+".gzip" {
		t.Errorf("%+v, %v", doc.manifest, err)
	}
}
