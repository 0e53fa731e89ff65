package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/uplink"
)

// A carrier takes packets from the device to the machine's network, and back.
type carrier interface {
	stop()
	ended() <-chan struct{} // closed when it does so no more
}

// Options of pasta(1) that it has to have: since 2022-11. It says which it has where it does not know one.
var pastaNeeds = []string{"--config-net", "--no-map-gw", "--ns-ifname", "--userns", "--netns", "--address", "--gateway", "--mtu", "--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"}

// pastaOptions gives what pasta is to be called with, but for the namespaces.
func pastaOptions(program string, s uplink.Status) ([]string, error) {
	// By --help it tells that, too, but one of 2025 to a pipe the first 4 KiB only.
	help, err := exec.Command(program, "--which-options").CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	knows := func(option string) bool { return bytes.Contains(help, []byte(option)) }
	for _, o := range pastaNeeds {
		if !knows(o) {
			t := tail{text: help}
			return nil, fmt.Errorf("it tells nothing of an option %s: it is older than 2022-11, or does not run here: %s", o, t.last())
		}
	}
	args := []string{
		"--foreground", "--config-net", "--ns-ifname", s.Device, "--mtu", fmt.Sprint(s.MTU),
		"--address", s.Addr4.Addr().String(), "--netmask", fmt.Sprint(s.Addr4.Bits()), "--gateway", s.Gateway4.String(),
		"--address", s.Addr6.Addr().String(), "--gateway", s.Gateway6.String(),
		// Ports are published by kakuri-uplink, and those of the machine's loopback are not for containers.
		"--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none", "--no-map-gw",
	}
	for _, o := range [][]string{
		{"--quiet"}, {"--no-dhcp"}, {"--no-dhcpv6"}, {"--no-ra"}, {"--no-netns-quit"},
		// Newer ones lead other addresses to the machine, too, when they are told to: nobody does.
		{"--map-host-loopback", "none"}, {"--map-guest-addr", "none"}, {"--no-splice"},
	} {
		if knows(o[0]) {
			args = append(args, o...)
		}
	}
	return args, nil
}

// A pasta is one that runs.
type pasta struct {
	cmd  *exec.Cmd
	done chan struct{}
	said *tail
}

// startPasta starts it for the namespaces of a process, and waits until the device is there. there is told of it before it is waited for.
func startPasta(ctx context.Context, program string, in *side, s *uplink.Status, log *os.File, there func(*pasta)) error {
	args, err := pastaOptions(program, *s)
	if err != nil {
		return err
	}
	args = append(args, "--userns", fmt.Sprintf("/proc/%d/ns/user", in.pid), "--netns", fmt.Sprintf("/proc/%d/ns/net", in.pid))
	p := &pasta{cmd: exec.Command(program, args...), done: make(chan struct{}), said: &tail{log: log}}
	p.cmd.Stderr = p.said
	p.cmd.Stdout = p.said
	p.cmd.WaitDelay = time.Second
	// It ends with the thread that starts it: that of this goroutine, which waits for it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return err
	}
	there(p)
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		words, _, err := in.ask(-1, wordLook, s.Device)
		if err == nil && words[0] == "up" && len(words) > 1 {
			tick.Stop()
			s.Addr4, s.Addr6 = netip.Prefix{}, netip.Prefix{}
			for _, w := range words[1:] {
				if a, err := netip.ParsePrefix(w); err == nil && a.Addr().Is4() {
					s.Addr4 = a
				} else if err == nil {
					s.Addr6 = a
				}
			}
			return nil
		}
		select {
		case <-tick.C:
			continue
		case <-p.done:
			err = fmt.Errorf("it did not start: %s", p.said.last())
		case <-ctx.Done():
			err = fmt.Errorf("it made no device: %w: %s", ctx.Err(), p.said.last())
		}
		tick.Stop()
		p.stop()
		return err
	}
}

func (p *pasta) ended() <-chan struct{} { return p.done }

func (p *pasta) stop() {
	p.cmd.Process.Kill()
	<-p.done
}

// A tail passes on what a program says, up to a size, and keeps its last line.
type tail struct {
	mu   sync.Mutex
	log  *os.File
	n    int
	text []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n += len(b); t.n < 64<<10 {
		t.log.Write(b)
	}
	t.text = append(t.text, b...)
	if len(t.text) > 4<<10 {
		t.text = slices.Clone(t.text[len(t.text)-2<<10:])
	}
	return len(b), nil
}

func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.text)), "\n")
	// Without a syslog it says that too, after each line.
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "Failed to send ") || l == "" })
	if len(lines) == 0 {
		return "it said nothing"
	}
	return lines[len(lines)-1]
}
