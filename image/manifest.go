package image

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/kakuri/kakuri/internal/leanjson"
	spec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// A ConfigFile is the config of an image: image-spec's, and what Docker adds to it.
type ConfigFile = spec.DockerOCIImage

// Media types of Docker's, schema 2, which image-spec has no names for.
const (
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
	dockerSchema1  = "application/vnd.docker.distribution.manifest.v1"
)

// Limits of what is held in memory, in bytes. A manifest's is image-spec's.
const (
	maxManifest = 4 << 20
	maxConfig   = 8 << 20
	maxToken    = 1 << 20
	maxDepth    = 4        // of indexes in indexes
	maxLayers   = 1000     // as many as package storage lays over each other
	maxDocs     = 32 << 20 // of an index's documents together, as one pull of all its platforms holds them, and a load
	maxNames    = 10_000   // of an archive, each of which all later commands read
)

// maxValues bounds the values of a document. Each becomes up to 120 bytes in memory, of two in a text that has nothing but "{},": 4 MiB of those were 600 MB. All ports of
// tcp and udp as EXPOSE lists them are 131,070.
const maxValues = 1 << 18

// maxTold is how many platforms of an index an error names.
const maxTold = 20

func isIndex(mediaType string) bool {
	return mediaType == v1.MediaTypeImageIndex || mediaType == dockerIndex
}

func isManifest(mediaType string) bool {
	return mediaType == v1.MediaTypeImageManifest || mediaType == dockerManifest
}

func isConfig(mediaType string) bool {
	return mediaType == v1.MediaTypeImageConfig || mediaType == dockerConfig
}

// isImage tells an image's manifest from an artifact's. BuildKit gives its attestations the config of an image, for registries that take no
// other: none of their layers is one.
func isImage(m *v1.Manifest) bool {
	layers := slices.ContainsFunc(m.Layers, func(l v1.Descriptor) bool { _, ok := compression(l.MediaType); return ok })
	return isConfig(m.Config.MediaType) && (layers || len(m.Layers) == 0)
}

// compression of a layer by its media type: "", "gzip" or "zstd", and whether it is a layer at all.
func compression(mediaType string) (kind string, ok bool) {
	if rest, docker := strings.CutPrefix(mediaType, "application/vnd.docker.image.rootfs."); docker {
		rest = strings.TrimPrefix(strings.TrimPrefix(rest, "foreign."), "diff.tar")
		switch rest {
		case "", ".gzip", ".zstd":
			return strings.TrimPrefix(rest, "."), true
		}
		return "", false
	}
	rest, ok := strings.CutPrefix(mediaType, "application/vnd.oci.image.layer.")
	if !ok {
		return "", false
	}
	switch rest = strings.TrimPrefix(rest, "nondistributable."); rest {
	case "v1.tar", "v1.tar+gzip", "v1.tar+zstd":
		return strings.TrimPrefix(strings.TrimPrefix(rest, "v1.tar"), "+"), true
	}
	return "", false
}

// A document is an index or a manifest that was read and checked.
type document struct {
	desc     v1.Descriptor // of its bytes
	raw      []byte
	index    *v1.Index // one of the two
	manifest *v1.Manifest
}

// checkDescriptor is asked of every descriptor before its digest or size is used.
func checkDescriptor(what string, d v1.Descriptor) error {
	if err := validDigest(d.Digest); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if d.Size < 0 {
		return fmt.Errorf("%s %s: a size of %d bytes", what, d.Digest, d.Size)
	}
	return nil
}

