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
	Most        int      // rounds; 0 is any number
	Before      []string // once, not timed
	Held        int      // containers that stay meanwhile
	HeldOn      string   // their network; "" is none
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
	Many  int    // times that the words are run, some at a time
	Load  string // after the words: what the load does, whose own time counts instead; see arena.load
}

func (s scenario) rounds(all int) int {
	n := max(3, all/max(s.Share, 1))
	if s.Most > 0 {
		n = min(n, s.Most)
	}
	return n
}

// heldTimed is how many of the first, and of the last, of a scenario's held containers have their starts timed.
const heldTimed = 20

var heldNote = fmt.Sprintf("%d starts a round, of the first before the others came and after they went; kakuri alone", heldTimed)

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

	netRowRun       = "run --rm, bridge"
	netRowPort      = "run --rm, bridge, one published port"
	netRowStop      = "stop and rm, bridge, one published port"
	netRowHostSend  = "1 GB, host to container"
	netRowSend      = "1 GB, container to container"
	netRowPortSend  = "1 GB, another machine to published port"
	netRowLocalSend = "1 GB, host's loopback to published port"
	netRowHostTrip  = "1,000 round trips, host to container"
	netRowTrip      = "1,000 round trips, container to container"
	netRowPortTrip  = "1,000 round trips, another machine to published port"
	netRowNames     = "1,000 names, one after the other"
	netRowManyNames = "10,000 names, 16 at a time"
	netRowFirst     = "run -d on one network, the first containers"
	netRowLast      = "run -d on one network, the last ones of 200"
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
		{Name: "200 alive", Note: heldNote, Held: 200, First: engineRowFirst, Last: engineRowLast, Alone: true},
		{
			Name: "network run", Note: "busybox true, from the command's start to its end", Most: 20,
			Phases: []phase{
				{Row: netRowRun, Words: []string{"run --rm --network bridge {busybox} true"}},
				{Row: netRowPort, Words: []string{"run --rm --network bridge -p 8080:80 {busybox} true"}},
			},
		},
		{
			Name: "network stop", Note: "by SIGKILL at once", Most: 10,
			Phases: []phase{
				{Words: []string{"run -d --network bridge -p 8080:80 --stop-signal KILL --name ns " + keep}},
				{Row: netRowStop, Words: []string{"stop ns", "rm ns"}},
			},
		},
		{
			Name: "network load", Note: "TCP on a network of the user's own", Most: 8,
			Before: loaded(), After: unloaded(),
			Phases: []phase{
				{Row: netRowHostSend, Load: "host send {server}:5001 1000"},
				{Row: netRowSend, Load: "cli send {server}:5001 1000"},
				{Row: netRowPortSend, Load: "far send {uplink}:15001 1000"},
				{Row: netRowLocalSend, Load: "host send 127.0.0.1:15001 1000"},
				{Row: netRowHostTrip, Load: "host trips {server}:5002 1000"},
				{Row: netRowTrip, Load: "cli trips {server}:5002 1000"},
				{Row: netRowPortTrip, Load: "far trips {uplink}:15002 1000"},
			},
		},
		{
			Name: "network names", Note: "a neighbour's name, by UDP from inside a container", Most: 8,
			Before: loaded(), After: unloaded(),
			Phases: []phase{
				{Row: netRowNames, Load: "cli names - srv 1000 1"},
				{Row: netRowManyNames, Load: "cli names - srv 10000 16"},
			},
		},
		{Name: "network 200 alive", Note: heldNote, Before: []string{"network create bn"}, Held: 200, HeldOn: "bn", First: netRowFirst, Last: netRowLast, Alone: true, After: []string{"network rm -f bn"}},
	}
}

// loaded starts two containers on a network, of which "srv" serves the load and "cli" can be one.
func loaded() []string {
	const program = " -v " + netloadAt + ":/netload:ro {busybox} "
	return []string{
		"network create bn",
		"run -d --network bn --name srv -p 15001:5001 -p 15002:5002" + program + "/netload serve",
		"run -d --network bn --name cli" + program + "sleep 100000",
	}
}

func unloaded() []string { return []string{"rm -f srv cli", "network rm bn"} }

// engineTargets are what the engine promises, beside each peer: the row's ratio to that of a peer, at most.
func engineTargets() []target {
	var list []target
	for _, t := range []struct {
		row            string
		docker, podman float64
	}{
		{engineRowNone, 1.0 / 20, 1.0 / 15}, {engineRowExec, 1.0 / 12, 1.0 / 12}, {engineRowPS1, 0.3, 0.3}, {engineRowPS100, 0.3, 0.3},
		{engineRowPull, 0.35, 0.35}, {engineRowRmi, 0.1, 0.1},
		{netRowRun, 0.04, 0.05}, {netRowPort, 0.05, 0.05}, {netRowStop, 0.1, 0.1},
		{netRowHostSend, 1, 1}, {netRowSend, 1, 1}, {netRowPortSend, 1, 1}, {netRowLocalSend, 1, 1},
		{netRowHostTrip, 1, 1}, {netRowTrip, 1, 1}, {netRowPortTrip, 1, 1}, {netRowNames, 1, 1}, {netRowManyNames, 1, 1},
	} {
		list = append(list, target{t.row, "docker", t.docker}, target{t.row, "podman", t.podman})
	}
	return list
}
