package experiments

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// Each experiment, for each kind of container, by root and by an ordinary user.
func TestExperiments(t *testing.T) {
	nstest.Root(t)
	nstest.Loopback(t)
	for _, kind := range []string{"host", "rootfs", "bundle"} {
		t.Run(kind, func(t *testing.T) {
			for _, who := range []string{"root", "user"} {
				t.Run(who, func(t *testing.T) {
					nstest.NoLeaks(t, "/run/kakuri/containers")
					var user *nstest.Account
					if who == "user" {
						user = nstest.User(t)
						nstest.TUN(t, 0o666)
						t.Cleanup(func() { user.UplinkEnds(t) })
					}
					all(t, newLab(t, kind, user))
				})
			}
		})
	}
}

func all(t *testing.T, l *lab) {
	l.plain = l.start(t, asked{})
	l.nested = l.start(t, asked{admin: true, kakuri: true})
	l.nested.ask(t, nest)
	for _, e := range []struct {
		name string
		do   func(*testing.T, *lab)
	}{
		{"E1 a process is in the root pid namespace", e1}, {"E2 pid 1", e2}, {"E3 another namespace", e3}, {"E4 only its own processes", e4},
		{"E5 the host sees it", e5}, {"E6 one namespace", e6}, {"E7 one way", e7}, {"E8 users", e8}, {"E9 mounts and files", e9},
		{"E10 ports", e10}, {"E11 uts ipc cgroup time", e11}, {"E12 one kernel", e12}, {"E14 the plan", e14}, {"E15 the picture", e15},
	} {
		t.Run(e.name, func(t *testing.T) { e.do(t, l) })
	}
}

func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// differ checks that two readings are there, and not the same.
func differ(t *testing.T, what, a, b string) {
	t.Helper()
	if a == b || a == "" || b == "" {
		t.Errorf("%s: %q and %q on both sides", what, a, b)
	}
}

func e1(t *testing.T, l *lab) {
	mine, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "an ordinary shell", l.host(t, "readlink /proc/self/ns/pid"), mine)
	first, err := os.Readlink("/proc/1/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "pid 1", first, mine)
	shared := l.start(t, asked{sharedPID: true})
	equal(t, "a container that does not ask for a pid namespace", shared.ask(t, "readlink /proc/self/ns/pid"), mine)
	equal(t, "its number", shared.ask(t, "echo $$"), strconv.Itoa(shared.pid))
}

func e2(t *testing.T, l *lab) {
	equal(t, "echo $$", l.shell(t).ask(t, "echo $$"), "1")
}

func e3(t *testing.T, l *lab) {
	differ(t, "/proc/self/ns/pid", l.shell(t).ask(t, "readlink /proc/self/ns/pid"), l.host(t, "readlink /proc/self/ns/pid"))
}

func e4(t *testing.T, l *lab) {
	list := strings.Split(l.shell(t).ask(t, "ps ax"), "\n")
	var names []string
	for _, line := range list[1:] {
		f := strings.Fields(strings.Replace(line, "{ps} sh", "ps", 1)) // what busybox says of a part of itself
		i := slices.IndexFunc(f, func(s string) bool { return s == "sh" || s == "ps" })
		if i < 0 || (f[i] == "sh") != (f[0] == "1") {
			t.Errorf("ps ax lists %q", line)
			continue
		}
		names = append(names, f[i])
	}
	if slices.Sort(names); !slices.Equal(names, []string{"ps", "sh"}) {
		t.Errorf("ps ax lists %q", list)
	}
	// The host has others, and the container names none of them.
	if n, err := strconv.Atoi(l.host(t, "ls -d /proc/[0-9]* | wc -l")); err != nil || n < 5 {
		t.Errorf("the host has %d processes, %v", n, err)
	}
	equal(t, "the runner's name inside", l.shell(t).ask(t, "cat /proc/[0-9]*/comm | grep -c kakuri; :"), "0")
}

