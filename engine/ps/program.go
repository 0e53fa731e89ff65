package ps

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// askProgram asks the machine's ps for the processes that are meant. Options that choose processes themselves would choose others, `x` those of the caller alone. Some do not go
// with a list of that kind, as `f` and `--sort`, or with none: what is not meant is left out then.
func askProgram(ctx context.Context, args []string, pids []int) (Table, error) {
	program, err := exec.LookPath("ps")
	if err != nil {
		return Table{}, fmt.Errorf("ps %s: these options are not known here, and there is no program ps to ask", strings.Join(args, " "))
	}
	var list []string
	for _, pid := range pids {
		list = append(list, strconv.Itoa(pid))
	}
	meant := strings.Join(list, ",")
	var out []byte
	for _, more := range [][]string{{"-q" + meant}, {"-p" + meant}, nil} {
		if out, err = exec.CommandContext(ctx, program, append(slices.Clone(args), more...)...).Output(); err == nil {
			break
		}
	}
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		return Table{}, fmt.Errorf("error running ps: %w: %s", err, firstOf(string(failed.Stderr)))
	}
	if err != nil {
		return Table{}, fmt.Errorf("error running ps: %w", err)
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
		for i := range f {
			f[i] = clean(f[i])
		}
		t.Rows = append(t.Rows, f)
	}
	return t, nil
}
