package cli

import (
	"strings"
	"testing"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/engine"
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
