package oci

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// What a config.json can have wrong is refused by create and by run: exit code 1, one error that has the path in the JSON, on
// stderr and as JSON in the log, and nothing is left.
func TestBadConfig(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	good := func(change func(s *specs.Spec)) []byte {
		s := base("true")
		change(s)
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	text := func(old, new string) []byte {
		data := good(func(*specs.Spec) {})
		if !bytes.Contains(data, []byte(old)) {
			t.Fatalf("%s has no %s", data, old)
		}
		return bytes.Replace(data, []byte(old), []byte(new), 1)
	}
	bind := func(source string) []byte {
		return good(func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: source, Options: []string{"bind"}})
		})
	}
	version := `"ociVersion":"` + specs.Version + `"`
	for name, c := range map[string]struct {
		data []byte
		want []string
	}{
		"no JSON":                 {[]byte("ociVersion: 1.0"), []string{"config.json"}},
		"empty":                   {nil, []string{"config.json"}},
		"cut off":                 {good(func(*specs.Spec) {})[:200], []string{"config.json"}},
		"an array":                {[]byte("[]"), []string{"config.json", "an object"}},
		"unknown version":         {text(version, `"ociVersion":"2.0.0"`), []string{"ociVersion", "2.0.0"}},
		"no version":              {text(version, `"ociVersion":""`), []string{"ociVersion"}},
		"a word for a version":    {text(version, `"ociVersion":"newest"`), []string{"ociVersion", "newest"}},
		"a number for a version":  {text(version, `"ociVersion":1.3`), []string{"ociVersion", "a string"}},
		"no root":                 {good(func(s *specs.Spec) { s.Root = nil }), []string{"root"}},
		"empty root":              {good(func(s *specs.Spec) { s.Root.Path = "" }), []string{"root.path"}},
		"missing root":            {good(func(s *specs.Spec) { s.Root.Path = "none" }), []string{"root.path", "none"}},
		"root is a file":          {good(func(s *specs.Spec) { s.Root.Path = "config.json" }), []string{"root.path", "is no directory"}},
		"relative cwd":            {good(func(s *specs.Spec) { s.Process.Cwd = "srv" }), []string{"process.cwd", "absolute"}},
		"relative hook":           {good(func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "bin/x"}}} }), []string{"hooks.poststop[0].path", "absolute"}},
		"relative namespace":      {good(func(s *specs.Spec) { s.Linux.Namespaces[3].Path = "run/ns" }), []string{"linux.namespaces[3].path", "absolute"}},
		"relative device":         {good(func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "null", Type: "c"}} }), []string{"linux.devices[0].path", "absolute"}},
		"relative mask":           {good(func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"proc/keys"} }), []string{"linux.maskedPaths[0]", "absolute"}},
		"relative read-only path": {good(func(s *specs.Spec) { s.Linux.ReadonlyPaths = []string{"proc/keys"} }), []string{"linux.readonlyPaths[0]", "absolute"}},
		"hostname without uts":    {good(func(s *specs.Spec) { s.Linux.Namespaces = append(s.Linux.Namespaces[:2], s.Linux.Namespaces[3:]...) }), []string{"hostname", "uts"}},
		"sysctl without ipc": {good(func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"kernel.msgmax": "1"}
			s.Linux.Namespaces = append(s.Linux.Namespaces[:3], s.Linux.Namespaces[4:]...)
		}), []string{"linux.sysctl", "ipc"}},
		"duplicate namespaces":     {good(func(s *specs.Spec) { s.Linux.Namespaces = append(s.Linux.Namespaces, s.Linux.Namespaces[1]) }), []string{"linux.namespaces[6]", "mount"}},
		"unknown namespace":        {good(func(s *specs.Spec) { s.Linux.Namespaces[0].Type = "quantum" }), []string{"linux.namespaces[0].type", "quantum"}},
		"missing source":           {bind("/no/such/source"), []string{"mounts[1]", "/no/such/source"}},
		"cyclic source":            {bind("loop"), []string{"mounts[1]", "loop", "ELOOP"}},
		"source within itself":     {bind("rootfs/self/self/none"), []string{"mounts[1]", "/self/self/none"}},
		"no command":               {good(func(s *specs.Spec) { s.Process.Args = nil }), []string{"process.args"}},
		"user too large":           {text(`"uid":0`, `"uid":4294967296`), []string{"process.user.uid", "4294967296"}},
		"a name twice":             {text(`"hostname":"bundle"`, `"hostname":"bundle","hostname":"b"`), []string{"hostname", "second"}},
		"invalid UTF-8":            {text(`"hostname":"bundle"`, "\"hostname\":\"bun\xffdle\""), []string{"hostname", "UTF-8"}},
		"UTF-16":                   {[]byte("\xff\xfe{\x00}\x00"), []string{"config.json"}},
		"too deep":                 {text(`"hostname":"bundle"`, `"x":`+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)), []string{"x[0]", "at most 64"}},
		"gigantic array":           {text(`"args":["sh"`, `"args":["sh"`+strings.Repeat(`,""`, 1<<20)), []string{"process.args[", "at most"}},
		"gigantic list of mounts":  {text(`"mounts":[`, `"mounts":[`+strings.Repeat(`{"destination":"/proc/x","type":"tmpfs","source":"t"},`, 70000)), []string{"mounts"}},
		"gigantic string":          {text(`"hostname":"bundle"`, `"hostname":"`+strings.Repeat("h", 10<<20)+`"`), []string{"hostname"}},
		"gigantic list of sysctls": {good(func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net." + strings.Repeat("x", 100000): "1"} }), []string{"linux.sysctl"}},
		"a hundred megabytes":      {append(bytes.Repeat([]byte(" "), 100<<20), "{}"...), []string{"config.json", "100 MB"}},
	} {
		t.Run(name, func(t *testing.T) {
			p, dir := newPlace(t), nstest.Dir(t)
			if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o755); err != nil {
				t.Fatal(err)
			}
			for link, to := range map[string]string{"loop": "loop", "rootfs/self": "."} {
				if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, "config.json"), c.data, 0o644); err != nil {
				t.Fatal(err)
			}
			for _, verb := range []string{"create", "run"} {
				log := filepath.Join(nstest.Dir(t), "log")
				out, code := p.do("--log", log, "--log-format", "json", verb, "--bundle", dir, "x")
				if code != 1 || strings.Contains(out, "goroutine") || len(out) > 4000 {
					t.Fatalf("%s: code %d, %d bytes: %.2000s", verb, code, len(out), out)
				}
				data, err := os.ReadFile(log)
				if err != nil {
					t.Fatal(err)
				}
				lines := strings.Split(strings.TrimSpace(string(data)), "\n")
				var last struct{ Level, Msg, Time string }
				for _, line := range lines {
					if err := json.Unmarshal([]byte(line), &last); err != nil {
						t.Fatalf("%s: %v: %.500s", verb, err, line)
					}
				}
				if last.Level != "error" || last.Time == "" {
					t.Errorf("%s: the log ends with %+v", verb, last)
				}
				for _, want := range c.want {
					if !strings.Contains(last.Msg, want) || !strings.Contains(out, want) {
						t.Errorf("%s: no %q in %.500q\n%.500s", verb, want, last.Msg, out)
					}
				}
			}
			if list, err := os.ReadDir(p.dir); err == nil && len(list) > 0 {
				t.Errorf("left: %v", list)
			}
		})
	}
}
