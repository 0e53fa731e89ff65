package uplink_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	os.Exit(nstest.Main(m, nstest.Options{
		Build: []string{"./cmd/kakuri-uplink"},
		Parts: map[string]func([]string) int{"hold": hold, "driver": driver},
	}))
}

// hold is a process that keeps the namespaces it was started in, until its input ends.
func hold([]string) int {
	os.Stdout.WriteString("there\n")
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// A request is what the driver is told: it is the user whose namespaces they are.
type request struct {
	Op      string // world limit start publish unpublish status end
	Run     string
	Mode    string
	Pasta   string
	Program string
	Used    string
	Owner   string
	Files   uint64
	Ports   []plan.Publish
}

// inheritedFD is the first descriptor that the driver leaves open for what it starts.
const inheritedFD = 200

type response struct {
	Err    string
	Errno  syscall.Errno
	Gone   bool
	Own    bool
	PID    int // of the holder
	Ports  []plan.Publish
	Status uplink.Status
	Told   []string
}

func driver([]string) int {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	var holder *exec.Cmd
	defer func() {
		if holder != nil {
			holder.Process.Kill()
			holder.Wait()
		}
	}()
	for {
		var r request
		if in.Decode(&r) != nil {
			return 0
		}
		var told []string
		warn := func(text string) { told = append(told, text) }
		a, err := func() (a response, err error) {
			switch r.Op {
			case "world":
				holder = exec.Command(nstest.PartPath("hold"))
				holder.Stdin = nil
				holder.SysProcAttr = &syscall.SysProcAttr{
					Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
					UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
					GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
				}
				pipe, err := holder.StdinPipe()
				if err != nil {
					return a, err
				}
				_ = pipe // closed with this process
				said, err := holder.StdoutPipe()
				if err != nil {
					return a, err
				}
				if err := holder.Start(); err != nil {
					return a, err
				}
				a.PID = holder.Process.Pid
				_, err = bufio.NewReader(said).ReadString('\n')
				return a, err
			case "open": // a pipe that stays open in what it starts
				var pipe [2]int
				if err := unix.Pipe2(pipe[:], 0); err != nil {
					return a, err
				}
				return a, errors.Join(unix.Dup3(pipe[0], inheritedFD, 0), unix.Dup3(pipe[1], inheritedFD+1, 0), unix.Close(pipe[0]), unix.Close(pipe[1]))
			case "limit": // of open files, for what it starts
				return a, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: r.Files, Max: r.Files})
			case "start":
				dir := fmt.Sprintf("/proc/%d/ns/", holder.Process.Pid)
				user, err := os.Open(dir + "user")
				if err != nil {
					return a, err
				}
				defer user.Close()
				net, err := os.Open(dir + "net")
				if err != nil {
					return a, err
				}
				defer net.Close()
				u, err := uplink.Start(context.Background(), uplink.Config{Run: r.Run, UserNS: user, NetNS: net, Mode: r.Mode, PastaProgram: r.Pasta, Program: r.Program, Used: r.Used, Warn: warn})
				if err != nil {
					return a, err
				}
				defer u.Close()
				a.Status, err = u.Status()
				return a, err
			}
			if r.Op == "wake" {
				uplink.Wake(r.Run, warn)
				return a, nil
			}
			u, err := uplink.Open(r.Run, warn)
			if err != nil {
				return a, err
			}
			defer u.Close()
			switch r.Op {
			case "publish":
				a.Ports, err = u.Publish(r.Owner, r.Ports)
			case "unpublish":
				err = u.Unpublish(r.Owner)
			case "own":
				a.Own, err = u.Own(netip.MustParseAddr(r.Owner))
			case "status":
				a.Status, err = u.Status()
			case "namespaces":
				user, net, e := u.Namespaces()
				if err = e; err == nil {
					user.Close()
					net.Close()
				}
			case "end":
				err = u.End()
			}
			return a, err
		}()
		a.Told = told
		if err != nil {
			a.Err = err.Error()
			errors.As(err, &a.Errno)
			a.Gone = errors.Is(err, uplink.ErrGone)
		}
		if out.Encode(a) != nil {
			return 1
		}
	}
}

