package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/leanjson"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/monitor/log"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/plan"
)

// spawn starts a monitor, which prepares itself while the engine finds out what it is to run.
func (e *Engine) spawn(ctx context.Context, how func(program string, env []string, by monitor.Starter) (*monitor.Client, error), c *Config) (*monitor.Client, error) {
	return e.spawnIn(ctx, e.needsWorld(c), how, c)
}

// spawnIn is spawn in the network world, or outside of it.
func (e *Engine) spawnIn(ctx context.Context, world bool, how func(program string, env []string, by monitor.Starter) (*monitor.Client, error), c *Config) (*monitor.Client, error) {
	program, err := e.runtimeProgram()
	if err != nil {
		return nil, err
	}
	env := []string{"GOMAXPROCS=1"} // a heap for one thread is smaller, and there is nothing to do for two
	for _, name := range []string{"PATH", "HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	if world {
		return e.spawnInWorld(ctx, how, program, env, c)
	}
	return how(program, env, nil)
}

// launch has a monitor start a container, whose lock the caller holds.
// With timings it gives the plan that they are of.
func (e *Engine) launch(ctx context.Context, c *Container, lock *os.File, m *monitor.Client, timings bool) (s monitor.Started, p plan.Plan, err error) {
	b, err := e.prepare(ctx, c)
	if err != nil {
		return s, p, err
	}
	defer b.dropPorts() // the monitor has its own descriptors of them
	defer func() {
		// Where there is a monitor that is to be taken over, its container may run.
		if err != nil && !exists(monitor.Place(e.dir, c.ID)) {
			err = errors.Join(err, e.giveUpNetworks(b))
		}
	}()
	if timings {
		l := oci.Launch{Plan: b.opts, TimeOnExec: e.host.TimeOnExec}
		if p, err = e.runtime().PlanLaunch(c.ID, &oci.Bundle{Dir: c.dir, Spec: &b.spec}, l); err != nil {
			return s, p, err
		}
	}
	s, err = m.Launch(monitor.Order{Dir: c.dir, Run: e.dir, Timings: timings}, lock, b.heldPorts()...)
	if f := new(monitor.Failure); errors.As(err, &f) {
		e.tellByName(c, f)
	}
	return s, p, err
}

// tellByName has a start that its monitor gave up call other containers by their names, in the record, too: the monitor has written that, and ends.
func (e *Engine) tellByName(c *Container, f *monitor.Failure) {
	told := f.Text
	if f.Text = e.byName(told); f.Text == told || !exists(c.dir) {
		return // or it went, by --rm
	}
	if s, err := monitor.ReadState(c.dir); err == nil {
		s.Error = e.byName(s.Error)
		monitor.WriteState(c.dir, s) // the error itself is told
	}
}

// byName has a text call containers by their names, which rooms below do not know, but for paths: their directories have no names.
func (e *Engine) byName(text string) string {
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) }) {
		if !files.IsID(word) {
			continue
		}
		if c, err := e.Find(word); err == nil {
			text = strings.NewReplacer("/"+word, "/"+word, word, c.Name).Replace(text)
		}
	}
	return text
}

// prepare writes down what a monitor has to know to start a container.
func (e *Engine) prepare(ctx context.Context, c *Container) (b *builder, err error) {
	if err := e.leaveNetworks(c.ID); err != nil {
		return nil, err // those that a kill has left it on
	}
	if err := e.dropCables(ctx, c); err != nil {
		return nil, err
	}
	if err := e.awaitRoot(ctx, c); err != nil {
		return nil, err
	}
	if b, err = e.build(ctx, c.Record, false); err != nil {
		return nil, refusedError{err}
	}
	b.tell()
	if err := e.write(ctx, c, b); err != nil {
		return nil, errors.Join(err, b.dropPorts(), e.giveUpNetworks(b))
	}
	return b, nil
}

// A refusedError is what a container is asked to be, and cannot: nothing of it was begun.
type refusedError struct{ error }

func (r refusedError) Unwrap() error { return r.error }