func e5(t *testing.T, l *lab) {
	b := l.shell(t)
	if b.pid == 1 {
		t.Error("its number on the host is 1")
	}
	tree := l.host(t, "pstree -p %d", b.runner)
	if !strings.HasPrefix(tree, "kakuri") || !strings.Contains(tree, fmt.Sprintf("sh(%d)", b.pid)) {
		t.Errorf("pstree: %s", tree)
	}
	numbers := strings.Fields(l.host(t, "grep ^NSpid: /proc/%d/status", b.pid))
	if len(numbers) < 3 || numbers[len(numbers)-1] != "1" || numbers[len(numbers)-2] != strconv.Itoa(b.pid) {
		t.Errorf("NSpid: %q, want %d and 1", numbers, b.pid)
	}
	// The engine's is a child of its monitor, which the command has started.
	parent := b.pid
	for range 2 {
		up, err := strconv.Atoi(l.host(t, "sed -n 's/^PPid:.//p' /proc/%d/status", parent))
		if err != nil {
			t.Fatal(err)
		}
		if parent = up; l.kind == "bundle" {
			break
		}
	}
	equal(t, "parent", strconv.Itoa(parent), strconv.Itoa(b.runner))
}

func e6(t *testing.T, l *lab) {
	b := l.shell(t)
	equal(t, "the namespace's name", l.host(t, "readlink /proc/%d/ns/pid", b.pid), b.ask(t, "readlink /proc/self/ns/pid"))
}

func e7(t *testing.T, l *lab) {
	b := l.deep(t)
	// Level three: its shell. Level two: its shell, the command that made level three, and its
	// shell. Level one has two more of them.
	equal(t, "seen three levels down", b.ask(t, "cat /tmp/three"), "1")
	equal(t, "seen two levels down", strconv.Itoa(len(strings.Fields(b.ask(t, "cat /tmp/two")))), "3")
	inside := strings.Fields(b.ask(t, listing))
	if len(inside) != 5 || inside[0] != "1" {
		t.Errorf("seen in the container: %q", inside)
	}
	// The host has a number for each, and a number for each level above it.
	mine := len(strings.Fields(l.host(t, "grep ^NSpid: /proc/self/status"))) - 1
	levels := map[int]int{}
	for _, pid := range descendants(t, b.pid) {
		levels[len(strings.Fields(l.host(t, "grep ^NSpid: /proc/%d/status", pid)))-1-mine]++
	}
	if fmt.Sprint(levels) != "map[1:2 2:2 3:1]" {
		t.Errorf("processes on the host by level: %v", levels)
	}
	// And the container none for the host's.
	equal(t, "the runner inside", b.ask(t, "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c -e '[r]un -i' -e '[r]un --bundle'; :"), "0")
}

// descendants lists a process and all below it, by the host's numbers.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	list := []int{pid}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for text := range strings.FieldsSeq(string(data)) {
			child, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, descendants(t, child)...)
		}
	}
	return list
}

func e8(t *testing.T, l *lab) {
	b := l.shell(t)
	equal(t, "id -u inside", b.ask(t, "id -u"), "0")
	equal(t, "id -g inside", b.ask(t, "id -g"), "0")
	uid := strings.Fields(l.host(t, "grep ^Uid: /proc/%d/status", b.pid))
	gid := strings.Fields(l.host(t, "grep ^Gid: /proc/%d/status", b.pid))
	want := strconv.Itoa(mapped)
	if l.user != nil {
		want = strconv.Itoa(l.user.UID)
	}
	if len(uid) < 2 || uid[1] == "0" || l.kind == "bundle" && uid[1] != want || l.user != nil && uid[1] != want {
		t.Errorf("on the host: %q", uid)
	}
	for _, id := range []struct {
		file string
		host []string
	}{{"uid_map", uid}, {"gid_map", gid}} {
		f := strings.Fields(l.host(t, "cat /proc/%d/%s", b.pid, id.file))
		if len(f) < 3 || f[0] != "0" || f[1] != id.host[1] {
			t.Errorf("%s: %q, and it is %s on the host", id.file, f, id.host[1])
		}
	}
	// Root inside has no power over what is root's outside.
	if l.kind == "host" {
		equal(t, "a file of the host's root", b.ask(t, "cat /etc/shadow 2> /dev/null | wc -c"), "0")
	}
	differ(t, "user namespace", b.ask(t, "readlink /proc/self/ns/user"), l.host(t, "readlink /proc/self/ns/user"))
}

