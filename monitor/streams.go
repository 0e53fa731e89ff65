package monitor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/seqpacket"
	"github.com/kakuri/kakuri/monitor/log"
	"golang.org/x/sys/unix"
)

// The container's output goes to FIFOs in the place, so that another monitor can open them. The container has its output open for reading
// as well: when nobody else does, what it writes waits there, and it gets no SIGPIPE.
var fifos = [3]string{1: "stdout", 2: "stderr"}

// openStreams makes the streams, and returns the container's ends; none where it is to have a terminal. In a domain of SELinux it may use those of the label alone.
func (m *monitor) openStreams(r *run, label string) (stdio [3]*os.File, err error) {
	if m.task.TTY {
		return stdio, nil
	}
	if stdio[0], err = m.openStdin(); err != nil {
		return stdio, err
	}
	for i := 1; i < 3; i++ {
		if err := m.mkfifo(fifos[i], label); err != nil {
			return stdio, err
		}
		ours, err := m.fifo(fifos[i], unix.O_RDONLY|unix.O_NONBLOCK)
		if err != nil {
			return stdio, err
		}
		r.out = append(r.out, ours)
		if stdio[i], err = m.fifo(fifos[i], unix.O_RDWR); err != nil {
			return stdio, err
		}
	}
	// Before anything is written: what comes to both before somebody reads is told in its order.
	r.output, err = files.Merge(r.out...)
	return stdio, err
}

// openStdin returns the container's end of its standard input: the null device, or a pipe that the monitor keeps open. It is no FIFO: one that has no writer
// any more could not be opened anew, as /dev/stdin.
func (m *monitor) openStdin() (*os.File, error) {
	if !m.task.Stdin {
		return os.OpenFile("/dev/null", os.O_RDWR, 0)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe", err)
	}
	theirs := os.NewFile(uintptr(pipe[0]), "stdin")
	err := unix.Fchmod(pipe[0], 0o666)
	if err == nil {
		err = unix.SetNonblock(pipe[1], true)
	}
	if err != nil {
		unix.Close(pipe[1])
		theirs.Close()
		return nil, err
	}
	m.mu.Lock()
	m.stdin = os.NewFile(uintptr(pipe[1]), "stdin")
	m.mu.Unlock()
	return theirs, nil
}

// giveStdin gives a client that is attached to it the pipe that the container reads.
func (m *monitor) giveStdin(c *client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.streams&Stdin != 0 && m.stdin != nil {
		seqpacket.Send(c.conn, []byte{mPipe}, int(m.stdin.Fd())) // who is gone needs none
	}
}

// mkfifo makes a FIFO, or empties one of the run before. Whoever is the container's user may open it anew by /dev/stdout; the
// directory is closed to all others.
func (m *monitor) mkfifo(name, label string) error {
	err := unix.Mkfifoat(m.lock, name, 0o666)
	if err == unix.EEXIST {
		if err = unix.Unlinkat(m.lock, name, 0); err == nil {
			err = unix.Mkfifoat(m.lock, name, 0o666)
		}
	}
	if err != nil {
		return &os.PathError{Op: "mkfifo", Path: m.place + "/" + name, Err: err}
	}
	if label == "" {
		return nil
	}
	if err := files.Label(fmt.Sprintf("/proc/self/fd/%d/%s", m.lock, name), label); err != nil {
		return fmt.Errorf("linux.mountLabel: %s/%s: %w", m.place, name, err)
	}
	return nil
}

