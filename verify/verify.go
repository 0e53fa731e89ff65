package verify

import (
	"encoding/json"
	"fmt"
	"io/fs"

	"github.com/kakuri/kakuri/plan"
)

// A Result is one property of a container: what its plan asked for, and what the kernel
// shows.
type Result struct {
	N        int        // the step of the plan that asked, from 1
	Cause    plan.Cause // why it did
	Kind     string     // of the check: "mount", "capabilities"
	Property string     // what was looked at: "mount /proc"
	Asked    string     // what must be seen, for people
	Measured string     // what was seen, for people; untrusted text
	OK       bool       // both agree
	Unknown  string     // why it could not be read; empty when it could
}

// The verdicts of [Result.Verdict].
const (
	OK      = "ok"
	Differs = "differs"
	Unknown = "unknown"
)

// Verdict returns [OK], [Differs] or [Unknown].
func (r Result) Verdict() string {
	switch {
	case r.Unknown != "":
		return Unknown
	case r.OK:
		return OK
	}
	return Differs
}

// MarshalJSON writes the result under the names that a plan's JSON has for the same things.
func (r Result) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		N        int    `json:"n"`
		Kind     string `json:"kind"`
		Property string `json:"property"`
		Verdict  string `json:"verdict"`
		Asked    string `json:"asked"`
		Measured string `json:"measured,omitempty"`
		Unknown  string `json:"unknown,omitempty"`
		Because  string `json:"because"`
		Field    string `json:"field,omitempty"`
		Reason   string `json:"reason,omitempty"`
	}{r.N, r.Kind, r.Property, r.Verdict(), r.Asked, r.Measured, r.Unknown, r.Cause.String(), r.Cause.Field, r.Cause.Reason})
}

// Count returns how many results there are of each verdict.
func Count(list []Result) (ok, differ, unknown int) {
	for _, r := range list {
		switch r.Verdict() {
		case OK:
			ok++
		case Differs:
			differ++
		default:
			unknown++
		}
	}
	return ok, differ, unknown
}

// Container reads back every check of p from the running container whose first process is
// pid, in the order of the plan. Pids in the plan and pid itself are those of the reader's
// /proc. It is a reading of a machine that goes on meanwhile, and may be called by several
// goroutines.
//
// The error is fs.ErrNotExist when the container has ended, also when it ended while it
// was read, and fs.ErrPermission when /proc does not show it to the caller. What can be
// read only in part is no error: those results are unknown.
func Container(p plan.Plan, pid int) ([]Result, error) {
	r, err := open(p, pid)
	if err != nil {
		return nil, err
	}
	defer r.close()
	checks := p.Checks()
	list := make([]Result, len(checks))
	for i, c := range checks {
		a := r.measure(i, c.Check)
		list[i] = Result{
			N: c.N, Cause: c.Cause, Kind: c.Check.Kind(), Property: c.Check.Property(), Asked: c.Check.Asked(),
			Measured: a.measured, OK: a.ok, Unknown: a.unknown,
		}
	}
	if r.gone() {
		return nil, fmt.Errorf("process %d: it ended while it was looked at: %w", pid, fs.ErrNotExist)
	}
	return list, nil
}
