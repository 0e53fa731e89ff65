package monitor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/leanjson"
	"github.com/kakuri/kakuri/monitor/log"
	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// A Task is what a monitor has to know of its container beside config.json: task.json in the container's directory,
// written by the engine at each start.
type Task struct {
	ID, Name string

	TTY       bool `json:",omitempty"`
	Stdin     bool `json:",omitempty"` // stdin stays open
	StdinOnce bool `json:",omitempty"` // until the first client that was attached to it goes

	StopSignal int      `json:",omitempty"` // 0 is SIGTERM
	AutoRemove bool     `json:",omitempty"`
	Remove     []string `json:",omitempty"` // files and directories that go with the container, in this order, before its own
	Restart    Restart
	Log        log.Config
	Health     *HealthCheck `json:",omitempty"`
	Denials    *Denials     `json:",omitempty"` // nil where nobody asks
	Events     string       `json:",omitempty"` // the file that events are appended to
	// Event are the attributes that events of the container carry: image, name, labels.
	Event map[string]string `json:",omitempty"`
}

// A Setup is what config.json has no words for of how the container is made: setup.json beside it. A monitor needs it at a start only, and an
// idle one not to know of it.
type Setup struct {
	Options plan.Options
	Joins   []Join `json:",omitempty"`
	// TimeOnExec: see plan.Facts.
	TimeOnExec bool `json:",omitempty"`
}

// A Join is a namespace of config.json that is another container's: its path is looked up at each start.
type Join struct {
	Index     int    // in linux.namespaces, or in Options.Borrowed
	Borrowed  bool   `json:",omitempty"` // its mounts, which one of this container's is taken from
	Container string // its id
	Command   bool   // of the process that runs its command, which an ordinary user may look into, and not of its init
}

// A Restart is a restart policy.
type Restart struct {
	Policy  string `json:",omitempty"` // no or empty, always, unless-stopped, on-failure
	Retries int    `json:",omitempty"` // of on-failure; 0 is without end
}

// A HealthCheck is Docker's HEALTHCHECK, image and flags put together; no field is left open.
type HealthCheck struct {
	Test                                          []string // "CMD" with its arguments, or "CMD-SHELL" and a line
	Interval, Timeout, StartPeriod, StartInterval time.Duration
	Retries                                       int
}

// What a container is doing.
const (
	Creating   = "creating" // by a command that holds its lock; it is nothing when that is gone
	Created    = "created"
	Running    = "running"
	Restarting = "restarting" // it waits for its next start
	Exited     = "exited"
	Removing   = "removing"
	Dead       = "dead" // it could not be removed
)

var statuses = [...]string{Creating, Created, Running, Restarting, Exited, Removing, Dead}

// A State is what changes in the life of a container: state.json in its directory. The monitor writes it while it lives,
// else who holds the container's lock.
type State struct {
	Status   string
	PID      int       `json:",omitempty"` // of its first process; 0 while it has none
	Begun    uint64    `json:",omitempty"` // when that began: see oci.Witness
	Boot     string    `json:",omitempty"` // of the machine's boot that the process is of
	Started  time.Time `json:",omitzero"`
	Finished time.Time `json:",omitzero"`  // of the last run that ended
	ExitCode int       `json:",omitempty"` // 128 and more for a signal, 255 where it is not known
	Error    string    `json:",omitempty"` // why it did not start, or why its end is not known

	OOMKilled bool `json:",omitempty"`
	Restarts  int  `json:",omitempty"` // by the policy, since the last start by a person
	Stopped   bool `json:",omitempty"` // by a person: it is not started again by its policy

	Holder     oci.Witness `json:",omitzero"`  // the process that keeps its terminal, or its stdin
	Server     oci.Witness `json:",omitzero"`  // the process that shows its root file system, where the kernel cannot,
	ServerName string      `json:",omitempty"` // and its program
	Monitor    oci.Witness `json:",omitzero"`  // of the run that there is
	Leaving    oci.Witness `json:",omitzero"`  // the monitor that has its root open, until it is gone itself: see [State.RootHolder]
	Health     *Health     `json:",omitempty"`
	Death      *Death      `json:",omitempty"`
}

// Witness names the container's first process.
func (s *State) Witness() oci.Witness { return oci.Witness{PID: s.PID, Begun: s.Begun} }

// Lives reports whether a container that is to run does: its first process is there, or its monitor, which has not written down the end of that yet.
func (s *State) Lives() bool {
	return s.Boot == bootID() && (s.PID != 0 && s.Witness().Alive() || s.Monitor.PID != 0 && s.Monitor.Alive())
}

