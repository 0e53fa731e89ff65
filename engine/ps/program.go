package ps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// askProgram asks the machine's ps, and leaves out the processes that are not meant.
func askProgram(ctx context.Context, args []string, pids []int) (Table, error) {
	program, err := exec.LookPath("ps")
	if err != nil {
		return Table{}, fmt.Errorf("ps %s: these options are not known here, and there is no program ps to ask", strings.Join(args, " "))
	}
	cmd := exec.CommandContext(ctx, program, args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return Table{}, fmt.Errorf("error running ps: %w: %s", err, firstOf(complaint.String()))
	}
	return parseTable(string(out), pids)
}

func firstOf(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// parseTable reads ps's table by Docker's rules: the last column takes the rest of the line.
func parseTable(out string, pids []int) (Table, error) {
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	t := Table{Titles: strings.Fields(lines[0])}
	at := slices.Index(t.Titles, "PID")
	if at < 0 {
		return t, errors.New("couldn't find PID field in ps output")
	}
	for _, line := range lines[1:] {
		f := strings.Fields(line)
		if len(f) <= at {
			continue
		}
		pid, err := strconv.Atoi(f[at])
		if err != nil || !slices.Contains(pids, pid) {
			continue
		}
		if n := len(t.Titles); len(f) > n {
			f = append(f[:n-1:n-1], strings.Join(f[n-1:], " "))
		}
		t.Rows = append(t.Rows, f)
	}
	return t, nil
}
