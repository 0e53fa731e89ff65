package selinux

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// policy is a directory of SELinux's configuration; an empty text is no file.
func policy(t *testing.T, config, contexts string) Machine {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"config": config, "mine/contexts/lxc_contexts": contexts, "targeted/contexts/lxc_contexts": contexts} {
		if text == "" {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(dir+"/"+name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/context", nil, 0o644); err != nil { // the kernel's says no to what it does not know
		t.Fatal(err)
	}
	return Machine{Config: dir, FS: dir}
}

const contexts = "# of containers\nprocess = \"system_u:system_r:container_t:s0\"\nro_file = \"system_u:object_r:container_ro_file_t:s0\"\nfile = \"system_u:object_r:container_file_t:s0\"\n"

func free(string) bool { return false }

func TestChoose(t *testing.T) {
	m := policy(t, "SELINUX=enforcing\n#SELINUXTYPE=other\nSELINUXTYPE=mine\n", contexts)
	for _, c := range []struct {
		options       string
		process, file string
	}{
		{"level:s0:c1,c2", "system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2"},
		{"type:a_t level:s0:c9 type:b_t", "system_u:system_r:b_t:s0:c9", "system_u:object_r:container_file_t:s0:c9"},
		{"user:u role:r filetype:f_t level:s1", "u:r:container_t:s1", "u:object_r:f_t:s1"},
	} {
		l, err := m.Choose(strings.Fields(c.options), free)
		if err != nil || l.Process != c.process || l.File != c.file || l.Layer != m.Layer() || l.Layer != "system_u:object_r:container_ro_file_t:s0" {
			t.Errorf("%s: %+v, %v", c.options, l, err)
		}
		if want := regexp.MustCompile(`^(\w+:\w+:\w+:s\d).*`).ReplaceAllString(l.File, "$1"); l.Shared() != want {
			t.Errorf("%s: shared %q, want %q", c.options, l.Shared(), want)
		}
	}
	for _, o := range []string{"", "type", "type:", "type:a:b", "level:a b", "color:red", "user:a\n"} {
		if l, err := m.Choose([]string{o}, free); err == nil {
			t.Errorf("%q: %+v", o, l)
		}
	}
	if got := (Labels{}).Shared(); got != "" {
		t.Errorf("of none: %q", got)
	}
}

// TestChosenLevel: two categories keep a container from others, and no level is given twice.
func TestChosenLevel(t *testing.T) {
	m := policy(t, "", contexts) // the policy is "targeted" where nothing else is said
	var asked []string
	l, err := m.Choose(nil, func(level string) bool {
		asked = append(asked, level)
		return len(asked) < 3
	})
	if err != nil || len(asked) != 3 || l.Process != "system_u:system_r:container_t:"+asked[2] || l.File != "system_u:object_r:container_file_t:"+asked[2] {
		t.Errorf("%+v, %v: asked for %q", l, err, asked)
	}
	for range 100 {
		l, err := m.Choose(nil, free)
		var a, b int
		if _, level, _ := strings.Cut(l.Process, "container_t:"); err != nil || !scan(level, &a, &b) || a >= b || b >= categories {
			t.Fatalf("%+v, %v", l, err)
		}
	}
	// A policy without levels has no categories.
	m = policy(t, "", "process = \"u:r:c_t\"\nfile = \"u:r:f_t\"\n")
	if l, err := m.Choose([]string{"type:x_t"}, free); err != nil || l.Process != "u:r:x_t" || l.File != "u:r:f_t" {
		t.Errorf("%+v, %v", l, err)
	}
}

func scan(level string, a, b *int) bool {
	m := regexp.MustCompile(`^s0:c(\d+),c(\d+)$`).FindStringSubmatch(level)
	if m == nil {
		return false
	}
	for i, at := range []*int{a, b} {
		for _, r := range m[i+1] {
			*at = *at*10 + int(r-'0')
		}
	}
	return true
}

func TestNoPolicy(t *testing.T) {
	for _, c := range []struct{ config, contexts, want string }{
		{"SELINUXTYPE=mine\n", "", "says nothing of containers"},
		{"SELINUXTYPE=mine\n", "process = \"u:r:t\"\n", "want the lines"},
		{"SELINUXTYPE=mine\n", "process = \"\"\nfile = x\n", "want the lines"},
	} {
		m := policy(t, c.config, c.contexts)
		if l, err := m.Choose(nil, free); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v, %v: want %q", l, err, c.want)
		}
		if got := m.Layer(); got != "" {
			t.Errorf("%q", got)
		}
	}
}

