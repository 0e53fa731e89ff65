package image

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// FuzzManifest: whatever a registry sends is an index or a manifest that keeps the rules, or an error; never both, never a panic.
func FuzzManifest(f *testing.F) {
	g := newFixture()
	d := g.image(Host(), "gzip", true, layersOf(2)...)
	i := g.index(false, d)
	for _, raw := range g.blobs {
		f.Add(raw, v1.MediaTypeImageManifest)
	}
	f.Add(g.blobs[d.Digest], dockerManifest)
	f.Add(g.blobs[i.Digest], v1.MediaTypeImageIndex)
	f.Add(g.blobs[i.Digest], "")
	f.Add([]byte(`{"schemaVersion":2,"layers":[],"manifests":[]}`), "")
	f.Add([]byte(`{"schemaVersion":1}`), "application/vnd.docker.distribution.manifest.v1+json")
	f.Fuzz(func(t *testing.T, raw []byte, mediaType string) {
		doc, err := parseDocument(raw, mediaType)
		if err != nil {
			return
		}
		if (doc.index == nil) == (doc.manifest == nil) || !bytes.Equal(doc.raw, raw) || doc.desc.Digest != digest.FromBytes(raw) {
			t.Fatalf("%+v", doc)
		}
		var body struct {
			MediaType         string
			Layers, Manifests json.RawMessage
		}
		if err := json.Unmarshal(raw, &body); err != nil {
			t.Fatal(err)
		}
		if body.MediaType != "" && body.MediaType != doc.desc.MediaType || body.Layers != nil && body.Manifests != nil {
			t.Fatalf("%s is taken for %s", raw, doc.desc.MediaType)
		}
		var all []v1.Descriptor
		if doc.index != nil {
			all = doc.index.Manifests
			choose(*doc.index, Host())
			platforms(*doc.index)
		} else {
			all = append(doc.manifest.Layers, doc.manifest.Config)
			_ = doc.runnable()
		}
		for _, d := range all {
			if d.Digest.Validate() != nil || d.Size < 0 {
				t.Fatalf("%+v", d)
			}
			_ = blobPathIn(d.Digest)
		}
	})
}

// FuzzConfig: a config that is taken has as many layers as its manifest, by digests.
func FuzzConfig(f *testing.F) {
	g := newFixture()
	g.image(Host(), "gzip", true, layersOf(2)...)
	for _, raw := range g.blobs {
		f.Add(raw, 2)
	}
	f.Fuzz(func(t *testing.T, raw []byte, n int) {
		c, err := parseConfig(raw, n)
		if err != nil {
			return
		}
		if len(c.RootFS.DiffIDs) != n {
			t.Fatal(len(c.RootFS.DiffIDs), n)
		}
		for _, id := range c.RootFS.DiffIDs {
			if id.Validate() != nil || id.Algorithm() != digest.SHA256 {
				t.Fatal(id)
			}
		}
	})
}

// FuzzChallenge: a header of a registry never panics, and gives no key that is not there.
func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer realm="https://x/t",service="s",scope="a:b:pull,push"`)
	f.Add(`Basic realm="\"`)
	f.Fuzz(func(t *testing.T, s string) {
		_, params := parseChallenge(s)
		for k := range params {
			if len(k) > 3*len(s) { // what is no UTF-8 becomes a replacement character
				t.Fatal(k)
			}
		}
	})
}

// FuzzChange: a line of --change gives a config or an error.
func FuzzChange(f *testing.F) {
	for _, s := range []string{`CMD ["a"]`, `ENV A="b c" D=e\ f`, "EXPOSE 1-3/udp", "HEALTHCHECK --interval=1s CMD x", "LABEL 'a'=b", "VOLUME [\"/a\"]", "WORKDIR ..", "ONBUILD x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 1000 {
			return
		}
		_ = Change(new(Config), []string{s})
	})
}
