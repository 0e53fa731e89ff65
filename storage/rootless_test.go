package storage

import (
	"archive/tar"
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/go-digest"
)

// ordinary are the ids of this user's containers: its own is root, and the others follow.
func ordinary(t testing.TB, helpers bool) IDs {
	t.Helper()
	facts, err := host.Read(host.Needs{})
	if err != nil {
		t.Fatal(err)
	}
	ids := IDs{Facts: facts}
	ids.UIDs = []plan.IDMapping{{Inside: 0, Outside: facts.UID, Size: 1}}
	ids.GIDs = []plan.IDMapping{{Inside: 0, Outside: facts.GID, Size: 1}}
	if !helpers {
		return ids
	}
	if facts.NewUIDMap == "" || len(facts.SubUIDs) == 0 || len(facts.SubGIDs) == 0 {
		t.Skip("needs newuidmap (Debian: package uidmap) and lines of the user in /etc/subuid and /etc/subgid")
	}
	ids.UIDs = append(ids.UIDs, plan.IDMapping{Inside: 1, Outside: facts.SubUIDs[0].Start, Size: facts.SubUIDs[0].Size})
	ids.GIDs = append(ids.GIDs, plan.IDMapping{Inside: 1, Outside: facts.SubGIDs[0].Start, Size: facts.SubGIDs[0].Size})
	return ids
}

// TestRootless: an ordinary user's store unpacks layers with the user's ids, runs containers, and takes away what they
// made, whoever it belongs to; with one id alone, too.
func TestRootless(t *testing.T) {
	for name, helpers := range map[string]bool{"many ids": true, "one id": false} {
		t.Run(name, func(t *testing.T) {
			nstest.Inside(t, nstest.Place{User: nstest.User(t)}, func(t *testing.T) {
				dir := t.TempDir()
				s, err := Open(Options{Data: dir + "/data", Run: dir + "/run", Rootless: true, IDs: ordinary(t, helpers)})
				if err != nil {
					t.Fatal(err)
				}
				if name, why := s.Driver(); name != driverDirs || !strings.Contains(why, "ordinary user") {
					t.Errorf("driver %s: %s", name, why)
				}
				rootless(t, s, helpers)
			})
		})
	}
}

// TestRootlessWithoutNamespaces: where hardening has taken user namespaces from ordinary users, what a start has made before it failed by that goes all the same.
func TestRootlessWithoutNamespaces(t *testing.T) {
	nstest.Inside(t, nstest.Place{User: nstest.User(t)}, func(t *testing.T) {
		dir := t.TempDir()
		s, err := Open(Options{Data: dir + "/data", Run: dir + "/run", Rootless: true, IDs: ordinary(t, false)})
		if err != nil {
			t.Fatal(err)
		}
		v := view(t, s, put(t, s, tarsOf(t, [][]ent{{"d dir", "f dir/file x"}})), "c")
		made, err := v.NewUpper(Upper{ID: "c", Ephemeral: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(made+"/work/work", 0); err != nil {
			t.Fatal(err)
		}
		s.o.IDs = IDs{} // no process can be started
		if err := s.RemoveUpper("c"); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(made); !os.IsNotExist(err) {
			t.Errorf("%s: %v", made, err)
		}
		// What is another id's takes such a process: one error says why there is none.
		if err := os.MkdirAll(made+"/upper", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(made+"/work", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(made, 0o500); err != nil {
			t.Fatal(err)
		}
		if err := s.RemoveUpper("c"); err == nil || strings.Count(err.Error(), "caller's ids") != 1 {
			t.Errorf("%v", err)
		}
		if err := os.Chmod(made, 0o700); err != nil {
			t.Fatal(err)
		}
	})
}

func rootless(t *testing.T, s *Store, helpers bool) {
	dir, ids := t.TempDir(), s.o.IDs
	owner := "5:6"
	if !helpers {
		owner = "0:0"
	}
	chain := put(t, s, tarsOf(t, [][]ent{append(busybox(t), "d . 555"), {
		"d srv", full{Header: tar.Header{Typeflag: tar.TypeReg, Name: "srv/closed", Mode: 0o600, Uid: 5, Gid: 6}, text: "closed\n"}, "f srv/gone x", "c srv/null 1 3",
		full{Header: tar.Header{Typeflag: tar.TypeDir, Name: "srv/dark", Mode: 0, Uid: 5, Gid: 6}}, "f srv/dark/in x", full{Header: xattrHeader("srv/attrs"), text: "x"},
	}, {"f srv/.wh.gone "}}))
	v := view(t, s, chain, "c")
	b := box{view: v, upper: Upper{ID: "c", Ephemeral: true}, ids: &ids}
	if got, want := b.run(t, "stat -c %u:%g /srv/closed; cat /srv/closed; ls /srv; echo new >/srv/closed; rm -r /srv/dark; mkdir /srv/mine; touch /srv/mine/x; chown 7:7 /srv/mine/x 2>/dev/null; chmod 0 /srv/mine; echo done"),
		owner+"\nclosed\nattrs\nclosed\ndark\ndone\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := b.run(t, "cat /srv/closed; ls /srv"); got != "new\nattrs\nclosed\nmine\n" {
		t.Errorf("%q", got)
	}
	list, err := v.Diff(t.Context(), "c", []string{"/dev", "/proc"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range list {
		got = append(got, c.String())
	}
	same(t, "changes", got, []string{"C /srv", "C /srv/closed", "D /srv/dark", "A /srv/mine", "A /srv/mine/x"})
	var diff bytes.Buffer
	if err := v.DiffTar(t.Context(), "c", nil, &diff); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), bytes.NewReader(diff.Bytes()), ""); err != nil {
		t.Error(err)
	}
	if !bytes.Contains(diff.Bytes(), []byte("new\n")) {
		t.Error("the container's file is not in what it changed")
	}
	if err := s.RemoveUpper("c"); err != nil {
		t.Error(err)
	}
	if _, _, err := s.GC(func(digest.Digest) bool { return false }); err != nil {
		t.Error(err)
	}
	for _, sub := range []string{layersDir, dirsDir, ephemeral} {
		list, err := os.ReadDir(s.path(sub))
		if err != nil || len(list) > 0 {
			t.Errorf("%s has %v, %v", sub, list, err)
		}
	}
	// The error of such a process is ours.
	if err := s.do(t.Context(), job{Op: jobUnpack, Path: dir + "/none"}, nil, nil); err == nil || !strings.Contains(err.Error(), dir+"/none") {
		t.Errorf("%v", err)
	}
}
