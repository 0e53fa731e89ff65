package image

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// filled is a store with some images: app:1 and app:2 (one image), old/app:1, and what app:1 was before.
func filled(t testing.TB) *Store {
	t.Helper()
	f := newFixture()
	tars := layersOf(4)
	f.tags["before"] = f.image(Host(), "gzip", false, tars[0])
	f.tags["now"] = f.image(Host(), "gzip", false, tars[0], tars[1])
	f.tags["old"] = f.image(Host(), "zstd", false, tars[0], tars[1], tars[2])
	k, s := served(t, f)
	for _, step := range [][2]string{{"before", "app:1"}, {"now", "app:1"}, {"now", "app:2"}, {"old", "old.example/app:1"}} {
		from := k.host + "/r:" + step[0]
		copyTo(t, s, from, step[1], PullOptions{})
		if _, err := s.Remove(t.Context(), from, RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func tagsIn(list []Summary) string {
	var tags []string
	for _, i := range list {
		if len(i.Names) == 0 {
			tags = append(tags, "<none>")
		}
		tags = append(tags, i.RepoTags()...)
	}
	slices.Sort(tags)
	return strings.Join(tags, " ")
}

// TestList: filters as Docker has them.
func TestList(t *testing.T) {
	s := filled(t)
	for _, test := range []struct{ filters, want string }{
		{"", "<none> app:1 app:2 old.example/app:1"},
		{"dangling=true", "<none>"},
		{"dangling=false", "app:1 app:2 old.example/app:1"},
		{"reference=app", "app:1 app:2"},
		{"reference=app:1", "app:1"},
		{"reference=*/app", "old.example/app:1"},
		{"reference=*/*/*", ""},
		{"reference=docker.io/*/app", "app:1 app:2"},
		{"reference=docker.io/library/app:2", "app:2"},
		{"reference=app:2 reference=*/*:1", "app:2 old.example/app:1"},
		{"label=kind=zstd", "old.example/app:1"},
		{"label=kind", "<none> app:1 app:2 old.example/app:1"},
		{"label!=kind", ""},
		{"until=2026-01-01", ""},
		{"until=0", ""},
		{"until=2026-01-03", "<none> app:1 app:2 old.example/app:1"},
		{"before=app:1", ""},
		{"since=app:1 dangling=false", ""},
	} {
		filters := Filters{}
		for f := range strings.FieldsSeq(test.filters) {
			key, value, _ := strings.Cut(f, "=")
			filters[key] = append(filters[key], value)
		}
		list, err := s.List(t.Context(), ListOptions{Filters: filters, Shared: true})
		if err != nil || tagsIn(list) != test.want {
			t.Errorf("%s: %q, want %q: %v", test.filters, tagsIn(list), test.want, err)
		}
	}
	for _, bad := range []Filters{{"x": {"y"}}, {"dangling": {"maybe"}}, {"dangling": {"False"}}, {"before": {"nobody"}}, {"until": {"x"}}, {"reference": {"["}}} {
		if _, err := s.List(t.Context(), ListOptions{Filters: bad}); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
	list, err := s.List(t.Context(), ListOptions{Filters: Filters{"reference": {"old.example/app"}}, Shared: true})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	sizes := []int64{}
	for _, id := range list[0].Chain() {
		n, _ := s.o.Layers.Stat(id)
		sizes = append(sizes, n)
	}
	if list[0].Size != sizes[0]+sizes[1]+sizes[2] || list[0].SharedSize != sizes[0]+sizes[1] {
		t.Errorf("%d of %v, shared %d", list[0].Size, sizes, list[0].SharedSize)
	}
}

// TestGet: names, ids and their beginnings, digests.
func TestGet(t *testing.T) {
	s := filled(t)
	app, err := s.Get("app:1", Platform{})
	if err != nil {
		t.Fatal(err)
	}
	for ref, ok := range map[string]bool{
		"app:1": true, "docker.io/library/app:1": true, "app:2": true, "app": false, "app:3": false, "library/app:1": true, "x/app:1": false,
		app.ID.String(): true, app.ID.Encoded(): true, app.ID.Encoded()[:12]: true, "sha256:" + app.ID.Encoded()[:12]: true, app.ID.Encoded()[:5]: true,
		"app@" + string(app.Target.Digest): true, "app@sha256:" + digest64: false, "x@" + string(app.Target.Digest): false, "app:1@" + string(app.Target.Digest): true,
		string(app.Target.Digest): true, digest64: false, "": false, "A": false, "app@sha256:x": false,
	} {
		got, err := s.Get(ref, Platform{})
		if (err == nil) != ok || ok && got.ID != app.ID {
			t.Errorf("%q: %v %v", ref, got.ID, err)
		}
		var none *NotFoundError
		want := ref
		if ref == "app" {
			want = "app:latest"
		}
		if !ok && (!errors.As(err, &none) || err.Error() != "No such image: "+want) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	if _, err := s.Get("app:1", other); err == nil {
		t.Error("an image of another platform")
	}
}

// TestRemove: names first, the image with the last of them; what nobody needs goes along.
func TestRemove(t *testing.T) {
	s := filled(t)
	app, err := s.Get("app:1", Platform{})
	if err != nil {
		t.Fatal(err)
	}
	remove := func(ref string, o RemoveOptions) string {
		t.Helper()
		out, err := s.Remove(t.Context(), ref, o)
		if err != nil {
			return err.Error()
		}
		var list []string
		for _, r := range out {
			if r.Untagged != "" {
				list = append(list, "-"+r.Untagged)
			} else if r.Deleted == app.ID.String() {
				list = append(list, "x")
			}
		}
		return strings.Join(list, " ")
	}
	if got := remove("app:2", RemoveOptions{}); got != "-app:2" {
		t.Error(got)
	}
	if err := s.Tag(t.Context(), "app:1", "another:1"); err != nil {
		t.Fatal(err)
	}
	if got := remove(app.ID.Encoded()[:12], RemoveOptions{}); !strings.Contains(got, "must be forced") {
		t.Error(got)
	}
	if got := remove("another:1", RemoveOptions{}); got != "-another:1" {
		t.Error(got)
	}
	blocked := func(i Image, force bool) error {
		if i.ID != app.ID || force {
			return nil
		}
		return errors.New("container x uses it")
	}
	if got := remove("app:1", RemoveOptions{Blocked: blocked}); got != "container x uses it" {
		t.Error(got)
	}
	if _, err := s.Get("app:1", Platform{}); err != nil {
		t.Error(err)
	}
	// Not even force removes an image by which a container runs: its name goes, if that is what was given.
	runs := RemoveOptions{Force: true, Blocked: func(Image, bool) error { return errors.New("container x runs") }}
	if got := remove("app:1", runs); got != "-app:1" {
		t.Error(got)
	}
	if i, err := s.Get(app.ID.String(), Platform{}); err != nil || len(i.Names) != 0 {
		t.Errorf("%v %v", i.Names, err)
	}
	if got := remove(app.ID.String(), runs); got != "container x runs" {
		t.Error(got)
	}
	if err := s.Tag(t.Context(), app.ID.String(), "app:1"); err != nil {
		t.Fatal(err)
	}
	inUse := app.Chain()
	s.o.InUse = func() ([]digest.Digest, error) { return inUse, nil }
	if got := remove("app:1", RemoveOptions{Blocked: blocked, Force: true}); got != "-app:1 x" {
		t.Error(got)
	}
	if len(s.missing(app)) > 0 {
		t.Error("layers that a container needs are gone")
	}
	inUse = nil
	if got := remove("old.example/app:1", RemoveOptions{}); got != "-old.example/app:1" {
		t.Error(got)
	}
	if out, err := s.Prune(t.Context(), PruneOptions{}); err != nil || out.SpaceReclaimed == 0 {
		t.Errorf("%+v %v", out, err)
	}
	empty(t, s)
	if got := remove("nobody", RemoveOptions{}); got != "No such image: nobody:latest" {
		t.Error(got)
	}
}

// TestPrune: without a name, or all but those in use, by filters.
func TestPrune(t *testing.T) {
	s := filled(t)
	names := func() string {
		list, err := s.List(t.Context(), ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return tagsIn(list)
	}
	prune := func(o PruneOptions) {
		t.Helper()
		if _, err := s.Prune(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	prune(PruneOptions{Filters: Filters{"until": {"2026-01-01"}}})
	if names() != "<none> app:1 app:2 old.example/app:1" {
		t.Error(names())
	}
	prune(PruneOptions{})
	if names() != "app:1 app:2 old.example/app:1" {
		t.Error(names())
	}
	prune(PruneOptions{All: true, InUse: func(i Image) bool { return i.Config.Config.Labels["kind"] == "zstd" }})
	if names() != "old.example/app:1" {
		t.Error(names())
	}
	for _, no := range []string{"", "f", "False", "no"} { // none of them is Docker's word for false, which would take all
		if _, err := s.Prune(t.Context(), PruneOptions{Filters: Filters{"dangling": {no}}}); err == nil || names() != "old.example/app:1" {
			t.Errorf("dangling=%s: %v, %s", no, err, names())
		}
	}
	prune(PruneOptions{Filters: Filters{"dangling": {"false"}, "label": {"kind=zstd"}}})
	empty(t, s)
	if _, err := s.Prune(t.Context(), PruneOptions{Filters: Filters{"before": {"x"}}}); err == nil {
		t.Error("no error")
	}
}

// TestSweepAndFIFO: what is in the place of the note that there is something to sweep holds nobody up.
func TestSweepAndFIFO(t *testing.T) {
	s := newStore(t, nil)
	unlock, err := s.lock(t.Context(), "adding", unix.LOCK_SH)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if err := unix.Mkfifo(s.path(unswept), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestDamage: every changed byte is found and named, and fetched again; a damaged store sweeps nothing.
func TestDamage(t *testing.T) {
	k, s := served(t, pullable())
	name := k.host + "/a"
	img, err := s.Pull(t.Context(), name, PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if found, err := s.Check(t.Context(), true); err != nil || len(found) > 0 {
		t.Fatal(found, err)
	}
	layers := s.o.Layers.(dirLayers)
	files := map[string]string{
		"manifest": s.blobPath(img.Manifest.Digest), "config": s.blobPath(img.ID), "layer": layers.path(img.Chain()[1]),
	}
	for what, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		damages := map[string][]byte{"empty": {}, "short": raw[:len(raw)-1], "long": append(slices.Clone(raw), 0)}
		for i := 0; i < len(raw); i += 1 + len(raw)/10 {
			bit := slices.Clone(raw)
			bit[i] ^= 1 << (i % 8)
			damages[fmt.Sprint("bit of ", i)] = bit
		}
		for kind, damaged := range damages {
			if err := os.WriteFile(file, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			found, err := s.Check(t.Context(), true)
			if err != nil || len(found) != 1 || found[0].What != what || found[0].Image != name+":latest" {
				t.Fatalf("%s, %s: %v %v", what, kind, found, err)
			}
			if _, err := s.Sweep(t.Context()); what != "layer" && err == nil {
				t.Errorf("%s, %s: a sweep knew what it may take", what, kind)
			}
			if what == "layer" {
				if _, err := s.Repair(t.Context(), name, PullOptions{}); err != nil {
					t.Fatal(err)
				}
			} else if _, err := s.Pull(t.Context(), name, PullOptions{}); err != nil {
				t.Fatal(err)
			}
			if found, err := s.Check(t.Context(), true); err != nil || len(found) > 0 {
				t.Fatalf("%s, %s: after the repair: %v %v", what, kind, found, err)
			}
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if found, err := s.Check(t.Context(), false); err != nil || len(found) != 1 {
			t.Errorf("%s is away: %v %v", what, found, err)
		}
		if _, err := s.Pull(t.Context(), name, PullOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, raw := range []string{"", "{", "[]", "{}", "null", `{"schemaVersion":2}`, `{"schemaVersion":2,"manifests":null}`, `{"manifests":[{"digest":"sha256:../x"}]}`} {
		if err := os.WriteFile(s.path("index.json"), []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		if found, err := s.Check(t.Context(), true); err != nil || len(found) != 1 || found[0].What != "index.json" {
			t.Errorf("%q: %v %v", raw, found, err)
		}
		if _, err := s.Sweep(t.Context()); err == nil {
			t.Errorf("%q: swept", raw)
		}
		if _, err := s.Pull(t.Context(), name, PullOptions{}); err == nil {
			t.Errorf("%q: names were lost without a word", raw)
		}
	}
	if err := os.Remove(s.path("index.json")); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Check(t.Context(), true); err != nil || len(found) != 1 || found[0].What != "index.json" {
		t.Errorf("it is gone: %v %v", found, err)
	}
	if _, err := s.Sweep(t.Context()); err == nil {
		t.Error("it is gone: swept")
	}
	if err := s.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	if list, err := s.List(t.Context(), ListOptions{}); err != nil || len(list) != 1 || list[0].ID != img.ID {
		t.Errorf("after it was gone: %v %v", list, err)
	}
	if err := errors.Join(os.Remove(s.path("index.json")), unix.Mkfifo(s.path("index.json"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Check(t.Context(), true); err != nil || len(found) != 1 || found[0].What != "index.json" {
		t.Errorf("a FIFO: %v %v", found, err)
	}
	if err := s.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	if list, err := s.List(t.Context(), ListOptions{}); err != nil || len(list) != 1 || list[0].ID != img.ID {
		t.Errorf("%v %v", list, err)
	}
}

// TestRights: nobody else looks into a store (CVE-2021-41091).
func TestRights(t *testing.T) {
	s := filled(t)
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err == nil && st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v", path, st.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestTemporaryFileOfAKilledCommand: it is found and taken away however young it is, but not while one that is there may be somebody's.
func TestTemporaryFileOfAKilledCommand(t *testing.T) {
	s := newStore(t, nil)
	left := s.path("tmp/new-1")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	found := func() (text string) {
		t.Helper()
		list, err := s.Check(t.Context(), false)
		for _, f := range list {
			text += f.String()
		}
		if err != nil {
			t.Error(err)
		}
		return text
	}
	for lock, how := range map[string]int{"adding": unix.LOCK_SH, "lock": unix.LOCK_EX} {
		unlock, err := s.lock(t.Context(), lock, how)
		if err != nil {
			t.Fatal(err)
		}
		if text := found(); text != "" {
			t.Errorf("%s is held: %s", lock, text)
		}
		if lock == "lock" { // while somebody adds, it is put off, which TestSweepWaits has
			if _, err := s.Sweep(t.Context()); err != nil {
				t.Error(err)
			}
		}
		unlock()
		if _, err := os.Lstat(left); err != nil {
			t.Fatalf("%s is held: %v", lock, err)
		}
	}
	if text := found(); text != "temporary file "+left+": nobody needs it: what a killed command left" {
		t.Errorf("%q", text)
	}
	if _, err := s.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if text := found(); text != "" {
		t.Error(text)
	}
	empty(t, s)
}

// TestSweepWaits: a sweep takes nothing while somebody adds, and who adds sweeps at the end.
func TestSweepWaits(t *testing.T) {
	s := filled(t)
	release, err := s.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.Get("old.example/app:1", Platform{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), "old.example/app:1", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(s.missing(img)) > 0 {
		t.Error("swept under a hold")
	}
	release()
	if len(s.missing(img)) != 1 {
		t.Errorf("%v", s.missing(img))
	}
}

// killMe is set for the process that TestKilled kills.
const killMe = "KAKURI_TEST_KILL"

// TestKilled: a pull, load or removal that is killed at any moment leaves a store in which all that has a name is whole, and
// which the next command uses as if nothing had been.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(killMe); dir != "" { // the one to be killed
		s := newStoreAt(t, dir, nil)
		host := os.Getenv("KAKURI_TEST_HOST")
		for i := 0; ; i++ {
			if _, err := s.Pull(context.Background(), fmt.Sprintf("%s/a:t%d", host, i%3), PullOptions{}); err != nil {
				t.Fatal(err)
			}
			if i%4 == 3 {
				if _, err := s.Remove(context.Background(), fmt.Sprintf("%s/a:t%d", host, (i+1)%3), RemoveOptions{}); err != nil && !errors.As(err, new(*NotFoundError)) {
					t.Fatal(err)
				}
			}
		}
	}
	f := newFixture()
	tars := layersOf(5)
	for i := range 3 {
		f.tags[fmt.Sprint("t", i)] = f.image(Host(), "gzip", false, tars[i:i+3]...)
	}
	k := serve(t, f)
	dir := t.TempDir()
	s := newStoreAt(t, dir, nil)
	for round := range 25 {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), killMe+"="+dir, "KAKURI_TEST_HOST="+k.host)
		asked := len(k.requests())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for len(k.requests()) < asked+2*round { // it is at another place each time
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(round%7) * 300 * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		found, err := s.Check(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range found {
			if x.Err != nil {
				t.Fatalf("round %d: %v", round, x)
			}
		}
		if _, err := s.Pull(t.Context(), k.host+"/a:t0", PullOptions{}); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	list, err := s.List(t.Context(), ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if _, err := s.Remove(t.Context(), i.ID.String(), RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
	empty(t, s)
}

// TestFullDisk: where nothing can be written there is an error that says so, and the store is as it was; once there is room, all works.
func TestFullDisk(t *testing.T) {
	nstest.Root(t)
	dir := nstest.Dir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=400k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	f := pullable()
	f.tags["large"] = f.image(Host(), "", false, tarOf(map[string]string{"large": strings.Repeat("x", 1<<20)}))
	k := serve(t, f)
	s := newStoreAt(t, dir, nil)
	name := k.host + "/a"
	if _, err := s.Pull(t.Context(), name, PullOptions{}); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(s.path("index.json"))
	if err != nil {
		t.Fatal(err)
	}
	full := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: %v", what, err)
		}
		after, err := os.ReadFile(s.path("index.json"))
		if err != nil || string(before) != string(after) {
			t.Errorf("%s: index.json changed: %v", what, err)
		}
		if found, err := s.Check(t.Context(), true); err != nil || slices.ContainsFunc(found, func(f Finding) bool { return f.Err != nil }) {
			t.Errorf("%s: %v %v", what, found, err)
		}
	}
	_, err = s.Pull(t.Context(), name+":large", PullOptions{})
	full("pull", err)
	_, err = s.Load(t.Context(), bytes.NewReader(deflate("gzip", make([]byte, 1<<20))), LoadOptions{})
	full("load", err)
	_, err = s.Import(t.Context(), bytes.NewReader(f.blobs[digest.FromBytes(tarOf(map[string]string{"large": strings.Repeat("x", 1<<20)}))]), "x", ImportOptions{})
	full("import", err)
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for size := 4096; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = filler.Write(make([]byte, size))
		}
	}
	filler.Close()
	full("tag", s.Tag(t.Context(), name, "y:1"))
	if err := os.Remove(filler.Name()); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), name, "y:1"); err != nil {
		t.Error(err)
	}
	for _, ref := range []string{name, "y:1"} {
		if _, err := s.Remove(t.Context(), ref, RemoveOptions{}); err != nil {
			t.Error(err)
		}
	}
	empty(t, s)
}

// TestIndexAgrees: an index of which is said that it could not be written is the one that was there before.
func TestIndexAgrees(t *testing.T) {
	nstest.Inside(t, nstest.Place{User: nstest.User(t)}, func(t *testing.T) { // whom modes hold back
		k, s := served(t, pullable())
		name := k.host + "/a"
		if _, err := s.Pull(t.Context(), name, PullOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(s.dir, 0o300); err != nil { // what needs the directory itself, as fsync does, fails
			t.Fatal(err)
		}
		said := s.Tag(t.Context(), name, "y:1")
		if err := os.Chmod(s.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		_, err := s.Get("y:1", Platform{})
		if !errors.Is(said, fs.ErrPermission) || err == nil {
			t.Errorf("tag: %v; it is there: %v", said, err == nil)
		}
	})
}

// TestRemoveOnFullDisk: where there is no room for a file more, or for a byte, images are removed all the same, down to the last one: what else would make room?
func TestRemoveOnFullDisk(t *testing.T) {
	nstest.Root(t)
	for what, options := range map[string]string{"no room": "size=400k", "no inode": "size=1m,nr_inodes=60"} {
		t.Run(what, func(t *testing.T) {
			dir := nstest.Dir(t)
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
				t.Fatal(err)
			}
			defer unix.Unmount(dir, unix.MNT_DETACH)
			k := serve(t, pullable())
			s := newStoreAt(t, dir, nil)
			name := k.host + "/a"
			if _, err := s.Pull(t.Context(), name, PullOptions{}); err != nil {
				t.Fatal(err)
			}
			// One index of images, and two: the spare one is a copy, or the one before.
			for _, names := range [][]string{nil, {"y:1", "y:2"}} {
				for _, n := range names {
					if err := s.Tag(t.Context(), name, n); err != nil {
						t.Fatal(err)
					}
				}
				for i := 0; ; i++ {
					if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("filler", i)), make([]byte, 4096), 0o600); err != nil {
						break
					}
				}
				if err := s.Tag(t.Context(), name, "z:1"); !errors.Is(err, unix.ENOSPC) {
					t.Errorf("a name more: %v", err)
				}
				for _, ref := range append(slices.Clone(names), name) {
					if _, err := s.Remove(t.Context(), ref, RemoveOptions{}); err != nil {
						t.Error(err)
					}
				}
				if list, err := s.List(t.Context(), ListOptions{}); err != nil || len(list) > 0 {
					t.Errorf("%v, %v", list, err)
				}
				fillers, _ := filepath.Glob(dir + "/filler*")
				for _, f := range fillers {
					os.Remove(f)
				}
				if _, err := s.Pull(t.Context(), name, PullOptions{}); err != nil {
					t.Error(err)
				}
			}
			if _, err := s.Remove(t.Context(), name, RemoveOptions{}); err != nil {
				t.Error(err)
			}
			empty(t, s)
		})
	}
}

// TestRemovePlatforms: one platform of an index goes, with the layers that only it has; its names and the others stay.
func TestRemovePlatforms(t *testing.T) {
	s, a, b := two(t)
	remove := func(ref string, list ...Platform) error {
		_, err := s.Remove(t.Context(), ref, RemoveOptions{Platforms: list})
		return err
	}
	if err := remove("example/b:1", Platform{OS: "linux", Architecture: "mips"}); !errors.As(err, new(*PlatformError)) {
		t.Errorf("a platform that it has not: %v", err)
	}
	if remove("example/b:1", Host(), other) == nil {
		t.Error("an index lost its last platform")
	}
	if err := remove("example/a:1", other); err == nil || !strings.Contains(err.Error(), "does not match the specified platform ("+formatPlatform(other)+")") {
		t.Errorf("another platform than an image has: %v", err)
	}
	i, err := s.Get("example/b:1", other)
	if err != nil {
		t.Fatal(err)
	}
	blocked := errors.New("it is needed")
	if _, err := s.Remove(t.Context(), "example/b:1", RemoveOptions{Platforms: []Platform{other}, Blocked: func(asked Image, _ bool) error {
		if asked.ID != i.ID {
			t.Errorf("asked about %s", asked.ID)
		}
		return blocked
	}}); !errors.Is(err, blocked) {
		t.Errorf("%v", err)
	}
	var told []string
	s.o.Tell = func(action, id, _ string, _ map[string]string) { told = append(told, action+" "+id) }
	if err := remove("example/b:1", other); err != nil {
		t.Fatal(err)
	}
	if want := []string{"delete " + i.Manifest.Digest.String()}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
	if _, err := s.Get("example/b:1", other); !errors.As(err, new(*PlatformError)) {
		t.Errorf("it is there still: %v", err)
	}
	for ref, want := range map[string]Image{"example/a:1": a, "example/b:1": b} {
		if got, err := s.Get(ref, Platform{}); err != nil || got.ID != want.ID || len(s.missing(got)) > 0 {
			t.Errorf("%s: %v", ref, err)
		}
	}
	// One that is for that platform alone goes as a whole, as with Docker.
	if err := remove("example/a:1", Host()); err != nil {
		t.Error(err)
	}
	if _, err := s.Get("example/a:1", Platform{}); !errors.As(err, new(*NotFoundError)) {
		t.Errorf("it is there still: %v", err)
	}
	if found, err := s.Check(t.Context(), true); err != nil || len(found) > 0 {
		t.Errorf("%v %v", found, err)
	}
}

// TestTell: each thing that is done to an image is told of once, by the words of Docker's events.
func TestTell(t *testing.T) {
	s, a, b := two(t)
	raw := saved(t, s, SaveOptions{}, "example/a:1")
	host := target(t, nil)
	var told []string
	s.o.Tell = func(action, id, name string, labels map[string]string) {
		line := action + " " + id + " " + name
		for k, v := range labels {
			line += " " + k + "=" + v
		}
		told = append(told, line)
	}
	id, at := a.ID.String(), host+"/x:1"
	var made Image
	for _, step := range []struct {
		do   func() error
		want []string
	}{
		{func() error { return s.Tag(t.Context(), "example/a:1", at) }, []string{"tag " + id + " " + at + " kind=gzip"}},
		{func() error { _, err := s.Push(t.Context(), at, PushOptions{}); return err }, []string{"push " + at + " " + host + "/x kind=gzip"}},
		{func() error { _, err := s.Remove(t.Context(), at, RemoveOptions{}); return err }, []string{"untag " + id + " " + at + " kind=gzip"}},
		{func() error { _, err := s.Pull(t.Context(), at, PullOptions{}); return err }, []string{"pull " + at + " " + host + "/x kind=gzip"}},
		{func() error { return s.Save(t.Context(), io.Discard, []string{"example/b:1"}, SaveOptions{}) }, []string{"save " + b.ID.String() + " example/b:1 kind=gzip"}},
		{func() error { _, err := s.Load(t.Context(), bytes.NewReader(raw), LoadOptions{}); return err }, []string{"load " + id + " example/a:1 kind=gzip"}},
		{func() error { return s.Save(t.Context(), io.Discard, []string{"nobody"}, SaveOptions{}) }, nil},
		{func() (err error) {
			made, err = s.Import(t.Context(), bytes.NewReader(make([]byte, 1024)), "example/c", ImportOptions{})
			return err
		}, []string{"import ID ID", "tag ID example/c:latest"}},
		{func() (err error) {
			made, err = s.Compose(t.Context(), &made, made.Config, NewLayer{CreatedBy: "nothing"}, "example/d:1")
			return err
		}, []string{"create ID ID", "tag ID example/d:1"}},
	} {
		told = nil
		err := step.do()
		for i := range step.want {
			step.want[i] = strings.ReplaceAll(step.want[i], "ID", made.ID.String())
		}
		if (err != nil) != (step.want == nil) || !slices.Equal(told, step.want) {
			t.Errorf("told %v, want %v: %v", told, step.want, err)
		}
	}
}

// TestUntaggedDigest: with the last name of the repository that it came from, an image loses its name by digest there.
func TestUntaggedDigest(t *testing.T) {
	f := latest(layersOf(1)...)
	k, s := served(t, f)
	copyTo(t, s, k.host+"/a", k.host+"/a:2", PullOptions{})
	if err := s.Tag(t.Context(), k.host+"/a", "elsewhere:1"); err != nil {
		t.Fatal(err)
	}
	byDigest := k.host + "/a@" + f.tags["latest"].Digest.String()
	for _, step := range []struct {
		ref  string
		want []string
	}{{k.host + "/a:2", []string{k.host + "/a:2"}}, {k.host + "/a", []string{k.host + "/a:latest", byDigest}}, {"elsewhere:1", []string{"elsewhere:1"}}} {
		list, err := s.Remove(t.Context(), step.ref, RemoveOptions{})
		var got []string
		for _, r := range list {
			if r.Untagged != "" {
				got = append(got, r.Untagged)
			}
		}
		if err != nil || !slices.Equal(got, step.want) {
			t.Errorf("%s: %q, %v; want %q", step.ref, got, err, step.want)
		}
	}
}

// TestRemoveByDigest: as with Docker 28.5, a name by digest goes alone where its repository has tags here, and comes back with a pull.
func TestRemoveByDigest(t *testing.T) {
	f := latest(layersOf(1)...)
	k, s := served(t, f)
	tag, byDigest := k.host+"/a:latest", k.host+"/a@"+f.tags["latest"].Digest.String()
	remove := func(ref string, want ...string) {
		t.Helper()
		list, err := s.Remove(t.Context(), ref, RemoveOptions{})
		var got []string
		for _, r := range list {
			got = append(got, cmp.Or(r.Untagged, "deleted"))
		}
		if len(want) > 0 && (err != nil || !slices.Equal(got[:min(len(want), len(got))], want)) || len(want) == 0 && !errors.As(err, new(*NotFoundError)) {
			t.Errorf("%s: %q, %v; want %q", ref, got, err, want)
		}
	}
	names := func(want ...string) {
		t.Helper()
		img, err := s.Get(tag, Platform{})
		if got := append(img.RepoTags(), img.RepoDigests()...); err != nil || !slices.Equal(got, want) {
			t.Errorf("names are %q, %v; want %q", got, err, want)
		}
	}
	pull := func(ref string) {
		t.Helper()
		if _, err := s.Pull(t.Context(), ref, PullOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	pull(tag)
	remove(byDigest, byDigest)
	names(tag)
	remove(byDigest)
	pull(tag)
	names(tag, byDigest)
	pull(byDigest)
	remove(byDigest, byDigest)
	names(tag)
	pull(byDigest)
	names(tag, byDigest)
	if _, err := s.Push(t.Context(), tag, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	remove(byDigest, byDigest)
	names(tag)
	remove(tag, tag, "deleted")
	pull(tag)
	pull(byDigest)
	if err := s.Tag(t.Context(), tag, "elsewhere:1"); err != nil {
		t.Fatal(err)
	}
	remove(tag, tag, byDigest)
	remove(byDigest)
	remove("elsewhere:1", "elsewhere:1", "deleted")
	pull(byDigest)
	remove(byDigest, byDigest, "deleted")
}

// TestCheckBesideRemove: what a removal is about to sweep is not left of a killed command, and no other command sweeps it before.
func TestCheckBesideRemove(t *testing.T) {
	k, s := served(t, pullable())
	if _, err := s.Pull(t.Context(), k.host+"/a", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	other := func() { // as any command does that needs images
		t.Helper()
		release, err := s.Hold(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		release()
	}
	// Where there is no change none is due.
	if _, err := s.takeOff(t.Context(), func([]root) ([]root, error) { return nil, errors.ErrUnsupported }); !errors.Is(err, errors.ErrUnsupported) || s.isDue() {
		t.Errorf("%v, and a sweep is due: %v", err, s.isDue())
	}
	sweep, err := s.takeOff(t.Context(), func([]root) ([]root, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	other()
	if found, err := s.leftOver(t.Context()); err != nil || len(found) > 0 || !s.isDue() {
		t.Errorf("%v: %v", err, found)
	}
	if swept, err := sweep(); err != nil || len(swept.Blobs) == 0 || s.isDue() {
		t.Errorf("%v: %+v", err, swept)
	}
}

// cutLayers are layers of which a sweep does not come to the end.
type cutLayers struct{ Layers }

func (cutLayers) Sweep(context.Context, func(digest.Digest) bool) (Swept, error) {
	return Swept{}, errors.ErrUnsupported
}

// TestSweepCut: a sweep that did not come to its end, as of a removal that was killed, is due still, and the next command does the rest of it.
func TestSweepCut(t *testing.T) {
	k, s := served(t, pullable())
	if _, err := s.Pull(t.Context(), k.host+"/a", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	layers := s.o.Layers
	s.o.Layers = cutLayers{layers}
	if _, err := s.Remove(t.Context(), k.host+"/a", RemoveOptions{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
	s.o.Layers = layers
	release, err := s.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release()
	if ids := layers.(dirLayers).ids(); len(ids) > 0 {
		t.Errorf("layers: %v", ids)
	}
	if s.isDue() {
		t.Error("another sweep is due")
	}
}

// TestSweepBesideSweep: of a layer that a container needed while one sweep looked, and no longer when another found that one at work, is not lost that it is to go.
func TestSweepBesideSweep(t *testing.T) {
	k, s := served(t, pullable())
	if _, err := s.Pull(t.Context(), k.host+"/a", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	layers := s.o.Layers.(dirLayers)
	needed := layers.ids()
	s.o.InUse = func() ([]digest.Digest, error) {
		list := needed
		if needed != nil {
			needed = nil
			if swept, err := s.Sweep(t.Context()); err != nil || len(swept.Blobs) > 0 {
				t.Errorf("another sweep: %v: %v", swept, err)
			}
		}
		return list, nil
	}
	if _, err := s.Remove(t.Context(), k.host+"/a", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(layers.ids()) == 0 {
		t.Fatal("the first sweep takes them")
	}
	release, err := s.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release()
	if ids := layers.ids(); len(ids) > 0 || s.isDue() {
		t.Errorf("layers: %v, a sweep is due: %v", ids, s.isDue())
	}
}

// TestAddFails: of an image that could not get its name, as on a full disk, nothing is left that nobody needs.
func TestAddFails(t *testing.T) {
	k, s := served(t, pullable())
	unlock, err := s.lock(t.Context(), "lock", unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(time.Second, stop)
	if _, err := s.Pull(ctx, k.host+"/a", PullOptions{}); err == nil {
		t.Fatal("it has its name")
	}
	if found, err := s.leftOver(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("%v: %v", err, found)
	}
	if s.isDue() {
		t.Error("a sweep is due")
	}
}
