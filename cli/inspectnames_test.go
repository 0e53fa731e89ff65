package cli

import (
	"strings"
	"testing"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/image"
)

// A template names fields as Docker's types have them in Go, or as its JSON has them.
func TestHostConfigNames(t *testing.T) {
	c := &engine.ContainerInspect{HostConfig: &engine.HostConfig{CPURealtimeRuntime: 7, NanoCPUs: 8, DNS: []string{"9.9.9.9"}}}
	for _, text := range []string{
		"{{.HostConfig.CPURealtimeRuntime}} {{.HostConfig.NanoCPUs}} {{.HostConfig.DNS}}",
		"{{.HostConfig.CpuRealtimeRuntime}} {{.HostConfig.NanoCpus}} {{.HostConfig.Dns}}",
	} {
		var b strings.Builder
		if err := format.Objects(&b, text, []any{c}); err != nil || b.String() != "7 8 [9.9.9.9]\n" {
			t.Errorf("%s: %q, %v", text, b.String(), err)
		}
	}
}

// Templates that are written for Docker's images find each field that its type has, also those that say nothing here.
func TestImageInspectNames(t *testing.T) {
	i := image.Inspection{Os: "linux", OsVersion: "9", GraphDriver: image.GraphDriver{Name: "overlay"}}
	for text, want := range map[string]string{
		"{{.Os}} {{.OsVersion}} {{.DockerVersion}}{{.Container}}{{.VirtualSize}} {{json .ContainerConfig}} {{.GraphDriver.Name}}": "linux 9 0 null overlay\n",
		"{{.Id}}{{json .DockerVersion}} {{json .GraphDriver}}":                                                                    `"" {"Data":null,"Name":"overlay"}` + "\n", // by the names of JSON
	} {
		var b strings.Builder
		if err := format.Objects(&b, text, []any{i}); err != nil || b.String() != want {
			t.Errorf("%s: %q, %v", text, b.String(), err)
		}
	}
}
