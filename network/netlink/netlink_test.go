package netlink

import (
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/netip"
)

// body is that of an answer, made of what the kernel would send.
func body(head []byte, add func(m Message) Message) []byte {
	return add(NewMessage(0, 0, head))[unix.SizeofNlMsghdr:]
}

// TestMessage compares a message with what ip(8) sends for "ip link add br0 type bridge", as strace(1) has it.
func TestMessage(t *testing.T) {
	m := NewMessage(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, IfInfo(0, 0, 0)).AddString(unix.IFLA_IFNAME, "br0").Nest(unix.IFLA_LINKINFO, func(m Message) Message {
		return m.Add(unix.IFLA_INFO_KIND, []byte("bridge"))
	})
	m.flag(unix.NLM_F_ACK)
	(&Socket{}).finish(m)
	want := "38000000100005060100000000000000" + "00000000000000000000000000000000" + "08000300" + "62723000" + "10001200" + "0a000100" + "627269646765" + "0000"
	if got := hex.EncodeToString(m); got != want {
		t.Errorf("\n%s, want\n%s", got, want)
	}
}

// TestBound: a list that is too long ends, and what is left of it is nobody's answer.
func TestBound(t *testing.T) {
	s, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Bound(1 << 20)
	if list, err := s.Links(); err != nil || len(list) == 0 {
		t.Errorf("within it: %v, %v", list, err)
	}
	s.Bound(1)
	if list, err := s.Links(); !errors.Is(err, ErrMore) || len(list) > 0 {
		t.Errorf("beyond it: %v, %v", list, err)
	}
	if list, err := s.Addrs(0); !errors.Is(err, ErrMore) || len(list) > 0 {
		t.Errorf("behind it: %v, %v", list, err)
	}
}

func TestParse(t *testing.T) {
	head := make([]byte, unix.SizeofRtMsg)
	head[0], head[1], head[4], head[7] = unix.AF_INET, 8, unix.RT_TABLE_MAIN, unix.RTN_UNICAST
	hop := func(device byte, via ...byte) []byte {
		b := []byte{16, 0, 0, 0, device, 0, 0, 0}
		return Message(b).Add(unix.RTA_GATEWAY, via)
	}
	routes := parseRoutes(body(head, func(m Message) Message {
		return m.Add(unix.RTA_DST, []byte{10, 0, 0, 0}).Add(unix.RTA_MULTIPATH, append(hop(2, 10, 0, 0, 1), hop(3, 10, 0, 0, 2)...)).AddUint32(unix.RTA_TABLE, 1000)
	}))
	to := netip.MustParsePrefix("10.0.0.0/8")
	want := []Route{
		{To: to, Via: netip.MustParseAddr("10.0.0.1"), Device: 2, Table: 1000, Type: unix.RTN_UNICAST},
		{To: to, Via: netip.MustParseAddr("10.0.0.2"), Device: 3, Table: 1000, Type: unix.RTN_UNICAST},
	}
	if len(routes) != 2 || routes[0] != want[0] || routes[1] != want[1] {
		t.Errorf("%+v, want %+v", routes, want)
	}
	addr := make([]byte, unix.SizeofIfAddrmsg)
	addr[1], addr[4] = 30, 7
	a, ok := parseAddr(body(addr, func(m Message) Message {
		return m.Add(unix.IFA_ADDRESS, []byte{10, 0, 0, 2}).Add(unix.IFA_LOCAL, []byte{10, 0, 0, 1}).AddUint32(unix.IFA_FLAGS, unix.IFA_F_PERMANENT|unix.IFA_F_NOPREFIXROUTE)
	}))
	if !ok || a.Peer != netip.MustParseAddr("10.0.0.2") || a.Prefix != netip.MustParsePrefix("10.0.0.1/30") || a.Device != 7 || a.Flags != unix.IFA_F_PERMANENT|unix.IFA_F_NOPREFIXROUTE {
		t.Errorf("%+v", a)
	}
}

// TestBytes: whatever comes, nothing is read beyond it.
func TestBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		b := make([]byte, r.IntN(90))
		for i := range b {
			b[i] = byte(r.IntN(256))
			if r.IntN(2) == 0 {
				b[i] = byte(r.IntN(20))
			}
		}
		parseLink(b)
		parseAddr(b)
		parseRoutes(b)
		parseHops(b)
		parseBound(b)
		Answer(uint16(r.IntN(1<<16)), b)
	}
}

// TestAnswers: an error has its number and the kernel's sentence.
func TestAnswers(t *testing.T) {
	s, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Link("none-such"); !errors.Is(err, unix.ENODEV) {
		t.Errorf("a device that is not there: %v", err)
	}
	if lo, err := s.Link("lo"); err != nil || lo.Name != "lo" || lo.Index == 0 {
		t.Errorf("lo: %+v, %v", lo, err)
	}
	if _, err := OpenIn("/proc/self/ns/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a namespace that is not there: %v", err)
	}
	e := Answer(unix.NLM_F_ACK_TLVS|unix.NLM_F_CAPPED, Message(append([]byte{0xea, 0xff, 0xff, 0xff}, make([]byte, unix.SizeofNlMsghdr)...)).AddString(1, "Nexthop has invalid gateway"))
	if e == nil || e.Error() != "invalid argument (Nexthop has invalid gateway)" || !errors.Is(e, unix.EINVAL) {
		t.Errorf("%v", e)
	}
}

// TestAbsentDevice: the kernel is not asked for a device that is not there, for which it would run modprobe; nor does a name lead anywhere else.
func TestAbsentDevice(t *testing.T) {
	nobody := &Socket{fd: -1}
	for _, name := range []string{"kakuri-none", "", ".", "..", "../conf/lo", "lo/..", "all", "default"} {
		if _, _, err := nobody.Device(name); err != unix.ENODEV {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, _, err := nobody.Device("lo"); err != unix.EBADF {
		t.Errorf("lo: %v", err)
	}
	s, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if index, _, err := s.Device("lo"); index != 1 || err != nil {
		t.Errorf("lo: %d, %v", index, err)
	}
}