// parseDocument reads an index or a manifest of the media type that its source says it has; "" leaves that to the body. The same bytes
// must not be read as the one by us and as the other by somebody else (CVE-2021-41190).
func parseDocument(raw []byte, mediaType string) (*document, error) {
	if len(raw) > maxManifest {
		return nil, fmt.Errorf("manifest: larger than %d bytes", maxManifest)
	}
	var probe struct {
		MediaType     string          `json:"mediaType"`
		SchemaVersion int             `json:"schemaVersion"`
		Manifests     json.RawMessage `json:"manifests"`
		Layers        json.RawMessage `json:"layers"`
		Config        json.RawMessage `json:"config"`
		FSLayers      json.RawMessage `json:"fsLayers"`
	}
	if err := unmarshal(raw, &probe); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if probe.SchemaVersion == 1 || probe.FSLayers != nil || strings.HasPrefix(mediaType, dockerSchema1) {
		return nil, errors.New("manifest: it has Docker's schema 1, which no registry should serve since 2017, and which has no config: push the image again with a newer program")
	}
	if probe.SchemaVersion != 2 {
		return nil, fmt.Errorf("manifest: schemaVersion %d, want 2", probe.SchemaVersion)
	}
	if probe.MediaType != "" && mediaType != "" && probe.MediaType != mediaType {
		return nil, fmt.Errorf("manifest: the body says %.200q, and the header says %.200q", probe.MediaType, mediaType)
	}
	if probe.Manifests != nil && (probe.Layers != nil || probe.Config != nil) {
		return nil, errors.New("manifest: it has both manifests and layers: it could be read as an index or as an image (CVE-2021-41190)")
	}
	if mediaType == "" {
		mediaType = probe.MediaType
	}
	if mediaType == "" { // optional in image-spec
		mediaType = v1.MediaTypeImageManifest
		if probe.Manifests != nil {
			mediaType = v1.MediaTypeImageIndex
		}
	}
	d := &document{raw: raw, desc: v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}}
	switch {
	case isIndex(mediaType) && probe.Manifests != nil:
		return d, d.parseIndex()
	case isManifest(mediaType) && probe.Manifests == nil:
		return d, d.parseManifest()
	}
	return nil, fmt.Errorf("manifest: media type %.200q does not fit its body, or is none of an image's", mediaType)
}

// walk visits the documents below a descriptor: an index before what it names, and each once, since a few indexes that name each other many times
// would be visited for ever. read gives none for one that may be missing, and below the entries of an index that are wanted; those that are no images are passed over.
func walk(target v1.Descriptor, read func(v1.Descriptor) (*document, error), below func(index *document) ([]v1.Descriptor, error), visit func(*document) error) error {
	seen := map[digest.Digest]bool{}
	var from func(d v1.Descriptor, depth int) error
	from = func(d v1.Descriptor, depth int) error {
		if depth > maxDepth {
			return fmt.Errorf("index %s: indexes more than %d deep", target.Digest, maxDepth)
		}
		if seen[d.Digest] || !isIndex(d.MediaType) && !isManifest(d.MediaType) {
			return nil
		}
		seen[d.Digest] = true
		doc, err := read(d)
		if err != nil || doc == nil {
			return err
		}
		if err := visit(doc); err != nil || doc.index == nil {
			return err
		}
		list, err := below(doc)
		for _, d := range list {
			if err := from(d, depth+1); err != nil {
				return err
			}
		}
		return err
	}
	return from(target, 0)
}

func (d *document) parseIndex() error {
	d.index = new(v1.Index)
	if err := unmarshal(d.raw, d.index); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	for _, m := range d.index.Manifests {
		if err := checkDescriptor("index: manifest", m); err != nil {
			return err
		}
		if m.Size > maxManifest && (isIndex(m.MediaType) || isManifest(m.MediaType)) {
			return fmt.Errorf("index: manifest %s: %d bytes, want %d at most", m.Digest, m.Size, maxManifest)
		}
	}
	return nil
}

func (d *document) parseManifest() error {
	d.manifest = new(v1.Manifest)
	if err := unmarshal(d.raw, d.manifest); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	m := d.manifest
	if err := checkDescriptor("manifest: config", m.Config); err != nil {
		return err
	}
	if m.Config.Size > maxConfig {
		return fmt.Errorf("manifest: a config of %d bytes, want %d at most", m.Config.Size, maxConfig)
	}
	if len(m.Layers) > maxLayers {
		return fmt.Errorf("manifest: %d layers, want %d at most", len(m.Layers), maxLayers)
	}
	for _, l := range m.Layers {
		if err := checkDescriptor("manifest: layer", l); err != nil {
			return err
		}
	}
	return nil
}

// An ArtifactError is a manifest that is of no image.
type ArtifactError struct{ Type string }

func (e *ArtifactError) Error() string {
	return fmt.Sprintf("it is no image but an artifact of type %.200q", e.Type)
}

