package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/leanjson"
	"github.com/kakuri/kakuri/internal/seqpacket"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/monitor/log"
	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A monitor is this process.
type monitor struct {
	order     Order
	task      Task
	runtime   *oci.Runtime
	place     string // Place of the container
	lock      int    // that directory, locked
	clients   clients
	sink      log.Sink
	early     early
	awake     sync.Mutex // held while this process may not be replaced, see rest
	rested    bool       // it has been
	backoff   time.Duration
	wake      int      // an eventfd: who waits for the container's end is to settle
	accept    *os.File // the socket, and who takes connections from it until it is closed
	accepting chan struct{}
	ending    ending
	keeping   atomic.Int32 // terminals of other processes of the container, those processes while they are started, and health checks
	stops     atomic.Int32 // stops that are under way
	nets      nets
	interval  interval
	goes      func() bool // whether the container is removed at its end, which is decided once: see Marked
	root      int         // of the container's file systems, held: see holdRoot; -1 where it is not

	mu       sync.Mutex // guards what follows
	state    State
	before   State         // of the last run, when this one begins
	run      *run          // nil between two
	starting *starting     // nil while none is under way
	stopping chan struct{} // closed when the container is not to be started again
	stopped  bool
	sent     sent     // the last signal that somebody asked for
	master   *os.File // the monitor's side of the terminal
	stdin    *os.File // its end of the container's stdin
	warnings []string
	check    time.Time       // when health is checked next; zero before the first time that this is known
	execed   []chan struct{} // of each process that it has started in the container, and that runs: closed when its end has been told of
}

// A starting is a start that is under way, the first one or another by the container's policy.
type starting struct {
	over   chan struct{} // closed when it is
	giveUp func()        // ends it, as a failed one
}

// newStarting begins one, with a context that ends when it is given up.
func newStarting() (context.Context, *starting) {
	ctx, giveUp := context.WithCancel(context.Background())
	return ctx, &starting{make(chan struct{}), giveUp}
}

// A run is the container from a start to its end.
type run struct {
	container *oci.Container
	proc      *launch.Process // a child of this process, or
	adopted   *oci.Process    // somebody else's
	ended     chan struct{}   // closed when it has
	left      left
	out       []*os.File
	output    *files.Merged // reads them; nil while nobody does
	copied    sync.WaitGroup
	began     time.Time
	server    *server // of its root file system; nil where that is the kernel
	lost      string  // how the server ended too early; under the monitor's lock
}

func newRun(began time.Time) *run {
	return &run{ended: make(chan struct{}), left: left{known: make(chan struct{})}, began: began}
}

func (r *run) signal(sig syscall.Signal) error {
	if r.proc != nil {
		return r.proc.Signal(sig)
	}
	return r.adopted.Signal(sig)
}

// Main is the verb monitor of kakuri-runtime. Descriptor 3, or the standard input of one that a [Starter] has started, is the socket of who started
// it, which gives the order. The result is the exit
// code of this process, which nobody looks at.
func Main() int {
	// The thread that clones is the one that waits: it is the parent that ptrace(2) means.
	runtime.LockOSThread()
	unix.Umask(0) // files have the modes that they are made with
	if os.Args[1] != verbRest && !elsewhere() {
		unix.CloseRange(4, math.MaxInt32, 0) // what the caller had open by chance would be open for as long as the container lives
	}
	if os.Args[0] == program0 {
		os.WriteFile("/proc/self/comm", []byte(program0), 0) // of another program: who looks at it finds what it is
	}
	m := &monitor{clients: clients{list: map[*client]bool{}}, stopping: make(chan struct{}), root: -1}
	m.goes = sync.OnceValue(func() bool { return m.task.AutoRemove && !Marked(m.order.Dir) })
	var err error
	if m.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return 1
	}
	m.runtime = &oci.Runtime{UserSystemd: true, Warn: m.warn, Notice: func(string) {}}
	switch os.Args[1] {
	case verbStart:
		m.runtime.Prepare()
	case verbRest:
		return m.goOn()
	}
	first := &client{}
	lock, err := m.receive(3, first)
	if err != nil {
		return 1
	}
	if first.conn, err = seqpacket.New(3); err != nil {
		return 1
	}
	ctx, starting := newStarting()
	m.starting = starting // from begin on others are listened to
	if err := m.begin(); err != nil {
		refuse(first.conn, lock, err)
		return 1
	}
	started, err := m.first(ctx)
	m.settled()
	if err != nil {
		err = errors.Join(err, m.leaveNetworks(), m.failed(err))
		m.leave()
		refuse(first.conn, lock, err)
		return 1
	}
	release(lock)
	tellStarted(first.conn, started)
	m.giveStdin(first)
	m.serve(first)
	m.tellEarly()
	m.copyOut(m.run)
	m.attend()
	return 0
}

