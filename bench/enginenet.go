package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// netloadAt is where the load's program lies: in /run, which the peers' root has as well.
const netloadAt = "/run/netload"

// farNet is the network namespace of another machine, a cable away from each engine's.
const farNet = "far"

// layCables gives each engine a network namespace of its own, so that no engine's packets meet the rules and bridges of another one's, and
// connects them to one that stands for another machine. The registry is on the loopback of each.
func (a *arena) layCables() error {
	if err := copyFile(a.binary("netload").Path, netloadAt); err != nil {
		return err
	}
	ip := func(args string) error {
		out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, oneLine(string(out)))
		}
		return nil
	}
	lines := []string{"netns add " + farNet, "-n " + farNet + " link set lo up"}
	for i, p := range a.peers {
		p.Uplink = fmt.Sprintf("198.51.100.%d", 4*i+1)
		far := fmt.Sprintf("198.51.100.%d", 4*i+2)
		lines = append(lines,
			"netns add "+p.Name, "-n "+p.Name+" link set lo up",
			"link add up0 netns "+p.Name+" type veth peer name "+p.Name+" netns "+farNet,
			"-n "+p.Name+" addr add "+p.Uplink+"/30 dev up0", "-n "+p.Name+" link set up0 up",
			"-n "+farNet+" addr add "+far+"/30 dev "+p.Name, "-n "+farNet+" link set "+p.Name+" up",
			"-n "+p.Name+" route add default via "+far)
	}
	for _, line := range lines {
		if err := ip(line); err != nil {
			return err
		}
	}
	for _, p := range a.peers {
		var err error
		if p.seat, err = newSeat(p.Name, p.Root); err != nil {
			return err
		}
		if err := p.seat.do(func() error {
			l, err := net.Listen("tcp", a.Registry)
			if err == nil {
				a.offer(l)
			}
			return err
		}); err != nil {
			return err
		}
	}
	far, err := newSeat(farNet, "")
	a.far = &enginePeer{Name: farNet, Prefix: []string{netloadAt}, seat: far}
	return err
}

// A seat is a thread that stays in namespaces: what it starts is in them, too.
type seat chan func()

// newSeat takes a new thread to a network namespace that ip-netns(8) has made, and, unless it is "", to a root file system: in a mount namespace of its own
// whose root that is, since a runtime's exec goes there, and not to where a chroot was.
func newSeat(net, root string) (seat, error) {
	s, ready := make(seat), make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is of no use to others
		if err := sitDown(net, root); err != nil {
			ready <- err
			return
		}
		close(ready)
		for do := range s {
			do()
		}
	}()
	return s, <-ready
}

func sitDown(net, root string) error {
	f, err := os.Open("/run/netns/" + net)
	if err == nil {
		defer f.Close()
		err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
	}
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", net, err)
	}
	if root == "" {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	// ip-netns(8) has its directory shared.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("%s: %w", root, err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root to %s: %w", root, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("umount of the old root: %w", err)
	}
	return unix.Chdir("/")
}

// do runs a function by the thread.
func (s seat) do(f func() error) error {
	done := make(chan error)
	s <- func() { done <- f() }
	return <-done
}

// load runs a line of the load's words, and returns what it says how long it took. The line begins with who is to do it: the host (of that engine), the
// far machine, or a container. {server} is the address of the container "srv", {uplink} that of the host as the far machine sees it.
func (a *arena) load(p *enginePeer, line string) (time.Duration, error) {
	who, words, _ := strings.Cut(line, " ")
	if strings.Contains(words, "{server}") {
		out, err := a.output(p, "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "srv")
		if err != nil {
			return 0, err
		}
		words = strings.ReplaceAll(words, "{server}", strings.TrimSpace(out))
	}
	args := strings.Fields(strings.ReplaceAll(words, "{uplink}", p.Uplink))
	var out string
	var err error
	switch who {
	case "host":
		out, err = a.output(&enginePeer{Prefix: []string{netloadAt}, seat: p.seat}, args...)
	case farNet:
		out, err = a.output(a.far, args...)
	default:
		out, err = a.output(p, append([]string{"exec", who, "/netload"}, args...)...)
	}
	if err != nil {
		return 0, err
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %q", line, oneLine(out))
	}
	return time.Duration(ns), nil
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}
