package main

import (
	"fmt"

	"github.com/kakuri/kakuri/internal/testimage"
)

// engineImages are what the engines pull.
func engineImages() []string {
	return []string{testimage.Busybox, testimage.Big, testimage.Deep, testimage.Flat}
}

// A scenario is something that all engines do, with the same words.
type scenario struct {
	Name, Note  string
	Share       int      // one of how many rounds; 0 is each
	Before      []string // once, not timed
	Held        int      // containers that stay meanwhile
	First, Last string   // rows of the starts of the first and the last of them
	Alone       bool     // kakuri alone does it: the target is beside itself
	Phases      []phase
	Memory      string // the row of what the held containers cost
	After       []string
}

// A phase is a part of a scenario. Without a name of a row it is not shown.
type phase struct {
	Row   string
	Words []string
	Many  int // times that the words are run, some at a time
}

func (s scenario) rounds(all int) int { return max(3, all/max(s.Share, 1)) }

// heldTimed is how many of the first, and of the last, of a scenario's held containers have their starts timed.
const heldTimed = 20

// Names of rows that targets refer to.
const (
	engineRowNone   = "run --rm, no network"
	engineRowExec   = "exec"
	engineRowPS1    = "ps, 1 container"
	engineRowPS100  = "ps, 100 containers"
	engineRowPull   = "pull 700 MB until it has run"
	engineRowRmi    = "rmi of it"
	engineRowDeep   = "first run, 100 layers"
	engineRowFlat   = "first run, the same in 1 layer"
	engineRowMemory = "memory of a container, beside its own"
	engineRowFirst  = "run -d, the first containers"
	engineRowLast   = "run -d, the last ones of 200"
)

func scenarios() []scenario {
	const keep = "{busybox} sleep 100000"
	return []scenario{
		{
			Name: "run", Note: "busybox true, from the command's start to its end",
			Phases: []phase{
				{Row: engineRowNone, Words: []string{"run --rm --network none {busybox} true"}},
				{Row: "run --rm, the host's network", Words: []string{"run --rm --network host {busybox} true"}},
			},
		},
		{Name: "exec", Note: "true in a container that runs", Before: []string{"run -d --network none --name ex " + keep}, Phases: []phase{{Row: engineRowExec, Words: []string{"exec ex true"}}}, After: []string{"rm -f ex"}},
		{
			Name: "start, stop", Note: "by SIGKILL at once", Before: []string{"create --network none --name ss --stop-signal KILL " + keep},
			Phases: []phase{{Row: "start", Words: []string{"start ss"}}, {Row: "stop", Words: []string{"stop ss"}}}, After: []string{"rm -f ss"},
		},
		{Name: "ps 1", Before: []string{"run -d --network none --name p1 " + keep}, Phases: []phase{{Row: engineRowPS1, Words: []string{"ps"}}}, After: []string{"rm -f p1"}},
		{Name: "many", Note: "100 times busybox true, no network, 8 at a time, on the cores of this machine", Share: 10, Phases: []phase{{Row: "100 starts", Words: []string{"run --rm --network none {busybox} true"}, Many: 100}}},
		{
			Name: "layers", Note: "right after the pull", Share: 4,
			Phases: []phase{
				{Words: []string{"{pull} {deep}"}}, {Row: engineRowDeep, Words: []string{"run --rm --network none {deep} true"}}, {Words: []string{"rmi {deep}"}},
				{Words: []string{"{pull} {flat}"}}, {Row: engineRowFlat, Words: []string{"run --rm --network none {flat} true"}}, {Words: []string{"rmi {flat}"}},
			},
		},
		{
			Name: "big", Note: "5 layers, 26,000 files, from a registry on this machine", Share: 8,
			Phases: []phase{
				{Row: engineRowPull, Words: []string{"{pull} {big}", "run --rm --network none {big} true"}},
				{Row: engineRowRmi, Words: []string{"rmi {big}"}},
			},
		},
		{
			Name: "ps 100", Note: "100 containers run", Held: 100, Phases: []phase{{Row: engineRowPS100, Words: []string{"ps"}}, {Row: "the 101st run --rm", Words: []string{"run --rm --network none {busybox} true"}}}, Memory: engineRowMemory,
		},
		{Name: "200 alive", Note: fmt.Sprintf("%d starts, kakuri alone", heldTimed), Held: 200, First: engineRowFirst, Last: engineRowLast, Alone: true},
	}
}

// engineTargets are what the engine promises, beside each peer: the row's ratio to that of a peer, at most.
func engineTargets() []target {
	var list []target
	for _, t := range []struct {
		row            string
		docker, podman float64
	}{
		{engineRowNone, 1.0 / 20, 1.0 / 15}, {engineRowExec, 1.0 / 12, 1.0 / 12}, {engineRowPS1, 0.3, 0.3}, {engineRowPS100, 0.3, 0.3},
		{engineRowPull, 0.35, 0.35}, {engineRowRmi, 0.1, 0.1},
	} {
		list = append(list, target{t.row, "docker", t.docker}, target{t.row, "podman", t.podman})
	}
	return list
}