// tellStarted tells who gave the order that the container runs. Where that cannot be, as for want of memory, it hangs up: nobody waits for ever.
func tellStarted(conn *os.File, s Started) {
	data, err := leanjson.Marshal(s)
	if err == nil {
		_, err = conn.Write(append([]byte{mStarted}, data...))
	}
	if err != nil {
		conn.Close()
	}
}

// elsewhere takes the place of a monitor that a Starter has started: the socket is where the others have it.
func elsewhere() bool {
	var st unix.Stat_t
	if unix.Fstat(0, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return false
	}
	unix.CloseRange(3, math.MaxInt32, 0)
	unix.Dup3(0, 3, unix.O_CLOEXEC)
	if null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		unix.Dup3(null, 0, 0)
		unix.Close(null)
	}
	return true
}

// receive waits for the order. What comes before it is kept for the client.
func (m *monitor) receive(fd int, c *client) (lock []int, err error) {
	buf := make([]byte, 4<<10)
	for {
		n, fds, err := seqpacket.Recvmsg(fd, buf, 1+MaxHeld)
		switch {
		case err != nil:
			return nil, err
		case n == 0:
			return nil, io.EOF
		case buf[0] == mAttach && n == 2:
			c.streams, c.told = Streams(buf[1]), true
		case buf[0] == mLaunch:
			lock = fds
			err := leanjson.Unmarshal(buf[1:n], &m.order)
			if held := len(m.order.Held); held > 0 && held == len(lock)-1 {
				lock, m.nets.passed = lock[:1], lock[1:]
			}
			return lock, err
		}
	}
}

// begin reads what the container is, and makes the place.
func (m *monitor) begin() (err error) {
	if m.task, err = ReadTask(m.order.Dir); err != nil {
		return err
	}
	if m.state, err = ReadState(m.order.Dir); err != nil {
		return err
	}
	m.runtime.Root = m.order.Run + "/runtime"
	if err := m.openPlace(); err != nil {
		return err
	}
	if err := m.listen(); err != nil {
		return err
	}
	if m.sink, err = log.Open(m.task.Log); err != nil || m.task.Denials == nil {
		return err
	}
	return startDenier(m.task.Denials, DenialSocket(m.order.Run, m.task.ID), m.tellDenial)
}

// BeforeStep, when set, is called before each step of a launch: see [launch.Options]. A program of tests is a monitor that dies there.
var BeforeStep func(n int)

// warn keeps what the answer to an order is to tell.
func (m *monitor) warn(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.run == nil { // what is started in a container that runs has no answer with room for it
		m.warnings = append(m.warnings, text)
	}
}

// first starts the container, or goes on with one that has lost its monitor.
func (m *monitor) first(ctx context.Context) (Started, error) {
	if m.order.Adopt {
		return Started{PID: m.state.PID}, m.adopt()
	}
	if err := log.Reach(m.sink); err != nil {
		m.warn(fmt.Sprintf("its log server: %v: lines are sent there as soon as it can be had; kakuri logs has them, unless cache-disabled says otherwise", err))
	}
	m.before = m.state
	m.state = State{Status: Creating, Health: m.state.Health, Finished: m.state.Finished}
	if err := m.start(ctx); err != nil {
		return Started{}, err
	}
	s := Started{PID: m.state.PID, Warnings: m.warnings}
	if m.run.proc != nil {
		s.Timings = m.run.proc.Timings
	}
	return s, nil
}

