package network

import (
	"os"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"golang.org/x/sys/unix"
)

// A Watch hears when somebody changes the ruleset in a way that may have taken our rules with it. It belongs to the network namespace that it was opened in.
type Watch struct {
	fd   int
	f    *os.File
	conn syscall.RawConn
}

// quietly is how long a change is left to come to its end: who loads a firewall anew commits more than once, and a firewalld tells last that it is there.
const quietly = 500 * time.Millisecond

// OpenWatch begins to listen: it takes CAP_NET_ADMIN. Whoever forgets to read wakes nobody and loses only how often something happened.
func OpenWatch() (*Watch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	filter := heeded()
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
	}
	if err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("netfilter's notifications", err)
	}
	return WatchOf(fd)
}

// WatchOf is a watch that was opened before an execve(2). It has the descriptor from here on, also after an error.
func WatchOf(fd int) (*Watch, error) {
	unix.CloseOnExec(fd)
	w := &Watch{fd: fd, f: os.NewFile(uintptr(fd), "netfilter")}
	var err error
	if w.conn, err = w.f.SyscallConn(); err != nil {
		w.f.Close()
		return nil, err
	}
	return w, nil
}

// heeded is a filter, classic BPF, by which the kernel wakes nobody for elements and new rules: each start of a container adds the former, and programs such as fail2ban do all day. What one
// transaction did comes in few messages of many parts, of which it sees the first. A flush begins with something that is deleted, a firewall or a dockerd that starts with a table or a chain.
func heeded() []unix.SockFilter {
	kinds := []uint32{
		unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELSET, unix.NFT_MSG_DELOBJ, unix.NFT_MSG_DELFLOWTABLE,
	}
	// The low byte of nlmsg_type, which has the machine's order: both of ours have it first.
	list := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 4}}
	for i, k := range kinds {
		list = append(list, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(len(kinds) - i), K: k})
	}
	return append(list, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 31})
}

// FD is the descriptor, for another program.
func (w *Watch) FD() int { return w.fd }

// Close ends Keep.
func (w *Watch) Close() error { return w.f.Close() }

// Keep has the rules healed after each such change, until the watch is closed. Of all who keep the same records one does it: busy is called before that, and what it
// returns afterwards.
func (w *Watch) Keep(r *Rules, busy func() (done func())) {
	for w.wait() {
		lock, err := files.LockDir(r.dir+"/bridges", unix.LOCK_EX|unix.LOCK_NB)
		if err != nil { // who has it hears of this, too; or there is nothing to be kept
			w.drain()
			continue
		}
		done := busy()
		for range 3 { // a firewalld may not answer yet
			time.Sleep(quietly)
			w.drain()
			if _, err := r.Heal(); err == nil {
				break
			}
		}
		unix.Close(lock)
		done()
	}
}

// wait returns when there is something, which stays to be read: else it would be lost with an execve(2). It is false where there will be nothing any more.
func (w *Watch) wait() bool {
	var failed error
	err := w.conn.Read(func(fd uintptr) bool {
		failed = receive(fd, unix.MSG_PEEK)
		return failed != unix.EAGAIN
	})
	return err == nil && (failed == nil || failed == unix.ENOBUFS) // more than there was room for
}

// drain takes away what there is.
func (w *Watch) drain() {
	w.conn.Read(func(fd uintptr) bool {
		for {
			if err := receive(fd, 0); err != nil && err != unix.ENOBUFS {
				return true
			}
		}
	})
}

func receive(fd uintptr, flags int) error {
	for {
		if _, _, err := unix.Recvfrom(int(fd), make([]byte, unix.NLMSG_HDRLEN), flags|unix.MSG_DONTWAIT); err != unix.EINTR {
			return err
		}
	}
}
