package stack

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// refuse tells who sent a packet of UDP that nobody is there: ICMP's message, with the beginning of a packet like it. The receiver
// looks at its addresses and ports alone.
func (w *flow) refuse(err error) {
	if w.key.proto != udp.ProtocolNumber {
		return
	}
	id := w.key.id
	port := make([]byte, header.UDPMinimumSize)
	header.UDP(port).Encode(&header.UDPFields{SrcPort: id.RemotePort, DstPort: id.LocalPort, Length: header.UDPMinimumSize})
	v4 := id.LocalAddress.Len() == 4
	var packet []byte
	if v4 {
		packet = make([]byte, header.IPv4MinimumSize)
		h := header.IPv4(packet)
		h.Encode(&header.IPv4Fields{TotalLength: uint16(len(packet) + len(port)), TTL: 64, Protocol: uint8(udp.ProtocolNumber), SrcAddr: id.RemoteAddress, DstAddr: id.LocalAddress})
		h.SetChecksum(^h.CalculateChecksum())
	} else {
		packet = make([]byte, header.IPv6MinimumSize)
		header.IPv6(packet).Encode(&header.IPv6Fields{PayloadLength: uint16(len(port)), TransportProtocol: udp.ProtocolNumber, HopLimit: 64, SrcAddr: id.RemoteAddress, DstAddr: id.LocalAddress})
	}
	packet = append(packet, port...)
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.ICMPv6DstUnreachableMinimumSize + int(w.route.MaxHeaderLength()),
		Payload:            buffer.MakeWithData(packet),
	})
	defer pkt.DecRef()
	sum := checksum.Checksum(packet, 0)
	proto := icmp.ProtocolNumber4
	if v4 {
		h := header.ICMPv4(pkt.TransportHeader().Push(header.ICMPv4MinimumSize))
		h.SetType(header.ICMPv4DstUnreachable)
		switch err {
		case unix.ECONNREFUSED:
			h.SetCode(header.ICMPv4PortUnreachable)
		case unix.EHOSTUNREACH:
			h.SetCode(header.ICMPv4HostUnreachable)
		default:
			h.SetCode(header.ICMPv4NetUnreachable)
		}
		h.SetChecksum(header.ICMPv4Checksum(h, sum))
	} else {
		proto = icmp.ProtocolNumber6
		h := header.ICMPv6(pkt.TransportHeader().Push(header.ICMPv6DstUnreachableMinimumSize))
		h.SetType(header.ICMPv6DstUnreachable)
		switch err {
		case unix.ECONNREFUSED:
			h.SetCode(header.ICMPv6PortUnreachable)
		case unix.EHOSTUNREACH:
			h.SetCode(header.ICMPv6AddressUnreachable)
		default:
			h.SetCode(header.ICMPv6NetworkUnreachable)
		}
		h.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: h, Src: id.LocalAddress, Dst: id.RemoteAddress, PayloadCsum: sum, PayloadLen: len(packet)}))
	}
	pkt.TransportProtocolNumber = proto
	w.route.WritePacket(stack.NetworkHeaderParams{Protocol: proto, TTL: w.route.DefaultTTL()}, pkt)
}
