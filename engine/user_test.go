package engine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
)

// etc makes a root with account files.
func etc(t testing.TB, passwd, group string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"passwd": passwd, "group": group} {
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const testPasswd = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/usr/sbin:
# a comment
short:x:5
web:x:33:34:with:/srv/web:/bin/sh
1000:x:0:0:a numeric name:/evil:/bin/sh
+1:x:0:0::/evil:
-1:x:0:0::/evil:
big:x:4294967296:0::/:
minus:x:-5:0::/:
wide:x:2147483647:2147483647::/wide:
over:x:2147483648:1::/over:
octal:x:010:010::/octal:
relative:x:40:40::home/rel:
empty:x::::/:
spaced:x: 7:7::/spaced:
carriage:x:41:42::/cr:` + "\r\n" + `two:x:50:50::/first:
two:x:51:51::/second:
`

const testGroup = `root:x:0:
daemon:x:1:web
tty:x:5:
wheel:x:10:web,daemon,root
web:x:34:
other:x:60:web
other2:x:60:web
2000:x:0:
bad:x:99999999999:web
minus:x:-1:web
near:x:61:webb,awe,we
`

// CVE-2016-3697, CVE-2024-40635, CVE-2026-30892: no form of a user becomes another
// one, least of all root, by a number that is taken for a name or does not fit.
func TestCVE_2016_3697_2024_40635_2026_30892(t *testing.T) {
	root := etc(t, testPasswd, testGroup)
	type answer struct {
		uid, gid uint32
		groups   []uint32
		home     string
	}
	bad := answer{uid: ^uint32(0)}
	for spec, want := range map[string]answer{
		"":                        {0, 0, []uint32{10}, "/root"},
		"root":                    {0, 0, []uint32{10}, "/root"},
		"0":                       {0, 0, []uint32{10}, "/root"},
		"00":                      {0, 0, []uint32{10}, "/root"},
		"1":                       {1, 1, []uint32{10}, "/usr/sbin"},
		"01":                      {1, 1, []uint32{10}, "/usr/sbin"},
		"1:0":                     {1, 0, nil, "/usr/sbin"},
		"1:1":                     {1, 1, nil, "/usr/sbin"},
		"web":                     {33, 34, []uint32{1, 10, 60}, "/srv/web"},
		"33":                      {33, 34, []uint32{1, 10, 60}, "/srv/web"},
		"web:":                    {33, 34, []uint32{1, 10, 60}, "/srv/web"},
		"1:":                      {1, 1, []uint32{10}, "/usr/sbin"},
		"777:":                    {777, 0, nil, "/"},
		"web:daemon":              {33, 1, nil, "/srv/web"},
		"web:10":                  {33, 10, nil, "/srv/web"},
		"33:wheel":                {33, 10, nil, "/srv/web"},
		"web:2000":                {33, 2000, nil, "/srv/web"}, // a number is a number, for groups too
		"1000":                    {1000, 0, nil, "/"},
		"1000:1000":               {1000, 1000, nil, "/"},
		"777":                     {777, 0, nil, "/"},
		"777:888":                 {777, 888, nil, "/"},
		"2147483647":              {2147483647, 2147483647, nil, "/wide"},
		"wide":                    {2147483647, 2147483647, nil, "/wide"},
		"40":                      {40, 40, nil, "/"}, // a home that is no absolute path
		"octal":                   {10, 10, nil, "/octal"},
		"carriage":                {41, 42, nil, "/cr"},
		"two":                     {50, 50, nil, "/first"},
		"51":                      {51, 51, nil, "/second"},
		"2147483648":              bad,
		"4294967295":              bad,
		"4294967296":              bad,
		"8589934592":              bad,
		"18446744073709551616":    bad,
		"99999999999999999999999": bad,
		"-1":                      bad, // an account of the image has that name
		"-2":                      bad,
		"+1":                      bad,
		"+2":                      bad,
		":1":                      bad,
		":":                       bad,
		"1:-1":                    bad,
		"1:+1":                    bad,
		"1:4294967296":            bad,
		"1:2147483648":            bad,
		"1:nosuch":                bad,
		"nosuch":                  bad,
		"big":                     bad,
		"minus":                   bad,
		"over":                    bad,
		"empty":                   bad,
		"spaced":                  bad,
		"short":                   bad,
		"web:bad":                 bad,
		" 1":                      bad,
		"1 ":                      bad,
		"1.0":                     bad,
		"1e3":                     bad,
		"0x1":                     bad,
		"0b1":                     bad,
		"1_000":                   bad,
		"١":                       bad, // a digit, but not an ASCII one
		"1:1:1":                   bad,
		"root\x00":                bad,
		"root\n":                  bad,
		"#":                       bad,
		"# a comment":             bad,
	} {
		u, home, err := resolveUser(inRoot(root), spec)
		if want.uid == bad.uid {
			if err == nil || !strings.Contains(err.Error(), "-u "+spec) && !strings.Contains(err.Error(), "-u ") {
				t.Errorf("-u %q: %v, user %+v", spec, err, u)
			}
			continue
		}
		if !slices.Contains(want.groups, want.gid) {
			want.groups = append([]uint32{want.gid}, want.groups...)
		}
		if err != nil || u.UID != want.uid || u.GID != want.gid || home != want.home || !slices.Equal(u.AdditionalGids, want.groups) {
			t.Errorf("-u %q: %v: %d:%d groups %v home %s, want %+v", spec, err, u.UID, u.GID, u.AdditionalGids, home, want)
		}
	}
}

// Without account files numbers work, and names do not.
func TestUserWithoutFiles(t *testing.T) {
	root := etc(t, "", "")
	if u, home, err := resolveUser(inRoot(root), "7:8"); err != nil || u.UID != 7 || u.GID != 8 || home != "/" {
		t.Errorf("%v %+v %s", err, u, home)
	}
	if u, _, err := resolveUser(inRoot(root), ""); err != nil || u.UID != 0 || u.GID != 0 {
		t.Errorf("%v %+v", err, u)
	}
	for _, spec := range []string{"web", "7:web"} {
		if _, _, err := resolveUser(inRoot(root), spec); err == nil || !strings.Contains(err.Error(), "cannot be looked up") {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

// CVE-2022-4318, CVE-2024-9676: account files of an image that never end, block, are
// huge, or lead outside are no account files.
func TestCVE_2022_4318_2024_9676(t *testing.T) {
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "passwd"), []byte("web:x:4711:4711::/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, makeFile := range map[string]func(p string) error{
		"fifo":             func(p string) error { return syscall.Mkfifo(p, 0o644) },
		"endless device":   func(p string) error { return os.Symlink("/dev/zero", p) },
		"link to the host": func(p string) error { return os.Symlink(filepath.Join(host, "passwd"), p) },
		"way to the host":  func(p string) error { return os.Symlink(strings.Repeat("../", 30)+host[1:]+"/passwd", p) },
		"magic link":       func(p string) error { return os.Symlink("/proc/self/root"+host+"/passwd", p) },
		"directory":        func(p string) error { return os.Mkdir(p, 0o755) },
		"huge": func(p string) error {
			return os.WriteFile(p, []byte(strings.Repeat("web:x:4711:4711::/:\n", 110_000)), 0o644)
		},
		"sparse and huge": func(p string) error { return sparse(p, 1<<40) },
		"link to itself":  func(p string) error { return os.Symlink(filepath.Base(p), p) },
		"socket":          func(p string) error { return syscall.Mknod(p, syscall.S_IFSOCK|0o644, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			root := etc(t, "", "")
			for _, file := range []string{"passwd", "group"} {
				if err := makeFile(filepath.Join(root, "etc", file)); err != nil {
					t.Skip(err)
				}
			}
			if name == "endless device" {
				if err := os.MkdirAll(filepath.Join(root, "dev"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := syscall.Mknod(filepath.Join(root, "dev/zero"), syscall.S_IFCHR|0o666, 1<<8|5); err != nil && os.Geteuid() == 0 {
					t.Log(err)
				}
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				if u, _, err := resolveUser(inRoot(root), "web"); err == nil {
					t.Errorf("user web is %+v", u)
				}
				if gid, err := resolveGroup(inRoot(root), "web"); err == nil {
					t.Errorf("group web is %d", gid)
				}
				if u, _, err := resolveUser(inRoot(root), "0"); err != nil || u.UID != 0 || !slices.Equal(u.AdditionalGids, []uint32{0}) {
					t.Errorf("a number: %v %+v", err, u)
				}
			}()
			select {
			case <-done:
			case <-time.After(2 * time.Minute):
				t.Fatal("no end")
			}
		})
	}
}

func sparse(p string, size int64) error {
	f, err := os.Create(p)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Truncate(size)
}

// What -u asks for is what the kernel shows, for users and groups in all their forms, and
// no capability is inherited (CVE-2022-24769, 27649 to 27652, 29162; CVE-2022-36109, 2995, 2990).
func TestCVE_2022_24769_and_36109(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	for _, c := range []struct {
		user string
		add  []string
		want string // uid gid groups
	}{
		{"", nil, "0 0 0"},
		{"root", nil, "0 0 0"},
		{"0:0", nil, "0 0 0"},
		{"daemon", nil, "1 1 1 10"},
		{"web", nil, "33 33 33 10"},
		{"33", nil, "33 33 33 10"},
		{"web:tty", nil, "33 5 5"},
		{"33:5", nil, "33 5 5"},
		{"1234", nil, "1234 0 0"},
		{"1234:4321", nil, "1234 4321 4321"},
		{"web", []string{"tty", "10", "700"}, "33 33 33 5 10 700"},
		{"1234:4321", []string{"wheel"}, "1234 4321 4321 10"},
	} {
		for _, userns := range []string{"", "host"} {
			r := sh(root, `id -u; id -g; grep -q "^Groups:.*[[:space:]]$(id -g)[[:space:]]" /proc/self/status || echo "the own group is not among the others"; id -G; grep -E 'Cap(Inh|Amb)' /proc/self/status | grep -v 0000000000000000; touch /tmp/x && stat -c %u:%g /tmp/x; rm /tmp/x`)
			r.User, r.GroupAdd, r.UserNS = c.user, c.add, userns
			out, code, err := inside(t, e, r)
			f := strings.Fields(c.want)
			want := f[0] + "\n" + f[1] + "\n" + strings.Join(f[2:], " ") + "\n" + f[0] + ":" + f[1] + "\n"
			if err != nil || code != 0 || out != want {
				t.Errorf("-u %q %v --userns %q: %v, code %d: %q, want %q", c.user, c.add, userns, err, code, out, want)
			}
		}
	}
	r := sh(root, "true")
	r.GroupAdd = []string{"nosuch"}
	refused(t, e, r, 125, "nosuch")
	r.GroupAdd, r.User = nil, "4294967296"
	refused(t, e, r, 125, "uids and gids must be in range 0-2147483647")
	// An id that the container's range does not have.
	r.User = "70000"
	refused(t, e, r, 125, "-u 70000: the container has no uid 70000: its user namespace has 65536 of them: --userns host has all that the machine has")
	r.User = "0:70000"
	refused(t, e, r, 125, "-u 0:70000: the container has no gid 70000")
	r.User, r.GroupAdd = "", []string{"70000"}
	refused(t, e, r, 125, "--group-add 70000: the container has no gid 70000")
	r.GroupAdd, r.User, r.UserNS = nil, "200", "auto:size=100"
	refused(t, e, r, 125, "-u 200: the container has no uid 200: its user namespace has 100 of them: --userns auto:size=201 has it")
}