func e9(t *testing.T, l *lab) {
	b := l.start(t, asked{admin: true})
	file := fmt.Sprintf("/kakuri-e9-%d", b.pid)
	equal(t, "a file inside", b.ask(t, "echo hello > %s && cat %s", file, file), "hello")
	equal(t, "a mount inside", b.ask(t, "mkdir /tmp/e9 && mount -t tmpfs tmpfs /tmp/e9 && grep -c ' /tmp/e9 ' /proc/self/mountinfo"), "1")
	equal(t, "the mount on the host", l.host(t, "grep -c /tmp/e9 /proc/self/mountinfo; :"), "0")
	equal(t, "the file on the host", l.host(t, "[ -e %s ] || echo no", file), "no")
	if l.root != "" {
		equal(t, "the file in its directory", l.host(t, "cat %s%s", l.root, file), "hello")
		os.Remove(l.root + file)
	}
	differ(t, "mount namespace", b.ask(t, "readlink /proc/self/ns/mnt"), l.host(t, "readlink /proc/self/ns/mnt"))
	differ(t, "root directory", b.ask(t, "stat -c %%d:%%i /"), l.host(t, "stat -c %%d:%%i /"))
}

func e10(t *testing.T, l *lab) {
	const port = 8080
	var networks []string
	boxes := map[string]*box{}
	for _, name := range []string{"web-a", "web-b"} {
		b := l.start(t, asked{hostname: name, kakuri: true})
		boxes[name] = b
		networks = append(networks, b.ask(t, "readlink /proc/self/ns/net"))
		devices := "lo"
		if l.kind != "bundle" {
			devices = "lo eth0" // of the network bridge
		}
		equal(t, "interfaces", strings.Join(strings.Fields(b.ask(t, "tail -n +3 /proc/net/dev | cut -d: -f1")), " "), devices)
		said := b.ask(t, "mkfifo /tmp/served; /kakuri tour serve %d < /dev/null > /tmp/served & while ! [ -p /tmp/served ]; do :; done; read line < /tmp/served; echo $line", port)
		equal(t, name, said, fmt.Sprintf("listening on 127.0.0.1:%d", port))
	}
	// The same port is free on the host at the same time.
	fd, err := listen(port)
	if err != nil {
		t.Errorf("the host's port %d: %v", port, err)
	} else {
		defer unix.Close(fd)
	}
	for name, b := range boxes {
		equal(t, "the answer of port 8080", b.ask(t, "/kakuri tour ask %d", port), name)
		b.ask(t, "kill $!; wait $! || :")
	}
	differ(t, "network namespaces", networks[0], networks[1])
	differ(t, "network namespace", networks[0], l.host(t, "readlink /proc/self/ns/net"))
}

