package tour

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/ui"
)

// A Place is where the experiments run, as far as their texts depend on it.
type Place struct {
	UID        uint32 // who runs them
	Privileged bool   // whether that is root, or as good as root
	NoCommand  bool   // kakuri is not in PATH, where the lines to try look for it
}

// An Experiment is one observation that anyone can make on one machine.
type Experiment struct {
	ID string // "E7"

	title, shows ui.Text
	did          string
}

// Experiments lists all experiments in order.
func Experiments() []Experiment {
	return []Experiment{
		{"E1", e1.Title, e1.Shows, "readlink /proc/self/ns/pid"},
		{"E2", e2.Title, e2.Shows, "kakuri run --rm host sh -c 'echo $$'"},
		{"E3", e3.Title, e3.Shows, "readlink /proc/self/ns/pid; kakuri run --rm host readlink /proc/self/ns/pid"},
		{"E4", e4.Title, e4.Shows, "kakuri run --rm host sh -c 'echo /proc/[0-9]*'"},
		{"E5", e5.Title, e5.Shows, "kakuri run --rm --name box host sleep 5 & sleep 1; kakuri ns ps box"},
		{"E6", e6.Title, e6.Shows, "kakuri run --rm --name box6 host sleep 5 & sleep 1; kakuri exec box6 readlink /proc/self/ns/pid; readlink " +
			"/proc/$(kakuri inspect -f '{{.State.Pid}}' box6)/ns/pid"},
		{"E7", e7.Title, e7.Shows, "kakuri run --rm --cap-add SYS_ADMIN --security-opt systempaths=unconfined -v " + exe +
			":/tmp/kakuri:ro host /tmp/kakuri unshare --fork --pid --mount-proc sh -c 'echo /proc/[0-9]*'"},
		{"E8", e8.Title, e8.ShowsRoot, "kakuri run --rm --network none host sh -c 'id -u; cat /proc/self/uid_map'"},
		{"E9", e9.Title, e9.Shows, "kakuri run --rm --tmpfs " + TourDir + " host sh -c 'echo hi >/hello.txt; cat /hello.txt'; cat /hello.txt"},
		{"E10", e10.Title, e10.Shows, "for n in a b; do kakuri run -d --name web-$n -h web-$n -v " + exe +
			":/tmp/kakuri:ro host /tmp/kakuri tour serve 8080; done; for n in a b; do kakuri exec web-$n /tmp/kakuri tour ask 8080; done; kakuri rm -f web-a web-b"},
		{"E11", e11.Title, e11.Shows, "kakuri run --rm --hostname " + IslandName + " --time-offset boottime=24h host sh -c 'hostname; cat /proc/uptime'; hostname; cat /proc/uptime"},
		{"E12", e12.Title, e12.Shows, "uname -r; kakuri run --rm host uname -r"},
		{"E14", e14.Title, e14.Shows, "kakuri explain run host true"},
		{"E15", e15.Title, e15.Shows, "kakuri tour --svg tree.svg E15"},
	}
}

// What the containers of the experiments are given, and their commands name.
const (
	TourDir    = "/tmp/tour" // where E9 mounts
	IslandName = "island"    // the host name of E11

	ClockOffset = 24 * time.Hour // of E11's boot clock
)

// HandLine is the line of a shell that E14 compares with: as an ordinary user it needs a
// user namespace to be allowed to make the others.
func HandLine(p Place) string {
	if p.Privileged {
		return "unshare --fork --pid --mount-proc bash"
	}
	return "unshare --map-root-user --fork --pid --mount-proc bash"
}

// exe is the program in a line for the reader's shell: that of the tour may be gone by then, as with go run.
const exe = `"$(command -v kakuri)"`

