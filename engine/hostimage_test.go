package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// aMachine makes the root of a machine with an operating system, people and secrets,
// and the command on it.
func aMachine(t testing.TB) string {
	t.Helper()
	root := nstest.RootFS(t)
	program, err := os.ReadFile(nstest.Binary(t, "kakuri"))
	if err != nil {
		t.Fatal(err)
	}
	runtime, err := os.ReadFile(nstest.Binary(t, "kakuri-runtime"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"bin/kakuri": string(program), "bin/kakuri-runtime": string(runtime), "etc/hosts": "shown", "opt/app/file": "shown", "usr/share/doc": "shown", "var/lib/dpkg/status": "shown", "lib/library": "shown",
		"etc/shadow": "secret", "etc/gshadow": "secret", "etc/ssh/ssh_host_rsa_key": "secret", "etc/ssl/private/key": "secret", "etc/letsencrypt/live/key": "secret",
		"etc/krb5.keytab": "secret", "etc/wireguard/wg0.conf": "secret", "var/lib/docker/x": "secret", "var/lib/kakuri/x": "secret", "var/lib/postgresql/x": "secret",
		"home/alice/diary": "private", "root/.ssh/id": "private", "srv/web/page": "private", "mnt/usb/file": "private", "media/cd/file": "private",
		"var/log/syslog": "private", "var/mail/alice": "private", "var/spool/cron/alice": "private", "var/www/index": "private", "var/backups/x": "private",
		"data/base": "strange", "projects/x/y": "strange", "swapfile": "strange", ".secret": "strange",
		"etc/app/key": "secret", "etc/closed/key": "secret", "opt/app/group": "secret", "opt/pass/file": "shown",
		"tmp/file": "fresh", "run/socket": "fresh", "var/tmp/file": "fresh", "run/lock/x": "fresh",
	} {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"run/user", "tmp", "var/tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(root, d), os.ModeSticky|0o777); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"etc/shadow": 0o600, "etc/app/key": 0o600, "opt/app/group": 0o640, "etc/closed": 0o700, "opt/pass": 0o711} {
		if err := os.Chmod(filepath.Join(root, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// onMachine runs a command there.
func onMachine(t testing.TB, root string, uid int, args ...string) string {
	t.Helper()
	return output(t, nstest.Part("onhost", append([]string{root, fmt.Sprint(uid)}, args...)...))
}

// users are root, and somebody without rights or ranges of ids.
func users(t testing.TB) []int { return []int{0, nstest.User(t).UID} }

// The image "host" shows the operating system, and neither people's data nor secrets;
// "host:all" shows what the caller may read.
func TestHostImage(t *testing.T) {
	nstest.Root(t)
	root := aMachine(t)
	nstest.NoLeaks(t)
	cat := []string{"sh", "-c", "for d in /*; do find $d -type f 2>/dev/null; done | grep -v -E '^/(proc|sys|dev)/' | sort -u | while read f; do grep -l -E '^(shown|secret|private|strange|fresh)$' $f 2>/dev/null; done"}
	for _, uid := range users(t) {
		out := onMachine(t, root, uid, append([]string{"/bin/kakuri", "run", "--rm", "--network", "none", "host"}, cat...)...)
		seen := map[string]int{}
		for line := range strings.Lines(out) {
			if data, err := os.ReadFile(filepath.Join(root, strings.TrimSpace(line))); err == nil && len(data) < 20 {
				seen[strings.TrimSpace(string(data))]++
				if string(data) != "shown\n" && string(data) != "" {
					if isShown(out, strings.TrimSpace(line)) {
						t.Errorf("uid %d: %s is shown, which is %s", uid, strings.TrimSpace(line), data)
					}
				}
			}
		}
		if seen["shown"] < 5 {
			t.Errorf("uid %d: only %d files of the operating system are shown:\n%s", uid, seen["shown"], out)
		}
	}
	// All of it, and again what nobody has written yet in the fresh directories.
	out := onMachine(t, root, 0, "/bin/kakuri", "run", "--rm", "host:all", "sh", "-c", "cat /home/alice/diary /data/base /etc/shadow /srv/web/page /swapfile; ls -A /tmp /var/tmp; ls -A /run")
	if out != "private\nstrange\nsecret\nprivate\nstrange\n/tmp:\n\n/var/tmp:\nlock\n" {
		t.Errorf("host:all: %q", out)
	}
	out = onMachine(t, root, 0, "/bin/kakuri", "run", "--rm", "host", "sh", "-c", "ls -A /home /root /srv /mnt /media /data /projects /tmp /var/tmp /var/log; "+
		"for f in /etc/shadow /swapfile /etc/ssl/private /var/lib/docker; do [ -e $f ] && echo $f; done; cat /etc/app/key /etc/closed/key /opt/app/group 2>/dev/null; true")
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" && line != "0" && !strings.HasSuffix(line, ":") {
			t.Errorf("there is %q", line)
		}
	}
	// What is empty is as a program would have it.
	out = onMachine(t, root, 0, "/bin/kakuri", "run", "--rm", "host", "sh", "-c", "stat -c '%n %a %u' /tmp /var/tmp /run /run/lock /root /home; touch /home/x /root/x /run/x /tmp/x && echo writable")
	if out != "/tmp 1777 0\n/var/tmp 1777 0\n/run 755 0\n/run/lock 1777 0\n/root 700 0\n/home 755 0\nwritable\n" {
		t.Errorf("%s", out)
	}
}

// What "host" does not show is out of reach for root inside with every capability, too: no
// cover can be taken away, moved, or gone around by a file handle.
func TestHostImageUncovered(t *testing.T) {
	nstest.Root(t)
	root := aMachine(t)
	nstest.NoLeaks(t)
	program, err := os.ReadFile(nstest.Exe)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/uncover"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	var inodes []string
	for _, name := range []string{"etc/shadow", "etc/app/key", "home/alice/diary", "opt/app/group", "etc/hosts"} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(root, name), &st); err != nil {
			t.Fatal(err)
		}
		inodes = append(inodes, fmt.Sprint(st.Ino))
	}
	for _, uid := range users(t) {
		args := []string{"/bin/kakuri", "run", "--rm", "--cap-add", "all", "--security-opt", "seccomp=unconfined", "host", "/bin/uncover"}
		out := onMachine(t, root, uid, append(args, inodes...)...)
		for _, word := range []string{"secret", "private", "strange", "fresh"} {
			if strings.Contains(out, " "+word+"\n") {
				t.Errorf("uid %d: %s files are shown", uid, word)
			}
		}
		// The attempt is one: it took mounts away, and found what is to be found.
		if !strings.Contains(out, "/etc/hosts shown\n") || !strings.Contains(out, "unmounted /tmp\n") {
			t.Errorf("uid %d: nothing was tried", uid)
		}
		if t.Failed() {
			t.Log(out)
		}
	}
}

// A file that is hidden can be made anew, and belongs to the container; verify tells it
// from the host's.
func TestHostImageMadeAnew(t *testing.T) {
	nstest.Root(t)
	root := aMachine(t)
	nstest.NoLeaks(t)
	for _, uid := range users(t) {
		out := onMachine(t, root, uid, "/bin/kakuri", "run", "--rm", "host", "sh", "-c", "umask 077; echo mine >/etc/ssl/private 2>/dev/null; echo mine >/etc/shadow && cat /etc/shadow && rm /etc/shadow; ls /etc/shadow 2>&1; true")
		if !strings.HasPrefix(out, "mine\n") || strings.Contains(out, "secret") || !strings.Contains(out, "No such file") {
			t.Errorf("uid %d: %s", uid, out)
		}
	}
	// A directory that others may pass through, and not list.
	out := onMachine(t, root, 0, "/bin/kakuri", "run", "--rm", "host", "sh", "-c", "cd /opt/pass; cat file; echo more >>file && cat file; ls 2>/dev/null; stat -c %a .")
	if out != "shown\nshown\nmore\n711\n" {
		t.Errorf("%q", out)
	}
	if data, err := os.ReadFile(filepath.Join(root, "etc/shadow")); err != nil || string(data) != "secret\n" {
		t.Errorf("%v: the host's file is %q", err, data)
	}
}

// havoc changes and removes whatever can be reached. Its programs are one that is loaded. In
// /proc and /sys it changes nothing that would count: modes stay as they are.
const havoc = `
	all() { find / -path /proc -prune -o -path /sys -prune -o "$@" 2>/dev/null; }
	all -type f -exec chmod 777 {} +; all -type f -exec chown 1:1 {} +; all -type f -exec touch -d '2001-01-01 00:00:00' {} +
	all -type f ! -path '/bin/*' -print | while read f; do (echo evil >>$f) 2>/dev/null; done
	for f in $(all -type f -path '/etc/*' -print; all -type f -path '/opt/*' -print); do (ln $f $f.link; mv $f.link $f.moved) 2>/dev/null; done
	all -type d -print | while read d; do (echo evil >$d/evil) 2>/dev/null; done
	for d in / /etc /opt /opt/mine /dev /tmp /run /var/tmp; do (mkdir $d/evils; ln -s / $d/evilroot; mknod $d/node c 1 3; mkfifo $d/fifo) 2>/dev/null; done
	all -type d -exec chmod 700 {} +; all -type d -exec chown 1:1 {} +
	(echo evil >/opt/mine/pipe) 2>/dev/null & # waits for a reader, until all ends
	files="$(find /proc -maxdepth 1 ! -name '[0-9]*' ! -type l) /proc/tty/* /proc/pressure/* /proc/sys/kernel/* /sys/kernel/* /sys/power/*"
	stat -c '%a %n' $files 2>/dev/null | while read mode f; do
		chmod $mode $f 2>/dev/null && test $f != /proc && echo mode of $f
		case $f in /proc/pressure/*) continue;; esac # everybody may open these
		test -f $f && (: >>$f) 2>/dev/null && echo opens $f
	done
	umount -l / /etc /usr /proc /dev 2>/dev/null; mount -o remount,rw /sys 2>/dev/null && echo remounts
	grep -c evil </opt/mine/file
	rm -rf /* 2>/dev/null
	echo end`

// Whatever is done inside, the host stays as it is.
func TestHostImageReachesNothing(t *testing.T) {
	nstest.Root(t)
	root := aMachine(t)
	u := nstest.User(t)
	// What the ordinary user owns, beside a mount and below one: these are shown piece by piece.
	for _, name := range []string{"opt/mounted", "opt/mine/deep"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"opt/file", "opt/mine/file", "opt/mine/deep/file"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte("mine\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pipe := filepath.Join(root, "opt/mine/pipe")
	if err := unix.Mkfifo(pipe, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"opt/file", "opt/mine", "opt/mine/file", "opt/mine/pipe", "opt/mine/deep", "opt/mine/deep/file"} {
		if err := os.Lchown(filepath.Join(root, name), u.UID, u.UID); err != nil {
			t.Fatal(err)
		}
	}
	reader, err := unix.Open(pipe, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(reader)
	for _, c := range []struct {
		uid   int
		flags string
	}{
		{0, "host"}, {0, "--userns host host"}, {0, "host:all"}, {0, "--userns host host:all"}, {0, "--init --read-only host"}, {0, "--cap-add all host:all"},
		{u.UID, "host"}, {u.UID, "host:all"}, {u.UID, "--cap-add all host:all"},
	} {
		t.Run(fmt.Sprint(c.uid, " ", c.flags), func(t *testing.T) {
			run := append([]string{"/bin/kakuri", "run", "--rm"}, strings.Fields(c.flags)...)
			onMachine(t, root, c.uid, append(run, "true")...) // makes the directory for records
			before := unrecorded(manifest(t, root))
			out := onMachine(t, root, c.uid, append(run, "sh", "-c", havoc)...)
			changed := "1\nend\n"
			if strings.Contains(c.flags, "read-only") {
				changed = "0\nend\n"
			}
			if out != changed {
				t.Errorf("%q, want %q", out, changed)
			}
			if after := unrecorded(manifest(t, root)); after != before {
				t.Errorf("the host is\n%s, it was\n%s", after, before)
			}
			if n, err := unix.Read(reader, make([]byte, 10)); err != unix.EAGAIN {
				t.Errorf("%d bytes came through a fifo of the host: %v", n, err)
			}
		})
	}
}

// manifest is all that there is below the root of a machine, but for kakuri's own records.
func manifest(t testing.TB, root string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(nstest.Tree(t, root)) {
		if !strings.HasPrefix(line, root+"/run/kakuri") && !strings.HasPrefix(line, root+"/run/user") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// isShown reports whether a path is in a list of paths.
func isShown(list, path string) bool { return slices.Contains(strings.Split(list, "\n"), path) }

// The lists of what is hidden, as plans have them: nothing that is mounted on the machine
// shows through.
func TestHidden(t *testing.T) {
	for p, want := range map[string]struct{ host, all bool }{
		"/usr": {false, false}, "/usr/local": {false, false}, "/etc": {false, false}, "/opt/x": {false, false}, "/var/lib/dpkg": {false, false}, "/boot": {false, false},
		"/home": {true, false}, "/home/alice": {true, false}, "/root": {true, false}, "/srv/x": {true, false}, "/data": {true, false}, "/data/x": {true, false},
		"/var/log": {true, false}, "/var/log/x": {true, false}, "/var/logs": {false, false}, "/var/lib/docker": {true, false}, "/var/lib/docker2": {false, false},
		"/etc/ssl/private": {true, false}, "/proc": {true, true}, "/proc/x": {true, true}, "/sys/fs/cgroup": {true, true}, "/dev/shm": {true, true},
		"/tmp": {true, true}, "/tmp/x": {true, true}, "/run/user/0": {true, true}, "/var/tmp/x": {true, true}, "/process": {true, false}, "/devel": {true, false},
	} {
		if got := hidden(p, false); got != want.host {
			t.Errorf("host: %s hidden: %v", p, got)
		}
		if got := hidden(p, true); got != want.all {
			t.Errorf("host:all: %s hidden: %v", p, got)
		}
	}
}

// Names with blanks, and mounts within others, are views of their own.
func TestRootViews(t *testing.T) {
	disk := func(points ...string) (list []hostMount) {
		for _, p := range points {
			list = append(list, hostMount{point: p, disk: true})
		}
		return list
	}
	got := rootViews(append(disk("/usr", "/home", "/opt/my app", "/data", "/usr", "/var/lib/docker/overlay"), hostMount{point: "/opt/tmpfs"}), false)
	want := []plan.RootView{{Path: "/", Dest: "/"}, {Path: "/usr", Dest: "/usr"}, {Path: "/opt/my app", Dest: "/opt/my app"}}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if got := rootViews(disk("/home", "/tmp/x", "/proc/y"), true); !slices.Equal(got, []plan.RootView{{Path: "/", Dest: "/"}, {Path: "/home", Dest: "/home"}}) {
		t.Errorf("%v", got)
	}
}

// unrecorded leaves out of a manifest what the command itself keeps.
func unrecorded(manifest string) string {
	var b strings.Builder
	for line := range strings.Lines(manifest) {
		if !strings.Contains(line, "/var/lib/kakuri ") && (!strings.Contains(line, "/var/lib/kakuri/") || strings.Contains(line, "/var/lib/kakuri/x ")) {
			b.WriteString(line)
		}
	}
	return b.String()
}