// TestUnknownToPolicy: a label that the kernel's policy does not know is none.
func TestUnknownToPolicy(t *testing.T) {
	m := policy(t, "", contexts)
	m.FS = t.TempDir()
	must(t, os.Symlink("/dev/full", m.FS+"/context")) // whose writes fail, too
	if l, err := m.Choose(nil, free); err == nil || !strings.Contains(err.Error(), "knows no label system_u:system_r:container_t:s0:") {
		t.Errorf("%+v, %v", l, err)
	}
	if got := m.Layer(); got != "" {
		t.Errorf("%q", got)
	}
}

const given = "system_u:object_r:container_file_t:s0:c1,c2"

// label is a file's own, and empty for none.
func label(t *testing.T, path string) string {
	t.Helper()
	buf := make([]byte, 100)
	n, err := unix.Lgetxattr(path, files.LabelXattr, buf)
	if err != nil && err != unix.ENODATA {
		t.Fatal(path, err)
	}
	return strings.TrimRight(string(buf[:max(n, 0)]), "\x00")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRelabelFollowsNothing: what a container has put into a tree gets a label, and nothing that its links and mounts lead to.
func TestRelabelFollowsNothing(t *testing.T) {
	nstest.Root(t)
	dir, outside := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(outside+"/file", nil, 0o644))
	before := label(t, outside+"/file")
	must(t, os.MkdirAll(dir+"/a/b/c", 0o755))
	must(t, os.WriteFile(dir+"/a/b/c/file", nil, 0))
	must(t, os.Symlink(outside, dir+"/a/link"))
	must(t, os.Symlink(outside+"/file", dir+"/a/b/file"))
	must(t, unix.Mkfifo(dir+"/fifo", 0o600))
	must(t, unix.Mkdir(dir+"/mount", 0o755))
	must(t, unix.Mount(outside, dir+"/mount", "", unix.MS_BIND, ""))
	defer unix.Unmount(dir+"/mount", unix.MNT_DETACH)
	if err := Relabel(dir, given); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "/a", "/a/b", "/a/b/c", "/a/b/c/file", "/a/link", "/a/b/file", "/fifo"} {
		if got := label(t, dir+name); got != given {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, name := range []string{outside, outside + "/file"} {
		if got := label(t, name); got != before {
			t.Errorf("%s: %q, as before is %q", name, got, before)
		}
	}
	// A link that is named itself is the caller's: it is where that leads.
	must(t, os.Symlink(outside, dir+"/named"))
	if err := Relabel(dir+"/named", given); err != nil || label(t, outside+"/file") != given {
		t.Errorf("%v: %q", err, label(t, outside+"/file"))
	}
	if err := Relabel(dir+"/a/b/c/file", "u:r:t:s0"); err != nil || label(t, dir+"/a/b/c/file") != "u:r:t:s0" {
		t.Errorf("a single file: %v: %q", err, label(t, dir+"/a/b/c/file"))
	}
}

// TestRelabelOnce: a tree whose directory has the label is not walked again, and a single link is labelled itself.
func TestRelabelOnce(t *testing.T) {
	nstest.Root(t)
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/a", nil, 0o644))
	must(t, RelabelOnce(dir, given))
	must(t, os.WriteFile(dir+"/b", nil, 0o644))
	must(t, os.Symlink("a", dir+"/link"))
	before := label(t, dir+"/b")
	must(t, RelabelOnce(dir, given))
	must(t, files.Label(dir+"/link", "u:r:t:s0"))
	for name, want := range map[string]string{"": given, "/a": given, "/b": before, "/link": "u:r:t:s0"} {
		if got := label(t, dir+name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestRelabelOfTheMachine: a directory without which the machine does not boot keeps its labels, by whatever name.
func TestRelabelOfTheMachine(t *testing.T) {
	link := t.TempDir() + "/link"
	must(t, os.Symlink("/usr", link))
	home := t.TempDir()
	t.Setenv("HOME", home)
	for _, name := range []string{"/", "/etc", "/etc/passwd", "/etc/ssh", "/usr/", "/usr/../usr", "/usr/bin/env", link, "/dev", "/dev/null", "/proc/self", "/sys/kernel", home} {
		if _, err := os.Stat(name); err != nil && name == "/etc/ssh" {
			continue // a machine without
		}
		if err := Relabel(name, given); err == nil || !strings.Contains(err.Error(), "it is the machine's own") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Relabel("/usr/local/no/such", given); err == nil || !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}
