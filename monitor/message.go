package monitor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/leanjson"
	"github.com/kakuri/kakuri/internal/seqpacket"
	"github.com/kakuri/kakuri/oci"
	"golang.org/x/sys/unix"
)

// The first byte of a message, and what follows it.
const (
	// of a client
	mLaunch   = 'L' // an Order as JSON, with the descriptor of the container's locked directory and those of its Held; on a Spawn's socket only
	mAttach   = 'A' // one byte of Streams; none of them is to be told of the exit only
	mInput    = 'I' // what was typed, for the container's terminal
	mEOF      = 'E' // the client's standard input has ended
	mSize     = 'W' // rows and columns of the terminal, 16 bits each
	mSignal   = 'S' // a signal's number, 32 bits, and the command line of who sends it
	mNote     = 'B' // as mSignal, of one that the client sends itself
	mStop     = 'T' // a stop as JSON; the exit is the answer
	mKeep     = 'K' // with the descriptor of a terminal that the monitor is to keep
	mNets     = 'C' // the container was connected to a network, or disconnected
	mStay     = 'N' // the container is not to be started again by its policy
	mPostpone = 'H' // the container is not to be started again by its policy while the client is connected
	mExec     = 'P' // an Exec as JSON, with the descriptor of a file that has the process; mStarted or mFailed is the answer, none that the client is to do it itself

	// of the monitor
	mStarted = 's' // a Started as JSON: the answer to mLaunch, and to mExec
	mFailed  = 'f' // a Failure as JSON; the last message
	mOutput  = 'o'
	mError   = 'e'
	mEnding  = 'z' // the container's process has ended, and is to be removed: mExit comes when what the monitor has of it is gone
	mEmpty   = 'y' // nobody is left of that container: what it has written may be removed meanwhile
	mExit    = 'x' // an Exit as JSON
	mDone    = 'd' // the answer to mNets and mPostpone: nothing, or why not
	mPipe    = 'p' // with the descriptor of the pipe that the container reads its stdin from
)

// maxMessage is the longest message: less than what a socket takes at once by default.
const maxMessage = 64 << 10

// Streams are some of a container's.
type Streams byte

// The streams.
const (
	Stdin Streams = 1 << iota
	Stdout
	Stderr
)

// An Order is what a new monitor is to do.
type Order struct {
	Dir     string // of the container, with task.json and config.json
	Run     string // root of what does not outlive a boot
	Timings bool   // measure the steps of the start
	Adopt   bool   // the container runs, or ended without a monitor: go on with that
	Held    []int  `json:",omitempty"` // of the ports that setup.json publishes: those whose sockets come with the order
}

// A HeldPort is a socket that holds a port which the container publishes: see [Client.Launch].
type HeldPort struct {
	Number int // of the port in setup.json
	FD     int
}

// MaxHeld is how many of them an order can have.
const MaxHeld = 100

// A Started is the answer to an Order.
type Started struct {
	PID      int
	Timings  []float64 `json:",omitempty"` // microseconds a step
	Warnings []string  `json:",omitempty"`
}

// A Failure is why a container did not start, with Docker's exit code for it. It is an error.
type Failure struct {
	Code int // 125, 126 or 127; 1 of what does not go in the state that the container is in
	Text string
	Step string `json:",omitempty"` // of the plan
}

func (f *Failure) Error() string { return f.Text }

// A Message is what comes from a monitor.
type Message struct {
	Stream Streams  // of Data; 0 for none
	Data   []byte   // valid until the next message
	Ending bool     // the process of a container that is to be removed has ended; its Exit follows
	Empty  bool     // so have all others, and nobody can write any more; its Exit follows
	Exit   *Exit    // the container's process has ended; it may be started again
	Stdin  *os.File // what the container reads, for who attached to it, without a terminal; the receiver closes it
}

// A Client is a connection to a monitor. One goroutine may read and others write.
type Client struct {
	conn  *os.File
	buf   []byte
	stdin *os.File

	done   chan struct{} // closed when a monitor that this process started has ended and been reaped
	unborn error         // why it was not started; read after done
}

// Spawn starts a monitor by the program kakuri-runtime, which waits for its order and ends when the client is closed without one.
func Spawn(program string, env []string, by Starter) (*Client, error) {
	return spawn(program, verbStart, env, by)
}

