package main

import (
	"strings"
	"testing"
	"time"
)

// TestEngineFlatness: kakuri's last containers are held against its first ones, whatever the other engines did.
func TestEngineFlatness(t *testing.T) {
	row := func(name string, ms ...time.Duration) *engineRow {
		r := newEngineRow(name, "")
		for _, d := range ms {
			r.Times["kakuri"] = append(r.Times["kakuri"], d*time.Millisecond)
		}
		return r
	}
	for _, test := range []struct {
		rows []*engineRow
		want string
	}{
		{nil, "not measured"},
		{[]*engineRow{row(engineRowLast, 10)}, "not measured"},
		{[]*engineRow{row(engineRowFirst), row(engineRowLast, 10)}, "not measured"},
		{[]*engineRow{row(engineRowFirst, 10, 10, 90), row(engineRowLast, 12, 12, 200)}, "1.200 met"},
		{[]*engineRow{row(engineRowFirst, 10), row(engineRowLast, 13)}, "1.300 missed"},
	} {
		line := engineFlatness(test.rows, engineRowLast, engineRowFirst, "flat")
		if got := strings.TrimSpace(line[2] + " " + line[3]); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// TestScenarios: rows that targets speak of are among those that are measured.
func TestScenarios(t *testing.T) {
	rows := map[string]bool{}
	for _, s := range scenarios() {
		for _, name := range []string{s.First, s.Last, s.Memory} {
			rows[name] = true
		}
		for _, ph := range s.Phases {
			rows[ph.Row] = true
		}
	}
	for _, name := range []string{engineRowFirst, engineRowLast, engineRowMemory, engineRowDeep, engineRowFlat} {
		if !rows[name] {
			t.Errorf("no scenario gives the row %q", name)
		}
	}
	for _, target := range engineTargets() {
		if !rows[target.Row] {
			t.Errorf("no scenario gives the row %q", target.Row)
		}
	}
}
