package main

import (
	"fmt"
	"strings"
	"time"
)

// report is all that RESULTS.md tells.
type report struct {
	Facts   facts
	Options options
	Results []result
	Targets []judgement
}

func (r report) markdown() string {
	parts := []string{
		r.head(),
		"## Targets\n\n" + targetTable(r.Targets),
		"## Containers\n\nOne command from its start to its end, the container's whole life, in milliseconds. The ratios are\n" +
			"medians over the rounds of this row's time by the other's in the same round.\n\n" + containerTable(r.Results),
		"## Other verbs, and many at once\n\nIn milliseconds; the ratio is to crun's row of the same kind.\n\n" + otherTable(r.Results),
		"## A created container\n\nThe memory of the process that waits for the start.\n\n" + createdTable(r.Facts.Created),
		"## What each of them makes\n\nRead from the kernel, on the host's side, while the container's program ran.\n\n" + sightTable(r.Results),
		"## Start of a process\n\n" + startTable(r.Results),
		r.notes(),
		"## Again\n\n    go run ./bench" + r.arguments() + "\n\nas root, from the top of the checkout. " +
			"`-n` rounds, `-warmup` rounds, `-only REGEXP`, `-cgroup2`, `-out FILE`, `-row NAME=COMMAND`, `-v`.\n",
	}
	var kept []string
	for _, p := range parts {
		if p != "" {
			kept = append(kept, strings.TrimRight(p, "\n")+"\n")
		}
	}
	return strings.Join(kept, "\n")
}

func (r report) head() string {
	f := r.Facts
	rows := [][]string{
		{"date", f.Date.Format("2006-01-02 15:04 MST")},
		{"kakuri", f.Commit},
		{"kernel", f.Kernel + " " + f.Arch},
		{"processor", fmt.Sprintf("%s, %d cores, %s", f.CPU, f.Cores, f.Memory)},
		{"cgroups", f.Cgroups},
		{"kakuri-runtime's file", fmt.Sprintf("%.1f MB, of which there may be 8", float64(f.Size)/1e6)},
		{"bundle on", f.FS + "; the runtimes' state on tmpfs"},
		{"load average", f.Load[0] + " before, " + f.Load[1] + " after"},
		{"rounds", fmt.Sprintf("%d after %d to warm up, rows shuffled in each", r.Options.Rounds, r.Options.Warmup)},
	}
	for _, v := range f.Versions {
		rows = append(rows, []string{"with", v})
	}
	return "# kakuri beside its peers\n\nWritten by `go run ./bench`; not by hand.\n\n" + table([]string{"fact", "here"}, "ll", rows)
}

// arguments repeats the options that change what is measured.
func (r report) arguments() string {
	var b strings.Builder
	fmt.Fprintf(&b, " -n %d", r.Options.Rounds)
	if r.Options.Cgroup2 {
		b.WriteString(" -cgroup2")
	}
	if r.Options.Only != "" {
		fmt.Fprintf(&b, " -only '%s'", r.Options.Only)
	}
	return b.String()
}

func targetTable(js []judgement) string {
	var rows [][]string
	for _, j := range js {
		measured := "-"
		if j.Ratio > 0 {
			measured = fmt.Sprintf("%.2f", j.Ratio)
		}
		rows = append(rows, []string{j.Row, fmt.Sprintf("≤ %.1f x %s", j.Limit, j.Peer), measured, j.Verdict})
	}
	return table([]string{"row", "target", "measured", "verdict"}, "llrl", rows)
}

func containerTable(results []result) string {
	floor, crun := find(results, rowFloor).Times, find(results, rowCrun).Times
	var rows [][]string
	for _, r := range results {
		if !r.Row.Start && r.Row.Beside == "" {
			rows = append(rows, append(timeCells(r, floor, crun), note(r)))
		}
	}
	return table([]string{"command", "median", "min", "p90", "x floor", "x crun", "note"}, "lrrrrrl", rows)
}

func otherTable(results []result) string {
	var rows [][]string
	for _, r := range results {
		if r.Row.Beside != "" {
			rows = append(rows, append(timeCells(r, find(results, r.Row.Beside).Times), note(r)))
		}
	}
	return table([]string{"command", "median", "min", "p90", "x crun", "note"}, "lrrrrl", rows)
}

