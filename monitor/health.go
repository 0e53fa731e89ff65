package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// States of health.
const (
	Starting  = "starting"
	Healthy   = "healthy"
	Unhealthy = "unhealthy"
)

// healthLog is how many results are kept, healthOutput how many bytes of what a check wrote: Docker's figures.
const (
	healthLog    = 5
	healthOutput = 4096
)

// WithDefaults fills in what is left open, by Docker's values.
func (h HealthCheck) WithDefaults() HealthCheck {
	or := func(d *time.Duration, otherwise time.Duration) {
		if *d == 0 {
			*d = otherwise
		}
	}
	or(&h.Interval, 30*time.Second)
	or(&h.Timeout, 30*time.Second)
	or(&h.StartInterval, 5*time.Second)
	if h.Retries == 0 {
		h.Retries = 3
	}
	return h
}

// command is what a check runs; nil for none.
func (h *HealthCheck) command() []string {
	if h == nil || len(h.Test) < 2 {
		return nil
	}
	switch h.Test[0] {
	case "CMD":
		return h.Test[1:]
	case "CMD-SHELL":
		return append([]string{"/bin/sh", "-c"}, h.Test[1:]...)
	}
	return nil
}

// wait is how long it is until the next check of a container that began then.
func (h *HealthCheck) wait(status string, ran time.Duration) time.Duration {
	if ran < h.StartPeriod && status == Starting {
		return h.StartInterval
	}
	return h.Interval
}

// next is the state of health after one more result.
func (h *HealthCheck) next(now Health, r HealthResult, began time.Time) Health {
	log := append(append([]HealthResult(nil), now.Log...), r)
	now.Log = log[max(0, len(log)-healthLog):]
	switch {
	case r.ExitCode == 0:
		now.Status, now.Failing = Healthy, 0
	case now.Status == Starting && r.Start.Sub(began) < h.StartPeriod:
		// It need not be well yet.
	default:
		if now.Failing++; now.Failing >= h.Retries {
			now.Status = Unhealthy
		}
	}
	return now
}

// watchHealth checks a run until it ends. What was known of its health goes on where the run does.
func (m *monitor) watchHealth(r *run, goesOn bool) {
	h := m.task.Health
	if h.command() == nil {
		return
	}
	now := Health{Status: Starting}
	m.mu.Lock()
	if goesOn && m.state.Health != nil {
		now = *m.state.Health
	}
	m.state.Health = &now
	m.mu.Unlock()
	m.save()
	wait := h.wait(now.Status, time.Since(r.began))
	if goesOn && !m.check.IsZero() { // when the program before this one would have checked
		wait = min(wait, max(0, time.Until(m.check)))
	}
	checks := checker{h: h, run: func() (HealthResult, bool) {
		defer m.stayAwake()() // one that nothing ends goes on behind checkHealth
		return m.checkOnce(h)
	}, grace: healthGrace}
	go func(now Health) { // which is not the one in the state: that stays as it is
		for {
			m.mu.Lock()
			m.check = time.Now().Add(wait)
			m.mu.Unlock()
			select {
			case <-r.ended:
				return
			case <-time.After(wait):
			}
			var on bool
			if now, on = m.checkHealth(r, now, &checks); !on {
				return
			}
			if wait = h.wait(now.Status, time.Since(r.began)); wait >= checkRest {
				m.settleAgain()
			}
		}
	}(now)
}

// checkRest is how long it is to be until the next check of a container that its monitor rests meanwhile: a check and a rest cost as much.
const checkRest = 4 * time.Second

// checkHealth makes the next check of a run, and writes down what it says; on is false where the run is over.
func (m *monitor) checkHealth(r *run, now Health, checks *checker) (_ Health, on bool) {
	defer m.stayAwake()()
	result, done := checks.next()
	if !done {
		return now, true
	}
	before := now.Status
	now = checks.h.next(now, result, r.began)
	m.mu.Lock()
	if m.run != r || m.state.Status != Running {
		m.mu.Unlock()
		return now, false
	}
	m.state.Health = &now
	WriteState(m.order.Dir, m.state)
	m.mu.Unlock()
	if now.Status != before {
		m.event("health_status: "+now.Status, nil)
	}
	return now, true
}

// healthGrace is how long a check may take to end when it was ended: to start, and to run, each has its timeout.
const healthGrace = 5 * time.Second

// A checker runs one check at a time, and waits for none for much longer than it may take: its process may be in a call that nothing ends, of a file system that does
// not answer. Until it comes out of that it counts as failed each time that another one would begin.
type checker struct {
	h     *HealthCheck
	run   func() (result HealthResult, done bool)
	grace time.Duration
	under chan checked // the result of one that is under way since before
}

