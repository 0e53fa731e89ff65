package oci

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A terminal connects a container's with this process's own streams. Without one all it does is nothing.
type terminal struct {
	master *os.File
	saved  *unix.Termios // of stdin, when that is a terminal
	output chan struct{} // closed when all output is copied
}

// attach begins to copy between master and this process's streams; a nil master is no terminal.
func attach(master *os.File) (*terminal, error) {
	t := &terminal{master: master}
	if master == nil {
		return t, nil
	}
	if mode, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		raw := *mode
		// As cfmakeraw(3) does.
		raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
		raw.Oflag &^= unix.OPOST
		raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
		raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
		if err := unix.IoctlSetTermios(0, unix.TCSETS, &raw); err != nil {
			return nil, os.NewSyscallError("tcsetattr", err)
		}
		t.saved = mode
	}
	t.output = make(chan struct{})
	go io.Copy(master, os.Stdin)
	go func() {
		defer close(t.output)
		io.Copy(os.Stdout, master) // ends with EIO once nobody has the other side
	}()
	return t, nil
}

// lines is what is done to a new terminal, unless it is for somebody else: who has the socket.
func lines(socket string) func(master int) error {
	if socket != "" {
		return nil
	}
	return plainLines
}

// plainLines has lines that are written to a terminal end as the program wrote them: what turns LF into CR LF is the
// caller's own terminal, if there is one.
func plainLines(master int) error {
	mode, err := unix.IoctlGetTermios(master, unix.TCGETS)
	if err != nil {
		return os.NewSyscallError("tcgetattr", err)
	}
	mode.Oflag &^= unix.ONLCR
	return os.NewSyscallError("tcsetattr", unix.IoctlSetTermios(master, unix.TCSETS, mode))
}

// resize returns what is done when this process's terminal got another size: the container's gets it, if both have one.
// A container without one does not hear of it, as with runc: by that signal people end servers.
func (t *terminal) resize() func() {
	if t.master == nil || t.saved == nil {
		return func() {}
	}
	return func() {
		if size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
			unix.IoctlSetWinsize(int(t.master.Fd()), unix.TIOCSWINSZ, size)
		}
	}
}

// drain waits until the output is copied.
func (t *terminal) drain() {
	if t.output != nil {
		<-t.output
	}
}

func (t *terminal) close() {
	if t.saved != nil {
		unix.IoctlSetTermios(0, unix.TCSETS, t.saved)
	}
	if t.master != nil {
		t.master.Close()
	}
}

// Columns is how wide the terminal f is, 0 where it is none.
func Columns(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}
