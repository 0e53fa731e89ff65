package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/hostile"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/volume"
	"golang.org/x/sys/unix"
)

// vol is a -v NAME:DEST[:OPTION,…].
func vol(name, dest string, options ...string) Mount {
	return Mount{Type: "volume", Source: name, Dest: dest, Options: options, Flag: "-v " + name + ":" + dest}
}

func volumeNames(t testing.TB, e *Engine, f Filters) []string {
	t.Helper()
	list, err := e.VolumeList(context.Background(), f, false)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range list {
		names = append(names, v.Name)
	}
	return names
}

// TestVolumesOutlive: what one container writes into a volume another one has; the owner on the disk is the one inside.
func TestVolumesOutlive(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	c := sh(root, "echo text > /data/f; chown 33:44 /data/f")
	c.Mounts = []Mount{vol("db", "/data")}
	want(t, e, c, "")
	c = sh(root, "cat /data/f; stat -c %u:%g /data/f; echo x > /data/f || echo refused")
	c.Mounts = []Mount{vol("db", "/data", "ro")}
	want(t, e, c, "text\n33:44\nrefused\n")
	v, err := e.VolumeInspect(context.Background(), "db", true)
	if err != nil || v.UsageData.RefCount != 0 || v.UsageData.Size != 5 {
		t.Errorf("%+v, %v", v, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(v.Mountpoint+"/f", &st); err != nil || st.Uid != 33 || st.Gid != 44 {
		t.Errorf("on the disk it is of %d:%d, %v", st.Uid, st.Gid, err)
	}
	if got := volumeNames(t, e, nil); !slices.Equal(got, []string{"db"}) {
		t.Errorf("%v", got)
	}
}

// TestVolumeOfRefused: a line that cannot be right makes no volume.
func TestVolumeOfRefused(t *testing.T) {
	nstest.Root(t)
	e, c := open(t), sh(nstest.RootFS(t), "true")
	for _, m := range []Mount{vol("db", "data"), vol("db", "/")} {
		c.Mounts = []Mount{vol("first", "/first"), m}
		refused(t, e, c, 125, "the destination must be an absolute path")
	}
	if got := volumeNames(t, e, nil); len(got) > 0 {
		t.Errorf("%v", got)
	}
}

// TestVolumeCopyUp: a new volume gets what the image has there, whoever has the volume next does not; with nocopy it gets
// nothing. CVE-2022-23648: through a link it is what the link leads to inside. CVE-2020-1726: nothing is written over.
func TestVolumeCopyUp(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	put(t, root+"/srv/web/index", "of the image")
	if err := errors.Join(os.Chown(root+"/srv/web", 33, 33), os.Chmod(root+"/srv/web", 0o750), os.Symlink("/etc", root+"/link")); err != nil {
		t.Fatal(err)
	}
	c := sh(root, "stat -c '%u:%g %a' /srv/web; cat /srv/web/index; echo changed > /srv/web/index")
	c.Mounts = []Mount{vol("web", "/srv/web")}
	want(t, e, c, "33:33 750\nof the image")
	c = sh(root, "cat /srv/web/index")
	c.Mounts = []Mount{vol("web", "/srv/web")}
	want(t, e, c, "changed\n")
	m := vol("", "/srv/web")
	m.NoCopy = true
	c = sh(root, "ls -A /srv/web")
	c.Mounts = []Mount{m}
	want(t, e, c, "")
	c = sh(root, "head -n1 /link/passwd")
	c.Mounts = []Mount{vol("etc", "/link")}
	want(t, e, c, strings.SplitAfter(nstest.Passwd, "\n")[0])
	v, err := e.VolumeInspect(context.Background(), "etc", false)
	if err != nil {
		t.Fatal(err)
	}
	has(t, v.Mountpoint+"/passwd", nstest.Passwd)
}

// TestVolumesAnonymous: a volume without a name goes with a container that is removed at its end, or with its volumes; it stays
// otherwise, and while another container has it.
func TestVolumesAnonymous(t *testing.T) {
	nstest.Root(t)
	e, root, ctx := open(t), nstest.RootFS(t), context.Background()
	c := sh(root, "touch /a/f")
	c.Mounts = []Mount{vol("", "/a")}
	want(t, e, c, "")
	if got := volumeNames(t, e, nil); len(got) != 0 {
		t.Errorf("after --rm there is %v", got)
	}
	make := func(mounts []Mount, from ...string) string {
		t.Helper()
		made, err := e.Create(ctx, Config{Rootfs: root, Command: []string{"true"}, Mounts: mounts, VolumesFrom: from})
		if err != nil {
			t.Fatal(err)
		}
		return made.ID
	}
	remove := func(id string, volumes bool) {
		t.Helper()
		if err := e.Remove(ctx, id, RemoveOptions{Volumes: volumes}); err != nil {
			t.Error(err)
		}
	}
	one := make([]Mount{vol("", "/a"), vol("named", "/n")})
	two := make(nil, one+":ro")
	var inUse *volume.InUseError
	if err := e.VolumeRemove(ctx, "named", true); !errors.As(err, &inUse) || len(inUse.Users) != 2 {
		t.Errorf("in use by two: %v", err)
	}
	if got := volumeNames(t, e, Filters{"dangling": {"true"}}); len(got) != 0 {
		t.Errorf("dangling: %v", got)
	}
	remove(one, true)
	if got := volumeNames(t, e, nil); len(got) != 2 {
		t.Errorf("another one has them, and there is %v", got)
	}
	remove(two, false)
	if got := volumeNames(t, e, Filters{"dangling": {"1"}}); len(got) != 2 {
		t.Errorf("dangling: %v", got)
	}
	if gone, _, err := e.VolumePrune(ctx, nil); err != nil || len(gone) != 1 || gone[0] == "named" {
		t.Errorf("pruned %v, %v", gone, err)
	}
	if gone, _, err := e.VolumePrune(ctx, Filters{"all": {"true"}}); err != nil || !slices.Equal(gone, []string{"named"}) {
		t.Errorf("pruned %v, %v", gone, err)
	}
	// The last one to have it takes it along, also where it was lent, but not where it was asked for by its name.
	lender := make([]Mount{vol("", "/a")})
	borrower := make(nil, lender)
	remove(lender, true)
	left := volumeNames(t, e, nil)
	if len(left) != 1 {
		t.Fatalf("there is %v", left)
	}
	byName := make([]Mount{vol(left[0], "/by-name")})
	remove(borrower, true)
	remove(byName, true)
	if got := volumeNames(t, e, nil); !slices.Equal(got, left) {
		t.Errorf("it was asked for by its name, and there is %v", got)
	}
	byName = make([]Mount{vol(left[0], "/a")})
	remove(make(nil, byName), true)
	if got := volumeNames(t, e, nil); !slices.Equal(got, left) {
		t.Errorf("another one has it, and there is %v", got)
	}
	borrower = make(nil, byName)
	remove(byName, false)
	remove(borrower, true)
	if got := volumeNames(t, e, nil); !slices.Equal(got, left) {
		t.Errorf("it was lent by who asked for it by its name, and there is %v", got)
	}
	if gone, _, err := e.VolumePrune(ctx, nil); err != nil || !slices.Equal(gone, left) {
		t.Errorf("pruned %v, %v", gone, err)
	}
	lender = make([]Mount{vol("", "/a")})
	borrower = make(nil, lender)
	last := make(nil, borrower)
	remove(lender, true)
	remove(borrower, true)
	remove(last, true)
	if got := volumeNames(t, e, Filters{"dangling": {"true"}}); len(got) != 0 {
		t.Errorf("the last one that had it is gone, and there is %v", got)
	}
	// So with --rm, where it is the last, and not before.
	lender = make([]Mount{vol("", "/a")})
	want(t, e, Config{Rootfs: root, AutoRemove: true, Command: []string{"true"}, VolumesFrom: []string{lender}}, "")
	if got := volumeNames(t, e, nil); len(got) != 1 {
		t.Errorf("another one has it, and there is %v", got)
	}
	briefly := started(t, e, Config{Rootfs: root, AutoRemove: true, Command: []string{"sleep", "1000"}, StopSignal: "KILL", VolumesFrom: []string{lender}})
	remove(lender, true)
	if err := e.Stop(ctx, briefly.ID, StopOptions{}); err != nil {
		t.Error(err)
	}
	if got := volumeNames(t, e, nil); len(got) != 0 {
		t.Errorf("the last one that had it is gone, by --rm, and there is %v", got)
	}
	brief := Config{Rootfs: root, AutoRemove: true, Command: []string{"true"}, Mounts: []Mount{vol("", "/a")}}
	res, err := e.Run(ctx, brief, Streams{}, RunOptions{Detach: true})
	if err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "its own end", func() bool { return e.dirOf(res.ID) == "" })
	if got := volumeNames(t, e, nil); len(got) != 0 {
		t.Errorf("it has ended by itself, and there is %v", got)
	}
	// One that could not be made leaves nothing.
	bad := Config{Rootfs: root, Command: []string{"true"}, Mounts: []Mount{vol("", "/a"), vol("kept", "/b"), {Type: "bind", Source: "relative", Dest: "/c", Flag: "-v"}}}
	if _, err := e.Create(ctx, bad); err == nil {
		t.Error("it was made")
	}
	if got := volumeNames(t, e, nil); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("there is %v", got)
	}
}

