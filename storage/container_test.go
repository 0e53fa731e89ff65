package storage

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// busybox are the entries of a layer with a shell.
func busybox(t testing.TB) []ent {
	t.Helper()
	at, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox (Debian: package busybox-static)")
	}
	b, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	list := []ent{
		"d .", "d bin", full{Header: tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, text: string(b)},
		"d etc", "f etc/passwd root:x:0:0::/:/bin/sh\n", "d proc", "d tmp 1777",
	}
	for _, name := range strings.Fields("sh cat ls rm mkdir echo stat ln mv grep chown id touch sed mkfifo") {
		list = append(list, "h bin/"+name+" bin/busybox")
	}
	return list
}

// A box is a container of a test.
type box struct {
	view     *View
	upper    Upper // without an id, writes stay in memory
	readonly bool
	userns   bool
	ids      *IDs // of an ordinary user
}

// run runs a line of shell in it.
func (b box) run(t testing.TB, line string) string {
	t.Helper()
	spec := &specs.Spec{
		Process: &specs.Process{Args: []string{"/bin/sh", "-c", line}, Cwd: "/", Env: []string{"PATH=/bin"}},
		Root:    &specs.Root{Readonly: b.readonly},
		Mounts:  []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}, {Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=755"}}},
		Linux:   &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}}},
	}
	dir := ""
	if b.upper.ID == "" && b.view.NeedsUpper() {
		b.upper = Upper{ID: "needed", Ephemeral: true}
		defer func() {
			if err := b.view.s.RemoveUpper("needed"); err != nil {
				t.Error(err)
			}
		}()
	}
	if b.upper.ID != "" {
		var err error
		if dir, err = b.view.NewUpper(b.upper); err != nil {
			t.Fatal(err)
		}
	}
	o := plan.Options{Root: &plan.Root{Layers: b.view.Layers(dir, b.upper.Ephemeral), Reason: "image test"}, Bundle: "/"}
	if b.userns {
		ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 0x70000000, Size: 65536}}
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		spec.Linux.UIDMappings, spec.Linux.GIDMappings = ids, ids
		o.IDMapRoot = true
	}
	if b.ids != nil {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		spec.Linux.UIDMappings, spec.Linux.GIDMappings = ociIDs(b.ids.UIDs), ociIDs(b.ids.GIDs)
	}
	facts, err := host.Read(host.Needs{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Compile(spec, facts, o)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	hands := &boxHands{facts: facts}
	proc, err := launch.Run(t.Context(), p, launch.Options{Hands: hands, Stdio: [3]*os.File{nil, w, w}})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	status, err := proc.Wait()
	if s := hands.server; s != nil {
		if how, err := s.Wait(); err != nil || how.Signaled() { // it ends with the mount, by any code
			t.Errorf("what served the root ended with %#x, %v", int(how), err)
		}
	}
	if err != nil || status != 0 {
		t.Fatalf("%s\nended with %#x, %v: %s", line, int(status), err, out)
	}
	return string(out)
}

// boxHands are a mapper's, and start what serves a root.
type boxHands struct {
	mapper
	facts  plan.Facts
	server *launch.Process
}

// DoFDs implements [launch.FDHands].
func (h *boxHands) DoFDs(ctx context.Context, op plan.Op, _ int, fds []int) (err error) {
	h.server, err = launch.Serve(ctx, op.(*plan.ServeRoot), fds[0], os.Stderr, false, h.facts, mapper{})
	return err
}

func ociIDs(list []plan.IDMapping) (out []specs.LinuxIDMapping) {
	for _, m := range list {
		out = append(out, specs.LinuxIDMapping{ContainerID: m.Inside, HostID: m.Outside, Size: m.Size})
	}
	return out
}

// boxes runs a test with each driver, with user namespaces of containers and without.
func boxes(t *testing.T, test func(t *testing.T, s *Store, userns bool)) {
	drivers(t, func(t *testing.T, s *Store) {
		for _, userns := range []bool{true, false} {
			t.Run(fmt.Sprintf("userns=%v", userns), func(t *testing.T) { test(t, s, userns) })
		}
	})
}

// tmpfsKeepsMarks reports whether a tmpfs takes extended attributes user.*.
func tmpfsKeepsMarks(t testing.TB) bool {
	dir := nstest.Dir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	err := unix.Setxattr(dir, "user.mark", []byte("y"), 0)
	if err != nil && err != unix.EOPNOTSUPP {
		t.Fatal(err)
	}
	return err == nil
}

func TestContainer(t *testing.T) {
	boxes(t, func(t *testing.T, s *Store, userns bool) {
		chain := put(t, s, tarsOf(t, [][]ent{busybox(t), {
			"d srv", full{Header: tar.Header{Typeflag: tar.TypeReg, Name: "srv/file", Mode: 0o640, Uid: 33, Gid: 44}, text: "image\n"}, "d srv/dir", "f srv/dir/in in", "h srv/link srv/file",
		}}))
		v := view(t, s, chain, "c")
		for _, kind := range []string{"disk", "ephemeral", "memory", "read-only"} {
			t.Run(kind, func(t *testing.T) {
				b := box{view: v, userns: userns, readonly: kind == "read-only"}
				id := fmt.Sprintf("%s-%v", kind, userns)
				if kind == "disk" || kind == "ephemeral" {
					b.upper = Upper{ID: id, Ephemeral: kind == "ephemeral"}
					defer func() {
						if err := s.RemoveUpper(id); err != nil {
							t.Error(err)
						}
					}()
				}
				if got, want := b.run(t, "stat -c '%n %u:%g %a' /; stat -c '%n %u:%g %a %h' /srv/file /srv/link; cat /srv/file /srv/dir/in; grep -c '"+s.o.Data+"\\|"+s.o.Run+"' /proc/self/mountinfo || true"),
					"/ 0:0 755\n/srv/file 33:44 640 2\n/srv/link 33:44 640 2\nimage\nin0\n"; got != want {
					t.Errorf("%q, want %q", got, want)
				}
				if b.readonly {
					if got := b.run(t, "touch /new 2>&1 || true"); !strings.Contains(got, "Read-only file system") {
						t.Errorf("%q", got)
					}
					return
				}
				if kind == "memory" && !tmpfsKeepsMarks(t) {
					return // a directory that takes the place of another needs a mark, which a tmpfs keeps since Linux 6.6
				}
				write := "echo new >/srv/file; cat /srv/file; rm -r /srv/dir; mkdir /srv/dir; echo up >/srv/dir/up; ls /srv/dir; chown 5:6 /srv/dir/up; stat -c %u:%g /srv/dir/up"
				if got, want := b.run(t, write), "new\nup\n5:6\n"; got != want {
					t.Errorf("%q, want %q", got, want)
				}
				// Once more with what was written.
				read := "cat /srv/file"
				if b.view.fuse != "" {
					// What is written to a file of several names in the image, fuse-overlayfs 1.10 keeps by one of them, whichever it meets first.
					read = "cat /srv/file /srv/link | grep -m 1 new"
				}
				if got := b.run(t, read+"; ls /srv/dir"); (b.upper.ID != "") != (got == "new\nup\n") {
					t.Errorf("afterwards: %q", got)
				}
				if b.upper.ID != "" {
					// On the disk, ids are those inside.
					dir, err := s.upperPath(id)
					if err != nil {
						t.Fatal(err)
					}
					st, err := os.Stat(filepath.Join(dir, "upper/srv/dir/up"))
					if err != nil {
						t.Fatal(err)
					}
					if got := fmt.Sprintf("%+v", st.Sys()); !strings.Contains(got, "Uid:5 Gid:6") {
						t.Errorf("on the disk: %s", got)
					}
				}
			})
		}
	})
}

// TestManyLayers: an image of a hundred layers works as one of one.
func TestManyLayers(t *testing.T) {
	boxes(t, func(t *testing.T, s *Store, userns bool) {
		layers := [][]ent{busybox(t)}
		for i := range 99 {
			layers = append(layers, []ent{"d deep", fmt.Sprintf("f deep/%03d %d", i, i), fmt.Sprintf("f top %d", i)})
		}
		v := view(t, s, put(t, s, tarsOf(t, layers)), "c")
		if got := (box{view: v, userns: userns}).run(t, "cat /top; ls /deep | grep -c ."); got != "9899\n" {
			t.Errorf("%q", got)
		}
	})
}
