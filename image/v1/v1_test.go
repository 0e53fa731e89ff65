package v1

import (
	"reflect"
	"testing"

	docker "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/image-spec/specs-go"
	oci "github.com/opencontainers/image-spec/specs-go/v1"
)

// alike compares two types by their fields, names, tags and order.
func alike(t *testing.T, at string, a, b reflect.Type) {
	t.Helper()
	if a.Kind() != b.Kind() {
		t.Errorf("%s: %v, and %v upstream", at, a, b)
		return
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Slice:
		alike(t, at+"[]", a.Elem(), b.Elem())
	case reflect.Struct:
		if a == b {
			return
		}
		if a.NumField() != b.NumField() {
			t.Errorf("%s: %d fields, and %d upstream", at, a.NumField(), b.NumField())
			return
		}
		for i := range a.NumField() {
			f, g := a.Field(i), b.Field(i)
			if f.Name != g.Name || f.Tag != g.Tag || f.Anonymous != g.Anonymous {
				t.Errorf("%s: %s %q, and %s %q upstream", at, f.Name, f.Tag, g.Name, g.Tag)
			}
			alike(t, at+"."+f.Name, f.Type, g.Type)
		}
	}
}

func TestTypes(t *testing.T) {
	for _, pair := range [][2]any{
		{ImageLayout{}, oci.ImageLayout{}}, {Versioned{}, specs.Versioned{}}, {Descriptor{}, oci.Descriptor{}}, {Index{}, oci.Index{}}, {Manifest{}, oci.Manifest{}},
		{Image{}, oci.Image{}}, {DockerOCIImage{}, docker.DockerOCIImage{}},
	} {
		a, b := reflect.TypeOf(pair[0]), reflect.TypeOf(pair[1])
		alike(t, a.Name(), a, b)
	}
	for _, c := range [][2]string{
		{MediaTypeImageIndex, oci.MediaTypeImageIndex}, {MediaTypeImageManifest, oci.MediaTypeImageManifest}, {MediaTypeImageConfig, oci.MediaTypeImageConfig}, {MediaTypeImageLayer, oci.MediaTypeImageLayer},
		{MediaTypeImageLayerGzip, oci.MediaTypeImageLayerGzip}, {MediaTypeImageLayerZstd, oci.MediaTypeImageLayerZstd}, {ImageLayoutFile, oci.ImageLayoutFile}, {ImageLayoutVersion, oci.ImageLayoutVersion}, {AnnotationRefName, oci.AnnotationRefName},
	} {
		if c[0] != c[1] {
			t.Errorf("%q, and %q upstream", c[0], c[1])
		}
	}
}
