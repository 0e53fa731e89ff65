package engine

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// imported makes an image of a root file system.
func imported(t testing.TB, e *Engine, root, name string, changes ...string) {
	t.Helper()
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	var b bytes.Buffer
	if err := archive.Write(context.Background(), &b, dir, ".", archive.WriteOptions{Rename: "."}); err != nil {
		t.Fatal(err)
	}
	s, err := e.Images()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(context.Background(), &b, name, image.ImportOptions{Changes: changes}); err != nil {
		t.Fatal(err)
	}
}

// TestNeverStarted: a container that was made and not started has changed nothing, and is in no other's way.
func TestNeverStarted(t *testing.T) {
	nstest.Root(t)
	e, root, ctx := open(t), nstest.RootFS(t), context.Background()
	imported(t, e, root, "base:1", "CMD [\"true\"]")
	c, err := e.Create(ctx, Config{Image: "base:1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Remove(ctx, c.ID, RemoveOptions{}) })
	if list, err := e.Diff(ctx, c.ID); err != nil || len(list) != 0 {
		t.Errorf("diff: %v, %v", list, err)
	}
	if list, err := e.Summaries(ctx, SummaryOptions{All: true, Size: true}); err != nil || len(list) != 1 || list[0].SizeRw != 0 {
		t.Errorf("sizes: %+v, %v", list, err)
	}
	img, err := e.Commit(ctx, c.ID, CommitOptions{Name: "same:1"})
	if err != nil {
		t.Fatalf("commit: %v", err)
	}
	if last := img.Config.History[len(img.Config.History)-1]; len(img.Chain()) != 1 || !last.EmptyLayer {
		t.Errorf("what was committed has %d layers, and in its history %+v", len(img.Chain()), last)
	}
	if _, code, err := inside(t, e, Config{Image: "same:1"}); err != nil || code != 0 {
		t.Errorf("what was committed: code %d, %v", code, err)
	}
}

// TestReadOnlyChanges: a container whose root file system is read-only has changed nothing, and an image of it has what it was asked to be.
func TestReadOnlyChanges(t *testing.T) {
	nstest.Root(t)
	e, root, ctx := open(t), nstest.RootFS(t), context.Background()
	imported(t, e, root, "base:1", "CMD [\"true\"]")
	c := detached(t, e, Config{Image: "base:1", ReadOnly: true, Network: "none", Env: []string{"A=1"}, Command: []string{"sleep", "1000"}})
	if list, err := e.Diff(ctx, c.ID); err != nil || len(list) != 0 {
		t.Errorf("diff: %v, %v", list, err)
	}
	images, err := e.Images()
	if err != nil {
		t.Fatal(err)
	}
	base, baseErr := images.Get("base:1", image.Platform{})
	img, err := e.Commit(ctx, c.ID, CommitOptions{Name: "same:1"})
	if err != nil || baseErr != nil || !slices.Equal(img.Config.RootFS.DiffIDs, base.Config.RootFS.DiffIDs) || !slices.Contains(img.Config.Config.Env, "A=1") {
		t.Errorf("commit: %+v, %v, %v", img.Config, err, baseErr)
	}
}

// TestEntrypointBeforeStart: a container that waits for its first start is told of with its entry point, the image's or its own.
func TestEntrypointBeforeStart(t *testing.T) {
	nstest.Root(t)
	e, root, ctx := open(t), nstest.RootFS(t), context.Background()
	imported(t, e, root, "base:1", `ENTRYPOINT ["echo", "a"]`, `CMD ["b"]`)
	for _, one := range []struct {
		cfg  Config
		want []string
	}{
		{Config{}, []string{"echo", "a", "b"}},
		{Config{Command: []string{"c"}}, []string{"echo", "a", "c"}},
		{Config{Entrypoint: []string{"cat"}}, []string{"cat"}},
		{Config{Entrypoint: []string{""}, Command: []string{"true"}}, []string{"true"}},
	} {
		one.cfg.Image = "base:1"
		c, err := e.Create(ctx, one.cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Remove(ctx, c.ID, RemoveOptions{}) })
		i, err := e.Inspect(c.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got := append([]string{i.Path}, i.Args...); !slices.Equal(got, one.want) {
			t.Errorf("%q, want %q", got, one.want)
		}
	}
}

// TestCommit: a container's changes become a layer: files, removals, owners; the new image runs what the container ran, or what
// --change says; volumes and mount points are no part of it.
func TestCommit(t *testing.T) {
	nstest.Root(t)
	e, root, ctx := open(t), nstest.RootFS(t), context.Background()
	put(t, root+"/srv/old", "old")
	imported(t, e, root, "base:1", "ENV A=1", "CMD [\"cat\"]", "VOLUME /vol", "LABEL l=1", "EXPOSE 80")
	c := Config{
		Image: "base:1", Interactive: true, Env: []string{"B=2"}, Entrypoint: []string{"sh", "-c"}, Expose: []string{"99/udp"},
		Mounts:  []Mount{vol("other", "/new/mount"), {Type: "volume", Dest: "/anon/", Flag: "-v /anon/"}, {Type: "volume", Dest: "/mounted", Flag: "--mount type=volume,dst=/mounted"}},
		Command: []string{"echo new > /srv/new; chown 33:44 /srv/new; rm /srv/old; echo x > /vol/f; echo y > /new/mount/f; touch /ready; exec cat"},
	}
	made, err := e.Create(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Remove(ctx, made.ID, RemoveOptions{Force: true, Volumes: true}) })
	if err := e.Start(ctx, made.ID, StartOptions{}); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "the container's files", func() bool {
		_, err := e.StatPath(ctx, made.ID, "/ready")
		return err == nil
	})
	changes, err := e.Diff(ctx, made.ID)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, ch := range changes {
		lines = append(lines, ch.String())
	}
	if want := []string{"A /new", "A /ready", "C /srv", "A /srv/new", "D /srv/old"}; !slices.Equal(lines, want) {
		t.Errorf("diff %q, want %q", lines, want)
	}
	img, err := e.Commit(ctx, made.ID, CommitOptions{Name: "docker.io/library/derived:1", Author: "me", Message: "why", Changes: []string{"ENV C=3"}})
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	note := func(x Event) error { told = append(told, x.Actor.Attributes["imageRef"]); return nil }
	if err := e.Events(ctx, EventOptions{Since: made.Created, Until: time.Now(), Filters: Filters{"event": {"commit"}}}, note); err != nil || !slices.Equal(told, []string{"derived:1"}) {
		t.Errorf("commits told of: %q, %v", told, err)
	}
	if e.paused(made.ID) {
		t.Error("the container is still paused")
	}
	got := img.Config.Config
	ports, places := slices.Sorted(maps.Keys(got.ExposedPorts)), slices.Sorted(maps.Keys(got.Volumes))
	if !slices.Equal(ports, []string{"80/tcp", "99/udp"}) || !slices.Equal(places, []string{"/anon", "/vol"}) {
		t.Errorf("ports %q, volumes at %q", ports, places)
	}
	last := img.Config.History[len(img.Config.History)-1]
	if !slices.Equal(got.Entrypoint, []string{"sh", "-c"}) || !slices.Contains(got.Env, "A=1") || !slices.Contains(got.Env, "B=2") || !slices.Contains(got.Env, "C=3") ||
		got.Labels["l"] != "1" || last.Comment != "why" || img.Config.Author != "me" || len(img.Chain()) != 2 {
		t.Errorf("config %+v, history %+v", got, last)
	}
	want(t, e, Config{Image: "derived:1", Command: []string{"cat /srv/new; stat -c %u:%g /srv/new; ls /srv /vol /new/mount 2>&1; echo $C"}},
		"new\n33:44\nls: /new/mount: No such file or directory\n/srv:\nnew\nweb\n\n/vol:\n3\n")
}

