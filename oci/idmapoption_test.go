package oci

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// The mappings of crun's option idmap=, as Podman hands it on, hold: of the machine's ids, or behind @ of the container's.
func TestIDMapOption(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	source := nstest.Dir(t)
	for name, owner := range map[string]int{"f": 5, "g": 20} {
		if err := os.WriteFile(filepath.Join(source, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(source, name), owner, owner+1); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		option string
		userNS bool
		want   string
	}{
		{"idmap=uids=0-1000-10#20-3000-1;gids=0-2000-10#21-4000-1", false, "1005:2006\n3000:4000\n"},
		{"ridmap=gids=0-2000-30;uids=0-1000-30", false, "1005:2006\n1020:2021\n"},
		{"idmap=uids=@0-0-10#@20-500-5;gids=@0-0-10#20-100600-5", true, "5:6\n500:601\n"},
	} {
		s := base("cd /a; stat -c %u:%g f g")
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/a", Type: "bind", Source: source, Options: []string{"bind", c.option}})
		dir := bundle(t, s)
		if c.userNS {
			mapped(t, dir, s)
			write(t, dir, s)
		}
		if out, stderr, code := run(t, dir); out != c.want || code != 0 {
			t.Errorf("%s: code %d: %q, want %q: %s", c.option, code, out, c.want, stderr)
		}
	}
}

func TestIDMapOptionRefused(t *testing.T) {
	nstest.Root(t)
	for option, why := range map[string]string{
		"idmap=":                               "name uids= and gids=",
		"idmap=uids=0-1-1;users=0-1-1":         "name uids= and gids=",
		"idmap=uids=0-1;gids=0-1-1":            `\"0-1\" is not three numbers`,
		"idmap=uids=0-1-x;gids=0-1-1":          `\"x\" is not a number`,
		"idmap=uids=0-1-1;gids=0-4294967296-1": `\"4294967296\" is not a number`,
		"idmap=uids=@0-1-1;gids=0-1-1":         "does not have the id 1",
		"idmap=uids=0-1-1":                     "both uidMappings and gidMappings",
		"idmap=uids=0-1-0;gids=0-1-1":          "size",
	} {
		s := base("true")
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/a", Type: "bind", Source: "/tmp", Options: []string{option}})
		refused(t, bundle(t, s), "mounts[", why)
	}
	s := base("true")
	one := []specs.LinuxIDMapping{{Size: 1}}
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/a", Type: "bind", Source: "/tmp", Options: []string{"idmap=uids=0-1-1;gids=0-1-1"}, UIDMappings: one, GIDMappings: one})
	refused(t, bundle(t, s), "mounts[", "has mappings besides")
}