// runnable says why a manifest is of no image that can run: an artifact, a layer in a form that is not known.
func (d *document) runnable() error {
	if !isConfig(d.manifest.Config.MediaType) {
		return &ArtifactError{cmp.Or(d.manifest.ArtifactType, d.manifest.Config.MediaType)}
	}
	for _, l := range d.manifest.Layers {
		if _, ok := compression(l.MediaType); !ok {
			return fmt.Errorf("layer %s: media type %.200q is not known", l.Digest, l.MediaType)
		}
	}
	return nil
}

// parseConfig reads a config, and checks that it fits a manifest of n layers.
func parseConfig(raw []byte, n int) (*ConfigFile, error) {
	c := new(ConfigFile)
	if err := unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if c.RootFS.Type != "layers" && !(c.RootFS.Type == "" && len(c.RootFS.DiffIDs) == 0) {
		return nil, fmt.Errorf("config: rootfs.type %.200q, want layers", c.RootFS.Type)
	}
	if len(c.RootFS.DiffIDs) != n {
		return nil, fmt.Errorf("config: %d diff_ids for %d layers", len(c.RootFS.DiffIDs), n)
	}
	for _, id := range c.RootFS.DiffIDs {
		if err := validDigest(id); err != nil {
			return nil, fmt.Errorf("config: diff_ids: %w", err)
		}
		if id.Algorithm() != digest.SHA256 {
			return nil, fmt.Errorf("config: diff_ids: %s: layers are kept by sha256", id)
		}
	}
	return c, nil
}

// unmarshal is json.Unmarshal for one value, an object, that bounds how deep it nests (the decoder recurses), and refuses two fields of the
// outermost object that differ by case at most: the decoder takes the last of them, and somebody else takes the first. It has maxValues values at most.
func unmarshal(raw []byte, v any) error { return unmarshalUpTo(maxValues, raw, v) }

// unmarshalUpTo is unmarshal with another bound of how many values there are.
func unmarshalUpTo(most int, raw []byte, v any) error {
	if err := checkShape(most, raw); err != nil {
		return err
	}
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || raw[0] != '{' {
		return errors.New("it is no JSON object")
	}
	if err := leanjson.Unmarshal(raw, v); err != nil {
		return errors.New(printable(err.Error())) // which may have a number or a time of any length in it
	}
	return nil
}

// checkShape refuses, before anything is decoded, what nests too deep, has more than most values, or has a field of the outermost object twice.
func checkShape(most int, raw []byte) error {
	depth, from := 0, -1 // from is where a string began
	values := 0
	seen := map[string]bool{}
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case from >= 0 && c == '\\':
			i++
		case from >= 0 && c == '"':
			if key, ok := keyAt(raw, from, i+1); ok && depth == 1 {
				if key = folded(key); seen[key] {
					return fmt.Errorf("field %q is there twice", printable(key))
				}
				seen[key] = true
			}
			from = -1
		case c == '"' && from < 0:
			from = i
		case from >= 0:
		case c == '{' || c == '[':
			if depth++; depth > 64 {
				return errors.New("nested more than 64 deep")
			}
		case c == '}' || c == ']':
			depth--
		case c == ',':
			if values++; values > most {
				return fmt.Errorf("more than %d values", most)
			}
		}
	}
	return nil
}

// folded is one spelling of all names that a decoder takes for one field: it compares by Unicode's simple folding, where ſ is an s, and small letters alone
// do not tell.
func folded(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, name)
}

// keyAt reads the string raw[from:to], if a colon follows, behind however much space.
func keyAt(raw []byte, from, to int) (key string, ok bool) {
	rest := bytes.TrimLeft(raw[to:], " \t\r\n")
	if len(rest) == 0 || rest[0] != ':' {
		return "", false
	}
	return key, json.Unmarshal(raw[from:to], &key) == nil
}

// readLimited reads all of r, which may have max bytes at most.
func readLimited(r io.Reader, max int64, what string) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, max+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if int64(len(raw)) > max {
		return nil, final("%s: larger than %d bytes", what, max)
	}
	return raw, nil
}

// manifestBytes makes the bytes of a manifest, and its descriptor.
func manifestBytes(m v1.Manifest) ([]byte, v1.Descriptor, error) {
	raw, err := json.Marshal(m)
	return raw, v1.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, err
}
