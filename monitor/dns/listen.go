package dns

import (
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Sockets are those of a resolver, as a process can leave them to the next program: descriptors, closed on an execve.
type Sockets struct {
	Inner    int // the container's network namespace
	UDP, TCP int
	Port     uint16 // of both
}

// Close closes them.
func (s Sockets) Close() {
	for _, fd := range s.FDs() {
		unix.Close(fd)
	}
}

// FDs lists the descriptors.
func (s Sockets) FDs() []int { return []int{s.Inner, s.UDP, s.TCP} }

// Listen makes the sockets in the network namespace at path, at [Address] and a port; 0 is one that the kernel chooses, and that no
// program of the container wants. The loopback device need not be up yet.
func Listen(path string, port uint16) (s Sockets, err error) {
	outer, err := open(hostNamespace)
	if err != nil {
		return s, err
	}
	defer unix.Close(outer)
	if s.Inner, err = open(path); err != nil {
		return s, err
	}
	err = within(s.Inner, outer, func() (err error) {
		for range 100 { // a program of the container may have the one of TCP
			if s.UDP, s.Port, err = bound(unix.SOCK_DGRAM, port); err != nil {
				return err
			}
			if s.TCP, _, err = bound(unix.SOCK_STREAM, s.Port); err == nil {
				return nil
			}
			unix.Close(s.UDP)
			if err != unix.EADDRINUSE || port != 0 {
				break
			}
		}
		return err
	})
	if err != nil {
		unix.Close(s.Inner)
		return s, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(s.TCP, maxConns); err != nil {
		s.Close()
		return s, os.NewSyscallError("listen", err)
	}
	return s, nil
}

// bound makes a socket that is bound to the address and a port; 0 is any.
func bound(kind int, port uint16) (fd int, has uint16, err error) {
	fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, 0, err
	}
	var name unix.Sockaddr
	if err = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1); err == nil {
		if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: Address().As4(), Port: int(port)}); err == nil {
			name, err = unix.Getsockname(fd)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, 0, err
	}
	return fd, uint16(name.(*unix.SockaddrInet4).Port), nil
}

// hostNamespace is this process's network namespace, which no thread stays out of.
const hostNamespace = "/proc/thread-self/ns/net"

func open(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// within does something in a network namespace, from the outer one. The thread goes back to where it was, which need not be the outer one of who asks, and
// one that cannot ends.
func within(inner, outer int, do func() error) error {
	if inner == outer {
		return do()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := open(hostNamespace)
		if err == nil {
			defer unix.Close(home)
			err = os.NewSyscallError("setns", unix.Setns(inner, unix.CLONE_NEWNET))
		}
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		err = do()
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// Serve answers at the sockets, which are the resolver's from now on.
func Serve(s Sockets, n Names) (*Resolver, error) {
	outer, err := open(hostNamespace)
	if err != nil {
		return nil, err
	}
	r := &Resolver{
		names: n, sockets: s, outer: outer,
		udp: os.NewFile(uintptr(s.UDP), "udp"), tcp: os.NewFile(uintptr(s.TCP), "tcp"),
		forwards: make(chan struct{}, maxForwards), tcpForwards: make(chan struct{}, maxTCPForwards),
		closing: make(chan struct{}), conns: map[*os.File]time.Time{},
	}
	r.serve()
	return r, nil
}

// Pause stops reading, so that the sockets can be left to another program, and reports whether that would lose nothing: no
// question is on its way, and nobody is connected. What is asked from now on waits in the sockets. [Resolver.Resume] has to follow where
// this process goes on.
func (s *Resolver) Pause() bool {
	now := time.Now()
	s.udp.SetReadDeadline(now)
	s.tcp.SetReadDeadline(now)
	s.loops.Wait()
	return s.busy.Load() == 0
}

// Resume begins to read again.
func (s *Resolver) Resume() {
	s.udp.SetReadDeadline(time.Time{})
	s.tcp.SetReadDeadline(time.Time{})
	s.serve()
}

// Sockets are the resolver's, which stay its own.
func (s *Resolver) Sockets() Sockets { return s.sockets }

// Close ends the resolver. Nothing of it keeps the namespace when Close returns.
func (s *Resolver) Close() {
	close(s.closing)
	s.udp.Close()
	s.tcp.Close()
	s.loops.Wait()
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for f := range conns {
		f.Close()
	}
	s.work.Wait()
	unix.Close(s.sockets.Inner)
	unix.Close(s.outer)
}

// tidy gives back what a burst of questions needed.
func (s *Resolver) tidy() {
	s.since.Store(0)
	debug.FreeOSMemory()
}