// A user drives uplinks, as the account whose they are.
type user struct {
	t   testing.TB
	run string
	in  io.WriteCloser
	mu  sync.Mutex
	enc *json.Encoder
	dec *json.Decoder
	cmd *exec.Cmd
}

// do has the driver do something, which may fail.
func (u *user) do(r request) response {
	u.t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	if r.Run == "" {
		r.Run = u.run
	}
	var a response
	if err := u.enc.Encode(r); err != nil {
		u.t.Fatal(err)
	}
	if err := u.dec.Decode(&a); err != nil {
		u.t.Fatalf("driver: %s: %v", r.Op, err)
	}
	return a
}

// must has the driver do something, which may not fail.
func (u *user) must(r request) response {
	u.t.Helper()
	a := u.do(r)
	if a.Err != "" {
		log, _ := os.ReadFile(filepath.Join(u.run, "log"))
		u.t.Fatalf("%s: %s\n%s", r.Op, a.Err, log)
	}
	return a
}

// newUser starts a driver.
func newUser(t testing.TB) *user {
	t.Helper()
	account := nstest.User(t)
	u := &user{t: t, run: filepath.Join(account.RuntimeDir(), "uplink")}
	u.cmd = account.Command(nstest.PartPath("driver"))
	in, err := u.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := u.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	u.cmd.Stderr = os.Stderr
	u.in, u.enc, u.dec = in, json.NewEncoder(in), json.NewDecoder(out)
	if err := u.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		u.cmd.Wait()
		os.RemoveAll(u.run)
	})
	return u
}

// A netns is a network namespace that threads of the test can be in.
type netns struct{ f *os.File }

func openNetns(t testing.TB, pid int) netns {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return netns{f}
}

// newNetns is one of its own.
func newNetns(t testing.TB) netns {
	t.Helper()
	c := exec.Command(nstest.PartPath("hold"))
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); c.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return openNetns(t, c.Process.Pid)
}

// do runs f on a thread in the namespace: sockets that it makes are of that.
func (n netns) do(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and the thread ends with it
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			n.do(f)
			return
		}
		if err := unix.Setns(int(n.f.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err)
		}
		f()
	}()
	<-done
}

// ip runs ip(8) in the namespace, on each line.
func (n netns) ip(t testing.TB, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		args := strings.Fields(line)
		if args[0] == "nft" || args[0] == "sysctl" {
			n.run(t, args...)
		} else {
			n.run(t, append([]string{"ip"}, args...)...)
		}
	}
}