// SpawnSuccessor starts a monitor for a container that has lost its own: its order is to adopt that.
func SpawnSuccessor(program string, env []string, by Starter) (*Client, error) {
	return spawn(program, verbAdopt, env, by)
}

// A Starter starts a program elsewhere than where this process is, with the socket that it gets its order by as its standard input, in a session of
// its own. wait returns when it has ended. A nil one starts it here.
type Starter func(file string, args, env []string, socket *os.File) (wait func(), err error)

// The verbs of kakuri-runtime that are a monitor's: one that is to start a container, one that is to adopt it, and one that goes on as a smaller process.
const (
	verbStart = "monitor"
	verbAdopt = "monitor-adopt"
	verbRest  = "monitor-rest"
)

// program0 is what a monitor's program is called, and its process.
const program0 = "kakuri-runtime"

// IsMonitor reports whether a program is called with args to be a monitor, which [Main] is.
func IsMonitor(args []string) bool {
	return len(args) == 2 && name(args[0]) == program0 && strings.HasPrefix(args[1], verbStart)
}

func spawn(program, verb string, env []string, by Starter) (*Client, error) {
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		return nil, err
	}
	argv0 := program
	if name(program) == "exe" { // of /proc/self: whatever it is, it is to be a monitor
		argv0 = program0
	}
	c := &Client{conn: ours, done: make(chan struct{})}
	args := []string{argv0, verb}
	if by == nil {
		go c.start(program, args, env, theirs)
		return c, nil
	}
	defer theirs.Close()
	wait, err := by(program, args, env, theirs)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	go func() {
		defer close(c.done)
		wait()
	}()
	return c, nil
}

// start starts the monitor by itself, and waits for its end: who starts a process stands still until that has executed its program, 0.5 ms and, where
// processors are busy, many more. What is sent meanwhile waits in the socket. A start that fails is an error of what is read or sent next.
func (c *Client) start(program string, args, env []string, theirs *os.File) {
	wait, err := startHere(program, args, env, theirs)
	if err != nil {
		c.unborn = fmt.Errorf("%s: %w", program, err)
		close(c.done)
		theirs.Close()
		return
	}
	theirs.Close()
	wait()
	close(c.done)
}

// cause is why a monitor does not answer, if that is that it could not be started.
func (c *Client) cause(err error) error {
	select {
	case <-c.done:
		if c.unborn != nil {
			return c.unborn
		}
	default:
	}
	return err
}

// startHere is the [Starter] of most.
func startHere(file string, args, env []string, socket *os.File) (wait func(), err error) {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/null", Err: err}
	}
	defer unix.Close(null)
	pid, err := syscall.ForkExec(file, args, &syscall.ProcAttr{
		Dir: "/", Env: env, Files: []uintptr{uintptr(null), uintptr(null), uintptr(null), socket.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	return func() {
		for {
			if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
				return
			}
		}
	}, err
}

// ErrGone says that a container has no monitor.
var ErrGone = errors.New("it has no monitor")

// Dial connects to the monitor of a container. The error is [ErrGone] where there is none, and another one where it cannot be asked.
func Dial(run, id string) (*Client, error) { return dial(run, id, listenPatience) }

// listenPatience is how long a monitor that lives has to listen: one that begins, takes over or ends does not for a moment.
const listenPatience = 5 * time.Second

// dial connects within a time. Whether there is a monitor is said by the lock of its place alone, which ends with it: a socket may have been removed, or replaced.
func dial(run, id string, patience time.Duration) (*Client, error) {
	const pause = 10 * time.Millisecond
	for begin := time.Now(); ; time.Sleep(pause) {
		c, err := dialOnce(run, id)
		if !errors.Is(err, ErrGone) || !Attended(run, id) {
			return c, err
		}
		if time.Since(begin) > patience {
			return nil, deaf(Place(run, id))
		}
	}
}

// deaf is about a monitor that lives, and cannot be reached by what is in the place of its socket.
func deaf(place string) error {
	who := "the process that has the lock of that directory"
	if pid := files.Holder(place); pid > 0 {
		who = "process " + strconv.Itoa(pid)
	}
	return fmt.Errorf("nobody listens at %s/%s any more, though %s lives, which is to: end that by kill -9, and the next command starts another monitor for the container", place, socketName, who)
}

func dialOnce(run, id string) (*Client, error) {
	dir, err := unix.Open(Place(run, id), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil, ErrGone
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: Place(run, id), Err: err}
	}
	defer unix.Close(dir)
	conn, err := seqpacket.Dial(dir, socketName)
	if errors.Is(err, seqpacket.ErrNobody) {
		return nil, fmt.Errorf("%w: %w", ErrGone, err)
	}
	if err != nil {
		return nil, err
	}
	return &Client{conn: conn}, nil
}

