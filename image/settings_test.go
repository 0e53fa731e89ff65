package image

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
)

// TestSettings: each file is read where it is there, and a later one goes before an earlier one.
func TestSettings(t *testing.T) {
	etc, home := t.TempDir(), t.TempDir()
	config := filepath.Join(home, ".config")
	write := func(dir, name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	read := func() *Settings {
		t.Helper()
		s, err := readSettings(etc, home, config)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := read(); !reflect.DeepEqual(s, &Settings{}) {
		t.Errorf("%+v", s)
	}
	for _, empty := range []string{"", " \n", "\ufeff", "\ufeff{}"} {
		write(etc, "docker/daemon.json", empty)
		if s := read(); !reflect.DeepEqual(s, &Settings{}) {
			t.Errorf("%q: %+v", empty, s)
		}
	}
	write(etc, "docker/daemon.json", `{"registry-mirrors":["https://mirror.example"],"insecure-registries":["old.lan:5000","10.0.0.0/8","HTTP://url.lan:5000/"],"max-concurrent-downloads":3,"log-driver":"x"}`)
	write(etc, "docker/certs.d/one.lan:5000/ca.crt", "x")
	write(etc, "docker/certs.d/one.lan:5000/client.cert", "x")
	write(etc, "docker/certs.d/one.lan:5000/client.key", "x")
	write(etc, "containers/registries.conf", `
unqualified-search-registries = ["docker.io"]
[[registry]]
prefix = "quay.io"
location = "quay.io"
[[registry.mirror]]
location = "quay-mirror.lan:5000/cache"
insecure = true
[[registry]]
location = "bad.example"
blocked = true
[[registry]]
prefix = "*.wild.example"
location = "x.example"
[[registry]]
prefix = "moved.example"
location = "new.example"
`)
	write(etc, "containers/registries.conf.d/50-more.conf", "[[registry]]\nlocation = \"plain.lan\"\ninsecure = true\n")
	s := read()
	if got := s.Registries["docker.io"].Mirrors; len(got) != 1 || got[0] != "https://mirror.example" || s.Downloads != 3 {
		t.Errorf("%+v", s)
	}
	one := s.Registries["one.lan:5000"]
	if !strings.HasSuffix(one.CA, "ca.crt") || !strings.HasSuffix(one.Cert, "client.cert") || !strings.HasSuffix(one.Key, "client.key") {
		t.Errorf("%+v", one)
	}
	if !s.Registries["bad.example"].Blocked {
		t.Errorf("%+v", s.Registries)
	}
	for host, want := range map[string]bool{
		"old.lan:5000": true, "url.lan:5000": true, "url.lan": false, "old.lan": false, "10.9.8.7": true, "10.9.8.7:5000": true, "11.0.0.1": false, "plain.lan": true, "quay-mirror.lan:5000": false,
		"quay.io": false, "localhost": true, "localhost:1": true, "127.9.9.9:5000": true, "[::1]:5000": true, "localhost.evil.example": false, "127.0.0.1.evil.example": false,
		"0.0.0.0:5000": false, "[::ffff:10.1.1.1]": true, "one.lan:5000": false,
	} {
		if got := s.insecure(host); got != want {
			t.Errorf("%s: insecure %v", host, got)
		}
	}
	write(etc, "kakuri/registries.json", `{"registries":{"quay.io":{"mirrors":["a.lan"]},"one.lan:5000":{"realms":["x.example"]}},"downloads":6,"maxRatio":1000}`)
	write(config, "kakuri/registries.json", `{"registries":{"quay.io":{"mirrors":["b.lan"]}},"insecure":["c.lan"]}`)
	s = read()
	if got := s.Registries["quay.io"].Mirrors; len(got) != 1 || got[0] != "b.lan" || s.Downloads != 6 || s.maxRatio() != 1000 || !s.insecure("c.lan") || s.downloads() != 6 || s.uploads() != 4 {
		t.Errorf("%+v", s)
	}
	if one := s.Registries["one.lan:5000"]; one.CA == "" || len(one.Realms) != 1 {
		t.Errorf("certs.d is forgotten: %+v", one)
	}
	for file, bad := range map[string][]string{
		"kakuri/registries.json": {`{`, `{"typo":1}`, `{"registries":{"a/b":{}}}`, `{"registries":{"a.lan":{"mirrors":["ftp://x"]}}}`, `{"registries":{"a.lan":{"mirrors":["https://u:p@x"]}}}`, `{"maxLayer":-1}`, `{"insecure":["ftp://a.lan"]}`},
		"docker/daemon.json":     {`{`, `{"insecure-registries":1}`, `{"insecure-registries":["a.lan/b"]}`},
		"containers/registries.conf": {"[[registry]\n", "[[registry]]\nblocked = true\n", "[[registry]]\nprefix = \"A B\"\n", "[[registry]]\nlocation = \"a.lan\"\n[[registry.mirror]]\n",
			"[[registry]]\nlocation = \"a.lan\"\n[[registry.mirror]]\nlocation = \"b.lan\"\npull-from-mirror = \"never\"\n"},
	} {
		for _, text := range bad {
			old, _ := os.ReadFile(filepath.Join(etc, file))
			write(etc, file, text)
			if _, err := readSettings(etc, home, config); err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("%s: %s: %v", file, text, err)
			}
			write(etc, file, string(old))
		}
	}
}

// TestForeignSettings: what another user has in his own directory, or in one of all, does not say where root's images come from, or whose word for them is not checked.
func TestForeignSettings(t *testing.T) {
	nstest.Root(t)
	for _, test := range []struct {
		name  string
		plant func(file string) error
		left  string // why it is not read
	}{
		{"one's own", func(string) error { return nil }, ""},
		{"one's own, in another's directory", func(file string) error { return os.Chown(filepath.Dir(file), 65534, 65534) }, ""},
		{"one's own, behind a link", func(file string) error { return errors.Join(os.Rename(file, file+"2"), os.Symlink(file+"2", file)) }, ""},
		{"a group's", func(file string) error { return os.Chmod(file, 0o664) }, ""},
		{"another's", func(file string) error { return os.Chown(file, 65534, 65534) }, "it is the user 65534's"},
		{"another's, behind a link", func(file string) error {
			return errors.Join(os.Rename(file, file+"2"), os.Chown(file+"2", 65534, 65534), os.Symlink(file+"2", file))
		}, "it is the user 65534's"},
		{"root's, behind another's link", func(file string) error {
			return errors.Join(os.Rename(file, file+"2"), os.Symlink(file+"2", file), os.Lchown(file, 65534, 65534))
		}, "a link of the user 65534"},
		{"root's, behind a link of one's own and another's", func(file string) error {
			return errors.Join(os.Rename(file, file+"2"), os.Symlink("../kakuri/between", file), os.Symlink(file+"2", filepath.Dir(file)+"/between"), os.Lchown(filepath.Dir(file)+"/between", 65534, 65534))
		}, "a link of the user 65534"},
		{"everybody's", func(file string) error { return os.Chmod(file, 0o602) }, "everybody may write to it"},
		{"another's FIFO", func(file string) error {
			return errors.Join(os.Remove(file), mkfifo(file), os.Chown(file, 65534, 65534))
		}, "it is the user 65534's"},
	} {
		config := t.TempDir()
		file := filepath.Join(config, "kakuri/registries.json")
		if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(`{"insecure":["planted.lan"]}`), 0o600), test.plant(file)); err != nil {
			t.Fatal(err)
		}
		s, err := readSettings(t.TempDir(), t.TempDir(), config)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if s.insecure("planted.lan") != (test.left == "") {
			t.Errorf("%s: read: %v", test.name, test.left != "")
		}
		if left := errors.Join(s.leftOut...); (left == nil) != (test.left == "") || left != nil && (!strings.Contains(left.Error(), test.left) || !strings.Contains(left.Error(), file)) {
			t.Errorf("%s: left out: %v, want %q", test.name, left, test.left)
		}
	}
}