// start launches the container.
func (m *monitor) start(ctx context.Context) error {
	how, err := ReadSetup(m.order.Dir)
	if err != nil {
		return err
	}
	b, err := oci.Load(m.order.Dir, func(s *specs.Spec) error { return m.join(&how, s) })
	if err != nil {
		return err
	}
	r := newRun(time.Time{})
	m.state.Server, m.state.ServerName = oci.Witness{}, ""
	stdio, err := m.openStreams(r, b.Spec.Linux.MountLabel)
	defer func() {
		for _, f := range stdio {
			if f != nil {
				f.Close()
			}
		}
	}()
	if err != nil {
		r.closeOut()
		return err
	}
	l := oci.Launch{
		Plan: how.Options, TimeOnExec: how.TimeOnExec, Stdio: stdio, Timings: m.order.Timings, Keep: m.keep, Before: BeforeStep,
		Serve: func(program string, start func(*os.File) (*launch.Process, error)) error {
			return m.startServer(r, program, start)
		},
		Started: func(w oci.Witness) error {
			m.holdRoot(r, how.Options.Root, w)
			return m.started(w)
		},
	}
	if err := m.launch(ctx, r, b, l); err != nil {
		m.dropRoot()
		r.closeOut()
		m.closeStdin()
		m.silence()
		return err
	}
	r.began = time.Now()
	m.setLate(false)
	if w := r.container.Witness(); w != m.state.Witness() {
		m.state.PID, m.state.Begun = w.PID, w.Begun // it went on as another process
		m.save()
	}
	m.mu.Lock()
	m.run = r
	m.mu.Unlock()
	if r.proc.Master != nil {
		if err := m.openTerminal(r, r.proc.Master); err != nil {
			r.proc.Signal(unix.SIGKILL)
			r.proc.Wait()
			m.dropRoot()
			m.silence()
			return errors.Join(err, r.container.Delete(ctx, true))
		}
	}
	m.event("start", nil)
	m.watchServer(r)
	m.watchHealth(r, false)
	return nil
}

// started writes down the first process of a run, before its execve. When the last run ended is known still, as with Docker.
func (m *monitor) started(w oci.Witness) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.state
	s.Status, s.PID, s.Begun, s.Boot, s.Monitor = Running, w.PID, w.Begun, bootID(), ownWitness()
	s.Started = time.Now()
	s.ExitCode, s.Error, s.OOMKilled, s.Death = 0, "", false, nil
	return WriteState(m.order.Dir, *s)
}

// launch makes the run's container. The error says what the server of its root had to say.
func (m *monitor) launch(ctx context.Context, r *run, b *oci.Bundle, l oci.Launch) (err error) {
	r.container, r.proc, err = m.runtime.Launch(ctx, m.task.ID, b, l)
	if errors.Is(err, oci.ErrExists) {
		// A start that failed could not take away what it had made. Nobody else makes this container: its lock is held.
		if err = m.runtime.Delete(ctx, m.task.ID, false); err == nil {
			r.container, r.proc, err = m.runtime.Launch(ctx, m.task.ID, b, l)
		}
	}
	if err == nil {
		return nil
	}
	m.endServer(r)
	if ctx.Err() != nil {
		return fmt.Errorf("its start took more than %v, and was given up for who wants its end: %w", lateStart, err)
	}
	if r.server != nil && m.said() != "" {
		err = fmt.Errorf("%w; %s, which shows its root file system, %s: %s", err, r.server.name, r.server.how, m.said())
	}
	return err
}

// event tells the world of the container. That cannot be done is no reason to end it.
func (m *monitor) event(action string, more map[string]string) {
	if m.task.Events == "" {
		return
	}
	of := m.task.Event
	// It may have another name since; at its first start the task has just been read.
	if action != "start" || m.state.Restarts > 0 {
		if t, err := ReadTask(m.order.Dir); err == nil {
			of = t.Event
		}
	}
	attributes := map[string]string{}
	for _, list := range []map[string]string{of, more} {
		for k, v := range list {
			attributes[k] = v
		}
	}
	Tell(m.task.Events, "container", action, m.task.ID, attributes)
}

