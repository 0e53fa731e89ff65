package network

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"

	"github.com/kakuri/kakuri/network/netlink"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// Numbers of linux/pkt_sched.h, linux/pkt_cls.h and linux/rtnetlink.h that the unix package has not.
const (
	tcaKind, tcaOptions                 = 1, 2
	tcaBPFFd, tcaBPFName, tcaBPFFlags   = 6, 7, 8
	tcaBPFFlagActDirect                 = 1
	tcClsact, tcClsactHandle, tcIngress = 0xfffffff1, 0xffff0000, 0xfffffff2
)

// guardPriority is of the filter among those of others on the device, the lowest number first.
const guardPriority = 1

// localnet is a bridge's file that says whether what comes by it may be from or for 127.0.0.0/8.
func localnet(bridge string) string { return "net/ipv4/conf/" + bridge + "/route_localnet" }

// routeLoopback has the kernel send what comes from 127.0.0.1 by the bridges, and take the answers. The table has it take nothing else of those addresses from there; and
// since the table goes when somebody flushes all rules, ports of the bridges do not let it in either.
func routeLoopback(ports []plan.Publish) error {
	var bridges []string // each once: a container may have many thousand ports
	for _, p := range ports {
		if p.Bridge != "" && !p.Routed && !Relayed(p) && p.HostAddr.Is4() && (p.HostAddr.IsUnspecified() || p.HostAddr.IsLoopback()) && !slices.Contains(bridges, p.Bridge) {
			bridges = append(bridges, p.Bridge)
		}
	}
	for _, bridge := range bridges {
		if sysctlIs(localnet(bridge), "1") {
			continue
		}
		if err := os.WriteFile("/proc/sys/"+localnet(bridge), []byte("1"), 0); err != nil {
			return err
		}
		// In this order: who makes a port looks at the file when it is there.
		if err := guardPorts(bridge); err != nil {
			return err
		}
	}
	return nil
}

// guardPorts guards all ports that a bridge has.
func guardPorts(bridge string) error {
	s, err := netlink.Open()
	if err != nil {
		return err
	}
	defer s.Close()
	list, err := s.Links()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(l netlink.Link) bool { return l.Name == bridge })
	if i < 0 {
		return nil // it went, with its ports
	}
	for _, l := range list {
		if l.Master == list[i].Index && guardPort(s, l.Index) != nil {
			return nil // there is none to be had
		}
	}
	return nil
}

// guardNew guards a new port of a bridge whose others are.
func guardNew(s *netlink.Socket, bridge, port string) {
	if sysctlIs(localnet(bridge), "1") {
		if l, err := s.Link(port); err == nil {
			guardPort(s, l.Index)
		}
	}
}

// guardPort has the device of a bridge's port let nothing in that is from or for 127.0.0.0/8: tc-bpf(8), at clsact's ingress. Answers to what this machine sent from 127.0.0.1 are
// for the bridge's own address there, since connections are looked up later: on the bridge itself, or with br_netfilter between port and bridge, which is why the filter is here.
// Where there is none to be had, in another container or with a kernel that has not cls_bpf, the table is alone.
func guardPort(s *netlink.Socket, device int32) error {
	program, err := loadClassifier(loopbackGuard())
	if err != nil {
		return err
	}
	defer unix.Close(program)
	head := func(handle, parent, info uint32) []byte { // struct tcmsg
		b := make([]byte, 4, 20)
		for _, v := range []uint32{uint32(device), handle, parent, info} {
			b = binary.NativeEndian.AppendUint32(b, v)
		}
		return b
	}
	qdisc := netlink.NewMessage(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL, head(tcClsactHandle, tcClsact, 0)).AddString(tcaKind, "clsact")
	if err := s.One(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	info := guardPriority<<16 | uint32(wireOrder(unix.ETH_P_ALL))
	filter := netlink.NewMessage(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL, head(1, tcIngress, info)).AddString(tcaKind, "bpf").Nest(tcaOptions, func(m netlink.Message) netlink.Message {
		return m.AddUint32(tcaBPFFd, uint32(program)).AddString(tcaBPFName, guardName).AddUint32(tcaBPFFlags, tcaBPFFlagActDirect)
	})
	if err := s.One(filter); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// wireOrder is a number of two bytes as a program or a message has it that takes it as it is on the wire.
func wireOrder(n uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], n)
	return binary.NativeEndian.Uint16(b[:])
}

// loopbackGuard is the program, of the kernel's instruction-set.rst and struct __sk_buff: it looks at the first byte of either address of a packet of IPv4. Of tags that name no VLAN
// the kernel takes away as many as there are before it hands a packet to this machine, and one before it comes here: with more it is dropped.
func loopbackGuard() []byte {
	const (
		loadWord = 0x61
		loadByte = 0x30 // r0 = the packet's byte at the offset; a packet without ends the program with 0, which lets it pass
		moveReg  = 0xbf
		moveImm  = 0xb7
		and      = 0x57
		equal    = 0x15 // if the register is this, go on so many instructions later
		unequal  = 0x55
		jump     = 0x05
		exit     = 0x95

		r0, r1, r6          = 0, 1, 6
		protocolAt, vlanTCI = 16, 24
		network             = -0x100000
		shot                = 2  // TC_ACT_SHOT
		goOn                = -1 // TC_ACT_UNSPEC: to others' filters
	)
	littleEndian := binary.NativeEndian.Uint16([]byte{1, 0}) == 1
	var b []byte
	add := func(op, dst, src byte, offset int16, value int32) {
		registers := dst | src<<4
		if !littleEndian {
			registers = dst<<4 | src
		}
		b = binary.NativeEndian.AppendUint16(append(b, op, registers), uint16(offset))
		b = binary.NativeEndian.AppendUint32(b, uint32(value))
	}
	wire := func(n uint16) int32 { return int32(wireOrder(n)) }
	four := ipv4()
	add(moveReg, r6, r1, 0, 0)
	add(loadWord, r0, r6, protocolAt, 0)
	add(equal, r0, 0, 6, wire(unix.ETH_P_IP))
	add(equal, r0, 0, 1, wire(unix.ETH_P_8021Q))
	add(unequal, r0, 0, 8, wire(unix.ETH_P_8021AD)) // to goOn
	add(loadWord, r0, r6, vlanTCI, 0)
	add(and, r0, 0, 0, 0xfff)
	add(equal, r0, 0, 7, 0) // to shot
	add(jump, 0, 0, 4, 0)   // to goOn
	add(loadByte, 0, 0, 0, network+int32(four.dest))
	add(equal, r0, 0, 4, 127) // to shot
	add(loadByte, 0, 0, 0, network+int32(four.source))
	add(equal, r0, 0, 2, 127)
	add(moveImm, r0, 0, 0, goOn)
	add(exit, 0, 0, 0, 0)
	add(moveImm, r0, 0, 0, shot)
	add(exit, 0, 0, 0, 0)
	return b
}