// TestLeftOutSettings: a store tells once which settings do not count, and does what it is asked without.
func TestLeftOutSettings(t *testing.T) {
	nstest.Root(t)
	config := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", config)
	file := filepath.Join(config, "kakuri/registries.json")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("{"), 0o600), os.Chmod(file, 0o666)); err != nil {
		t.Fatal(err)
	}
	var told []string
	n := &network{o: &Options{Warn: func(s string) { told = append(told, s) }}}
	for range 2 {
		if _, err := n.rules(); err != nil {
			t.Fatal(err)
		}
	}
	if len(told) != 1 || told[0] != "settings are left out: "+file+": everybody may write to it: chmod o-w it" {
		t.Errorf("%q", told)
	}
}

// TestPrefixes: the longest prefix of registries.conf says where an image is asked for, and whether at all.
func TestPrefixes(t *testing.T) {
	etc := t.TempDir()
	if err := os.MkdirAll(filepath.Join(etc, "containers"), 0o755); err != nil {
		t.Fatal(err)
	}
	const conf = `
unqualified-search-registries = ["quay.io"]
[[registry]]
prefix = "quay.io"
[[registry.mirror]]
location = "mirror.lan:5000/cache"
insecure = true
[[registry.mirror]]
location = "digests.lan"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "tags.lan"
pull-from-mirror = "tag-only"
[[registry]]
prefix = "quay.io/team"
location = "team.lan/x"
[[registry]]
prefix = "quay.io/team/secret:1"
blocked = true
[[registry]]
prefix = "*.wild.example"
location = "wild.lan"
insecure = true
[[registry]]
location = "bad.example"
blocked = true
[[registry]]
prefix = "docker.io"
location = "hub.lan/v"
mirror-by-digest-only = true
[[registry.mirror]]
location = "hubmirror.lan"
`
	if err := os.WriteFile(filepath.Join(etc, "containers/registries.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	rules, err := readSettings(etc, "", "")
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(t, rules)
	id := "@sha256:" + digest64
	for name, want := range map[string]string{
		"quay.io/a:1":               "mirror.lan:5000/cache/a~ tags.lan/a quay.io/a",
		"quay.io/a" + id:            "mirror.lan:5000/cache/a~ digests.lan/a quay.io/a",
		"quay.io/team/a":            "team.lan/x/a",
		"quay.io/team/secret:2":     "team.lan/x/secret",
		"quay.io/team/secret:1":     "blocked",
		"quay.io/teamwork":          "mirror.lan:5000/cache/teamwork~ tags.lan/teamwork quay.io/teamwork",
		"a.wild.example/b":          "wild.lan/b~",
		"wild.example/b":            "wild.example/b",
		"bad.example/b":             "blocked",
		"busybox":                   "hub.lan/v/library/busybox",
		"busybox" + id:              "hubmirror.lan/library/busybox hub.lan/v/library/busybox",
		"quay.io.evil.example/team": "quay.io.evil.example/team",
	} {
		r, err := ParseReference(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		list, err := s.sources(r.Tagged(), nil)
		for _, from := range list {
			place := from.host + "/" + from.repo
			if !from.tls {
				place += "~"
			}
			got = append(got, place)
		}
		if err != nil && strings.Contains(err.Error(), "the settings block") {
			got = []string{"blocked"}
		} else if err != nil {
			t.Error(err)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	r, _ := ParseReference("quay.io/team/a")
	if to, err := s.remote(r, nil); err != nil || to.host != "quay.io" {
		t.Errorf("a push would go to %v: %v", to, err)
	}
}