// join looks up the namespaces that are other containers'.
func (m *monitor) join(how *Setup, s *specs.Spec) error {
	if n := how.Options.Network; n != nil && n.World {
		if err := intoWorld(s); err != nil {
			return err
		}
	}
	for _, j := range how.Joins {
		if j.Borrowed && j.Index < len(how.Options.Borrowed) {
			path, err := NamespaceOf(m.runtime, j, specs.MountNamespace)
			if err != nil {
				return err
			}
			how.Options.Borrowed[j.Index].Namespace = path
			continue
		}
		if s.Linux == nil || j.Index >= len(s.Linux.Namespaces) {
			return errors.New("config.json is another one's")
		}
		path, err := NamespaceOf(m.runtime, j, s.Linux.Namespaces[j.Index].Type)
		if err != nil {
			return err
		}
		s.Linux.Namespaces[j.Index].Path = path
		if s.Linux.Namespaces[j.Index].Type == specs.NetworkNamespace {
			if err := m.markJoined(j.Container); err != nil {
				return err
			}
		}
	}
	return nil
}

// save writes the state down. One that cannot be written is found out by who looks whether the process is there.
func (m *monitor) save() {
	m.mu.Lock()
	defer m.mu.Unlock()
	WriteState(m.order.Dir, m.state)
}

// failed records that the container did not start, and removes what goes with it. One that had run before stays one that has ended, as with Docker, and then.
func (m *monitor) failed(cause error) error {
	f := failure(cause)
	m.mu.Lock()
	m.state.Status, m.state.PID, m.state.Begun = Created, 0, 0
	m.state.Started, m.state.Finished = m.before.Started, m.before.Finished
	if !m.before.Started.IsZero() {
		m.state.Status = Exited
	}
	m.state.ExitCode, m.state.Error = f.Code, f.Text
	m.state.Death = &Death{Cause: "setup", Step: f.Step}
	m.mu.Unlock()
	if m.task.AutoRemove {
		err := m.remove()
		if err == nil {
			m.event("destroy", nil)
		}
		return err
	}
	m.save()
	return nil
}

// release lets go of the container's lock, which the process that started this one still has.
func release(lock []int) {
	for _, fd := range lock {
		unix.Close(fd)
	}
}

// refuse tells who gave the order why it was not carried out, as the last thing: whoever removes the container then finds its lock free, and no monitor. It takes
// the file: its descriptor is closed when nothing has the file any more.
func refuse(conn *os.File, lock []int, err error) {
	release(lock)
	if data, e := leanjson.Marshal(failure(err)); e == nil {
		conn.Write(append([]byte{mFailed}, data...)) // who does not listen any more needs no answer
	}
}

// failure gives a failed launch its exit code, that of [LaunchError].
func failure(err error) *Failure {
	code, told := LaunchError(err)
	f := &Failure{Code: code, Text: shorten(told.Error())}
	var step *launch.Error
	if errors.As(err, &step) {
		f.Step = shorten(fmt.Sprintf("%d of %d: %v", step.N, step.Of, step.Step.Op))
	}
	return f
}

// mostText is how long a text of a failure is, in bytes: one of a command with megabytes of arguments, as an image may have it, would fit in no message.
const mostText = 8 << 10

// shorten leaves out the middle of a text that is too long: its end says why.
func shorten(s string) string {
	if len(s) <= mostText {
		return s
	}
	return strings.ToValidUTF8(s[:mostText/2], "") + " ... " + strings.ToValidUTF8(s[len(s)-mostText/2:], "")
}