// Process opens the monitor's process; nil where it has gone, or is not seen from here. The caller closes it.
func (c *Client) Process() *oci.Process {
	peer, err := seqpacket.Peer(c.conn)
	if err != nil || peer.Pid <= 0 {
		return nil
	}
	return oci.OpenProcess(int(peer.Pid))
}

// socketName is that of the monitor's socket in its place.
const socketName = "socket"

// Place is where the monitor of a container keeps what others speak to it by.
func Place(run, id string) string { return run + "/monitor/" + id }

// Close ends the connection. The container goes on.
func (c *Client) Close() error { return c.conn.Close() }

// Reap waits until a monitor that this process started has ended.
func (c *Client) Reap() {
	if c.done != nil {
		<-c.done
	}
}

func (c *Client) send(kind byte, data []byte) error {
	if _, err := c.conn.Write(append([]byte{kind}, data...)); err != nil {
		return c.cause(err)
	}
	return nil
}

func (c *Client) sendJSON(kind byte, v any) error {
	data, err := leanjson.Marshal(v)
	if err != nil {
		return err
	}
	return c.send(kind, data)
}

// Attach asks for what the container writes from now on, and for its exit.
func (c *Client) Attach(s Streams) error { return c.send(mAttach, []byte{byte(s)}) }

// Input sends what was typed to the container's terminal.
func (c *Client) Input(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), maxMessage/2)
		if err := c.send(mInput, p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// InputEnds says that the client's standard input has ended.
func (c *Client) InputEnds() error { return c.send(mEOF, nil) }

// Resize gives the container's terminal a size.
func (c *Client) Resize(rows, columns uint16) error {
	return c.send(mSize, binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, rows), columns))
}

// Signal sends a signal to the container's first process.
func (c *Client) Signal(sig syscall.Signal) error {
	return c.send(mSignal, append(binary.LittleEndian.AppendUint32(nil, uint32(sig)), commandLine()...))
}

