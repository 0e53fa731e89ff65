package reach

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/kakuri/kakuri/network/rtnetlink"
	"golang.org/x/sys/unix"
)

// inNamespace calls do on a thread in the network namespace of a process, which the
// thread does not outlive. 0 is the caller's own.
func inNamespace(pid int, do func() error) error {
	if pid == 0 {
		return do()
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer f.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this function
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("setns to the network namespace of process %d: %w", pid, err)
			return
		}
		done <- do()
	}()
	return <-done
}

// dump asks netlink for all there is of something, and calls each with every message.
func dump(protocol int, kind uint16, request []byte, each func(kind uint16, data []byte)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Whatever happens to an answer, this does not wait for ever.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		return err
	}
	m := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(request))
	*(*unix.NlMsghdr)(unsafe.Pointer(&m[0])) = unix.NlMsghdr{
		Len: uint32(cap(m)), Type: kind, Flags: unix.NLM_F_REQUEST | unix.NLM_F_DUMP, Seq: 1,
	}
	if err := unix.Sendto(fd, append(m, request...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for buf := make([]byte, 1<<18); ; {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		list, err := syscall.ParseNetlinkMessage(bytes.Clone(buf[:n])) // whose parts are kept
		if err != nil {
			return err
		}
		for _, m := range list {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return status(m.Data)
			case unix.NLMSG_ERROR:
				return status(m.Data)
			}
			each(m.Header.Type, m.Data)
		}
	}
}

// status is the error that a message ends with, nil for 0.
func status(data []byte) error {
	if len(data) < 4 {
		return nil
	}
	if e := int32(binary.NativeEndian.Uint32(data)); e < 0 {
		return unix.Errno(-e)
	}
	return nil
}

// NSID is the number that the network namespace of the process in gives that of the process
// of, 0 for the caller's own; -1 where it has none for it, or cannot be asked.
func NSID(in, of int) int {
	path := "/proc/thread-self/ns/net" // the first thread may have been lent to another namespace
	if of != 0 {
		path = fmt.Sprintf("/proc/%d/ns/net", of)
	}
	f, err := os.Open(path)
	if err != nil {
		return -1
	}
	defer f.Close()
	id := -1
	err = inNamespace(in, func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		m := make([]byte, unix.SizeofNlMsghdr+4+8)
		*(*unix.NlMsghdr)(unsafe.Pointer(&m[0])) = unix.NlMsghdr{Len: uint32(len(m)), Type: unix.RTM_GETNSID, Flags: unix.NLM_F_REQUEST, Seq: 1}
		binary.NativeEndian.PutUint16(m[20:], 8)
		binary.NativeEndian.PutUint16(m[22:], unix.NETNSA_FD)
		binary.NativeEndian.PutUint32(m[24:], uint32(f.Fd()))
		if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		buf := make([]byte, 4096)
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return err
		}
		list, err := syscall.ParseNetlinkMessage(buf[:n])
		for _, m := range list {
			if m.Header.Type == unix.RTM_NEWNSID && len(m.Data) >= 4 {
				rtnetlink.Attributes(m.Data[4:], func(kind uint16, v []byte) {
					if kind == unix.NETNSA_NSID && len(v) == 4 {
						id = int(int32(binary.NativeEndian.Uint32(v)))
					}
				})
			}
		}
		return err
	})
	if err != nil {
		return -1
	}
	return id
}