// write writes down what a monitor has to know of a container as it was built.
func (e *Engine) write(ctx context.Context, c *Container, b *builder) error {
	if err := b.place(c.dir); err != nil {
		return err
	}
	c.Record = b.rec
	if err := c.writeRecord(); err != nil {
		return err
	}
	if err := e.join(c); err != nil {
		return err
	}
	if err := b.writeNetworks(c.dir); err != nil {
		return err
	}
	denials, err := b.explainDenials(e.dir)
	if err != nil {
		return err
	}
	spec, err := leanjson.Marshal(&b.spec)
	if err != nil {
		return err
	}
	if err := files.Replace(c.dir, "config.json", spec, false); err != nil {
		return err
	}
	setup := monitor.Setup{Options: b.opts, Joins: b.joins, TimeOnExec: e.host.TimeOnExec}
	if err := monitor.WriteJSON(c.dir, "setup.json", &setup); err != nil {
		return err
	}
	t := e.task(c)
	t.Denials = denials
	if t.Log, err = c.logConfig(ctx); err != nil {
		return err
	}
	if t.Log.Driver == "journald" && !exists(log.JournalSocket) {
		return errors.New("--log-driver journald: journald is not enabled on this host")
	}
	return monitor.WriteJSON(c.dir, "task.json", t)
}

// place has all that the container's mounts show in its place; dir is the container's directory.
func (b *builder) place(dir string) error {
	for _, m := range b.toMake {
		if err := os.MkdirAll(m.Source, 0o755); err != nil {
			return fmt.Errorf("%s: %w", m.Flag, err)
		}
	}
	for name, data := range b.etc {
		// Everybody inside reads it; the directory is closed to others outside. Root inside may have closed it, given it away, or
		// made it unchangeable, and another container that has it, too, may have a lease on it.
		err := writeEtc(dir+"/"+name, data)
		if (keptToItself(err) || notOurs(err)) && files.RemoveAll(dir+"/"+name) == nil {
			err = writeEtc(dir+"/"+name, data)
		}
		if err == nil {
			err = b.labelFile(dir + "/" + name)
		}
		if err != nil {
			return err
		}
		// They are of root inside without a mapped mount: a directory in a tmpfs, as that of a container with --rm, cannot be mapped before Linux 6.3.
		if b.opts.IDMapRoot {
			uid, gid, err := b.rootOutside()
			if err != nil {
				return err
			}
			if err := os.Lchown(dir+"/"+name, uid, gid); err != nil {
				return err
			}
		}
	}
	if err := b.attachVolumes(); err != nil {
		return err
	}
	return b.relabel()
}

// movesRoot reports whether root inside is another id than the one that images' files of root have on the disk, and no mount maps them.
func (b *builder) movesRoot() (bool, error) {
	if b.opts.IDMapRoot || b.userMode() == "host" {
		return false, nil
	}
	uid, gid, err := b.rootOutside()
	return uid >= 0 && gid >= 0 && (uid != int(b.host.UID) || gid != int(b.host.GID)), err
}

// rootOutside are the machine's ids of root inside, whose user namespace may be another container's.
func (b *builder) rootOutside() (uid, gid int, err error) {
	if b.hasUserNS() {
		l := b.spec.Linux
		return mappedID(l.UIDMappings, 0), mappedID(l.GIDMappings, 0), nil
	}
	c := b.shared[b.userMode()]
	uids, gids, err := namespace.ReadIDMaps(nil, c.CommandPID())
	if err == nil {
		uid, gid, err = rootIn(uids, gids)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("container %s: %w", c.Name, err)
	}
	return uid, gid, nil
}

// rootIn are the ids that this process sees for root of a user namespace with these maps.
func rootIn(uids, gids namespace.IDMap) (uid, gid int, err error) {
	u, ok1 := uids.Outside(0)
	g, ok2 := gids.Outside(0)
	if !ok1 || !ok2 {
		return 0, 0, errors.New("the container has no id 0")
	}
	return int(u), int(g), nil
}

