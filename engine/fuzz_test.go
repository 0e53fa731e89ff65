package engine

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/kakuri/kakuri/internal/files"
)

// Records are files that anything may have happened to.
func FuzzRecord(f *testing.F) {
	good, err := json.Marshal(Record{ID: files.NewID(), Name: "web", Slot: 7})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{good, append(good, good...), []byte("{}\n{}"), {0, '\n'}, []byte(`{"Slot":1e99}`), []byte(`{"Config":{"Mounts":[{}],"Health":{}}}`)} {
		f.Add(seed, []byte("{}"))
		f.Add(good, seed)
	}
	f.Fuzz(func(t *testing.T, record, state []byte) {
		dir := t.TempDir()
		e := &Engine{dir: dir, data: dir}
		os.WriteFile(dir+"/container.json", record, 0o600)
		os.WriteFile(dir+"/state.json", state, 0o600)
		e.read(dir)
	})
}

// Account files are an image's, and -u is what somebody typed: a number stays that
// number, and nobody becomes root without being called so.
func FuzzResolveUser(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/:\n", "wheel:x:10:web\n", "web:wheel")
	f.Add("1000:x:0:0::/:\n", "", "1000")
	f.Add("a:b:c:d:e:f", "a:b:c:d", "a:a")
	f.Add(":::::::\n", ":::", ":")
	f.Fuzz(func(t *testing.T, passwd, group, spec string) {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(root, "etc/passwd"), []byte(passwd), 0o644)
		os.WriteFile(filepath.Join(root, "etc/group"), []byte(group), 0o644)
		u, home, err := resolveUser(inRoot(root), spec)
		if err != nil {
			return
		}
		if home == "" || home[0] != '/' {
			t.Errorf("%q: home %q", spec, home)
		}
		name := spec
		for i, c := range spec {
			if c == ':' {
				name = spec[:i]
				break
			}
		}
		if id, ok := parseID(name); ok && u.UID != id {
			t.Errorf("%q becomes %d", spec, u.UID)
		}
		if u.UID > 1<<31-1 || u.GID > 1<<31-1 {
			t.Errorf("%q: %+v", spec, u)
		}
	})
}