func startTable(results []result) string {
	native, bare := find(results, rowStartTrue).Times, find(results, rowStartBare).Times
	var rows [][]string
	for _, r := range results {
		if r.Row.Start {
			rows = append(rows, append(timeCells(r, native, bare), note(r)))
		}
	}
	return table([]string{"command", "median", "min", "p90", "x /bin/true", "x bare Go", "note"}, "lrrrrrl", rows)
}

func timeCells(r result, by ...[]time.Duration) []string {
	s := summarize(r.Times)
	cells := []string{r.Row.Name, millis(s.Median), millis(s.Min), millis(s.P90)}
	for _, other := range by {
		if x, ok := ratio(r.Times, other); ok {
			cells = append(cells, fmt.Sprintf("%.2f", x))
		} else {
			cells = append(cells, "-")
		}
	}
	return cells
}

// note is the last cell: what failed, else what the row is, and what it puts off.
func note(r result) string {
	if r.Failed != "" {
		return "**failed**: " + r.Failed
	}
	// A process that outlives its command is cost that the wall time does not show.
	const unseen = 200 * time.Microsecond
	if tail := summarize(r.Tails).Median; tail > unseen {
		return strings.TrimPrefix(fmt.Sprintf("%s; its last process ends %s ms later", r.Row.Note, millis(tail)), "; ")
	}
	return r.Row.Note
}

func millis(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond))
}

func sightTable(results []result) string {
	var rows [][]string
	for _, r := range results {
		switch {
		case r.Row.Start || r.Row.Beside != "" || r.Failed != "":
		case r.Seen.Err != "":
			rows = append(rows, []string{r.Row.Name, r.Seen.Err, "", "", "", "", ""})
		default:
			s := r.Seen
			rows = append(rows, []string{r.Row.Name, strings.Join(s.Namespaces, " "), fmt.Sprint(s.Mounts),
				yes(s.Cgroup), yes(s.Seccomp), yes(s.NoNewPrivs), fmt.Sprint(s.Capabilities)})
		}
	}
	return table([]string{"command", "new namespaces", "mounts", "cgroup", "seccomp", "no_new_privs", "capabilities"}, "llrlllr", rows)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (r report) notes() string {
	if len(r.Facts.Left) == 0 {
		return "The rounds left nothing behind: mounts, links, cgroups and files of state were as many after them as before.\n"
	}
	return "## Left behind\n\n- " + strings.Join(r.Facts.Left, "\n- ") + "\n"
}

// summary is what the terminal shows at the end.
func (r report) summary() string {
	var b strings.Builder
	for _, res := range r.Results {
		if res.Failed != "" {
			fmt.Fprintf(&b, "%-28s failed: %s\n", res.Row.Name, res.Failed)
			continue
		}
		s := summarize(res.Times)
		fmt.Fprintf(&b, "%-28s %8s ms  min %8s  p90 %8s\n", res.Row.Name, millis(s.Median), millis(s.Min), millis(s.P90))
	}
	for _, j := range r.Targets {
		if j.Ratio > 0 {
			fmt.Fprintf(&b, "%-28s %.2f x %s, at most %.1f: %s\n", j.Row, j.Ratio, j.Peer, j.Limit, j.Verdict)
		}
	}
	return b.String()
}

// table writes a table of Markdown whose columns, but for the last, are also aligned for the
// eye. align has one letter a column, l or r.
func table(head []string, align string, rows [][]string) string {
	clean := make([][]string, 0, len(rows)+1)
	widths := make([]int, len(head))
	for _, row := range append([][]string{head}, rows...) {
		cells := make([]string, len(head))
		for i := range head {
			cells[i] = strings.ReplaceAll(row[i], "|", `\|`)
			if i < len(head)-1 || align[i] == 'r' {
				widths[i] = max(widths[i], len([]rune(cells[i])))
			}
		}
		clean = append(clean, cells)
	}
	var b strings.Builder
	for n, cells := range clean {
		for i, cell := range cells {
			pad := strings.Repeat(" ", max(widths[i]-len([]rune(cell)), 0))
			if align[i] == 'r' {
				cell = pad + cell
			} else {
				cell += pad
			}
			b.WriteString("| " + cell + " ")
		}
		b.WriteString("|\n")
		if n == 0 {
			b.WriteString(rule(widths, align))
		}
	}
	return b.String()
}

// rule is the line below a table's head.
func rule(widths []int, align string) string {
	var b strings.Builder
	for i, w := range widths {
		line := strings.Repeat("-", w+2)
		if align[i] == 'r' {
			line = line[1:] + ":"
		}
		b.WriteString("|" + line)
	}
	return b.String() + "|\n"
}