func (m *monitor) fifo(name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(m.lock, name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: m.place + "/" + name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openTerminal takes the terminal's master side for the run's output and for what is typed.
func (m *monitor) openTerminal(r *run, master *os.File) error {
	f, err := polled(master)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.master = f
	m.mu.Unlock()
	r.out = append(r.out, f)
	return nil
}

// polled is a terminal's master side by another descriptor, which reads without blocking a thread. It closes the one that there was.
func polled(master *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	master.Close()
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "/dev/ptmx"), nil
}

// keepTerminal reads a terminal whose output nobody wants until its process has gone: one that is full would hold it up, and one that is closed would end
// it. It takes the file.
func (m *monitor) keepTerminal(master *os.File) {
	f, err := polled(master)
	if err != nil {
		return
	}
	m.keeping.Add(1)
	go func() {
		defer m.keeping.Add(-1)
		defer f.Close()
		io.Copy(io.Discard, f)
	}()
}

func (m *monitor) terminal() *os.File {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.master
}

func (m *monitor) resize(rows, columns uint16) {
	master := m.terminal()
	if master == nil {
		return
	}
	if raw, err := master.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
		})
	}
}

// closeStdin ends the container's standard input, once all clients that write there are done.
func (m *monitor) closeStdin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stdin == nil {
		return
	}
	m.stdin.Close()
	m.stdin = nil
	m.release()
}

// pieceSize is how much output is read at a time.
const pieceSize = 16 << 10

// copyOut begins to take the run's output, that of both streams in the order in which it comes.
func (m *monitor) copyOut(r *run) {
	if r.output == nil {
		var err error
		if r.output, err = files.Merge(r.out...); err != nil {
			return // it waits for the next monitor
		}
	}
	output := r.output
	r.copied.Go(func() {
		piece := make([]byte, 1+pieceSize)
		for output.Open() {
			from, n, err := output.Read(piece[1:])
			if n > 0 {
				m.copyPiece(from, piece[:n+1])
			}
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				m.watchLeft(r)
			}
		}
	})
}

// stopCopying has copyOut take what is there at a time, and end.
func (r *run) stopCopying(at time.Time) {
	if r.output == nil {
		return
	}
	r.output.SetReadDeadline(at)
	r.copied.Wait()
	r.output.Close()
	r.output = nil
}

// copyPiece gives what came from a stream to the log and to clients; the first byte of the piece is for their message.
func (m *monitor) copyPiece(from int, piece []byte) {
	stream, kept := Stdout, log.Stdout
	piece[0] = mOutput
	if from == 1 {
		stream, kept, piece[0] = Stderr, log.Stderr, mError
	}
	m.sink.Write(kept, piece[1:], time.Now())
	m.ending.add(piece[1:])
	m.output(stream, piece)
}

// finishStreams takes what is left of a run's output. A stream may be held open for ever: by a process that shares the pid namespace of others and went
// away from the container, or by one of another container that was given it, by a socket (SCM_RIGHTS). So only what is in there is waited for: at once, or
// where all processes have ended, and nobody but such a one can have it, after as long as a terminal takes to pass on the rest.
func (m *monitor) finishStreams(r *run) {
	until := time.Now()
	if r.container != nil && r.container.OwnPIDs() {
		until = until.Add(patience)
	}
	r.stopCopying(until)
	m.closeStdin()
	m.mu.Lock()
	m.master = nil
	m.release()
	m.mu.Unlock()
	r.closeOut()
}

func (r *run) closeOut() {
	r.stopCopying(time.Now()) // of a start that failed nothing is copied
	for _, f := range r.out {
		f.Close()
	}
	r.out = nil
}

// hold starts the process that keeps the terminal, or the end of stdin, when this one is killed.
func (m *monitor) hold() {
	m.mu.Lock()
	defer m.mu.Unlock()
	keep := m.master
	if keep == nil {
		keep = m.stdin
	}
	if keep == nil || m.run == nil || m.state.Holder.PID != 0 {
		return
	}
	w, err := startHolder(keep)
	if err != nil {
		return // it is lost with this monitor then
	}
	m.state.Holder = w
	WriteState(m.order.Dir, m.state)
}

// release ends that process. The lock is held.
func (m *monitor) release() {
	w := m.state.Holder
	if w.PID == 0 || m.master != nil || m.stdin != nil {
		return
	}
	m.state.Holder.PID, m.state.Holder.Begun = 0, 0
	endHolder(w)
}
