package main

import (
	"fmt"
	"strings"
)

// target is one promise: the median ratio of two rows is at most Limit.
type target struct {
	Row, Peer string
	Limit     float64
}

// targets are the budgets of kakuri, for the rows that this bench has.
func targets() []target {
	return []target{
		{rowRuntime, rowCrun, 0.5},
		{rowRuntime, rowRunc, 0.2},
		{rowRuntime, rowFloor, 1.6},
		{rowRuntime, rowBwrap, 1.0},
		{rowRuntimeSeccomp, rowCrunSeccomp, 0.5},
		{rowRuntimeSeccomp, rowRuncSeccomp, 0.2},
		{rowExec, rowExecCrun, 0.5},
		{rowMany, rowManyCrun, 0.6},
		{rowRun, rowFloor, 3},
		{rowStartRuntime, rowStartBare, 1.3},
	}
}

// judgement is a target and what was measured.
type judgement struct {
	target
	Ratio   float64
	Verdict string // met or missed, with what makes it unfair; or why it was not measured
}

func judge(results []result) []judgement {
	var js []judgement
	for _, t := range targets() {
		j := judgement{target: t}
		a, b := find(results, t.Row), find(results, t.Peer)
		r, ok := ratio(a.Times, b.Times)
		switch {
		case a.Failed != "":
			j.Verdict = fmt.Sprintf("not measured: %s failed", t.Row)
		case b.Failed != "":
			j.Verdict = fmt.Sprintf("not measured: %s failed", t.Peer)
		case !ok:
			j.Verdict = "not measured: not among the rows of this run"
		case r <= t.Limit:
			j.Ratio, j.Verdict = r, "met"+less(", but", a.Seen, b.Seen)
		default:
			j.Ratio, j.Verdict = r, "missed"+less(", even", a.Seen, b.Seen)
		}
		js = append(js, j)
	}
	return js
}

// less says, after word, what a's command was seen to leave out that b's makes: a ratio won by
// doing less is worth less.
func less(word string, a, b sight) string {
	var missing []string
	if b.Cgroup && !a.Cgroup {
		missing = append(missing, "a cgroup")
	}
	if b.Seccomp && !a.Seccomp {
		missing = append(missing, "seccomp")
	}
	if len(missing) == 0 {
		return ""
	}
	return word + " without " + strings.Join(missing, " and ")
}

// find returns the result of the row with that name; an empty one when the run had none.
func find(results []result, name string) result {
	for _, r := range results {
		if r.Row.Name == name {
			return r
		}
	}
	return result{}
}