// TestVolumesFrom: a container has another one's mounts, but for those places that it has a mount of its own at.
func TestVolumesFrom(t *testing.T) {
	nstest.Root(t)
	e, root, host := open(t), nstest.RootFS(t), nstest.Dir(t)
	put(t, host+"/f", "of the host")
	id := stopped(t, e, Config{Rootfs: root, Command: []string{"true"}, Mounts: []Mount{
		vol("one", "/one"), vol("two", "/two"), {Type: "tmpfs", Dest: "/mem", Flag: "--tmpfs"},
		{Type: "bind", Source: host, Dest: "/host", Options: []string{"rbind"}, Flag: "-v"},
	}})
	c := sh(root, "cat /host/f; touch /one/f || echo read-only; touch /two/f; ls -d /mem")
	c.VolumesFrom = []string{id[:12] + ":ro"}
	c.Mounts = []Mount{vol("other", "/two")}
	out, code, err := inside(t, e, c)
	if err != nil || code == 0 || out != "of the hostread-only\n" {
		t.Errorf("%q, code %d, %v", out, code, err)
	}
	if v, err := e.VolumeInspect(context.Background(), "other", false); err != nil || !exists(v.Mountpoint+"/f") {
		t.Errorf("its own mount: %v", err)
	}
	c.VolumesFrom, c.Mounts = []string{id[:12]}, []Mount{{Type: "volume", Dest: "/one", Flag: "-v /one"}, {Type: "volume", Dest: "/two", Flag: "--mount dst=/two"}}
	c.Command = []string{"sh", "-c", "touch /one/kept /two/lost"}
	if out, code, err := inside(t, e, c); err != nil || code != 0 {
		t.Errorf("%q, code %d, %v", out, code, err)
	}
	for name, want := range map[string]bool{"one/kept": true, "two/lost": false} {
		volume, file, _ := strings.Cut(name, "/")
		if v, err := e.VolumeInspect(context.Background(), volume, false); err != nil || exists(v.Mountpoint+"/"+file) != want {
			t.Errorf("%s is there: %v, %v", name, !want, err)
		}
	}
	c.Mounts = nil
	c.VolumesFrom = []string{"nobody"}
	refused(t, e, c, 125, "No such container: nobody")
	c.VolumesFrom = []string{id + ":x"}
	refused(t, e, c, 125, "invalid mode")
}