func listen(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 1)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func e11(t *testing.T, l *lab) {
	group := makeCgroup(t)
	b := l.start(t, asked{hostname: "island", day: true, cgroup: group})
	for _, name := range []string{"uts", "ipc", "cgroup", "time"} {
		differ(t, name+" namespace", b.ask(t, "readlink /proc/self/ns/%s", name), l.host(t, "readlink /proc/self/ns/%s", name))
	}
	equal(t, "host name inside", b.ask(t, "hostname"), "island")
	differ(t, "host name", "island", l.host(t, "hostname"))

	segment, err := unix.SysvShmGet(unix.IPC_PRIVATE, 4096, unix.IPC_CREAT|0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.SysvShmCtl(segment, unix.IPC_RMID, nil)
	seen := "awk '$2 == " + strconv.Itoa(segment) + "' /proc/sysvipc/shm | wc -l"
	equal(t, "the host's shared memory on the host", l.host(t, "%s", seen), "1")
	equal(t, "the host's shared memory inside", b.ask(t, "%s", seen), "0")
	queues := nstest.Dir(t)
	if err := unix.Mount("mqueue", queues, "mqueue", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(queues, 0)
	b.ask(t, ": > /dev/mqueue/inside")
	equal(t, "message queues inside", b.ask(t, "ls /dev/mqueue"), "inside")
	equal(t, "message queues on the host", l.host(t, "ls %s", queues), "")

	equal(t, "cgroups inside", b.ask(t, "cut -d: -f3 /proc/self/cgroup | sort -u"), "/")
	if group != "" {
		// The caller's, or one that the runtime made for the container.
		equal(t, "its cgroup on the host", l.host(t, "grep -q ':/.' /proc/%d/cgroup && echo below the root", b.pid), "below the root")
	}
	up := func(text string) float64 {
		n, err := strconv.ParseFloat(strings.Fields(text)[0], 64)
		if err != nil {
			t.Error(err)
		}
		return n
	}
	if ahead := up(b.ask(t, "cat /proc/uptime")) - up(l.host(t, "cat /proc/uptime")); ahead < 86400-60 || ahead > 86400+60 {
		t.Errorf("the boot clock inside is %v s ahead, want a day", ahead)
	}
}

func e12(t *testing.T, l *lab) {
	b := l.shell(t)
	equal(t, "uname -r", b.ask(t, "uname -r"), l.host(t, "uname -r"))
	const boot = "cat /proc/sys/kernel/random/boot_id"
	equal(t, boot, b.ask(t, boot), l.host(t, boot))
	// Milliseconds: several labs at once on a slow machine are allowed for.
	if b.took > 20*time.Second {
		t.Errorf("the start took %v", b.took)
	}
}

func e14(t *testing.T, l *lab) {
	hand := []string{nstest.Binary(t, "kakuri"), "explain", "unshare", "--fork", "--pid", "--mount-proc", "bash"}
	if l.user != nil {
		hand = slices.Insert(hand, 3, "--map-root-user")
	}
	_, explain := l.line(t, asked{})
	short, long := l.steps(t, hand), l.steps(t, explain)
	if len(short) < 3 || len(long) < 4*len(short) {
		t.Errorf("the plan of %q has %d steps, that of the hand's line %d", explain, len(long), len(short))
	}
	for _, plan := range [][]string{short, long} {
		for _, step := range plan {
			// Number, side, operation, and two spaces before the reason.
			f := strings.Fields(step)
			head, reason, _ := cutLast(step, "  ")
			if len(f) < 4 || (f[1] != "runtime" && f[1] != "container") || reason == "" || len(head) < 10 {
				t.Errorf("a step without its reason: %q", step)
			}
		}
	}
	if last := long[len(long)-1]; !strings.Contains(last, "execve sh") {
		t.Errorf("the last step: %q", last)
	}
	if l.kind == "bundle" {
		return
	}
	// What runs is what was printed.
	line := append(slices.Clone(explain[:1]), explain[2:]...)
	line = slices.Insert(line, 2, "--timings")
	c := l.command(line[0], line[1:]...)
	out, err := c.CombinedOutput()
	ran := 0
	for line := range strings.Lines(string(out)) {
		if _, err := strconv.Atoi(strings.Fields(line)[0]); err == nil {
			ran++ // below the last one are the sums
		}
	}
	if err != nil || ran != len(long) {
		t.Errorf("%q ran %d steps of %d: %v\n%s", line, ran, len(long), err, out)
	}
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// steps are the lines of a printed plan, without its head.
func (l *lab) steps(t *testing.T, line []string) []string {
	t.Helper()
	out, err := l.command(line[0], line[1:]...).Output()
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	// A step of several writes has lines without a number below its own.
	return slices.DeleteFunc(strings.Split(strings.TrimSpace(string(out)), "\n")[1:], func(line string) bool {
		n, err := strconv.Atoi(strings.Join(strings.Fields(line)[:1], ""))
		return err != nil || n < 1
	})
}

func e15(t *testing.T, l *lab) {
	b := l.deep(t)
	kakuri := nstest.Binary(t, "kakuri")
	inner := descendants(t, b.pid)
	last := inner[len(inner)-1]
	text := l.host(t, "%s ns tree", kakuri)
	inode := func(pid string) string {
		return strings.Trim(strings.TrimPrefix(l.host(t, "readlink /proc/%s/ns/pid", pid), "pid:"), "[]")
	}
	// The tests are in a pid namespace of their own: that stands for the host.
	host := inode("self")
	for _, want := range []string{
		"pid namespace " + inode(strconv.Itoa(b.pid)), "pid namespace " + inode(strconv.Itoa(last)),
		fmt.Sprintf("  pid 1 here, %d in %s\n", b.pid, host), fmt.Sprintf(", %d in %s", last, host),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	picture := l.host(t, "%s ns tree --format svg", kakuri)
	for d := xml.NewDecoder(strings.NewReader(picture)); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("the picture: %v", err)
		}
	}
	if !strings.Contains(picture, "<svg") || !strings.Contains(picture, strconv.Itoa(last)) {
		t.Errorf("the picture has no process %d", last)
	}
	var forest struct {
		Roots []struct{ Children []json.RawMessage }
	}
	if err := json.Unmarshal([]byte(l.host(t, "%s ns tree --format json", kakuri)), &forest); err != nil || len(forest.Roots) == 0 {
		t.Errorf("as JSON: %v", err)
	}
}