// TestMovedName: a container whose image has lost its name to another one, or altogether, is listed with the image's id; and the name of an image
// that a container needs is taken from it by force only.
func TestMovedName(t *testing.T) {
	nstest.Root(t)
	e, root, ctx := open(t), nstest.RootFS(t), t.Context()
	imported(t, e, root, "moved:1", "CMD [\"true\"]")
	c, err := e.Create(ctx, Config{Image: "moved:1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Remove(ctx, c.ID, RemoveOptions{}) })
	image := func() string {
		t.Helper()
		list, err := e.Summaries(ctx, SummaryOptions{All: true})
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return list[0].Image
	}
	if got := image(); got != "moved:1" {
		t.Errorf("at first: %s", got)
	}
	if _, err := e.RemoveImage(ctx, "moved:1", false); !errors.As(err, new(ErrConflict)) || !strings.Contains(err.Error(), "unable to remove repository reference \"moved:1\" (must force)") {
		t.Errorf("%v", err)
	}
	if _, err := e.RemoveImage(ctx, c.ImageID, false); err == nil || !strings.Contains(err.Error(), "(must be forced) - image is being used by stopped container") {
		t.Errorf("%v", err)
	}
	if _, err := e.RemoveImage(ctx, "moved:1", true); err != nil {
		t.Fatal(err)
	}
	if got := image(); got != c.ImageID {
		t.Errorf("without a name: %s", got)
	}
	imported(t, e, root, "moved:1", "CMD [\"false\"]")
	if got := image(); got != c.ImageID {
		t.Errorf("when another has the name: %s", got)
	}
}

// TestFilesWithoutNetworks: what looks at the files of a container that does not run needs none of its networks, whatever takes them.
func TestFilesWithoutNetworks(t *testing.T) {
	nstest.Root(t)
	e, ctx, host := open(t), t.Context(), nstest.Dir(t)
	imported(t, e, nstest.RootFS(t), "base:1", "CMD [\"true\"]")
	put(t, host+"/f", "text")
	if _, err := e.NetworkCreate(ctx, NetworkConfig{Name: "gone"}); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]Config{
		"a network that is gone": {Network: "gone"},
		"--egress":               {Network: "bridge", Egress: []string{"example.org"}},
		"--add-host":             {Network: "bridge", ExtraHosts: []string{"machine:host-gateway", "other=host-gateway", "one:192.0.2.1"}},
	} {
		c.Image = "base:1"
		made, err := e.Create(ctx, c)
		if err != nil {
			t.Fatal(what, err)
		}
		t.Cleanup(func() { e.Remove(context.Background(), made.ID, RemoveOptions{}) })
		if c.Network == "gone" {
			if err := e.NetworkRemove(ctx, "gone", false); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.CopyIn(ctx, made.ID, host+"/f", "/srv", CopyOptions{}); err != nil {
			t.Errorf("%s: cp: %v", what, err)
		}
		if list, err := e.Diff(ctx, made.ID); err != nil || len(list) != 2 || list[1].Path != "/srv/f" {
			t.Errorf("%s: diff: %v, %v", what, list, err)
		}
		if _, err := e.Commit(ctx, made.ID, CommitOptions{}); err != nil {
			t.Errorf("%s: commit: %v", what, err)
		}
	}
}

// TestDiffOfOthers: what has no image has no changes.
func TestDiffOfOthers(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	id := stopped(t, e, idle(nstest.RootFS(t)))
	if _, err := e.Diff(context.Background(), id); err == nil || !strings.Contains(err.Error(), "not kept apart") {
		t.Errorf("%v", err)
	}
	if _, err := e.Commit(context.Background(), id, CommitOptions{}); err == nil || !strings.Contains(err.Error(), "not kept apart") {
		t.Errorf("%v", err)
	}
}

// TestImageFiles: files of a container of an image are reached before its first start, in its life, and after its end.
func TestImageFiles(t *testing.T) {
	nstest.Root(t)
	e, root, host, ctx := open(t), nstest.RootFS(t), nstest.Dir(t), context.Background()
	put(t, host+"/f", "text")
	put(t, root+"/data/index", "of the image")
	imported(t, e, root, "base:1", "VOLUME /data", "CMD [\"cat\"]")
	id := stopped(t, e, Config{Image: "base:1", Interactive: true})
	if err := e.CopyIn(ctx, id, host+"/f", "/srv/f1", CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := e.CopyOut(ctx, id, "/data/index", host+"/index", CopyOptions{}); err != nil {
		t.Error(err)
	}
	has(t, host+"/index", "of the image")
	if err := e.Start(ctx, id, StartOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := e.CopyIn(ctx, id, host+"/f", "/srv/f2", CopyOptions{}); err != nil {
		t.Error(err)
	}
	if err := e.Kill(ctx, id, "KILL"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Wait(ctx, id, "not-running"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"f1", "f2"} {
		if err := e.CopyOut(ctx, id, "/srv/"+name, host+"/back", CopyOptions{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		has(t, host+"/back", "text")
	}
	changes, err := e.Diff(ctx, id)
	if err != nil || len(changes) != 3 {
		t.Errorf("%v, %v", changes, err)
	}
}

// TestImageMount: an image is mounted read-only, a part of it as well; it cannot be collected while a container has it.
func TestImageMount(t *testing.T) {
	nstest.Root(t)
	e, root, ctx := open(t), nstest.RootFS(t), context.Background()
	data := nstest.Dir(t)
	put(t, data+"/a/b/f", "of the image")
	if err := os.Chown(data+"/a/b/f", 33, 44); err != nil {
		t.Fatal(err)
	}
	imported(t, e, data, "data:1")
	m := Mount{Type: "image", Source: "data:1", Dest: "/mnt", Flag: "--mount type=image,source=data:1,target=/mnt"}
	c := sh(root, "cat /mnt/a/b/f; stat -c %u:%g /mnt/a/b/f; touch /mnt/x || echo read-only")
	c.Mounts = []Mount{m}
	want(t, e, c, "of the image33:44\nread-only\n")
	m.Subpath = "a/b"
	c = sh(root, "cat /mnt/f")
	c.Mounts = []Mount{m}
	want(t, e, c, "of the image")
	id := stopped(t, e, Config{Rootfs: root, Command: []string{"true"}, Mounts: []Mount{m}})
	s, err := e.Images()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(ctx, "data:1", image.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := e.StatPath(ctx, id, "/mnt/f"); err != nil || got.Size != int64(len("of the image")) {
		t.Errorf("after the image was removed: %+v, %v", got, err)
	}
	m.Source = "nothing:1"
	c.Mounts = []Mount{m}
	c.Pull = "never"
	refused(t, e, c, 125, "nothing:1")
	for _, dir := range []string{e.dir + "/users", e.dir + "/mounts"} {
		if list, err := os.ReadDir(dir); err == nil && len(list) > 0 {
			t.Errorf("%s has %v", dir, list)
		}
	}
}

// TestCommitOfEnding: a container whose process has ended, and whose monitor has not said so yet, needs no pause, and is committed.
func TestCommitOfEnding(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	imported(t, e, nstest.RootFS(t), "base:1")
	c := started(t, e, Config{Image: "base:1", Command: []string{"sleep", "1000"}})
	pid := monitorOf(t, e, c)
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(pid, unix.SIGCONT)
	if err := unix.Kill(c.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "its process is a zombie", func() bool {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(c.PID) + "/stat")
		return err == nil && strings.Contains(string(stat), ") Z ")
	})
	if err := e.Pause(ctx, c.ID); !errors.As(err, new(ErrNotRunning)) {
		t.Errorf("pause: %v", err)
	}
	if _, err := e.Commit(ctx, c.ID, CommitOptions{}); err != nil {
		t.Error(err)
	}
}

// A container that has ended, and is no more for the runtime, while a command had it stand still, is none that goes on.
func TestUnpauseEnded(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	imported(t, e, nstest.RootFS(t), "base:1")
	c := started(t, e, Config{Image: "base:1", Command: []string{"sleep", "1000"}})
	found, x, err := e.running(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(c.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Wait(ctx, c.ID, NotRunning); err != nil {
		t.Fatal(err)
	}
	if err := e.unpause(found, x); !errors.As(err, new(ErrConflict)) {
		t.Error(err)
	}
}

// A container that is just being started, which has no monitor yet, keeps its image's mount through another command's sweep.
func TestSweepSparesStart(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	imported(t, e, nstest.RootFS(t), "base:1")
	c, err := e.Create(ctx, Config{Image: "base:1", Command: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	_, lock, err := e.lock(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	// What the storage room notes, whichever driver this machine has.
	note := e.dir + "/users/" + strings.Repeat("0", 64) + "/" + c.ID
	if err := errors.Join(os.MkdirAll(filepath.Dir(note), 0o700), os.WriteFile(note, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := e.sweepStorage(); err != nil || !exists(note) {
		t.Errorf("while it is being started: %v, %v", exists(note), err)
	}
	lock.Close()
	if err := e.sweepStorage(); err != nil || exists(note) {
		t.Errorf("after a killed start: %v, %v", exists(note), err)
	}
}

// TestDockerenv: the file by which programs tell that they are in a container of Docker's is there, also where the root is read-only, is no change of its container, and
// what a container writes there is one.
func TestDockerenv(t *testing.T) {
	nstest.Root(t)
	e, root, ctx := open(t), nstest.RootFS(t), context.Background()
	imported(t, e, root, "base:1", "CMD [\"true\"]")
	for command, want := range map[string][]string{"test -f /.dockerenv": nil, "echo own > /.dockerenv": {"A /.dockerenv"}} {
		done, err := e.Run(ctx, Config{Image: "base:1", Command: []string{"sh", "-c", command}}, Streams{}, RunOptions{})
		if err != nil || done.Code != 0 {
			t.Fatalf("%s: %+v, %v", command, done, err)
		}
		t.Cleanup(func() { e.Remove(ctx, done.ID, RemoveOptions{}) })
		changes, err := e.Diff(ctx, done.ID)
		var got []string
		for _, ch := range changes {
			got = append(got, ch.String())
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: changes are %q, %v; want %q", command, got, err, want)
		}
		img, err := e.Commit(ctx, done.ID, CommitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if last := img.Config.History[len(img.Config.History)-1]; len(img.Chain()) != 1+len(want) || last.EmptyLayer != (want == nil) {
			t.Errorf("%s: %d layers, and in its history %+v", command, len(img.Chain()), last)
		}
	}
	if _, code, err := inside(t, e, Config{Image: "base:1", ReadOnly: true, AutoRemove: true, Command: []string{"test", "-f", "/.dockerenv"}}); err != nil || code != 0 {
		t.Errorf("read-only: code %d, %v", code, err)
	}
}

// TestMtab: the link that an image without an mtab gets is no change of its container, and what a container puts there is one.
func TestMtab(t *testing.T) {
	nstest.Root(t)
	e, root, ctx := open(t), nstest.RootFS(t), context.Background()
	os.Remove(root + "/etc/mtab")
	imported(t, e, root, "base:1", "CMD [\"true\"]")
	for _, c := range []struct {
		command string
		want    string
		list    []string
	}{
		{"readlink /etc/mtab; grep -c ' / ' /etc/mtab", "/proc/mounts\n1\n", nil},
		{"ln -sf ../proc/self/mounts /etc/mtab; readlink /etc/mtab", "../proc/self/mounts\n", []string{"C /etc", "A /etc/mtab"}},
		{"rm /etc/mtab; echo own > /etc/mtab; cat /etc/mtab", "own\n", []string{"C /etc", "A /etc/mtab"}},
	} {
		var out bytes.Buffer
		done, err := e.Run(ctx, Config{Image: "base:1", Command: []string{"sh", "-c", c.command}}, Streams{Out: &out, Err: &out}, RunOptions{})
		if err != nil || out.String() != c.want {
			t.Fatalf("%s: %q, %v", c.command, out.String(), err)
		}
		t.Cleanup(func() { e.Remove(ctx, done.ID, RemoveOptions{}) })
		changes, err := e.Diff(ctx, done.ID)
		var got []string
		for _, ch := range changes {
			got = append(got, ch.String())
		}
		if err != nil || !slices.Equal(got, c.list) {
			t.Errorf("%s: changes are %q, %v; want %q", c.command, got, err, c.list)
		}
		img, err := e.Commit(ctx, done.ID, CommitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if text, _, err := inside(t, e, Config{Image: string(img.ID), Command: []string{"sh", "-c", "readlink /etc/mtab || cat /etc/mtab"}}); err != nil || !strings.HasPrefix(c.want, text) {
			t.Errorf("%s: an image of it has %q, %v", c.command, text, err)
		}
	}
	if text, _, err := inside(t, e, Config{Image: "base:1", ReadOnly: true, Command: []string{"readlink", "/etc/mtab"}}); err != nil || text != "/proc/mounts\n" {
		t.Errorf("read-only: %q, %v", text, err)
	}
}

// TestLayerGone: a run names the command that asks the registry an image came from. A pull by the name that it has here might bring another's image.
func TestLayerGone(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	imported(t, e, root, "base:1", "CMD [\"true\"]")
	layers, err := filepath.Glob(e.data + "/layers/*.tar")
	if err != nil || len(layers) != 1 {
		t.Fatalf("layers are %q, %v", layers, err)
	}
	if err := os.Remove(layers[0]); err != nil {
		t.Fatal(err)
	}
	refused(t, e, Config{Image: "base:1"}, 125, "kakuri image check --repair base:1 ")
}
