package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Serve listens on 127.0.0.1:port, says so on out, and answers everyone who comes with
// the host name, until ctx is done. It is what the containers of E10 run.
func Serve(ctx context.Context, port int, out io.Writer) error {
	fd, err := listen(port)
	if err != nil {
		return fmt.Errorf("127.0.0.1:%d: listen: %w", port, err)
	}
	// Shutting down wakes accept(2), which closing would not.
	stop := context.AfterFunc(ctx, func() { unix.Shutdown(fd, unix.SHUT_RDWR) })
	defer unix.Close(fd)
	defer stop()
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "listening on 127.0.0.1:%d\n", port)
	for {
		conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == unix.EINTR || err == unix.ECONNABORTED:
			continue
		case err != nil:
			return fmt.Errorf("127.0.0.1:%d: accept: %w", port, err)
		}
		unix.Write(conn, []byte(name)) // to one who has hung up: their loss
		unix.Close(conn)
	}
}

// Ask returns what a Serve on 127.0.0.1:port answers.
func Ask(port int) (string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	limit := unix.NsecToTimeval(patience.Nanoseconds() / 2)
	if err := errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.Connect(fd, loopback(port)),
	); err != nil {
		return "", fmt.Errorf("127.0.0.1:%d: connect: %w", port, err)
	}
	answer, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return "", fmt.Errorf("127.0.0.1:%d: %w", port, err)
	}
	return string(answer), nil
}

func loopback(port int) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
}

// listen returns a socket that listens on 127.0.0.1:port; 0 is any free port.
func listen(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, loopback(port)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if err := unix.Listen(fd, 16); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// freePort returns port when the host has it free, else one that it has.
func freePort(port int) (int, error) {
	fd, err := listen(port)
	if err == unix.EADDRINUSE {
		fd, err = listen(0)
	}
	if err != nil {
		return 0, fmt.Errorf("find a free port on the host: %w", err)
	}
	defer unix.Close(fd)
	at, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	in, ok := at.(*unix.SockaddrInet4)
	if !ok {
		return 0, errors.New("find a free port on the host: its address is none of IPv4")
	}
	return in.Port, nil
}