// LaunchError gives the error of a launch Docker's exit code and words: 127 for a command that is not there, and for a part of a volume or image that is not, 126 for
// one that cannot be run, 125 for everything before it.
func LaunchError(err error) (int, error) {
	var step *launch.Error
	if !errors.As(err, &step) {
		return 125, err
	}
	if part(step.Step.Op) && step.Errno() == syscall.ENOENT {
		return 127, err
	}
	switch step.Step.Op.(type) {
	case *plan.HoldPorts, *plan.UplinkPorts: // which of the ports it is says the error itself
		return 125, fmt.Errorf("%w (step %d of %d)", step.Err, step.N, step.Of)
	}
	op, ok := step.Step.Op.(*plan.Exec)
	if !ok {
		return 125, err
	}
	switch step.Errno() {
	case syscall.ENOENT, syscall.ENOTDIR:
		if len(op.Path) > 0 {
			return 127, fmt.Errorf("exec: %q: executable file not found in $PATH: %w", op.Program(), err)
		}
		quoted := strconv.Quote(op.Program())
		return 127, fmt.Errorf("exec: %s: exec %s: no such file or directory: %w", quoted, quoted[1:len(quoted)-1], err) // the middle is what scripts know of Docker
	}
	return 126, fmt.Errorf("exec: %q: %w", op.Program(), err)
}

// part reports whether a step opens what --mount names by volume-subpath or image-subpath.
func part(op plan.Op) bool {
	switch o := op.(type) {
	case *plan.OpenSource:
		return o.Below != ""
	case *plan.OpenTree:
		return o.Below != ""
	case *plan.OpenOwnSource:
		return o.Below != ""
	}
	return false
}

// attend is the life of the container: its ends and its starts, until the last end.
func (m *monitor) attend() {
	for {
		settle := time.AfterFunc(settled, m.settle)
		x, ran := m.await()
		settle.Stop()
		if !m.again(x) {
			m.end(x)
			return
		}
		m.dropRoot() // before anybody is told: between two runs others mount it
		m.backoff = backOff(m.backoff, ran)
		m.tell(x)
		if !m.pause(m.backoff) {
			m.end(x)
			return
		}
		again := m.launchAgain()
		m.interval.started()
		if !again {
			m.end(x)
			return
		}
	}
}

// settled is how long a container runs before its monitor makes itself small.
const settled = 200 * time.Millisecond

