package plan

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/abi"
)

// hexOf writes memory, and what it points to in brackets.
func hexOf(m *Mem) string {
	if m == nil {
		return ""
	}
	s := hex.EncodeToString(m.Data)
	for _, ref := range m.Refs {
		s += fmt.Sprintf(" %d:[%s]", ref.Off, hexOf(ref.To))
	}
	return s
}

// TestMemory compares the structures that the kernel reads with what the manual says
// of them, byte by byte: little endian, as both architectures are.
func TestMemory(t *testing.T) {
	zeros := func(n int) string { return strings.Repeat("00", n) }
	for _, test := range []struct {
		op   Op
		call abi.Call
		arg  int
		want string
	}{
		// capset(2): version 3, pid 0; then effective, permitted, inheritable, low words first.
		{&Capset{}, abi.CallCapset, 0, "22050820" + zeros(4)},
		{&Capset{Effective: abi.Caps(abi.CapKill), Permitted: abi.Caps(abi.CapKill, abi.CapCheckpointRestore), Inheritable: abi.Caps(abi.CapChown)},
			abi.CallCapset, 1, "20000000" + "20000000" + "01000000" + "00000000" + "00010000" + "00000000"},
		// prlimit64(2): soft, hard.
		{&Rlimit{Soft: 0x0102, Hard: abi.RlimitInfinity}, abi.CallPrlimit, 2, "0201000000000000" + "ffffffffffffffff"},
		{&Setgroups{Groups: []uint32{1, 0x01020304}}, abi.CallSetgroups, 1, "01000000" + "04030201" + zeros(4)},
		// seccomp(2): the number of instructions, and their address.
		{&Seccomp{Filter: []byte("12345678abcdefgh")}, abi.CallSeccomp, 2, "0200" + zeros(14) + " 8:[" + hex.EncodeToString([]byte("12345678abcdefgh")) + "]"},
		// ioctl_tty(2): rows, columns, two that are not used.
		{&Terminal{Rows: 40, Columns: 0x0184}, abi.CallIoctl, 2, "2800" + "8401" + zeros(4)},
		// netdevice(7): a name of 16 bytes, the flags UP and RUNNING.
		{&LoopbackUp{}, abi.CallIoctl, 2, hex.EncodeToString([]byte("lo")) + zeros(14) + "4100" + zeros(22)},
		{&Hostname{Host: "box"}, abi.CallSethostname, 0, hex.EncodeToString([]byte("box"))},
		{&OOMScoreAdj{Value: -500}, abi.CallWrite, 1, hex.EncodeToString([]byte("-500"))},
		{&WriteIDMap{Map: []IDMapping{{0, 1000, 1}, {1, 5, 9}}}, abi.CallWrite, 1, hex.EncodeToString([]byte("0 1000 1\n1 5 9\n"))},
		{&DenySetgroups{}, abi.CallWrite, 1, hex.EncodeToString([]byte("deny"))},
		{&EnterTime{Boottime: -1, Monotonic: 2e9}, abi.CallWrite, 1, hex.EncodeToString([]byte("monotonic 2 0\nboottime -1 999999999\n"))},
		{&Sigmask{}, abi.CallRtSigprocmask, 1, zeros(8)},
		// openat2(2): flags, mode, resolve.
		{&Chdir{Path: "/a"}, abi.CallOpenat2, 2, "0000290000000000" + zeros(8) + "1200000000000000"},
		// mount_setattr(2): set, clear, propagation, user namespace.
		{&Remount{Dest: "/", Attrs: Attrs{Set: 1, Clear: 0x70}}, abi.CallMountSetattr, 3, "0100000000000000" + "7000000000000000" + zeros(16)},
		{&Propagation{Path: "/", Mode: "slave"}, abi.CallMountSetattr, 3, zeros(16) + "0000080000000000" + zeros(8)},
		// sendmsg(2): name, iov, control, flags; cmsg(3): length, SOL_SOCKET, SCM_RIGHTS, room for the descriptors.
		{&Sync{From: Container}, abi.CallSendmsg, 1, zeros(24) + "0100000000000000" + zeros(24) +
			" 16:[" + zeros(8) + "0c00000000000000" + " 0:[01" + zeros(11) + "]]"},
		{&Sync{From: Container, FDs: []Reg{RegMaster}}, abi.CallSendmsg, 1, zeros(24) + "0100000000000000" + zeros(8) + "1400000000000000" + zeros(8) +
			" 16:[" + zeros(8) + "0c00000000000000" + " 0:[01" + zeros(11) + "]]" +
			" 32:[1400000000000000" + "01000000" + "01000000" + zeros(8) + "]"},
		{&Sync{From: Runtime, FDs: []Reg{30, 31, 32}}, abi.CallRecvmsg, 1, zeros(24) + "0100000000000000" + zeros(8) + "2000000000000000" + zeros(8) +
			" 16:[" + zeros(8) + "0c00000000000000" + " 0:[" + zeros(12) + "]]" + " 32:[" + zeros(32) + "]"},
		// execve(2): addresses, and a null one.
		{&Exec{Args: []string{"a", "b"}, Env: []string{"C=d"}}, abi.CallExecve, 1, zeros(24) + " 0:[6100] 8:[6200]"},
		{&Exec{Args: []string{"a"}, Env: []string{"C=d"}}, abi.CallExecve, 2, zeros(16) + " 0:[433d6400]"},
	} {
		found := false
		for _, r := range Lower(test.op, abi.ArchX86_64) {
			found = found || r.Call == test.call && hexOf(r.Args[test.arg].Mem) == test.want
		}
		if !found {
			t.Errorf("%v: no %v with argument %d of %s", test.op, test.call, test.arg, test.want)
			for _, r := range Lower(test.op, abi.ArchX86_64) {
				if r.Call == test.call {
					t.Logf("there is  %s", hexOf(r.Args[test.arg].Mem))
				}
			}
		}
	}
}

