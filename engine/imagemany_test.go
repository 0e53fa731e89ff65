package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/image"
)

// TestImageOfMany: an image that has hundred thousands of variables, ports and volumes does not cost the square of that, which were minutes; ranges of
// ports, of which each can be written in many ways, have an end.
func TestImageOfMany(t *testing.T) {
	const many = 200000
	var img image.Image
	from := &img.Config.Config
	for i := range many {
		from.Env = append(from.Env, fmt.Sprintf("E%d=1", i))
	}
	from.ExposedPorts = map[string]struct{}{}
	for i := range 100 {
		from.ExposedPorts[strings.Repeat("0", i)+"1-65535/udp"] = struct{}{}
	}
	from.Volumes = map[string]struct{}{}
	for i := range many {
		from.Volumes[fmt.Sprintf("/v%d", i)] = struct{}{}
	}
	var c Config
	left := c.applyImage(img)
	if len(c.Mounts) != many {
		t.Errorf("%d volumes", len(c.Mounts))
	}
	if len(c.Env) != many || len(setEnv([]string{"PATH=/bin"}, c.Env...)) != many+1 {
		t.Errorf("%d variables", len(c.Env))
	}
	if ports, err := c.exposedPorts(); err != nil || len(ports) != 65535 || len(c.Expose) > 4 {
		t.Errorf("%d ports of %d ranges, %v", len(ports), len(c.Expose), err)
	}
	if !slices.ContainsFunc(left, func(s string) bool { return strings.Contains(s, "has more than") }) {
		t.Errorf("left out is %q", left)
	}
	// One after the other, as they were set before.
	for _, list := range [][]string{nil, {"A=1", "B=2", "A=3"}, {"A"}, {"A=2", "A"}, {"B=", "C==1", "PATH=x"}} {
		env := []string{"PATH=/bin", "A=0", "HOME=/"}
		want := env
		for _, v := range list {
			want = setEnv(want, v)
		}
		if got := setEnv(env, list...); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", list, got, want)
		}
	}
	// What goes and comes in one list has its place.
	if got, want := setEnv([]string{"PATH=/bin", "A=0", "HOME=/"}, "A", "A=2"), []string{"PATH=/bin", "A=2", "HOME=/"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