// TestVolumeSubpath: a part of a volume is mounted, and no link in it leads out, also while another container swaps it.
func TestVolumeSubpath(t *testing.T) {
	nstest.Root(t)
	e, root, ctx := open(t), nstest.RootFS(t), context.Background()
	canary := hostile.NewCanary(t)
	v, err := e.VolumeCreate(ctx, VolumeConfig{Name: "db"})
	if err != nil {
		t.Fatal(err)
	}
	put(t, v.Mountpoint+"/a/b/f", "in the part")
	for name, target := range map[string]string{"abs": canary.Dir, "rel": "a", "up": "../../.."} {
		if err := os.Symlink(target, v.Mountpoint+"/"+name); err != nil {
			t.Fatal(err)
		}
	}
	part := func(subpath string) Config {
		m := vol("db", "/data")
		m.Subpath = subpath
		c := sh(root, "cat /data/*; touch /data/new")
		c.Mounts = []Mount{m}
		return c
	}
	want(t, e, part("a/b"), "in the part")
	for subpath, want := range map[string]ExitError{
		"abs": {125, errors.New("by a symbolic link")}, "rel": {125, errors.New("by a symbolic link")}, "rel/b": {125, errors.New("by a symbolic link")}, "up": {125, errors.New("by a symbolic link")},
		"a/../../x": {125, errors.New("must be a relative path within the volume")}, "/a": {125, errors.New("must be a relative path within the volume")},
		"none": {127, errors.New(`there is no "none" in `)}, "a/none": {127, errors.New(`there is no "a/none" in `)}, "a/b/f/x": {125, errors.New("not a directory")},
	} {
		for _, privileged := range []bool{false, true} {
			c := part(subpath)
			c.Privileged = privileged
			_, _, err := inside(t, e, c)
			var exit *ExitError
			if !errors.As(err, &exit) || exit.Code != want.Code || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(want.Error())) {
				t.Errorf("subpath %s, privileged %v: %v, want %v", subpath, privileged, err, want)
			}
		}
	}
	c := part("a")
	c.Mounts[0].Source = ""
	if _, err := e.Create(ctx, c); err == nil || !strings.Contains(err.Error(), "must not set Subpath when using anonymous volumes") {
		t.Errorf("a part of a volume without a name: %v", err)
	}
	put(t, v.Mountpoint+"/race/f", "x")
	swap := nstest.Part("swapper", v.Mountpoint+"/race", v.Mountpoint+"/abs")
	stdin, err := swap.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := swap.Start(); err != nil {
		t.Fatal(err)
	}
	well := 0
	for range 40 {
		if out, _, err := inside(t, e, part("race")); err == nil {
			if well++; strings.Contains(out, "canary") {
				t.Fatal("it shows the host's directory")
			}
		}
	}
	stdin.Close()
	swap.Wait()
	canary.Check(t)
	if well == 0 {
		t.Error("no start met the directory")
	}
}

