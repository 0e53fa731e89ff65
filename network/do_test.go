package network

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network/netlink"
	"github.com/kakuri/kakuri/plan"
)

// A container is a process with a network namespace of its own, and nothing else.
func container(t testing.TB) int {
	t.Helper()
	c := exec.Command("sleep", "infinity")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	return c.Process.Pid
}

// doer is one that works in this process's network namespace; the bridges that a test makes go with it.
func doer(t testing.TB) *Doer {
	t.Helper()
	d := &Doer{}
	t.Cleanup(func() {
		s, err := netlink.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		links, err := s.Links()
		for _, l := range links {
			if l.Name != "lo" {
				d.ip(t, "link", "delete", l.Name)
			}
		}
		if err != nil {
			t.Error(err)
		}
		d.Close()
	})
	return d
}

// ip runs ip(8), the oracle of these tests, in this process's namespace or in that of pid.
func (*Doer) ip(t testing.TB, args ...string) string { t.Helper(); return ipIn(t, 0, args...) }

func ipIn(t testing.TB, pid int, args ...string) string {
	t.Helper()
	args = append([]string{"ip", "-d"}, args...)
	if pid != 0 {
		args = append([]string{"nsenter", "-n", "-t", strconv.Itoa(pid)}, args...)
	}
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil && !strings.Contains(strings.Join(args, " "), "delete") {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (d *Doer) must(t testing.TB, pid int, ops ...plan.Op) {
	t.Helper()
	for _, op := range ops {
		if handled, err := d.Do(context.Background(), op, pid); !handled || err != nil {
			t.Fatalf("%v: handled %v, %v", op, handled, err)
		}
	}
}

// refused wants an error with all words.
func (d *Doer) refused(t testing.TB, pid int, op plan.Op, words ...string) {
	t.Helper()
	_, err := d.Do(context.Background(), op, pid)
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%v: %v, want %q", op, err, w)
		}
	}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

var br0 = plan.Bridge{Device: "kakuri0", Network: "bridge", Addrs: []netip.Prefix{prefix("172.17.0.1/16"), prefix("fd00:17::1/64")}, MTU: 1400, ICC: true}

// endpoint is the nth one of a container at br0.
func endpoint(n int) plan.Endpoint {
	return plan.Endpoint{
		Network: "bridge", Driver: plan.DriverBridge, Bridge: br0.Device, HostDevice: plan.HostDevice("0123456789", n), Device: fmt.Sprintf("eth%d", n), MAC: plan.MAC{2, 66, 172, 17, 0, byte(n + 2)}, MTU: 1400,
		Addrs: []netip.Prefix{prefix(fmt.Sprintf("172.17.0.%d/16", n+2)), prefix(fmt.Sprintf("fd00:17::%d/64", n+2))},
	}
}

// TestAnnounce: neighbours and this machine, which remember the MAC that somebody had an address with, know the next one's at once.
func TestAnnounce(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	d := doer(t)
	neighbour, next := container(t), container(t)
	d.must(t, 0, &plan.MakeBridge{Bridge: br0})
	e := []plan.Endpoint{endpoint(0), endpoint(1)}
	if err := d.Connect(t.Context(), neighbour, "n", plan.Network{Endpoints: e[1:]}); err != nil {
		t.Fatal(err)
	}
	sides := map[int]string{0: br0.Device, neighbour: e[1].Device}
	for pid, device := range sides {
		for _, a := range e[0].Addrs {
			ipIn(t, pid, "neigh", "replace", a.Addr().String(), "lladdr", "02:42:00:00:00:99", "dev", device, "nud", "stale")
		}
	}
	if err := d.Connect(t.Context(), next, "a", plan.Network{Endpoints: e[:1]}); err != nil {
		t.Fatal(err)
	}
	for pid, device := range sides {
		for _, a := range e[0].Addrs {
			nstest.Until(t, fmt.Sprintf("the MAC of %v at %s", a.Addr(), device), func() bool {
				return strings.Contains(ipIn(t, pid, "neigh", "show", a.Addr().String(), "dev", device), "lladdr "+e[0].MAC.String())
			})
		}
	}
}

// TestConnect makes a bridge and two containers on it, and has ip(8) say what there is.
func TestConnect(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	d := doer(t)
	a, b := container(t), container(t)
	n := plan.Network{Bridges: nil, Endpoints: []plan.Endpoint{endpoint(0)}, Gateway4: br0.Addrs[0].Addr(), Gateway6: br0.Addrs[1].Addr()}
	n.Endpoints[0].Isolated = true
	n.Endpoints[0].Routes = []plan.Route{{To: prefix("10.0.0.0/8"), Via: netip.MustParseAddr("172.17.0.9")}, {To: prefix("192.0.2.0/24")}}
	n.Endpoints[0].Sysctls = map[string]string{"net.ipv4.conf.IFNAME.log_martians": "1"}
	d.must(t, 0, &plan.MakeBridge{Bridge: br0}, &plan.MakeBridge{Bridge: br0})
	if err := d.Connect(t.Context(), a, "a", n); err != nil {
		t.Fatal(err)
	}
	m := plan.Network{Endpoints: []plan.Endpoint{endpoint(1)}}
	m.Endpoints[0].Addrs = m.Endpoints[0].Addrs[:1]
	if err := d.Connect(t.Context(), b, "b", m); err != nil {
		t.Fatal(err)
	}
	hairpin := "hairpin off"
	if sysctlIs("net/bridge/bridge-nf-call-iptables", "1") {
		hairpin = "hairpin on"
	}
	for _, test := range []struct {
		pid  int
		args string
		want []string
	}{
		{0, "addr show kakuri0", []string{"mtu 1400", ",UP", " bridge ", "inet 172.17.0.1/16 brd 172.17.255.255 scope global kakuri0", "inet6 fd00:17::1/64 scope global nodad"}},
		{0, "link show vk01234567a", []string{"master kakuri0", "mtu 1400", ",UP", "isolated on", " veth", "addrgenmode none"}},
		{0, "link show vk01234567b", []string{"master kakuri0", "isolated off", hairpin}},
		{a, "addr show eth0", []string{"link/ether 02:42:ac:11:00:02", "mtu 1400", "LOWER_UP", "inet 172.17.0.2/16 brd 172.17.255.255 scope global", "inet6 fd00:17::2/64 scope global nodad"}},
		{a, "route", []string{"default via 172.17.0.1 dev eth0", "10.0.0.0/8 via 172.17.0.9 dev eth0", "192.0.2.0/24 dev eth0", "172.17.0.0/16 dev eth0 proto kernel scope link src 172.17.0.2"}},
		{a, "-6 route", []string{"default via fd00:17::1 dev eth0", "fd00:17::/64 dev eth0"}},
	} {
		out := ipIn(t, test.pid, strings.Fields(test.args)...)
		for _, w := range test.want {
			// "scope global" may have flags behind it, in any order.
			if !strings.Contains(out, w) && !strings.Contains(strings.ReplaceAll(out, "\n", " "), w) {
				t.Errorf("ip %s has no %q:\n%s", test.args, w, out)
			}
		}
		if strings.Contains(strings.ReplaceAll(out, "scope link tentative", ""), "tentative") { // the kernel's own waits for a moment, also where nobody is asked
			t.Errorf("an address waits:\n%s", out)
		}
	}
	if out := ipIn(t, b, "addr"); strings.Contains(out, "inet6") && strings.Contains(out[strings.Index(out, "eth1"):], "inet6") {
		t.Errorf("IPv6 where the network has none:\n%s", out)
	}
	sysctl := func(pid int, path string) string {
		out, _ := exec.Command("nsenter", "-n", "-t", strconv.Itoa(pid), "cat", "/proc/sys/net/"+path).Output()
		return strings.TrimSpace(string(out))
	}
	if got := sysctl(a, "ipv4/conf/eth0/log_martians") + sysctl(a, "ipv6/conf/eth0/accept_ra") + sysctl(a, "ipv6/conf/eth0/accept_dad") + sysctl(b, "ipv6/conf/eth1/disable_ipv6") + sysctl(os.Getpid(), "ipv6/conf/kakuri0/accept_ra") + sysctl(os.Getpid(), "ipv6/conf/kakuri0/accept_dad"); got != "100100" {
		t.Errorf("kernel parameters %s, want 100100", got)
	}
	for _, to := range []string{"172.17.0.1", "fd00:17::1", "172.17.0.3"} {
		if out, err := exec.Command("nsenter", "-n", "-t", strconv.Itoa(a), "ping", "-c1", "-W5", to).CombinedOutput(); err != nil {
			t.Errorf("ping %s: %v\n%s", to, err, out)
		}
	}
	readersAgree(t, a)
	readersAgree(t, os.Getpid())

	if err := d.Disconnect(t.Context(), a, plan.Network{Endpoints: n.Endpoints}); err != nil {
		t.Fatal(err)
	}
	if err := d.Disconnect(t.Context(), a, plan.Network{Endpoints: n.Endpoints}); err != nil {
		t.Errorf("a second time: %v", err)
	}
	if out := ipIn(t, a, "link") + d.ip(t, "link"); strings.Contains(out, "eth0") || strings.Contains(out, "vk01234567a") {
		t.Errorf("still there:\n%s", out)
	}
	if err := d.Connect(t.Context(), a, "a", n); err != nil {
		t.Errorf("once more: %v", err)
	}
}

// readersAgree compares the readers with ip(8)'s JSON.
func readersAgree(t *testing.T, pid int) {
	t.Helper()
	s, err := netlink.OpenIn("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var ipLinks []struct {
		Index     int32  `json:"ifindex"`
		Name      string `json:"ifname"`
		MTU       int
		Address   string
		Flags     []string
		Master    string
		LinkIndex int32 `json:"link_index"`
		Info      struct {
			Kind  string                  `json:"info_kind"`
			Slave struct{ Isolated bool } `json:"info_slave_data"`
		} `json:"linkinfo"`
		Addrs []struct {
			Local string
			Bits  int `json:"prefixlen"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal([]byte(ipIn(t, pid, "-j", "addr")), &ipLinks); err != nil {
		t.Fatal(err)
	}
	links, err := s.Links()
	if err != nil {
		t.Fatal(err)
	}
	names := map[int32]string{}
	for _, l := range links {
		names[l.Index] = l.Name
	}
	var ours, theirs []string
	for _, l := range links {
		addrs, err := s.Addrs(l.Index)
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintln(l.Index, l.Name, l.MTU, plan.MAC(l.MAC), l.Up, l.Carrier, names[l.Master], l.Parent, l.Kind, l.Isolated)
		for _, a := range addrs {
			text += " " + a.Prefix.String()
		}
		ours = append(ours, text)
		if one, err := s.Link(l.Name); err != nil || one != l {
			t.Errorf("device %s: %+v, %v; in the list %+v", l.Name, one, err, l)
		}
	}
	for _, l := range ipLinks {
		text := fmt.Sprintln(l.Index, l.Name, l.MTU, l.Address, slices.Contains(l.Flags, "UP"), slices.Contains(l.Flags, "LOWER_UP"), l.Master, l.LinkIndex, l.Info.Kind, l.Info.Slave.Isolated)
		for _, a := range l.Addrs {
			text += fmt.Sprintf(" %s/%d", a.Local, a.Bits)
		}
		theirs = append(theirs, text)
	}
	if !reflect.DeepEqual(ours, theirs) {
		t.Errorf("links of %d:\n ours   %q\n theirs %q", pid, ours, theirs)
	}
	routes, err := s.Routes()
	if err != nil {
		t.Fatal(err)
	}
	var ipRoutes []struct{ Dst, Gateway, Dev string }
	for _, family := range []string{"-4", "-6"} {
		var list []struct{ Dst, Gateway, Dev string }
		if out := ipIn(t, pid, family, "-j", "route", "show", "table", "main"); out != "" {
			if err := json.Unmarshal([]byte(out), &list); err != nil {
				t.Fatal(err)
			}
		}
		ipRoutes = append(ipRoutes, list...)
	}
	var have, want []string
	for _, r := range routes {
		if r.Table != unix.RT_TABLE_MAIN {
			continue
		}
		to, via := strings.TrimSuffix(strings.TrimSuffix(r.To.String(), "/32"), "/128"), ""
		if r.To.Bits() == 0 {
			to = "default"
		}
		if r.Via.IsValid() {
			via = r.Via.String()
		}
		have = append(have, to+" "+via+" "+names[r.Device])
	}
	for _, r := range ipRoutes {
		if r.Dst != "multicast" && !strings.HasPrefix(r.Dst, "ff00") {
			want = append(want, r.Dst+" "+r.Gateway+" "+r.Dev)
		}
	}
	if slices.Sort(have); !slices.Equal(have, sorted(want)) {
		t.Errorf("routes of %d: %q, want %q", pid, have, want)
	}
}

func sorted(list []string) []string { slices.Sort(list); return list }

// TestHealWaitsForNobody: a bridge that lacks nothing is seen to while the kernel changes others' devices, as when a container ends that had made thousands. That holds
// up whoever asks for a device by a message.
func TestHealWaitsForNobody(t *testing.T) {
	nstest.Root(t)
	d := doer(t)
	d.must(t, 0, &plan.MakeBridge{Bridge: br0})
	defer d.must(t, 0, &plan.RemoveBridge{Device: "kakuri0"})
	other := exec.Command("unshare", "-n", "sh", "-c", "for i in $(seq 150); do echo link add b$i type bridge; echo link set b$i up; done | ip -batch - && echo made && read end")
	_, stdin := nstest.Background(t, other)
	stdin.Close()
	defer other.Wait()
	start := time.Now()
	// asks does something beside the others, and tells how long after the start it was done.
	asks := func(do func() error) chan time.Duration {
		done := make(chan time.Duration, 1)
		go func() {
			if err := do(); err != nil {
				t.Error(err)
			}
			done <- time.Since(start)
		}()
		return done
	}
	message := asks(func() error {
		s, err := netlink.Open()
		for err == nil && time.Since(start) < time.Second { // until the kernel has begun
			_, err = s.Link("lo")
		}
		if s != nil {
			err = errors.Join(err, s.Close())
		}
		return err
	})
	time.Sleep(500 * time.Millisecond)
	healed := asks(func() error {
		gone, err := d.HealBridge(br0)
		if gone {
			err = errors.New("the bridge is gone")
		}
		return err
	})
	kernel := asks(func() error {
		s, err := netlink.Open()
		if err != nil {
			return err
		}
		defer s.Close()
		for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
			if _, err := s.Dump(netlink.NewMessage(unix.RTM_GETADDR, 0, []byte{family, 0, 0, 0, 0, 0, 0, 0})); err != nil {
				return err
			}
		}
		return nil
	})
	h, k, m := <-healed, <-kernel, <-message
	late := func(d time.Duration) bool { return d > time.Second && d > m-200*time.Millisecond }
	switch {
	case late(k):
		t.Skip("needs a kernel that lists addresses while it changes devices: seen with Linux 6.18")
	case late(h):
		t.Errorf("it took %v, beside a message that took %v", h, m)
	}
}

// TestBridgeThatCannotBe: of a bridge that cannot have what it is to have, nothing stays; on a kernel without IPv6 that is one with addresses of it.
func TestBridgeThatCannotBe(t *testing.T) {
	nstest.Root(t)
	nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWNS | unix.CLONE_NEWNET}, func(t *testing.T) {
		nstest.NoLeaks(t)
		d := doer(t)
		none := t.TempDir()
		if err := unix.Mount(none, "/proc/sys/net/ipv6", "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount("/proc/sys/net/ipv6", 0)
		d.refused(t, 0, &plan.MakeBridge{Bridge: br0}, "bridge kakuri0 of network", "no IPv6")
		if gone, err := d.BridgeGone(br0); !gone || err != nil {
			t.Errorf("it is there still: %v", err)
		}
		four := br0
		four.Addrs = four.Addrs[:1]
		d.must(t, 0, &plan.MakeBridge{Bridge: four})
	})
}

// TestBridgeIsMadeAgain: deleted, down, half made, or of another kind.
func TestBridgeIsMadeAgain(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	d := doer(t)
	d.must(t, 0, &plan.MakeBridge{Bridge: br0})
	mac := strings.Fields(strings.SplitAfter(d.ip(t, "link", "show", "kakuri0"), "link/ether ")[1])[0]
	for _, harm := range []string{"link delete kakuri0", "link set kakuri0 down", "addr del 172.17.0.1/16 dev kakuri0", "addr del fd00:17::1/64 dev kakuri0", "addr flush dev kakuri0"} {
		d.ip(t, strings.Fields(harm)...)
		d.must(t, 0, &plan.MakeBridge{Bridge: br0})
		out := d.ip(t, "addr", "show", "kakuri0")
		for _, w := range []string{"172.17.0.1/16", "fd00:17::1/64", ",UP", mac} {
			if !strings.Contains(out, w) {
				t.Errorf("after %s there is no %s:\n%s", harm, w, out)
			}
		}
	}
	for harm, want := range map[string]string{
		"link set kakuri0 down": "its bridge kakuri0 is down, and lacks its address fd00:17::1/64", "addr del 172.17.0.1/16 dev kakuri0": "its bridge kakuri0 lacks its address 172.17.0.1/16", "link set kakuri0 mtu 1400": "",
	} {
		d.ip(t, strings.Fields(harm)...)
		if text, err := d.BridgeLacks(br0); text != want || err != nil {
			t.Errorf("after %s the bridge lacks %q, %v", harm, text, err)
		}
		if gone, err := d.HealBridge(br0); gone || err != nil {
			t.Errorf("after %s: gone %v, %v", harm, gone, err)
		}
		if text, err := d.BridgeLacks(br0); text != "" || err != nil {
			t.Errorf("after %s, healed, the bridge lacks %q, %v", harm, text, err)
		}
	}
	d.must(t, 0, &plan.RemoveBridge{Device: "kakuri0"}, &plan.RemoveBridge{Device: "kakuri0"})
	if gone, err := d.HealBridge(br0); !gone || err != nil {
		t.Errorf("of a bridge that is gone: gone %v, %v", gone, err)
	}
	if gone, err := d.BridgeGone(br0); !gone || err != nil {
		t.Errorf("a bridge that is gone was made anew: %v", err)
	}
	d.ip(t, "link", "add", "kakuri0", "type", "veth", "peer", "name", "other")
	d.refused(t, 0, &plan.MakeBridge{Bridge: br0}, "bridge kakuri0 of network bridge", "of the kind veth", "another name")
	d.must(t, 0, &plan.RemoveBridge{Device: "kakuri0"})
	d.ip(t, "link", "show", "other")
	// A network may get IPv6 later.
	v4 := br0
	v4.Device, v4.Addrs = "kakuri1", br0.Addrs[:1]
	d.must(t, 0, &plan.MakeBridge{Bridge: v4})
	v4.Addrs = br0.Addrs
	d.must(t, 0, &plan.MakeBridge{Bridge: v4})
	if out := d.ip(t, "addr", "show", "kakuri1"); !strings.Contains(out, "fd00:17::1/64") {
		t.Errorf("IPv6 of a bridge that had none:\n%s", out)
	}
}

// TestHalfMadeBridgeGoes: one whose maker was killed before it said whose it is goes with its network, and another's of that name, which has something already, stays.
func TestHalfMadeBridgeGoes(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	d := doer(t)
	named := br0
	named.Alias = "kakuri: network bridge"
	remove := &plan.RemoveBridge{Device: named.Device, Alias: named.Alias}
	d.ip(t, "link", "add", "port", "type", "veth", "peer", "name", "far")
	for _, has := range []string{"link set kakuri0 alias theirs", "link set kakuri0 up", "addr add 192.0.2.1/24 dev kakuri0", "link set port master kakuri0"} {
		d.ip(t, "link", "add", "kakuri0", "type", "bridge")
		d.ip(t, strings.Fields(has)...)
		d.must(t, 0, remove)
		if gone, err := d.BridgeGone(br0); gone || err != nil {
			t.Errorf("after %s it is gone: %v", has, err)
		}
		d.ip(t, "link", "delete", "kakuri0")
	}
	d.ip(t, "link", "add", "kakuri0", "type", "bridge")
	d.ip(t, "link", "set", "port", "master", "kakuri0")
	d.must(t, 0, &plan.MakeBridge{Bridge: named}, remove)
	if gone, err := d.BridgeGone(br0); gone || err != nil {
		t.Errorf("as the network's it is gone: %v", err)
	}
	d.ip(t, "link", "delete", "kakuri0")
	d.ip(t, "link", "add", "kakuri0", "type", "bridge")
	d.must(t, 0, remove)
	if gone, err := d.BridgeGone(br0); !gone || err != nil {
		t.Errorf("it is left: %v", err)
	}
}

// TestErrors: each names the thing, and a way out.
func TestErrors(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	d := doer(t)
	pid := container(t)
	veth := func(host, bridge, device string) *plan.MakeVeth {
		return &plan.MakeVeth{HostDevice: host, Bridge: bridge, Device: device}
	}
	d.refused(t, pid, veth("vk0", "kakuri0", "eth0"), "veth vk0", "the host has no bridge kakuri0")
	d.must(t, 0, &plan.MakeBridge{Bridge: br0})
	d.must(t, pid, veth("vk0", "kakuri0", "eth0"), &plan.LinkUp{Device: "eth0"})
	d.refused(t, pid, veth("vk0", "kakuri0", "eth1"), "the host has a device vk0", "ip link delete vk0")
	d.refused(t, pid, veth("vk1", "kakuri0", "eth0"), "the container has a device eth0", "another name")
	d.refused(t, pid, veth("vk1", "vk0", "eth1"), "vk0 is no bridge")
	d.refused(t, pid, &plan.LinkUp{Device: "eth7"}, "eth7")
	add := &plan.AddAddress{Device: "eth0", Addr: prefix("172.17.0.2/16")}
	d.must(t, pid, add)
	d.refused(t, pid, add, "address 172.17.0.2/16 of device eth0", "has it already")
	d.refused(t, pid, &plan.AddAddress{Device: "eth7", Addr: add.Addr}, "device eth7 of the container")
	route := func(to, via string) *plan.AddRoute {
		return &plan.AddRoute{To: prefix(to), Via: netip.MustParseAddr(via)}
	}
	d.must(t, pid, route("10.0.0.0/8", "172.17.0.1"), route("0.0.0.0/0", "172.17.0.1"), route("0.0.0.0/0", "172.17.0.5"))
	if out := ipIn(t, pid, "route"); strings.Count(out, "default") != 1 || !strings.Contains(out, "default via 172.17.0.5") {
		t.Errorf("the second gateway takes the first one's place:\n%s", out)
	}
	d.refused(t, pid, route("10.0.0.0/8", "172.17.0.1"), "10.0.0.0/8 via 172.17.0.1", "a route there already")
	d.refused(t, pid, route("11.0.0.0/8", "192.0.2.1"), "the gateway is in none of the container's networks")
	d.must(t, pid, &plan.DeviceSysctl{Device: "eth0", Key: "net.ipv6.conf.IFNAME.disable_ipv6", Value: "1"})
	d.refused(t, pid, &plan.AddAddress{Device: "eth0", Addr: prefix("fd00::2/64")}, "IPv6 is disabled there")
	d.refused(t, pid, &plan.DeviceSysctl{Device: "eth0", Key: "net.ipv4.conf.IFNAME.none", Value: "1"}, "net/ipv4/conf/eth0/none")
	d.must(t, pid, &plan.DeviceSysctl{Device: "eth0", Key: "net.ipv4.conf.IFNAME.none", Value: "1", Optional: true})
	d.refused(t, pid, &plan.MakeMacvlan{Parent: "eth9", Mode: "bridge", Device: "m"}, "macvlan m of the host's device eth9", "the host has no device eth9")
	d.refused(t, pid, &plan.MakeMacvlan{Parent: "vk0", Mode: "bridge", Device: "m"}, "in use in another way")
	d.refused(t, 1<<22, &plan.LinkUp{Device: "eth0"}, "network namespace of process 4194304")
	six := &netlink.Error{Errno: unix.EACCES, Text: "ipv6: IPv6 is disabled on this device"} // of a bridge's address, too
	if err := hint(fmt.Errorf("bridge: %w", noIPv6(prefix("fd00::1/64"), six)), ""); !strings.Contains(err.Error(), "all.disable_ipv6") || strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("no IPv6: %v", err)
	}
	if err := hint(&netlink.Error{Errno: unix.EOPNOTSUPP, Text: "Unknown device type"}, "veth"); !strings.Contains(err.Error(), "modprobe veth") || !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("a missing module: %v", err)
	}
	if err := hint(&netlink.Error{Errno: unix.EPERM}, "veth"); !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("no capability: %v", err)
	}
	readOnly := hint(&os.PathError{Op: "open", Path: "/proc/sys/net/ipv4/ip_forward", Err: unix.EROFS}, "")
	if text := readOnly.Error(); !strings.Contains(text, "ProtectKernelTunables=") || hint(fmt.Errorf("bridge: %w", readOnly), "bridge").Error() != "bridge: "+text {
		t.Errorf("a /proc/sys that is read-only: %v, for a bridge %v", readOnly, hint(readOnly, "bridge"))
	}
	// By this the kernel tells root, and the uplink of an ordinary user, of a missing module.
	if text := tablesHint(fmt.Errorf("nftables: commit: %w", unix.EOPNOTSUPP)); !strings.Contains(text, "modprobe nf_tables") || tablesHint(unix.EPERM) != "" {
		t.Errorf("no nf_tables: %q", text)
	}
	if err := noTables(unix.EINVAL); !errors.Is(err, errNoTables) || !errors.Is(err, unix.EINVAL) || errors.Is(noTables(unix.EPERM), errNoTables) {
		t.Errorf("no nf_tables: %v", err)
	}
	if err := hint(&netlink.Error{Errno: unix.EXFULL}, "veth"); !strings.Contains(err.Error(), "1023 ports") {
		t.Errorf("a full bridge: %v", err)
	}
}

// TestOnADeviceOfTheHost makes macvlan and ipvlan on a dummy device.
func TestOnADeviceOfTheHost(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	d := doer(t)
	d.ip(t, "link", "add", "lan0", "type", "veth", "peer", "name", "lan0x")
	d.ip(t, "link", "add", "lan1", "type", "veth", "peer", "name", "lan1x")
	for i, mode := range plan.Modes(plan.DriverMacvlan)[:3] {
		pid := container(t)
		_, err := d.Do(t.Context(), &plan.MakeMacvlan{Parent: "lan0", Mode: mode, Device: "eth0", MAC: plan.MAC{2, 0, 0, 0, 0, byte(i + 1)}, MTU: 1400}, pid)
		if errors.Is(err, unix.EOPNOTSUPP) {
			if !strings.Contains(err.Error(), "modprobe macvlan") {
				t.Errorf("a kernel without macvlan: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		d.must(t, pid, &plan.LinkUp{Device: "eth0"})
		out := ipIn(t, pid, "link", "show", "eth0")
		for _, w := range []string{"macvlan mode " + mode, fmt.Sprintf("02:00:00:00:00:%02x", i+1), "mtu 1400"} {
			if !strings.Contains(out, w) {
				t.Errorf("macvlan %s has no %s:\n%s", mode, w, out)
			}
		}
	}
	for _, mode := range plan.Modes(plan.DriverIPvlan) {
		pid := container(t)
		_, err := d.Do(t.Context(), &plan.MakeIPvlan{Parent: "lan1", Mode: mode, Device: "eth0"}, pid)
		if errors.Is(err, unix.EOPNOTSUPP) && !strings.Contains(err.Error(), "modprobe ipvlan") {
			t.Errorf("a kernel without ipvlan: %v", err)
		}
		if errors.Is(err, unix.EOPNOTSUPP) {
			continue
		}
		if err != nil {
			t.Errorf("ipvlan %s: %v", mode, err)
			continue
		}
		word, flag, _ := strings.Cut(mode, ",")
		if out := ipIn(t, pid, "link", "show", "eth0"); !strings.Contains(out, "ipvlan") || !strings.Contains(out, "mode "+word) || !strings.Contains(out, flag) {
			t.Errorf("ipvlan %s:\n%s", mode, out)
		}
		d.must(t, pid, &plan.LinkUp{Device: "eth0"})
		if err := d.removeDevice(pid, "", "eth0"); err != nil {
			t.Error(err)
		}
	}
}

// TestSharesOfLastRun: a container with an address of its own choice is started again while the kernel has not yet taken the namespace of its last run apart, whose device has the MAC, or the parent for itself, or the address.
func TestSharesOfLastRun(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	d := doer(t)
	for _, parent := range []string{"lan0", "lan1", "lan2"} {
		d.ip(t, "link", "add", parent, "type", "veth", "peer", "name", parent+"x")
	}
	for _, op := range []plan.Op{
		&plan.MakeMacvlan{Parent: "lan0", Mode: "bridge", Device: "eth0", MAC: plan.MAC{2, 0, 0, 0, 0, 1}},
		&plan.MakeMacvlan{Parent: "lan1", Mode: "passthru", Device: "eth0"},
		&plan.MakeIPvlan{Parent: "lan2", Mode: "l2", Device: "eth0"},
	} {
		last := time.Now() // when the last run ended
		for range 5 {
			c := exec.Command("sleep", "infinity")
			c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			var err error
			known := true
			for _, step := range []plan.Op{op, &plan.LinkUp{Device: "eth0"}, &plan.AddAddress{Device: "eth0", Addr: netip.MustParsePrefix("10.9.0.7/24")}} {
				_, err = d.Do(t.Context(), step, c.Process.Pid)
				known = !errors.Is(err, unix.EOPNOTSUPP)
				// The kernel takes the namespaces of all the machine apart one after the other, and may be later than who waits for one: see [nstest.State.Left].
				for ; err != nil && known && time.Since(last) > 2*leftBehind && time.Since(last) < time.Minute; _, err = d.Do(t.Context(), step, c.Process.Pid) {
				}
				if err != nil {
					break
				}
			}
			d.in.close() // its monitor is another one each time
			d.in = nil
			last = time.Now()
			c.Process.Kill()
			c.Wait()
			if err != nil && known {
				t.Fatalf("%v: %v", op, err)
			}
		}
	}
}

// TestForwarding: a host that takes routes from routers goes on with that.
func TestForwarding(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	d := doer(t)
	d.ip(t, "link", "add", "wan0", "type", "veth", "peer", "name", "wan0x")
	for range 2 {
		d.must(t, 0, &plan.SetForwarding{V4: true, V6: true})
	}
	for path, want := range map[string]string{"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1", "net/ipv6/conf/wan0/accept_ra": "2"} {
		if !sysctlIs(path, want) {
			t.Errorf("%s is not %s", path, want)
		}
	}
}

// TestManyConnections: nothing is left of many, neither devices nor descriptors.
func TestManyConnections(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	times := 100 // at 24 ms, which the kernel takes to forget a device
	d := doer(t)
	pid := container(t)
	d.must(t, 0, &plan.MakeBridge{Bridge: br0})
	n := plan.Network{Endpoints: []plan.Endpoint{endpoint(0)}, Gateway4: br0.Addrs[0].Addr()}
	for i := range times {
		if err := d.Connect(t.Context(), pid, "a", n); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if err := d.Disconnect(t.Context(), pid, plan.Network{Endpoints: n.Endpoints}); err != nil {
			t.Fatalf("end of connection %d: %v", i, err)
		}
	}
	if out := d.ip(t, "-o", "link"); strings.Count(out, "\n") != 2 {
		t.Errorf("left:\n%s", out)
	}
}

// TestFailureInTheMiddle leaves nothing of a connection.
func TestFailureInTheMiddle(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	d := doer(t)
	pid := container(t)
	d.must(t, 0, &plan.MakeBridge{Bridge: br0})
	n := plan.Network{Endpoints: []plan.Endpoint{endpoint(0), endpoint(1)}}
	n.Endpoints[1].Routes = []plan.Route{{To: prefix("10.0.0.0/8"), Via: netip.MustParseAddr("192.0.2.1")}}
	if err := d.Connect(t.Context(), pid, "a", n); err == nil {
		t.Fatal("a gateway in none of the networks is taken")
	}
	if out := d.ip(t, "-o", "link") + ipIn(t, pid, "-o", "link"); strings.Contains(out, "vk") || strings.Contains(out, "eth0@") {
		t.Errorf("left:\n%s", out)
	}
}

// TestLearnedMACs: who sends with one MAC after another has a bridge remember so many, and no more.
func TestLearnedMACs(t *testing.T) {
	nstest.Root(t)
	d := doer(t)
	a := container(t)
	d.must(t, 0, &plan.MakeBridge{Bridge: br0})
	if err := d.Connect(t.Context(), a, "a", plan.Network{Endpoints: []plan.Endpoint{endpoint(0)}}); err != nil {
		t.Fatal(err)
	}
	in, err := d.enter(a)
	if err != nil {
		t.Fatal(err)
	}
	frames := make([][]byte, maxLearned+1000)
	for n := range frames {
		frames[n] = []byte{2, 0, 0, 0, 0, 1, 2, 1, 12: 0x88, 13: 0xb5, 59: 0} // for local experiments: IEEE 802
		binary.BigEndian.PutUint32(frames[n][8:], uint32(n))
	}
	if err := in.do(func() error { return sendFrames(frames...) }); err != nil {
		t.Fatal(err)
	}
	body, err := d.host.Ask(netlink.NewMessage(unix.RTM_GETLINK, 0, netlink.IfInfo(0, 0, 0)).AddString(unix.IFLA_IFNAME, br0.Device), unix.RTM_NEWLINK)
	if err != nil {
		t.Fatal(err)
	}
	learned := attribute(body[unix.SizeofIfInfomsg:], unix.IFLA_LINKINFO, unix.IFLA_INFO_DATA, unix.IFLA_BR_FDB_N_LEARNED)
	if learned == nil {
		t.Skip("this kernel knows no end of what a bridge learns: Linux 6.7")
	}
	if n := binary.NativeEndian.Uint32(learned); n != maxLearned {
		t.Errorf("the bridge remembers %d", n)
	}
}

// TestBridgesOwnGroups: what is sent to the groups that a bridge keeps for itself, 01:80:c2:00:00:00 to 0f, comes to this machine by the bridge, if at all: by a port it would pass all rules that say who sends by a bridge,
// and advertise routes of IPv6 to the machine.
func TestBridgesOwnGroups(t *testing.T) {
	nstest.Root(t)
	d := doer(t)
	a := container(t)
	for _, key := range []string{"all", "default"} {
		if err := setSysctl("net/ipv4/conf/"+key+"/rp_filter", "0"); err != nil {
			t.Fatal(err)
		}
	}
	d.must(t, 0, &plan.MakeBridge{Bridge: br0}, &plan.SetForwarding{V4: true, V6: true})
	n := plan.Network{Endpoints: []plan.Endpoint{endpoint(0)}}
	if err := d.Connect(t.Context(), a, "a", n); err != nil {
		t.Fatal(err)
	}
	// Another way that a cable becomes a port.
	n.Bridges = []plan.Bridge{br0}
	d.ip(t, "link", "set", n.Endpoints[0].HostDevice, "nomaster")
	if err := d.Plug(n, n.Endpoints[0]); err != nil {
		t.Fatal(err)
	}
	bridge, err := net.InterfaceByName(br0.Device)
	if err != nil {
		t.Fatal(err)
	}
	heard, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 7778})
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	raw, err := heard.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1) })
	if err != nil {
		t.Fatal(err)
	}
	in, err := d.enter(a)
	if err != nil {
		t.Fatal(err)
	}
	var frames [][]byte
	for group := range byte(17) {
		to, text := net.HardwareAddr{1, 0x80, 0xc2, 0, 0, group}, fmt.Sprintf("group %x", group)
		if group == 16 {
			to, text = bridge.HardwareAddr, "last"
		}
		frames = append(frames, frame(to, nil, [4]byte{8, 8, 8, 8}, [4]byte{172, 17, 0, 1}, text))
	}
	if err := in.do(func() error { return sendFrames(frames...) }); err != nil {
		t.Fatal(err)
	}
	heard.SetDeadline(time.Now().Add(waits))
	for text := ""; text != "last"; {
		b, more := make([]byte, 100), make([]byte, 100)
		k, m, _, _, err := heard.ReadMsgUDP(b, more)
		if err != nil {
			t.Fatal(err)
		}
		text = string(b[:k])
		messages, err := unix.ParseSocketControlMessage(more[:m])
		if err != nil || len(messages) != 1 {
			t.Fatal(messages, err)
		}
		if by := binary.NativeEndian.Uint32(messages[0].Data); int(by) != bridge.Index {
			t.Errorf("%s came by device %d, and the bridge is %d", text, by, bridge.Index)
		}
	}
}

// TestFirstPacket: a cable that was set up sends and takes what comes, at both ends and by its bridge, and does not drop the first packet. A list of devices is as the kernel has noted, which it
// does later by itself, and at once for who asks for one of them.
func TestFirstPacket(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	d := doer(t)
	d.must(t, 0, &plan.MakeBridge{Bridge: br0})
	c := exec.Command("sleep", "infinity")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { c.Process.Kill(); c.Wait() }()
	s, err := netlink.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 30 {
		host, device := fmt.Sprintf("vk%d", i), fmt.Sprintf("eth%d", i)
		d.must(t, c.Process.Pid, &plan.MakeVeth{HostDevice: host, Bridge: "kakuri0", Device: device})
		d.must(t, c.Process.Pid, &plan.LinkUp{Device: device})
		inside, err1 := d.in.s.Links()
		outside, err2 := s.Links()
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		works := 0
		for _, l := range append(inside, outside...) {
			if l.Works && (l.Name == host || l.Name == device || l.Name == "kakuri0") {
				works++
			}
		}
		if state, err := os.ReadFile("/sys/class/net/" + host + "/brport/state"); err == nil && strings.TrimSpace(string(state)) != "3" {
			t.Errorf("cable %d: its port is in state %s", i, state)
		}
		if works != 3 {
			t.Errorf("cable %d: of its two ends and the bridge %d work", i, works)
		}
	}
}

// TestConnectAfterAKilledOne: what a connect that was killed has made is in nobody's way; a device that somebody inside has made is.
func TestConnectAfterAKilledOne(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	d := doer(t)
	pid := container(t)
	d.must(t, 0, &plan.MakeBridge{Bridge: br0})
	n := plan.Network{Endpoints: []plan.Endpoint{endpoint(1)}}
	for range 2 {
		if err := d.Connect(t.Context(), pid, "a", n); err != nil {
			t.Fatal(err)
		}
	}
	if out := ipIn(t, pid, "-o", "addr", "show", "eth1"); !strings.Contains(out, "172.17.0.3/16") {
		t.Error(out)
	}
	ipIn(t, pid, "link", "add", "eth2", "type", "veth", "peer", "name", "other")
	n.Endpoints[0].Device = "eth2"
	err := d.Connect(t.Context(), pid, "a", n)
	if err == nil || !strings.Contains(err.Error(), "the container has a device eth2") {
		t.Error(err)
	}
	ipIn(t, pid, "link", "show", "eth1")
}

// TestHostEndsGoWithTheNamespace: nobody has to remove what a container had, whoever was killed.
func TestHostEndsGoWithTheNamespace(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	d := doer(t)
	d.must(t, 0, &plan.MakeBridge{Bridge: br0})
	c := exec.Command("sleep", "infinity")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	d.must(t, c.Process.Pid, &plan.MakeVeth{HostDevice: "vk0", Bridge: "kakuri0", Device: "eth0"})
	watch, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if err := unix.Bind(watch, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		t.Fatal(err)
	}
	c.Process.Kill()
	c.Wait()
	d.Close() // which had the namespace open
	s, err := netlink.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for buf := make([]byte, 1<<16); ; {
		if _, err := s.Link("vk0"); errors.Is(err, unix.ENODEV) {
			return
		}
		if _, _, err := unix.Recvfrom(watch, buf, 0); err != nil { // news of a device
			t.Fatal(err)
		}
	}
}

// BenchmarkConnect is what a launch does on one bridge.
func BenchmarkConnect(b *testing.B) {
	nstest.Root(b)
	d := doer(b)
	d.must(b, 0, &plan.MakeBridge{Bridge: br0})
	n := plan.Network{Bridges: []plan.Bridge{}, Endpoints: []plan.Endpoint{endpoint(0)}, Gateway4: br0.Addrs[0].Addr()}
	n.Endpoints[0].Addrs = n.Endpoints[0].Addrs[:1]
	for b.Loop() {
		b.StopTimer()
		c := exec.Command("sleep", "infinity")
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		var one Doer
		n.Endpoints[0].HostDevice = fmt.Sprintf("vk%d", c.Process.Pid)
		b.StartTimer()
		one.must(b, 0, &plan.MakeBridge{Bridge: br0})
		if err := one.Connect(b.Context(), c.Process.Pid, "a", n); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		one.Close()
		c.Process.Kill()
		c.Wait()
		b.StartTimer()
	}
}

// TestRules: what the plan asks of rules is done by those that the doer has, and refused without.
func TestRules(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	d := doer(t)
	d.Rules = OpenRules(t.TempDir())
	pid := container(t)
	n := plan.Network{Bridges: []plan.Bridge{br0}, Endpoints: []plan.Endpoint{endpoint(0)}}
	if err := d.Connect(t.Context(), pid, "a", n); err != nil {
		t.Fatal(err)
	}
	d.must(t, 0, &plan.PublishPorts{Owner: "a", Ports: []plan.Publish{{Proto: "tcp", HostAddr: netip.IPv4Unspecified(), HostPort: 8080, Addr: netip.MustParseAddr("172.17.0.2"), Port: 80, Bridge: "kakuri0"}}})
	if state, err := ReadTable(); err != nil || len(state.Ports) != 1 || len(state.Bridges) != 1 {
		t.Errorf("%+v, %v", state, err)
	}
	d.must(t, 0, &plan.UnpublishPorts{Owner: "a"})
	if err := d.Rules.RemoveBridge("kakuri0", ""); err != nil {
		t.Error(err)
	}
	if handled, _ := (&Doer{}).Do(t.Context(), &plan.MakeRules{}, 0); handled {
		t.Error("rules without Rules")
	}
	n.Resolver = &plan.Resolver{}
	if err := d.Connect(t.Context(), container(t), "b", plan.Network{Resolver: n.Resolver}); err == nil || !strings.Contains(err.Error(), "serve names: nothing here") {
		t.Errorf("names, which are the monitor's: %v", err)
	}
}

// Where others find this network namespace is by the default route, else by an address of all the world.
func TestOutward(t *testing.T) {
	nstest.Root(t)
	d := doer(t)
	want := func(when, v4, v6 string) {
		t.Helper()
		for family, text := range map[netip.Family]string{netip.IPv4: v4, netip.IPv6: v6} {
			a, err := Outward(family)
			if err != nil || text == "" && a.IsValid() || text != "" && a.String() != text {
				t.Errorf("%s: %v, %v, want %q", when, a, err, text)
			}
		}
	}
	d.ip(t, "link", "set", "lo", "up")
	want("loopback alone", "", "")
	d.ip(t, "link", "add", "near", "type", "bridge")
	d.ip(t, "link", "add", "far", "type", "bridge")
	for device, addrs := range map[string][]string{"near": {"169.254.7.7/16", "10.7.7.7/24", "fd07::7/64"}, "far": {"10.8.8.8/24", "fd08::8/64"}} {
		for _, a := range addrs {
			args := []string{"address", "add", a, "dev", device}
			if strings.Contains(a, ":") {
				args = append(args, "nodad")
			}
			if strings.HasPrefix(a, "169.254.") {
				args = append(args, "scope", "link")
			}
			d.ip(t, args...)
		}
	}
	want("devices that are down", "", "")
	d.ip(t, "link", "set", "near", "up")
	d.ip(t, "link", "set", "far", "up")
	want("no default route", "10.7.7.7", "fd07::7")
	d.ip(t, "route", "add", "default", "via", "10.8.8.1")
	d.ip(t, "-6", "route", "add", "default", "via", "fd08::1")
	want("a default route", "10.8.8.8", "fd08::8")
}
