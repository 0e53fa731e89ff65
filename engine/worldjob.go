package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink/world"
)

// A netJob is what a command, and not a monitor, does to networks. Those of an ordinary user are in a network world: there the program does it that
// this one is, once more.
type netJob struct {
	Op      string
	Run     string      // of the engine
	Process oci.Witness // the container's first one
	ID      string      `json:",omitempty"` // the container's
	Network plan.Network
	Device  string `json:",omitempty"`
	Alias   string `json:",omitempty"` // of the device

	Bridges []plan.Bridge `json:",omitempty"` // of all networks
	Cables  []cable       `json:",omitempty"` // of all containers

	refused *refusedNow // what jobRefused found
}

// refusedNow is what a container's rules have refused.
type refusedNow struct {
	List   []Refusal
	Others uint64 // that nobody told apart
}

const (
	jobConnect    = "connect"
	jobDisconnect = "disconnect"
	jobUnplug     = "unplug"
	jobReconnect  = "reconnect" // where its devices went, as with a world that ended
	jobDrop       = "drop"      // the bridge Device
	jobCheck      = "check"     // the error is what the rules have not, and the Bridges
	jobLook       = "look"      // the same of the Cables
	jobRepair     = "repair"    // all of them
	jobRefused    = "refused"   // reads what the container's rules have refused
)

// worldName is what the program is called as in a network world.
const worldName = "kakuri-world"

// run does the job where this process is.
func (j *netJob) run(ctx context.Context) error {
	rules := monitor.Rules(j.Run)
	d := &network.Doer{Rules: rules}
	defer d.Close()
	switch j.Op {
	case jobConnect, jobReconnect, jobDisconnect:
		if err := enterOf(d, j.Process); err != nil {
			return err
		}
	}
	switch pid := j.Process.PID; j.Op {
	case jobConnect:
		return d.Connect(ctx, pid, j.ID, j.Network)
	case jobReconnect:
		return d.Reconnect(ctx, pid, j.ID, j.Network)
	case jobDisconnect:
		return d.Disconnect(ctx, pid, j.Network)
	case jobUnplug:
		return d.Unplug(j.Network.Endpoints, "")
	case jobDrop:
		// In this order: as long as the device is there, nobody else has the name. Another engine that made a bridge of it would find the elements, add none, and lose them.
		err := rules.RemoveBridge(j.Device, j.Alias)
		_, gone := d.Do(ctx, &plan.RemoveBridge{Device: j.Device, Alias: j.Alias}, 0)
		return errors.Join(err, gone)
	case jobCheck:
		return j.check(d)
	case jobLook:
		return j.look(d)
	case jobRepair:
		return j.repair(ctx, d)
	case jobRefused:
		return j.readRefused()
	}
	return fmt.Errorf("no job %q", j.Op)
}

// check has what is missing for its error, a line each.
func (j *netJob) check(d *network.Doer) error {
	faults, err := d.Rules.Check()
	for i := range faults {
		faults[i] = "rules: " + faults[i]
	}
	lame, err2 := lackStill(d, j.Bridges)
	for _, b := range lame {
		faults = append(faults, "network "+b.Network+": "+b.lacks)
	}
	return toldOf(faults, []error{err, err2})
}

// look is check of cables.
func (j *netJob) look(d *network.Doer) error {
	var faults []string
	var errs []error
	for _, c := range j.Cables {
		text, err := d.Unplugged(c.Endpoint)
		if errs = append(errs, err); text != "" && !ending(c.Process) {
			faults = append(faults, container(c.ID)+": on network "+c.Endpoint.Network+": "+text)
		}
	}
	return toldOf(faults, errs)
}

// toldOf is an error of faults, a line each, unless they could not be looked for.
func toldOf(faults []string, errs []error) error {
	err := errors.Join(errs...)
	if err == nil && len(faults) > 0 {
		err = errors.New(strings.Join(faults, "\n"))
	}
	return err
}

// repair makes again what check and look find missing.
func (j *netJob) repair(ctx context.Context, d *network.Doer) error {
	_, err := d.Rules.Repair()
	errs := []error{err}
	for _, b := range j.Bridges {
		_, err := d.HealBridge(b)
		errs = append(errs, err)
	}
	for _, c := range j.Cables {
		text, err := d.Unplugged(c.Endpoint)
		if err == nil && text != "" {
			err = c.plug(ctx, d)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// readRefused reads what the rules of the container's network namespace have counted.
func (j *netJob) readRefused() error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", j.Process.PID))
	if err != nil {
		return ignoreMissing(err) // it has just ended
	}
	defer ns.Close()
	if !j.Process.Alive() {
		return nil
	}
	j.refused = &refusedNow{}
	j.refused.List, j.refused.Others, err = monitor.Refused(int(ns.Fd()), *j.Network.Egress)
	return err
}

// enterOf has a doer work in the network namespace of a process, surely that one.
func enterOf(d *network.Doer, w oci.Witness) error {
	if err := d.Enter(w.PID); err != nil {
		return err
	}
	if !w.Alive() {
		return fmt.Errorf("network namespace of process %d: %w", w.PID, os.ErrProcessDone)
	}
	return nil
}

// onNetworks does a job where the caller's networks are. Without a world there is nothing to be done to.
func (e *Engine) onNetworks(ctx context.Context, j netJob) error {
	_, err := e.learnOfNetworks(ctx, j)
	return err
}

// learnOfNetworks is onNetworks of a job that finds something out.
func (e *Engine) learnOfNetworks(ctx context.Context, j netJob) (*refusedNow, error) {
	j.Run = e.dir
	if !e.rootless() {
		err := j.run(ctx)
		return j.refused, err
	}
	w, err := world.Find(e.dir, e.warn)
	if errors.Is(err, world.ErrNone) && j.Op != jobConnect && j.Op != jobDisconnect {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer w.Close()
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	said, err := work(ctx, w, string(text))
	if err != nil || len(said) == 0 {
		return nil, err
	}
	var found refusedNow
	return &found, json.Unmarshal(said, &found)
}

// work has this program do a job in the world, and returns what it says: where it fails, that is the error.
func work(ctx context.Context, w *world.World, job string) ([]byte, error) {
	// It ends with the thread that made it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	r, said, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	p, err := w.Start(ctx, world.Program{File: self, Args: []string{worldName, job}, Env: os.Environ(), Stdio: [3]*os.File{null, null, said}})
	said.Close()
	if err != nil {
		return nil, fmt.Errorf("a process in the network world: %w", err)
	}
	var text bytes.Buffer
	_, read := text.ReadFrom(r)
	status, err := p.Wait()
	switch {
	case errors.Join(read, err) != nil:
		return nil, errors.Join(read, err)
	case status != 0:
		return nil, errors.New(strings.TrimSpace(text.String()))
	}
	return text.Bytes(), ctx.Err()
}

// isWorldChild reports whether this process is one that work has started.
func isWorldChild() bool { return filepath.Base(os.Args[0]) == worldName && len(os.Args) == 2 }

// worldChild does the job of such a process.
func worldChild(text string) int {
	var j netJob
	err := json.Unmarshal([]byte(text), &j)
	if err == nil {
		err = j.run(context.Background())
	}
	if err == nil && j.refused != nil {
		err = json.NewEncoder(os.Stderr).Encode(j.refused)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