// Find returns the experiments that ids name, in order; all of them for none. An id is
// "E7", "e7" or "7".
func Find(ids []string) ([]Experiment, error) {
	all := Experiments()
	if len(ids) == 0 {
		return all, nil
	}
	wanted := map[string]bool{}
	for _, id := range ids {
		n, err := strconv.Atoi(strings.TrimLeft(id, "eE"))
		known := false
		if err == nil {
			id = "E" + strconv.Itoa(n)
		}
		for _, e := range all {
			known = known || e.ID == id
		}
		if id == "E13" {
			return nil, fmt.Errorf("E13 needs networks, and is a script of its own: examples/two-networks.sh of the source; here are %s", names(all))
		}
		if err != nil || !known {
			return nil, fmt.Errorf("no experiment is called %s: there are %s", id, names(all))
		}
		wanted[id] = true
	}
	var list []Experiment
	for _, e := range all {
		if wanted[e.ID] {
			list = append(list, e)
		}
	}
	return list, nil
}

func names(list []Experiment) string {
	var ids []string
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	return strings.Join(ids, ", ")
}

// Title is the experiment's claim in one line.
func (e Experiment) Title(l ui.Lang) string { return l.Say(e.title) }

// Did is the command with which a reader does the same.
func (e Experiment) Did() string { return e.did }

// A Reading is what one experiment read on both sides: one of E1 to E15.
type Reading interface {
	// Sides returns what was read on the host side and inside, as values for JSON.
	Sides() (host, inside any)
	// claims are what the readings must bear out.
	claims() []claim
	// panes show the readings; without lines there are none.
	panes(l ui.Lang) (host, inside ui.Pane)
}

// A claim is one thing that must hold of a reading.
type claim struct {
	holds bool
	got   string // what was measured, in no language
	text  ui.Text
	args  []any
}

func must(holds bool, got any, text ui.Text, args ...any) claim {
	return claim{holds, fmt.Sprint(got), text, args}
}

// unequal is what was measured where two things should have been one.
func unequal(a, b any) string { return fmt.Sprintf("%v != %v", a, b) }

// A Result is one experiment and what came of it.
type Result struct {
	Experiment Experiment
	Reading    Reading // nil when nothing could be read
	Err        error   // why not
}

// Holds tells whether everything that the experiment claims was seen.
func (r Result) Holds() bool { return r.Fault() == nil }

// Fault says what does not hold, with what was measured instead; nil when all does.
func (r Result) Fault() error {
	if r.Reading == nil && r.Err != nil {
		return r.Err
	}
	faults := r.faults(ui.EN)
	if faults == nil {
		return nil
	}
	return errors.New(strings.Join(faults, "; "))
}

// A Record is a result as JSON has it.
type Record struct {
	ID     string `json:"id"`
	Title  string `json:"title"`
	Did    string `json:"did"`
	Host   any    `json:"host"`
	Inside any    `json:"inside"`
	Holds  bool   `json:"holds"`
	Error  string `json:"error"`
}

// Record returns the result as JSON has it, with the title in the language l.
func (r Result) Record(l ui.Lang) Record {
	rec := Record{
		ID: r.Experiment.ID, Title: r.Experiment.Title(l), Did: r.Experiment.Did(),
		Host: struct{}{}, Inside: struct{}{}, Holds: true,
	}
	if r.Reading != nil {
		rec.Host, rec.Inside = r.Reading.Sides()
	}
	if err := r.Fault(); err != nil {
		rec.Holds, rec.Error = false, err.Error()
	}
	return rec
}

// Held counts the results that hold.
func Held(list []Result) int {
	n := 0
	for _, r := range list {
		if r.Holds() {
			n++
		}
	}
	return n
}

// A Proc is one process with its number and name.
type Proc struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
}

// A Leveled is one process with its number at every level, the host's first.
type Leveled struct {
	PIDs    []int  `json:"pids"`
	Command string `json:"command"`
}

// pids lists the numbers of processes.
func pids(list []Proc) []int {
	var out []int
	for _, p := range list {
		out = append(out, p.PID)
	}
	return out
}

// level lists the numbers that processes have at one level, of those that have any.
func level(list []Leveled, n int) []int {
	var out []int
	for _, p := range list {
		if n < len(p.PIDs) {
			out = append(out, p.PIDs[n])
		}
	}
	return out
}