// Note says that this process is about to send a signal to the container's first process: should that end it, the death certificate names who it was.
// It returns when the monitor knows, since the end may come first otherwise, or when that stands still. The client has to be closed then: that
// it has no more to say is what the monitor answers, one of an older version as well.
func (c *Client) Note(sig syscall.Signal) error {
	if err := c.send(mNote, append(binary.LittleEndian.AppendUint32(nil, uint32(sig)), commandLine()...)); err != nil {
		return err
	}
	if err := errors.Join(seqpacket.CloseWrite(c.conn), c.conn.SetReadDeadline(time.Now().Add(patience))); err != nil {
		return err
	}
	for {
		if _, _, err := c.read(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// commandLine is this process's, or the beginning of it: death certificates have it.
func commandLine() string {
	s := strings.Join(os.Args, " ")
	return s[:min(len(s), 200)]
}

// A stop is what [Client.Stop] asks for.
type stop struct {
	Signal  syscall.Signal // 0 is the container's own
	Seconds int            // until SIGKILL; negative waits for ever
	Command string         // the command line of who asks
}

// Stop has the container ended: by a signal, 0 for its own, and by SIGKILL after some seconds, none when they are negative. It is not
// started again by its policy. The exit comes as a message to who is attached.
func (c *Client) Stop(sig syscall.Signal, seconds int) error {
	return c.sendJSON(mStop, stop{sig, seconds, commandLine()})
}

// Stay has the container not started again by its policy.
func (c *Client) Stay() error { return c.send(mStay, nil) }

// Connected says that the container, which runs, is connected to other networks than before: see [Networks]. When it returns, their
// names are answered, where they are to be. Nobody else may read from the client meanwhile.
func (c *Client) Connected() error {
	why, err := c.ask(mNets)
	if why != "" {
		return errors.New(why)
	}
	return err
}

// Postpone has the container, if it waits for its next start by its policy, wait for that until the client is closed, and reports whether it does. A monitor of an
// older version does not answer: then the error is [os.ErrDeadlineExceeded] after a while. Nobody else may read from the client meanwhile.
func (c *Client) Postpone() (bool, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return false, err
	}
	why, err := c.ask(mPostpone)
	return err == nil && why == "", err
}

// Hold has a container that runs wait with its next start by its policy, like one that has ended, until the client is closed: what is changed meanwhile is what that start
// finds. A start that is under way is over when it returns, or hangs: then, and where the monitor is of an older version that does not answer, the error is
// [os.ErrDeadlineExceeded] after a while. Nobody else may read from the client meanwhile.
func (c *Client) Hold() error {
	if err := c.conn.SetReadDeadline(time.Now().Add(2 * patience)); err != nil {
		return err
	}
	_, err := c.ask(mPostpone, 1)
	return err
}

// ask waits for the answer to a question: nothing, or why not.
func (c *Client) ask(question byte, data ...byte) (why string, err error) {
	if err := c.send(question, data); err != nil {
		return "", err
	}
	for {
		if kind, data, err := c.read(); err != nil || kind == mDone {
			return string(data), err
		}
	}
}

// Keep gives the monitor a terminal's master side, of another process in the container: it stays open, and nobody reads what is written there.
func (c *Client) Keep(master *os.File) error {
	return seqpacket.Send(c.conn, []byte{mKeep}, int(master.Fd()))
}

// Launch gives a new monitor its order, and lock, the descriptor that the container is locked by: the monitor keeps that until the container
// runs. Ports that the caller holds, [MaxHeld] at most, are the monitor's as well from then on, and nobody gets one in between. The error is a [*Failure] where
// the monitor told why.
func (c *Client) Launch(o Order, lock *os.File, held ...HeldPort) (Started, error) {
	fds := []int{int(lock.Fd())}
	for _, h := range held {
		o.Held, fds = append(o.Held, h.Number), append(fds, h.FD)
	}
	data, err := leanjson.Marshal(o)
	if err != nil {
		return Started{}, err
	}
	if err := seqpacket.Send(c.conn, append([]byte{mLaunch}, data...), fds...); err != nil {
		return Started{}, fmt.Errorf("monitor: %w", c.cause(err))
	}
	s, err := c.started()
	switch {
	case err == nil, errors.As(err, new(*Failure)):
		return s, err
	case err == io.EOF:
		return s, errors.New("the monitor ended: nobody knows why; try again")
	}
	return s, fmt.Errorf("monitor: %w", err)
}

// started waits for the answer to what is to be started; io.EOF is that there is none.
func (c *Client) started() (s Started, err error) {
	for {
		kind, data, err := c.read()
		switch {
		case err != nil:
			return s, err
		case kind == mStarted:
			err := leanjson.Unmarshal(data, &s)
			return s, err
		case kind == mFailed:
			f := &Failure{}
			if err := leanjson.Unmarshal(data, f); err != nil {
				return s, err
			}
			return s, f
		}
	}
}

// Next waits for the next message. io.EOF is the end: the monitor has done all that it had to do, or was killed.
func (c *Client) Next() (Message, error) {
	for {
		kind, data, err := c.read()
		if err != nil {
			return Message{}, err
		}
		switch kind {
		case mOutput:
			return Message{Stream: Stdout, Data: data}, nil
		case mError:
			return Message{Stream: Stderr, Data: data}, nil
		case mPipe:
			if c.stdin != nil {
				return Message{Stdin: c.stdin}, nil
			}
		case mEnding:
			return Message{Ending: true}, nil
		case mEmpty:
			return Message{Empty: true}, nil
		case mExit:
			x := &Exit{}
			return Message{Exit: x}, leanjson.Unmarshal(data, x)
		}
	}
}

func (c *Client) read() (kind byte, data []byte, err error) {
	if c.buf == nil {
		c.buf = make([]byte, maxMessage)
	}
	n, fds, err := seqpacket.Receive(c.conn, c.buf, 1)
	if err != nil {
		return 0, nil, c.cause(err)
	}
	for _, fd := range fds {
		c.stdin = os.NewFile(uintptr(fd), "stdin")
	}
	return c.buf[0], c.buf[1:n], nil
}