// A Death is how a container ended, as far as is known: its death certificate.
type Death struct {
	Cause  string            // exit, signal, oom, root, setup, unknown
	Signal int               `json:",omitempty"` // that ended it
	By     string            `json:",omitempty"` // who sent that
	Step   string            `json:",omitempty"` // of the plan, that failed: "12 of 80: mount ..."
	Memory map[string]uint64 `json:",omitempty"` // the cgroup's figures, where it was killed for want of memory
	Log    []string          `json:",omitempty"` // its last lines
}

// A Health is what the last health checks said.
type Health struct {
	Status  string // starting, healthy, unhealthy
	Failing int    // in a row
	Log     []HealthResult
}

// A HealthResult is one check's.
type HealthResult struct {
	Start, End time.Time
	ExitCode   int
	Output     string
}

// An Exit is how a container's process ended.
type Exit struct {
	Code      int // 128 and more for a signal
	Signal    int
	OOMKilled bool
	Error     string // why its end is not known, or why it did not start
	Kept      bool   `json:",omitempty"` // one with --rm stays: it is being restarted
}

// ReadState reads the state of the container in a directory. One that is not whole, as after a power failure, is that of a container
// that ended in an unknown way.
func ReadState(dir string) (State, error) {
	var s State
	err := ReadJSON(dir+"/state.json", &s)
	if errors.As(err, new(*json.SyntaxError)) || errors.As(err, new(*json.UnmarshalTypeError)) || err == nil && !slices.Contains(statuses[:], s.Status) {
		return State{Status: Exited, ExitCode: 255, Error: lost}, nil
	}
	return s, err
}

const lost = "its state was lost"

// Lost reports whether a state stands for one that could not be read.
func (s *State) Lost() bool { return s.Status == Exited && s.Error == lost }

// WriteState replaces the state of the container in a directory. On a full disk it takes the place of the one before the last, and what is scarce for a moment is waited for: how a
// container ended nobody tells again. That of one that runs is not: it comes with the next state, and who stops the container waits behind it.
func WriteState(dir string, s State) error {
	spare := dir + "/state.spare"
	unix.Link(dir+"/state.json", spare) // of the first one that is replaced; later ones find it there
	err := WriteJSON(dir, "state.json", &s)
	for until := time.Now().Add(scarcity); files.Scarce(err) && s.Status != Running && time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		err = WriteJSON(dir, "state.json", &s)
	}
	if !files.Full(err) {
		return err
	}
	if useSpare(dir, spare, s) == nil {
		return nil
	}
	// It has room for what every state has: what is longer is the words of others.
	if s.Health != nil {
		s.Health = &Health{Status: s.Health.Status, Failing: s.Health.Failing}
	}
	if s.Death != nil {
		d := *s.Death
		d.Log = nil
		s.Death = &d
	}
	if useSpare(dir, spare, s) == nil {
		return nil
	}
	return err
}

// scarcity is how long there may be no file, or no memory, for a state.
const scarcity = 2 * time.Second

// useSpare overwrites the spare file of a state, which has a block of the disk, and exchanges it with state.json: that is whole at any moment.
func useSpare(dir, spare string, s State) error {
	data, err := leanjson.Marshal(&s)
	if err != nil {
		return err
	}
	if err := files.Overwrite(spare, append(data, '\n')); err != nil { // it may still be state.json itself
		return err
	}
	return files.Exchange(spare, dir+"/state.json")
}

// ReadTask reads the task of the container in a directory.
func ReadTask(dir string) (Task, error) {
	var t Task
	return t, ReadJSON(dir+"/task.json", &t)
}

// ReadSetup reads how the container in a directory is made.
func ReadSetup(dir string) (Setup, error) {
	var s Setup
	return s, ReadJSON(dir+"/setup.json", &s)
}

// ReadJSON reads what [WriteJSON] wrote into v.
func ReadJSON(name string, v any) error {
	data, err := files.Read(name)
	if err != nil {
		return err
	}
	if err := leanjson.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// WriteJSON replaces the file name in dir as a whole, by v. When it is on the disk is the kernel's to say.
func WriteJSON(dir, name string, v any) error {
	data, err := leanjson.Marshal(v)
	if err != nil {
		return err
	}
	return files.Replace(dir, name, append(data, '\n'), false)
}

// bootID names this boot of the machine: random(4).
func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // as of all others on a machine that has none
	}
	return string(bytes.TrimSpace(data))
}
