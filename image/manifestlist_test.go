package image

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestManifestList: a list is made of what a registry has, changed, pushed to another repository there with all below it, and is forgotten.
func TestManifestList(t *testing.T) {
	for _, mounts := range []bool{true, false} {
		f := newFixture()
		tars := layersOf(2)
		f.tags["latest"] = f.index(false, f.image(Host(), "gzip", false, tars...), f.image(other, "gzip", false, tars[0]))
		k := serve(t, f)
		mounted, uploaded := 0, 0
		host := target(t, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch { // this registry has its blobs in common, and mounts none
				case r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/app/blobs/"):
					http.NotFound(w, r)
				case r.Method == http.MethodPost && r.URL.Query().Has("mount"):
					if mounted++; mounts {
						w.WriteHeader(http.StatusCreated)
						return
					}
					r.URL.RawQuery = ""
					h.ServeHTTP(w, r)
				default:
					if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/app/blobs/") {
						uploaded++
					}
					h.ServeHTTP(w, r)
				}
			})
		})
		s := newStore(t, nil)
		for tag, p := range map[string]Platform{"one": Host(), "two": other} {
			copyTo(t, s, k.host+"/a", host+"/parts:"+tag, PullOptions{Platform: p})
			if _, err := s.Push(t.Context(), host+"/parts:"+tag, PushOptions{Platform: p}); err != nil {
				t.Fatal(err)
			}
		}
		list, one, two := host+"/app:1", host+"/parts:one", host+"/parts:two"
		if name, err := s.CreateList(t.Context(), list, []string{one}, false, ManifestOptions{}); err != nil || name != list {
			t.Fatal(name, err)
		}
		if _, err := s.CreateList(t.Context(), list, []string{two}, false, ManifestOptions{}); err == nil || !strings.Contains(err.Error(), "refusing to amend") {
			t.Errorf("%v", err)
		}
		var none *NoManifestError
		if _, err := s.CreateList(t.Context(), list, []string{two, host + "/parts:three"}, true, ManifestOptions{}); !errors.As(err, &none) {
			t.Errorf("%v", err)
		}
		if l, err := s.ManifestList(list); err != nil || len(l.Entries) != 1 {
			t.Errorf("half of it was added: %v %v", l, err)
		}
		for range 2 { // once more is the same
			if _, err := s.CreateList(t.Context(), list, []string{two}, true, ManifestOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.CreateList(t.Context(), host+"/x:1", []string{k.host + "/a"}, false, ManifestOptions{}); err == nil || !strings.Contains(err.Error(), "is a manifest list") {
			t.Errorf("%v", err)
		}
		if err := s.AnnotateList(t.Context(), list, two, Platform{OSVersion: "9", OSFeatures: []string{"f"}}); err != nil {
			t.Error(err)
		}
		if err := s.AnnotateList(t.Context(), list, two, Platform{Architecture: "s390"}); err == nil || !strings.Contains(err.Error(), "unsupported os/arch combination: linux/s390") {
			t.Errorf("%v", err)
		}
		if err := s.AnnotateList(t.Context(), list, host+"/parts:three", Platform{OS: "linux"}); err == nil || !strings.Contains(err.Error(), "does not exist in "+list) {
			t.Errorf("%v", err)
		}
		var pushed []string
		d, err := s.PushList(t.Context(), list, ManifestOptions{}, func(r Reference, _ digest.Digest) { pushed = append(pushed, r.String()) })
		if err != nil || len(pushed) != 2 || !strings.HasPrefix(pushed[0], host+"/app@sha256:") || mounted != 5 || (uploaded > 0) == mounts {
			t.Errorf("%s %v %d mounts %d uploads: %v", d, pushed, mounted, uploaded, err)
		}
		m, err := s.Manifest(t.Context(), list, true, ManifestOptions{})
		if err != nil || !m.Index || digest.FromBytes(m.Raw) != d || len(m.Entries) != 2 {
			t.Fatalf("%s: %v %v", m.Raw, m.Entries, err)
		}
		if p := m.Entries[1].Descriptor.Platform; p.Architecture != other.Architecture || p.OSVersion != "9" || len(p.OSFeatures) != 1 {
			t.Errorf("%+v", p)
		}
		if img, err := s.Pull(t.Context(), list, PullOptions{Platform: other}); err != nil || img.Target.Digest != d || img.Platform.Architecture != other.Architecture {
			t.Errorf("%v %v", img.Platform, err)
		}
		if err := s.RemoveList(t.Context(), list); err != nil {
			t.Error(err)
		}
		if err := s.RemoveList(t.Context(), list); !errors.As(err, &none) || err.Error() != "No such manifest: "+list {
			t.Errorf("%v", err)
		}
		if left, err := os.ReadDir(s.path("lists")); err != nil || len(left) > 0 {
			t.Errorf("%v %v", left, err)
		}
		if _, err := s.CreateList(t.Context(), "elsewhere.example/app:1", []string{one}, false, ManifestOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.PushList(t.Context(), "elsewhere.example/app:1", ManifestOptions{}, nil); err == nil || !strings.Contains(err.Error(), "different registry") {
			t.Errorf("%v", err)
		}
	}
}

// TestManifestListBytes: the index has the bytes that Docker's command makes, whose digest was noted there.
func TestManifestListBytes(t *testing.T) {
	entry := func(d digest.Digest, size int64, mediaType string, p Platform) ManifestEntry {
		return ManifestEntry{Descriptor: v1.Descriptor{MediaType: mediaType, Digest: d, Size: size, Platform: &p}}
	}
	l := ManifestList{Entries: []ManifestEntry{
		entry("sha256:a06e08f1eccea7c0c65927c7c1f488b6f66c99ca67e0e8984a47eeb94b213a6f", 455, v1.MediaTypeImageManifest, Platform{Architecture: "arm64", OS: "linux", OSVersion: "1", OSFeatures: []string{"a", "b"}, Variant: "v8"}),
		entry("sha256:137c9abe2d7945f8b1dc5209435b8e3fd57804ee757a1318fd93c866881f0a6c", 658, dockerManifest, Platform{Architecture: "amd64", OS: "linux"}),
		entry("sha256:359bd3e615aa1060a657eb106d4a7e8a622867c8eb82264907e61fa19c4260d7", 630, v1.MediaTypeImageManifest, Platform{Architecture: "amd64", OS: "linux"}),
	}}
	if raw, d, err := l.Index(); err != nil || d.Digest != "sha256:552bd283fd8bf095eff164a3dedb056893d23212c7ab3d709ac2c40b21e8c1e2" {
		t.Errorf("%s %v\n%s", d.Digest, err, raw)
	}
}