// TestVolumeDrivers: options of the local driver: a directory of the host, and a file system that all containers of the volume share.
func TestVolumeDrivers(t *testing.T) {
	nstest.Root(t)
	e, root, host := open(t), nstest.RootFS(t), nstest.Dir(t)
	ctx := context.Background()
	put(t, host+"/f", "of the host")
	for name, o := range map[string]map[string]string{
		"bind": {"type": "none", "device": host, "o": "bind,ro"},
		"mem":  {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"},
	} {
		if _, err := e.VolumeCreate(ctx, VolumeConfig{Name: name, Options: o}); err != nil {
			t.Fatal(err)
		}
	}
	c := sh(root, "cat /b/f; touch /b/x || echo read-only; echo shared > /m/f; df -k /m | tail -n1 | awk '{print $2}'")
	c.Mounts = []Mount{vol("bind", "/b"), vol("mem", "/m")}
	want(t, e, c, "of the hostread-only\n1024\n")
	// It is mounted as long as a container has it, and no longer.
	mounted := func() bool {
		t.Helper()
		data, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(data), "/volumes/mem/_data ")
	}
	if err := e.sweep(); err != nil || mounted() {
		t.Errorf("nobody has the volume any more, and it is mounted: %v", err)
	}
	c = sh(root, "echo shared > /m/f; echo ready; exec sleep 1000")
	c.Mounts = []Mount{vol("mem", "/m")}
	c.Name = "holds"
	first, err := e.Run(ctx, c, Streams{}, RunOptions{Detach: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Remove(context.Background(), first.ID, RemoveOptions{Force: true}) })
	if err := e.Logs(ctx, first.ID, LogOptions{Follow: true}, func(LogLine) error { return io.EOF }); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	c = sh(root, "cat /m/f")
	c.Mounts = []Mount{vol("mem", "/m")}
	want(t, e, c, "shared\n")
	if err := e.sweep(); err != nil || !mounted() {
		t.Errorf("another container has the volume, and it is not mounted: %v", err)
	}
	if err := e.Remove(ctx, first.ID, RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := e.sweep(); err != nil || mounted() {
		t.Errorf("nobody has the volume any more, and it is mounted: %v", err)
	}
	if err := e.VolumeRemove(ctx, "mem", false); err != nil {
		t.Error(err)
	}
	refused(t, e, func() Config { c := sh(root, "true"); c.Mounts = []Mount{vol("a/b", "/m")}; return c }(), 125, "includes invalid characters")
	twice := sh(root, "true")
	twice.Mounts = []Mount{vol("bind", "/m"), vol("bind", "/m/")}
	refused(t, e, twice, 125, "Duplicate mount point: /m")
	many, before := twice, len(volumeNames(t, e, nil))
	many.Mounts = nil
	for i := range plan.MaxSources + 1 {
		many.Mounts = append(many.Mounts, Mount{Type: "volume", Dest: fmt.Sprintf("/m/%d", i), Flag: "-v"})
	}
	refused(t, e, many, 125, fmt.Sprintf("can have at most %d volumes", plan.MaxSources))
	if list := volumeNames(t, e, nil); len(list) != before {
		t.Errorf("%d volumes were made for what was refused", len(list)-before)
	}
	many.UserNS = "host" // where no mount needs to be mapped
	want(t, e, many, "")
}

// TestVolumeFilters: each filter, several together, and one that there is not.
func TestVolumeFilters(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), context.Background()
	for i, labels := range []map[string]string{nil, {"a": "1"}, {"a": "2", "b": ""}} {
		if _, err := e.VolumeCreate(ctx, VolumeConfig{Name: fmt.Sprintf("vol%d", i), Labels: labels}); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		f    Filters
		want string
	}{
		{nil, "vol0 vol1 vol2"},
		{Filters{"label": {"a"}}, "vol1 vol2"},
		{Filters{"label": {"a=2"}}, "vol2"},
		{Filters{"label": {"a", "b"}}, "vol2"},
		{Filters{"name": {"ol1", "l2"}}, "vol1 vol2"},
		{Filters{"driver": {"local"}, "name": {"vol0"}}, "vol0"},
		{Filters{"driver": {"nfs"}}, ""},
		{Filters{"dangling": {"false"}}, ""},
	} {
		if got := strings.Join(volumeNames(t, e, test.f), " "); got != test.want {
			t.Errorf("%v: %s, want %s", test.f, got, test.want)
		}
	}
	for _, f := range []Filters{{"foo": {"x"}}, {"dangling": {"x"}}, {"dangling": {"t"}}} {
		if _, err := e.VolumeList(ctx, f, false); err == nil || !strings.Contains(err.Error(), "invalid filter") {
			t.Errorf("%v: %v", f, err)
		}
	}
	if _, err := e.VolumeCreate(ctx, VolumeConfig{Name: "mounted", Options: map[string]string{"type": "tmpfs", "device": "tmpfs"}}); err != nil {
		t.Fatal(err)
	}
	if gone, _, err := e.VolumePrune(ctx, Filters{"all": {"1"}, "label!": {"b"}}); err != nil || strings.Join(gone, " ") != "vol0 vol1" {
		t.Errorf("%v, %v", gone, err)
	}
	if err := e.VolumeRemove(ctx, "vol0", false); err == nil || err.Error() != "get vol0: no such volume" {
		t.Errorf("%v", err)
	}
	if err := e.VolumeRemove(ctx, "vol0", true); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"vol2", "mounted"} {
		if _, err := os.Stat(filepath.Join(e.data, "volumes", name)); err != nil {
			t.Error(err)
		}
	}
}

