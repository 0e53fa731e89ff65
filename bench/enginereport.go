package main

import (
	"fmt"
	"slices"
	"strings"
)

// engineReport is RESULTS-engine.md.
func engineReport(f facts, o options, peers []*enginePeer, rows []*engineRow, quiet string) string {
	head := [][]string{
		{"date", f.Date.Format("2006-01-02 15:04 MST")}, {"kakuri", f.Commit}, {"kernel", f.Kernel + " " + f.Arch},
		{"processor", fmt.Sprintf("%s, %d cores, %s", f.CPU, f.Cores, f.Memory)}, {"state on", f.FS},
		{"load average", f.Load[0] + " before, " + f.Load[1] + " after"}, {"rounds", fmt.Sprint(o.Rounds)},
		{"quiet machine", quiet},
	}
	for _, p := range peers {
		what := p.Version
		if p.Failed != "" {
			what = "not measured: " + p.Failed
		}
		head = append(head, []string{p.Name, what})
	}
	return "# kakuri's engine beside docker and podman\n\nWritten by `go run ./bench -engines`; not by hand. Each engine does the same by the same words, in turns, in another order in each round, with its\n" +
		"state on the same disk, pulling from the same registry. One command is timed from its start to its end, and begins when the processors were idle for 100 ms: what an engine\n" +
		"leaves to do behind its command is charged to nobody. Each has a network namespace of its own, with a cable to one that stands for\n" +
		"another machine; a load in containers (bench/netload) says how long it took by itself, its ends on one processor, and more is slower. Round trips are a thousand, and a gigabyte is a hundred parts, at the pace of the twentieth of them that is the fastest.\n\n" +
		table([]string{"fact", "here"}, "ll", head) +
		"\n## Targets\n\n" + engineTargetTable(rows) +
		"\n## All\n\nMedians in milliseconds. A ratio is the median over the rounds of kakuri's time by the other's in the same round.\n\n" + engineTable(peers, rows) +
		"\n## Again\n\n    go run ./bench -engines [-peers ROOT] [-n ROUNDS] [-only REGEXP]\n\nas root. `-peers` names a root file system that docker and podman are taken from, such as one of Debian unstable made by debootstrap.\n"
}

func engineTargetTable(rows []*engineRow) string {
	var lines [][]string
	for _, t := range engineTargets() {
		i := slices.IndexFunc(rows, func(r *engineRow) bool { return r.Name == t.Row })
		line := []string{t.Row, fmt.Sprintf("≤ %.3g x %s", t.Limit, t.Peer), "", "not measured"}
		if i >= 0 {
			if r, ok := ratio(rows[i].Times["kakuri"], rows[i].Times[t.Peer]); ok {
				line[2], line[3] = fmt.Sprintf("%.3f", r), map[bool]string{true: "met", false: "missed"}[r <= t.Limit]
			}
		}
		lines = append(lines, line)
	}
	lines = append(lines, engineFlatness(rows, engineRowDeep, engineRowFlat, "as of one layer, within 20 %"), engineFlatness(rows, engineRowLast, engineRowFirst, "as of the first, within 20 %"),
		engineFlatness(rows, netRowLast, netRowFirst, "as of the first, within 20 %"), engineMemory(rows))
	return table([]string{"row", "target", "measured", "verdict"}, "llrl", lines)
}

// engineFlatness holds kakuri's medians of two rows against each other.
func engineFlatness(rows []*engineRow, row, by, words string) []string {
	line := []string{row, words, "", "not measured"}
	a, b := findEngineRow(rows, row), findEngineRow(rows, by)
	if a == nil || b == nil {
		return line
	}
	if x, y := summarize(a.Times["kakuri"]), summarize(b.Times["kakuri"]); x.N > 0 && y.N > 0 {
		r := float64(x.Median) / float64(y.Median)
		line[2], line[3] = fmt.Sprintf("%.3f", r), map[bool]string{true: "met", false: "missed"}[r <= 1.2]
	}
	return line
}

func engineMemory(rows []*engineRow) []string {
	line := []string{engineRowMemory, "≤ 1 MB", "", "not measured"}
	if r := findEngineRow(rows, engineRowMemory); r != nil && r.Bytes["kakuri"] > 0 {
		mb := float64(r.Bytes["kakuri"]) / 1e6
		line[2], line[3] = fmt.Sprintf("%.2f MB", mb), map[bool]string{true: "met", false: "missed"}[mb <= 1]
	}
	return line
}

func findEngineRow(rows []*engineRow, name string) *engineRow {
	if i := slices.IndexFunc(rows, func(r *engineRow) bool { return r.Name == name }); i >= 0 {
		return rows[i]
	}
	return nil
}

func engineTable(peers []*enginePeer, rows []*engineRow) string {
	header, align := []string{"what"}, "l"
	for _, p := range peers {
		header, align = append(header, p.Name), align+"r"
	}
	for _, p := range peers[1:] {
		header, align = append(header, "x "+p.Name), align+"r"
	}
	var lines [][]string
	var failures []string
	for _, r := range rows {
		line := []string{r.Name}
		for _, p := range peers {
			cell := "-"
			switch s := summarize(r.Times[p.Name]); {
			case r.Failed[p.Name] != "":
				cell = "failed"
				failures = append(failures, fmt.Sprintf("- %s, %s: %s", r.Name, p.Name, r.Failed[p.Name]))
			case r.Bytes[p.Name] > 0:
				cell = fmt.Sprintf("%.2f MB", float64(r.Bytes[p.Name])/1e6)
			case s.N > 0:
				cell = fmt.Sprintf("%.1f", float64(s.Median.Microseconds())/1000)
			}
			line = append(line, cell)
		}
		for _, p := range peers[1:] {
			cell := ""
			if q, ok := ratio(r.Times["kakuri"], r.Times[p.Name]); ok {
				cell = fmt.Sprintf("%.3f", q)
			}
			line = append(line, cell)
		}
		lines = append(lines, append(line, r.Note))
	}
	text := table(append(header, "note"), align+"l", lines)
	if len(failures) > 0 {
		text += "\nFailed:\n\n" + strings.Join(failures, "\n") + "\n"
	}
	return text
}