func (n netns) run(t testing.TB, args ...string) string {
	t.Helper()
	var out []byte
	var err error
	n.do(func() {
		if args[0] == "sysctl" {
			key, value, _ := strings.Cut(args[1], "=")
			f, e := os.OpenFile("/proc/sys/"+strings.ReplaceAll(key, ".", "/"), os.O_WRONLY, 0)
			if e == nil {
				_, e = f.WriteString(strings.ReplaceAll(value, "_", " "))
				f.Close()
			}
			err = e
			return
		}
		out, err = exec.Command(args[0], args[1:]...).CombinedOutput()
	})
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// A place is what a test has: the machine, which is the test's own namespace, a network outside of it, and a user's namespace
// with a container in it.
type place struct {
	*user
	host, outside, world, container netns
	pasta                           string // where PATH does not find it
}

const (
	hostAddr4, outsideAddr4     = "192.0.2.1", "192.0.2.2"
	hostAddr6, outsideAddr6     = "2001:db8::1", "2001:db8::2"
	gateAddr4, containerAddr4   = "172.17.0.1", "172.17.0.2"
	gateAddr6, containerAddr6   = "fd17::1", "fd17::2"
	hostLocal4, hostLocal6      = "127.0.0.1", "::1"
	worldGateway4, worldDevice4 = "198.19.255.253", "198.19.255.254"
)

// newPlace makes it, without an uplink.
func newPlace(t testing.TB) *place {
	t.Helper()
	nstest.Root(t)
	nstest.TUN(t, 0o666)
	p := &place{}
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close() })
	p.host = netns{own}
	p.outside = newNetns(t)
	p.user = newUser(t)
	p.world = openNetns(t, p.must(request{Op: "world"}).PID)
	p.container = newNetns(t)
	// Names of devices lead to namespaces by descriptors of this process.
	in := func(n netns) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.f.Fd()) }
	p.host.ip(t, `
		link set lo up
		link add out0 mtu 65520 type veth peer name eth0 mtu 65520 netns `+in(p.outside)+`
		addr add `+hostAddr4+`/24 dev out0
		addr add `+hostAddr6+`/64 dev out0 nodad
		link set out0 up
		route add default via `+outsideAddr4+`
		-6 route add default via `+outsideAddr6+`
		sysctl net.ipv4.ping_group_range=0_2147483647
	`)
	t.Cleanup(func() { exec.Command("ip", "link", "del", "out0").Run() })
	p.outside.ip(t, `
		link set lo up
		addr add `+outsideAddr4+`/24 dev eth0
		addr add `+outsideAddr6+`/64 dev eth0 nodad
		link set eth0 up
	`)
	p.world.ip(t, `
		link set lo up
		link add kakuri0 mtu 65520 type bridge
		addr add `+gateAddr4+`/16 dev kakuri0
		addr add `+gateAddr6+`/64 dev kakuri0 nodad
		link set kakuri0 up
		link add veth0 mtu 65520 type veth peer name eth0 mtu 65520 netns `+in(p.container)+`
		link set veth0 master kakuri0 up
		sysctl net.ipv4.ip_forward=1
		sysctl net.ipv6.conf.all.forwarding=1
		nft add table inet test
		nft add chain inet test post { type nat hook postrouting priority 100 ; }
		nft add rule inet test post iifname kakuri0 oifname != kakuri0 masquerade
	`)
	p.container.ip(t, `
		link set lo up
		addr add `+containerAddr4+`/16 dev eth0
		addr add `+containerAddr6+`/64 dev eth0 nodad
		link set eth0 up
		route add default via `+gateAddr4+`
		-6 route add default via `+gateAddr6+`
		sysctl net.ipv4.ping_group_range=0_2147483647
	`)
	return p
}

// start begins an uplink, which ends with the test.
func (p *place) start(mode string) uplink.Status {
	p.t.Helper()
	a := p.must(request{Op: "start", Mode: mode, Pasta: p.pasta, Program: nstest.BinaryPath(uplink.Program)})
	p.t.Cleanup(func() {
		if a := p.do(request{Op: "end"}); a.Err != "" && !a.Gone {
			p.t.Errorf("end: %s", a.Err)
		}
		if p.t.Failed() {
			log, _ := os.ReadFile(filepath.Join(p.run, "log"))
			p.t.Logf("log of the uplink:\n%s", log)
		}
	})
	return a.Status
}

// children are the processes of the account with a name, in the order of their numbers.
func (p *place) children(name string) (pids []int) {
	account := nstest.User(p.t)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		args, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline") // empty of one that has ended
		first, _, _ := strings.Cut(string(args), "\x00")
		var st unix.Stat_t
		if filepath.Base(first) == name && unix.Stat("/proc/"+e.Name(), &st) == nil && int(st.Uid) == account.UID {
			pids = append(pids, pid)
		}
	}
	return pids
}

// descriptors is how many the uplink's processes have.
func (p *place) descriptors() (n int) {
	for _, pid := range p.children(uplink.Program) {
		list, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		n += len(list)
	}
	return n
}

// memory is what a process has, in KiB.
func (p *place) memory(pid int) (kb int) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		p.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	fmt.Sscan(rest, &kb)
	return kb
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