// TestVolumeCheck: what a killed command left of a volume is told, and mended; a record that cannot be read is named.
func TestVolumeCheck(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), context.Background()
	v, err := e.VolumeCreate(ctx, VolumeConfig{Name: "well"})
	if err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(e.data, "volumes/.new-x")
	put(t, half+"/_data/f", "x")
	about := func(repair bool, object string) (list []Finding) {
		t.Helper()
		all, err := e.Check(ctx, repair)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			if strings.HasPrefix(f.Object, object) {
				list = append(list, f)
			}
		}
		return list
	}
	if got := about(false, "volumes/"); len(got) != 1 || got[0].Mended || !exists(half) {
		t.Errorf("%+v", got)
	}
	if got := about(true, "volumes/"); len(got) != 1 || !got[0].Mended || exists(half) {
		t.Errorf("%+v", got)
	}
	if got := about(false, "volumes"); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	put(t, filepath.Dir(v.Mountpoint)+"/volume.json", "{")
	if got := about(true, "volume "); len(got) != 1 || got[0].Mended || !strings.Contains(got[0].Text, "well") || !strings.Contains(got[0].Error, "kakuri volume rm -f well") {
		t.Errorf("%+v", got)
	}
	other, err := e.VolumeCreate(ctx, VolumeConfig{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	var warned []string
	e.warn = func(s string) { warned = append(warned, s) }
	if list, err := e.VolumeList(ctx, nil, false); err != nil || len(list) != 1 || list[0].Name != other.Name || len(warned) != 1 || !strings.Contains(warned[0], "kakuri volume rm -f well") {
		t.Errorf("%v: %+v, warned of %q", err, list, warned)
	}
	if err := e.VolumeRemove(ctx, "well", false); err == nil || !exists(v.Mountpoint) {
		t.Errorf("without force: %v", err)
	}
	if err := e.VolumeRemove(ctx, "well", true); err != nil || exists(v.Mountpoint) {
		t.Errorf("with force: %v", err)
	}
}

// TestVolumeMode: the mode of a volume is what -v said, and z for one with a name or of --mount, as Docker says.
func TestVolumeMode(t *testing.T) {
	nstest.Root(t)
	e, root, ctx := open(t), nstest.RootFS(t), context.Background()
	c := sh(root, "true")
	c.Mounts = []Mount{
		{Type: "volume", Source: "vv", Dest: "/a", Flag: "-v v:/a"}, {Type: "volume", Source: "vv", Dest: "/b", Flag: "-v v:/b:nocopy"},
		{Type: "volume", Dest: "/c", Flag: "-v /c"}, {Type: "volume", Source: "vv", Dest: "/d", Flag: "--mount type=volume,src=v,dst=/d"}, {Type: "volume", Dest: "/e", Flag: "--mount type=volume,dst=/e"},
	}
	made, err := e.Create(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Remove(ctx, made.ID, RemoveOptions{Volumes: true}) })
	got := map[string]string{}
	for _, p := range made.Volumes {
		got[p.Destination] = p.Mode
	}
	if want := map[string]string{"/a": "z", "/b": "nocopy", "/c": "", "/d": "z", "/e": "z"}; !maps.Equal(got, want) {
		t.Errorf("modes %v, want %v", got, want)
	}
}
