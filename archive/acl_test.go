package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// acl is an ACL of entries of a tag, permissions and an id.
func acl(entries ...[3]uint32) string {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return string(b)
}

const nobody = 0xffffffff // the id of an entry without one

// TestACL: an ACL of an archive is that of the file, with its users and groups as the owners are, and comes back the same.
func TestACL(t *testing.T) {
	nstest.Root(t)
	dir := t.TempDir()
	access := acl([3]uint32{1, 6, nobody}, [3]uint32{2, 4, 33}, [3]uint32{4, 0, nobody}, [3]uint32{8, 4, 7}, [3]uint32{16, 4, nobody}, [3]uint32{32, 0, nobody})
	in := pack(t,
		tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o750, PAXRecords: map[string]string{paxXattr + defaultACLXattr: access}},
		tar.Header{Name: "f", Mode: 0o640, Uid: 5, PAXRecords: map[string]string{paxXattr + aclXattr: access, paxXattr + defaultACLXattr: access}},
	)
	add := func(n uint32) func(uint32) (uint32, error) {
		return func(id uint32) (uint32, error) { return id + n, nil }
	}
	if done, err := Apply(context.Background(), open(t, dir), in, Options{UID: add(1000), GID: add(2000)}); err != nil || len(done.LeftOut) > 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	buf := make([]byte, 256)
	n, err := unix.Getxattr(filepath.Join(dir, "f"), aclXattr, buf)
	want := acl([3]uint32{1, 6, nobody}, [3]uint32{2, 4, 1033}, [3]uint32{4, 0, nobody}, [3]uint32{8, 4, 2007}, [3]uint32{16, 4, nobody}, [3]uint32{32, 0, nobody})
	if err != nil || string(buf[:n]) != want {
		t.Errorf("%q, %v; want %q", buf[:max(n, 0)], err, want)
	}
	var out bytes.Buffer
	if err := Write(context.Background(), &out, open(t, dir), ".", WriteOptions{UID: add(^uint32(999)), GID: add(^uint32(1999))}); err != nil {
		t.Fatal(err)
	}
	got := map[string]map[string]string{}
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		got[h.Name] = h.PAXRecords
	}
	for name, key := range map[string]string{"d/": defaultACLXattr, "f": aclXattr} {
		if len(got[name]) == 0 || got[name][paxXattr+key] != access {
			t.Errorf("%s came back as %q", name, got)
		}
	}

	// As a user who cannot give files away, its users are nobody's.
	in = pack(t, tar.Header{Name: "g", Mode: 0o640, PAXRecords: map[string]string{paxXattr + aclXattr: access}})
	done, err := Apply(context.Background(), open(t, dir), in, Options{NoOwner: true})
	if err != nil || len(done.LeftOut) != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	if n, err := unix.Getxattr(filepath.Join(dir, "g"), aclXattr, buf); err != unix.ENODATA {
		t.Errorf("%q, %v", buf[:max(n, 0)], err)
	}
	for _, bad := range []string{
		"", "\x02\x00\x00\x00", access[:len(access)-1], "\x01" + access[1:],
		acl([3]uint32{1, 6, nobody}, [3]uint32{4, 0, nobody}), acl([3]uint32{4, 0, nobody}, [3]uint32{1, 6, nobody}, [3]uint32{32, 0, nobody}),
		acl([3]uint32{1, 8, nobody}, [3]uint32{4, 0, nobody}, [3]uint32{32, 0, nobody}), acl([3]uint32{1, 6, nobody}, [3]uint32{2, 4, 33}, [3]uint32{4, 0, nobody}, [3]uint32{32, 0, nobody}),
		acl([3]uint32{1, 6, nobody}, [3]uint32{3, 4, 33}, [3]uint32{4, 0, nobody}, [3]uint32{32, 0, nobody}),
	} {
		if err := unix.Setxattr(filepath.Join(dir, "f"), aclXattr, []byte(bad), 0); err == nil && len(bad) > aclHeader {
			t.Errorf("the kernel takes %q", bad)
		}
		if checkACL(bad) == nil {
			t.Errorf("%q is said to be one", bad)
		}
		in := pack(t, tar.Header{Name: "h", PAXRecords: map[string]string{paxXattr + aclXattr: bad}})
		if bad == "" { // a record without a value is none
			continue
		}
		if _, err := Apply(context.Background(), open(t, dir), in, Options{}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestKernelsACLs: whatever the entries of an ACL are and their order, the check says what the kernel does.
func TestKernelsACLs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var each func(entries [][3]uint32)
	each = func(entries [][3]uint32) {
		if value := acl(entries...); len(entries) > 0 {
			kernel, ours := unix.Setxattr(file, aclXattr, []byte(value), 0), checkACL(value)
			if (kernel == nil) != (ours == nil) {
				t.Errorf("%v: the kernel says %v, the check %v", entries, kernel, ours)
			}
		}
		for _, tag := range []uint32{1, 2, 4, 8, 16, 32} {
			if len(entries) < 6 {
				each(append(entries, [3]uint32{tag, 4, 33}))
			}
		}
	}
	each(nil)
}