// TestCallNumbers pins the arguments that are numbers of the manual, not of package abi.
func TestCallNumbers(t *testing.T) {
	for _, test := range []struct {
		op   Op
		text string
	}{
		{&Terminal{}, `ioctl(fd:master, 1074025521, [4 bytes])`},    // TIOCSPTLCK
		{&Terminal{}, `ioctl(fd:master, 21569, 524546) = fd:slave`}, // TIOCGPTPEER
		{&Terminal{}, `ioctl(fd:slave, 21518, 0)`},                  // TIOCSCTTY
		{&Terminal{}, `dup3(fd:slave, 2, 0)`},                       //
		{&LoopbackUp{}, `socket(2, 524290, 0) = fd:224`},            // AF_INET, SOCK_DGRAM|SOCK_CLOEXEC
		{&Keyring{}, `keyctl(1, 0, 0, 0, 0)  or ENOSYS`},            // KEYCTL_JOIN_SESSION_KEYRING
		{&AttachRoot{Tree: 30}, `fcntl(fd:30, 1030, 3) = fd:root`},  // F_DUPFD_CLOEXEC
		{&DieWithParent{}, `prctl(1, 9, 0, 0, 0)`},                  // PR_SET_PDEATHSIG, SIGKILL
		{&Mount{Type: "overlay", Dest: "/a", Options: []string{"lowerdir=/a\\:b:/c/" + strings.Repeat("c", 250) + "::/d"}}, // each of its own: lowerdir+=
			"fsconfig(fd:226, SET_STRING, \"lowerdir+\", \"/a:b\", 0)\nfsconfig(fd:226, SET_STRING, \"lowerdir+\", \"/c/" + strings.Repeat("c", 250) + "\", 0)\nfsconfig(fd:226, SET_STRING, \"datadir+\", \"/d\", 0)"},
		{&Mount{Type: "overlay", Dest: "/a", Options: []string{"lowerdir=/a:/b"}}, `"lowerdir", "/a:/b", 0)`},
		{&CloseFDs{First: 5}, `close_range(5, 0xffffffff, 4)`},                                                  // CLOSE_RANGE_CLOEXEC
		{&Sync{From: Runtime}, `recvmsg(fd:sync, [1 addresses], 1073741824)`},                                   // MSG_CMSG_CLOEXEC
		{&Sync{From: Container}, `sendmsg(fd:sync, [1 addresses], 16384)`},                                      // MSG_NOSIGNAL
		{&Ambient{Caps: abi.Caps(abi.CapKill)}, `prctl(47, 2, 5, 0, 0)`},                                        // PR_CAP_AMBIENT_RAISE
		{&Setns{NS: abi.NSUser, FD: 30}, `setns(fd:30, NEWUSER)`},                                               //
		{&Unshare{New: []abi.Namespace{abi.NSPID, abi.NSMount}}, `unshare(NEWPID|NEWMOUNT)`},                    //
		{&PivotRoot{Scratch: true}, `umount2(".", DETACH)`},                                                     //
		{&Device{Path: "/a", Type: "b", Major: 8, Minor: 1, Mode: 0o640}, `mknodat(fd:224, "a", 060640, 2049)`}, //
	} {
		if text := rowsText(Lower(test.op, abi.ArchX86_64), abi.ArchX86_64); !strings.Contains(text, test.text+"\n") {
			t.Errorf("%v: no %s in\n%s", test.op, test.text, text)
		}
	}
}