// task is what the monitor has to know beside the spec.
func (e *Engine) task(c *Container) *monitor.Task {
	cfg := &c.Config
	t := &monitor.Task{
		ID: c.ID, Name: c.Name,
		TTY: cfg.TTY, Stdin: cfg.Interactive, StdinOnce: cfg.StdinOnce, AutoRemove: cfg.AutoRemove,
		Restart: monitor.Restart{Policy: cfg.Restart.Policy, Retries: cfg.Restart.Retries},
		Health:  healthCheck(cfg.Health), Events: e.events(), Event: eventOf(c, nil),
	}
	if sig, ok := abi.ParseSignal(cfg.StopSignal); ok {
		t.StopSignal = int(sig)
	}
	if cfg.AutoRemove {
		// First the mark of who makes it: what ends at once goes before that command has come to its end.
		t.Remove = []string{e.creating() + "/" + c.ID, e.names() + "/" + c.Name}
		if c.Slot >= 0 {
			t.Remove = append(t.Remove, e.ids()+"/"+strconv.Itoa(c.Slot))
		}
	}
	return t
}

// StartOptions are those of [Engine.Start].
type StartOptions struct{}

// Start starts a container that does not run.
func (e *Engine) Start(ctx context.Context, ref string, o StartOptions) error {
	m, err := e.spawnFor(ctx, ref)
	if err != nil {
		return err
	}
	defer m.Close()
	s, err := e.start(ctx, ref, m)
	for _, w := range s.Warnings {
		e.caution(errors.New(w))
	}
	if errors.Is(err, errActive) {
		return nil
	}
	return err
}

// start starts a container by a monitor, which the caller closes, and reaps where it needs to be gone.
func (e *Engine) start(ctx context.Context, ref string, m *monitor.Client) (monitor.Started, error) {
	c, s, err := e.startOne(ctx, ref, m)
	if err != nil {
		return s, err
	}
	if err := e.tellLinkers(&c); err != nil { // it runs all the same
		s.Warnings = append(s.Warnings, fmt.Sprintf("the /etc/hosts of who has a link to it: %v", err))
	}
	return s, nil
}

func (e *Engine) startOne(ctx context.Context, ref string, m *monitor.Client) (c Container, s monitor.Started, err error) {
	if err := ctx.Err(); err != nil {
		return c, s, err
	}
	e.complain(e.sweepBeforeStart())
	defer e.sweepStorage() // whose error is not the fault of this start
	c, lock, err := e.lock(ref)
	if err != nil {
		return c, s, err
	}
	defer lock.Close()
	if c.Active() {
		if e.paused(c.ID) {
			return c, s, ErrConflict{"cannot start a paused container, try unpause instead"}
		}
		return c, s, errActive
	}
	// A killed cp may have left one, whose control group would be that of what runs now.
	if err := errors.Join(e.mkdirs(), e.deleteState(ctx, monitor.StandIn(c.ID))); err != nil {
		return c, s, err
	}
	s, _, err = e.launch(ctx, &c, lock, m, false)
	return c, s, e.startFailed(&c, withoutNetwork(&c, err))
}

// errActive is a start of a container that runs, which is no error to who asked for it.
var errActive = errors.New("it runs already")

// withoutNetwork has the error of a start say what to do about a network of the container's that is not there any more.
func withoutNetwork(c *Container, err error) error {
	var gone *netdb.NoNetworkError
	if errors.As(err, &gone) && c.listed(gone.Ref) >= 0 {
		return fmt.Errorf("%w: make it again, or take the container from it: kakuri network disconnect -f %s %s", err, gone.Ref, c.Name)
	}
	return err
}

// startFailed records why a container did not start, unless its monitor did. One that had run before stays one that has ended, as with Docker, and then.
func (e *Engine) startFailed(c *Container, err error) error {
	if err == nil {
		return nil
	}
	code := exitCodeOf(err)
	var f *monitor.Failure
	if !errors.As(err, &f) {
		c.Error = err.Error()
		switch failed := &(monitor.Death{Cause: "setup"}); {
		case c.Started.IsZero():
			c.Status, c.ExitCode, c.Death = monitor.Created, code, failed
		case c.ExitCode == 0:
			c.Status, c.ExitCode, c.Death = monitor.Exited, 128, failed
		default:
			c.Status = monitor.Exited
		}
		c.writeState() // the error itself is told
	}
	return &ExitError{code, err}
}

// exitCodeOf is Docker's exit code for the error of a start.
func exitCodeOf(err error) int {
	var f *monitor.Failure
	if errors.As(err, &f) {
		return f.Code
	}
	return 125
}