// settle has the terminal kept by a process that outlives this one, rules watched, and who waits for the container's end give back memory that only the start needed.
func (m *monitor) settle() {
	m.hold()
	m.watchRules()
	m.mu.Lock()
	adopted := m.run != nil && m.run.adopted != nil
	m.mu.Unlock()
	if adopted { // nobody to wake, and no rest
		debug.FreeOSMemory()
		return
	}
	unix.Write(m.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // a number in eventfd(2); one that is full wakes as well
}

// settleAgain has the monitor make itself small once more, after work that it did not do while it rested.
func (m *monitor) settleAgain() {
	m.mu.Lock()
	m.rested = false
	m.mu.Unlock()
	time.AfterFunc(settled, m.settle)
}

// settleHere is the rest of that, by the thread that is the container's parent.
func (m *monitor) settleHere() {
	unix.Read(m.wake, make([]byte, 8))
	m.mu.Lock()
	rested := m.rested
	m.mu.Unlock()
	if rested {
		return
	}
	m.rest()
	debug.FreeOSMemory() // where it could not
}

// launchAgain starts the container as its policy says; false is that it is not to be started any more. A start that fails is an end like any other.
func (m *monitor) launchAgain() bool {
	m.mu.Lock()
	if m.stopped {
		m.state.Status = Exited
		m.mu.Unlock()
		return false
	}
	m.state.Restarts++
	m.rested = false
	ctx, starting := newStarting()
	m.starting = starting // who stops it from here on waits for what there is to be stopped
	m.mu.Unlock()
	defer m.settled()
	m.dropDevices() // somebody else may be in the namespace that they are in; the start tells what is still there
	err := m.start(ctx)
	if err == nil {
		m.copyOut(m.run)
		return true
	}
	f := failure(err)
	r := newRun(time.Now())
	close(r.ended)
	m.mu.Lock()
	m.run = r
	m.state.Status, m.state.PID, m.state.Begun = Exited, 0, 0
	m.state.ExitCode, m.state.Error = f.Code, f.Text
	m.state.Finished = time.Now()
	m.state.Death = &Death{Cause: "setup", Step: f.Step}
	m.mu.Unlock()
	return true
}

// await waits for the end of the run, and records it.
func (m *monitor) await() (x Exit, ran time.Duration) {
	r := m.run
	if r.container == nil { // it did not start
		m.mu.Lock()
		defer m.mu.Unlock()
		m.run = nil
		return Exit{Code: m.state.ExitCode, Error: m.state.Error}, 0
	}
	x = m.waitEnd(r)
	if m.goes() && r.server == nil {
		m.announce([]byte{mEnding})
	}
	m.setLate(true)
	plugged := m.unplug()
	m.silence()
	if n, err := r.container.OOMKills(); err == nil && n > 0 {
		x.OOMKilled = true
	}
	death := m.certify(r, x)
	m.mu.Lock()
	s := &m.state
	s.Status, s.PID, s.Begun, s.Finished = Exited, 0, 0, time.Now()
	s.ExitCode, s.OOMKilled, s.Error = x.Code, x.OOMKilled, x.Error
	s.Death = death
	if plugged != nil {
		s.Error = "what joined its network may still have its addresses: " + plugged.Error()
	}
	m.mu.Unlock()
	// The cgroup first: who is left in it may hold a stream open.
	if err := r.container.Delete(context.Background(), true); err != nil && !errors.Is(err, oci.ErrNotExist) {
		m.mu.Lock()
		s.Error = err.Error()
		m.mu.Unlock()
	} else if m.goes() && r.server == nil {
		m.announce([]byte{mEmpty})
	}
	m.lastExecs()
	m.endServer(r)
	m.finishStreams(r)
	m.mu.Lock()
	death.Log = m.ending.lines()
	m.run = nil
	m.mu.Unlock()
	ran = time.Since(r.began)
	if x.OOMKilled {
		m.event("oom", nil)
	}
	m.event("die", map[string]string{"exitCode": strconv.Itoa(x.Code), "execDuration": strconv.Itoa(int(ran.Seconds()))})
	return x, ran
}

// waitEnd waits for the end of the container's process. That it has ended is known at once, how it did perhaps later.
func (m *monitor) waitEnd(r *run) Exit {
	if r.adopted != nil {
		return r.waitAdopted()
	}
	for !r.proc.WaitEndOr(m.wake) {
		if r.left.is() {
			r.container.Over()
			close(r.ended)
			go r.proc.Wait() // until it has ended altogether, perhaps when the next one runs
			return exitOf(r.left.status)
		}
		m.settleHere()
	}
	close(r.ended)
	m.awake.Lock() // from here on this process is the one that knows
	status, err := r.proc.Wait()
	m.awake.Unlock()
	if err != nil {
		return Exit{Code: 255, Error: err.Error()}
	}
	return exitOf(status)
}

func exitOf(status syscall.WaitStatus) Exit {
	x := Exit{Code: launch.ExitCode(status)}
	if status.Signaled() {
		x.Signal = int(status.Signal())
	}
	return x
}

// again reports whether the policy, as it is by now, starts the container again.
func (m *monitor) again(x Exit) bool {
	if t, err := ReadTask(m.order.Dir); err == nil {
		m.task.Restart, m.task.Remove, m.task.Name, m.task.Event = t.Restart, t.Remove, t.Name, t.Event
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.stopped && m.task.Restart.wants(x.Code, m.state.Restarts)
}

// pause waits before a restart; false is that there is to be none.
func (m *monitor) pause(wait time.Duration) bool {
	m.mu.Lock()
	m.state.Status = Restarting
	m.mu.Unlock()
	m.save() // that nobody has the root, before somebody mounts it
	m.interval.begin()
	var free <-chan struct{}
	for after := time.After(wait); ; {
		select {
		case <-m.stopping:
			m.mu.Lock()
			m.state.Status = Exited
			m.mu.Unlock()
			return false
		case <-after:
		case <-free:
		}
		if free = m.interval.end(); free == nil {
			m.runtime.Delete(context.Background(), StandIn(m.task.ID), true) // whose command was killed; the start says what is in its way
			return true
		}
	}
}

// end is the last end: the record, then those who wait are told, then everything goes that belongs to the monitor.
func (m *monitor) end(x Exit) {
	if err := m.leaveNetworks(); err != nil {
		m.mu.Lock()
		m.state.Error = "what it had of networks may still be there: " + err.Error()
		m.mu.Unlock()
	}
	x.Kept = m.task.AutoRemove && !m.goes()
	if m.goes() {
		m.mu.Lock()
		m.state.Status = Removing
		m.mu.Unlock()
	}
	m.save()
	m.tell(x)
	m.mu.Lock()
	stopped := m.stopped
	m.mu.Unlock()
	if stopped && m.task.Restart.heeds() {
		// A machine that loses its power is to know, when it comes back, that somebody has stopped it, who waits until this hangs up.
		files.SyncFile(m.order.Dir, "state.json")
	}
	m.sink.Close()
	if m.goes() && m.remove() == nil {
		m.event("destroy", nil)
	}
	m.leave()
}

// remove takes away what the task says goes with the container, and then its directory. What is left after a kill is found by its state.
func (m *monitor) remove() error {
	var errs []error
	for _, p := range append(m.task.Remove, m.order.Dir) {
		if err := files.RemoveAll(p); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// lateStart is how long who wants the end of a container waits for its start: another process of its pid namespace may hold that up, and so may a file system.
const lateStart = 10 * time.Second

// running is the run that there is, nil for none. One that is just being started it waits for, and has it given up where it takes too long and is to be ended.
func (m *monitor) running(end bool) *run {
	m.mu.Lock()
	starting := m.starting
	m.mu.Unlock()
	if starting != nil {
		if end {
			defer time.AfterFunc(lateStart, starting.giveUp).Stop()
		}
		<-starting.over
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.run
}

// settled has those go on who wait in running for a start to be over.
func (m *monitor) settled() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.starting.over)
	m.starting = nil
}

// signal sends a signal to the container's first process, for somebody. SIGKILL by a person is the end of its restarts.
func (m *monitor) signal(sig syscall.Signal, by string) {
	m.note(sig, by)
	if r := m.running(sig == unix.SIGKILL); r != nil && r.container != nil {
		m.event("kill", map[string]string{"signal": strconv.Itoa(int(sig))})
		r.signal(sig)
		if stop := syscall.Signal(m.task.StopSignal); sig == unix.SIGKILL {
			r.container.LetEnd()
		} else if stop == 0 || sig == stop {
			r.container.Resume() // one that is paused takes it then, as with Docker
		}
	}
}

// note remembers who sent the last signal.
func (m *monitor) note(sig syscall.Signal, by string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent = sent{sig, by, time.Now()}
}

// stay has the container not started again.
func (m *monitor) stay() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.stopped {
		m.stopped, m.state.Stopped = true, true
		close(m.stopping)
		WriteState(m.order.Dir, m.state)
	}
}

// stop ends the container: by its signal, and after a while by SIGKILL.
func (m *monitor) stop(s stop, by string) {
	m.stay()
	r := m.running(true)
	if r == nil || r.container == nil {
		return
	}
	sig := s.Signal
	if sig == 0 {
		sig = syscall.Signal(m.task.StopSignal)
	}
	if sig == 0 {
		sig = unix.SIGTERM
	}
	m.signal(sig, by)
	r.container.Resume() // one that is paused would not take it
	var late <-chan time.Time
	if s.Seconds >= 0 {
		t := time.NewTimer(time.Duration(s.Seconds) * time.Second)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-r.ended:
	case <-late:
		if sig != unix.SIGKILL {
			m.signal(unix.SIGKILL, fmt.Sprintf("%s, %d s after %v", by, s.Seconds, abi.Signal(sig)))
		}
		m.thaw(r)
	}
}

// thaw sees to it that a container which was sent SIGKILL ends: with version 1 of control groups a pause that comes between holds it up for as long as it lasts.
func (m *monitor) thaw(r *run) {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		t := time.NewTimer(wait)
		select {
		case <-r.ended:
			t.Stop()
			return
		case <-t.C:
			if wait == time.Second {
				r.container.EndAll()
			} else {
				r.container.LetEnd()
			}
			m.lookLeft(r, 100*time.Millisecond) // whoever stops it waits
		}
	}
}