type checked struct {
	result HealthResult
	done   bool // not so where the container is paused, or has ended
}

func (c *checker) next() (result HealthResult, done bool) {
	result.Start = time.Now()
	if c.under != nil {
		select {
		case <-c.under: // and has been counted
			c.under = nil
		default:
			return c.stuck(result), true
		}
	}
	under := make(chan checked, 1)
	go func() {
		result, done := c.run()
		under <- checked{result, done}
	}()
	patience := 2*c.h.Timeout + c.grace
	if patience < c.h.Timeout {
		patience = math.MaxInt64 // a timeout of centuries
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case got := <-under:
		return got.result, got.done
	case <-timer.C:
		c.under = under
		return c.stuck(result), true
	}
}

// stuck is the result of a check that goes on.
func (c *checker) stuck(result HealthResult) HealthResult {
	result.End, result.ExitCode = time.Now(), -1
	result.Output = fmt.Sprintf("Health check exceeded timeout (%v): its process cannot be ended", c.h.Timeout)
	return result
}

// checkOnce runs one check; it is not done where the container is paused, or ends meanwhile.
func (m *monitor) checkOnce(h *HealthCheck) (result HealthResult, done bool) {
	result.Start = time.Now()
	code, output, err := m.probe(h)
	result.End = time.Now()
	result.ExitCode, result.Output = code, output
	switch {
	case errors.Is(err, errNotNow):
		return result, false
	case err != nil:
		result.ExitCode, result.Output = -1, err.Error()
	}
	// One that has ended meanwhile could not pass any check.
	m.mu.Lock()
	w := m.state.Witness()
	m.mu.Unlock()
	return result, result.ExitCode == 0 || w.Alive()
}

// errNotNow is a container that is paused or has ended.
var errNotNow = errors.New("the container does not run")

// probe runs the command of a check in the container.
func (m *monitor) probe(h *HealthCheck) (code int, output string, err error) {
	c, err := m.runtime.Open(m.task.ID)
	if err != nil {
		return 0, "", errNotNow
	}
	if s := c.Status(); s != specs.StateRunning {
		return 0, "", errNotNow
	}
	process, err := c.Process(oci.ProcessChanges{Args: h.command()})
	if err != nil {
		return 0, "", err
	}
	null, err := os.OpenFile("/dev/null", os.O_RDONLY, 0)
	if err != nil {
		return 0, "", err
	}
	defer null.Close()
	ours, theirs, err := os.Pipe()
	if err != nil {
		return 0, "", err
	}
	defer ours.Close()
	o := oci.ExecOptions{Causes: map[string]string{"process": "--health-cmd"}}
	if os.Geteuid() != 0 {
		o.Member = CommandPID(c.Witness().PID)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	begin := time.AfterFunc(h.Timeout, cancel) // what is in the container may stop the process before it is the command
	proc, err := c.LaunchExec(ctx, process, o, oci.Launch{Stdio: [3]*os.File{null, theirs, theirs}})
	theirs.Close()
	stopped := begin.Stop()
	if errors.Is(err, oci.ErrPaused) { // since the look above, as by a commit
		return 0, "", errNotNow
	}
	if !stopped && err != nil {
		return 0, "", fmt.Errorf("Health check exceeded timeout (%v): its process did not start", h.Timeout)
	}
	if err != nil {
		_, err = LaunchError(err)
		return 0, "", err
	}
	return h.attend(proc, ours)
}

// attend waits for a check, and ends it when it takes too long.
func (h *HealthCheck) attend(proc *launch.Process, out *os.File) (code int, output string, err error) {
	text := make(chan string, 1)
	go func() { text <- firstOf(files.Rest(out)) }()
	timer := time.AfterFunc(h.Timeout, func() { proc.Signal(unix.SIGKILL) }) // which reaches no other process
	status, err := proc.Wait()
	inTime := timer.Stop()
	// What it left in the background may hold the pipe for ever.
	out.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	output = <-text
	switch {
	case err != nil:
		return 0, "", err
	case !inTime && status.Signaled():
		return -1, strings.TrimSuffix(fmt.Sprintf("Health check exceeded timeout (%v): %s", h.Timeout, output), ": "), nil
	}
	return launch.ExitCode(status), output, nil
}

// firstOf reads to the end, and returns the beginning.
func firstOf(r io.Reader) string {
	buf := make([]byte, healthOutput+1)
	n, _ := io.ReadFull(r, buf)
	if n <= healthOutput {
		return strings.ToValidUTF8(string(buf[:n]), "\ufffd")
	}
	io.Copy(io.Discard, r)
	return strings.ToValidUTF8(string(buf[:healthOutput]), "\ufffd") + "..."
}
