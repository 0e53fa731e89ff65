package stack

import (
	"fmt"
	"io"
	stdip "net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/netip"
)

const (
	maxConns   = 4096 // of TCP at once, as far as descriptors reach; more have to try again
	maxOpening = 1024 // of those the ones that an end has not agreed to yet
	maxFlows   = 4096 // of UDP and ICMP, as far as descriptors reach; the one that was silent longest goes

	// Bytes on their way, each way of a connection. The device is a memory's length away, so that more brings nothing.
	largeBuffer = 256 << 10
	smallBuffer = 32 << 10 // once there are largeConns connections
	largeConns  = 256

	nic = 1
)

// A Stack is one at work.
type Stack struct {
	s        *stack.Stack
	link     stack.LinkEndpoint
	tun      int
	gateways []stdip.Addr
	conns    *share
	opening  *share
	flows    *flows
	refused  func(from netip.Addr)
	closing  sync.Once
}

// New begins to carry packets between a device, whose descriptor it takes over, and this process's network. The gateways are addresses of its own,
// that answer a ping and nothing else. Who asks for a connection more than its share is told by refused.
func New(tun, mtu int, gateways []netip.Addr, refused func(from netip.Addr)) (io.Closer, error) {
	log.SetTarget(nothing{}) // which says of packets that they are odd, and as often as there are any
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	most, mostFlows := bounds()
	t := &Stack{s: s, tun: tun, conns: newShare(most), opening: newShare(min(maxOpening, max(1, most/4))), refused: refused}
	fail := func(what string, err any) (io.Closer, error) {
		t.end()
		return nil, fmt.Errorf("the built-in stack: %s: %v", what, err)
	}
	// What comes from the kernel in here needs no second look at its sums. Who reads a packet deals with it, too: with more processors than that
	// one the library keeps all that they are not through with yet, without end. So what is too much waits in the device, and gets lost there.
	link, err := fdbased.New(&fdbased.Options{FDs: []int{tun}, MTU: uint32(mtu), RXChecksumOffload: true, ProcessorsPerChannel: 1})
	if err != nil {
		return fail("device", err)
	}
	t.link = link
	if err := s.CreateNIC(nic, link); err != nil {
		return fail("device", err)
	}
	// All addresses are here, and packets have them all as senders.
	if err := s.SetPromiscuousMode(nic, true); err != nil {
		return fail("addresses", err)
	}
	if err := s.SetSpoofing(nic, true); err != nil {
		return fail("addresses", err)
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic}})
	for _, g := range gateways {
		a := tcpip.ProtocolAddress{Protocol: ipv6.ProtocolNumber, AddressWithPrefix: tcpip.AddrFromSlice(g.AsSlice()).WithPrefix()}
		if g.Is4() {
			a.Protocol = ipv4.ProtocolNumber
		}
		if err := s.AddProtocolAddress(nic, a, stack.AddressProperties{}); err != nil {
			return fail("gateway", err)
		}
		std, _ := stdip.AddrFromSlice(g.AsSlice())
		t.gateways = append(t.gateways, std)
	}
	sack, nodelay, fixed := tcpip.TCPSACKEnabled(true), tcpip.TCPDelayEnabled(false), tcpip.TCPModerateReceiveBufferOption(false)
	// Nothing old comes along from a device in memory. Who takes a port once more meanwhile is not heard, since the stack asks those that listen alone: so this is
	// less than Linux waits before it asks again, and more than before it says a second time that it is through.
	wait := tcpip.TCPTimeWaitTimeoutOption(500 * time.Millisecond)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: largeBuffer, Max: largeBuffer}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: largeBuffer, Max: largeBuffer}
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &nodelay, &fixed, &wait, &receive, &send} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fail("TCP", err)
		}
	}
	if t.flows, err = newFlows(s, mostFlows); err != nil {
		return fail("UDP", err)
	}
	large := tcp.NewForwarder(s, largeBuffer, maxConns, t.connection)
	small := tcp.NewForwarder(s, smallBuffer, maxConns, t.connection)
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, func(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
		if t.conns.taken() < largeConns {
			return large.HandlePacket(id, pkt)
		}
		return small.HandlePacket(id, pkt)
	})
	s.SetTransportProtocolHandler(udp.ProtocolNumber, t.datagram)
	s.SetTransportProtocolHandler(icmp.ProtocolNumber4, t.echo4)
	s.SetTransportProtocolHandler(icmp.ProtocolNumber6, t.echo6)
	return t, nil
}

// Close ends all that is on its way.
func (t *Stack) Close() error {
	t.closing.Do(func() {
		t.flows.close()
		t.end()
	})
	return nil
}

// end has no more packets be read before all else ends: the library waits for who reads them with a lock that he may want.
func (t *Stack) end() {
	if t.link != nil {
		t.link.Attach(nil)
	}
	t.s.Destroy()
	unix.Close(t.tun)
}

// bounds leave a quarter of the descriptors for all else, or what is inside could take those by which the uplink is asked to do something.
func bounds() (conns, flows int) {
	most := files.Most()
	return min(maxConns, max(1, most/2)), min(maxFlows, max(1, most/4))
}

// ofStack gives an address of the stack as the library has it.
func ofStack(a tcpip.Address) stdip.Addr {
	std, _ := stdip.AddrFromSlice(a.AsSlice())
	return std
}

// reachable refuses this machine's own addresses that are nobody else's, whatever way they are written: those of its loopback, and 0.0.0.0, by which Linux
// means that as well.
func (t *Stack) reachable(a stdip.Addr) bool {
	for _, g := range t.gateways {
		if a == g {
			return false
		}
	}
	switch {
	case !a.IsValid(), a.IsLoopback(), a.IsUnspecified(), a.IsMulticast(), a.Is4In6():
		return false
	case a.Is4():
		b := a.As4()
		return b[0] != 0 && b != [4]byte{255, 255, 255, 255}
	}
	b := a.As16()
	for _, v := range b[:12] {
		if v != 0 {
			return !a.IsLinkLocalUnicast() // of no known device
		}
	}
	return false // ::127.0.0.1
}

// nothing is where the stack's words go.
type nothing struct{}

func (nothing) Emit(int, log.Level, time.Time, string, ...any) {}
