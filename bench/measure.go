package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// result is what the rounds gave for one row.
type result struct {
	Row    row
	Failed string          // why there are no times; else empty
	Times  []time.Duration // wall time by round; 0 where it was not run
	Tails  []time.Duration // how long after its end a process that it had started lived on
	Seen   sight           // what the command had made, for the rows that make something
}

// patience is the longest that one command may take: more is a hang, not a time.
const patience = 20 * time.Second

// stand starts and times commands.
type stand struct {
	null   *os.File
	env    []string
	prefix string
	words  string // file for what a command says in its trial
	n      int    // containers started so far
	held   []int  // first processes of containers that stay, children of the bench: it is their subreaper
}

// newStand prepares for timing; close it afterwards.
func newStand(w workshop) (*stand, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &stand{null: null, env: environment(), prefix: w.Prefix, words: filepath.Join(w.Dir, "words")}, nil
}

func (s *stand) close() { s.null.Close() }

// tryAll runs each row once, so that one that does not work says why, and looks at
// what the others make.
func (s *stand) tryAll(ctx context.Context, w workshop, rows []row, log io.Writer) ([]result, error) {
	results := make([]result, len(rows))
	for i, r := range rows {
		if ctx.Err() != nil {
			return nil, errors.New("interrupted: nothing written")
		}
		results[i] = result{Row: r, Failed: s.hold(&r)}
		if results[i].Failed == "" {
			results[i].Row, results[i].Failed = r, s.try(r)
		}
		if results[i].Failed == "" && !r.Start && r.Beside == "" {
			results[i].Seen = s.look(lookArgv(r.Argv, w.True, w.Look))
		}
		if w.Options.Verbose {
			fmt.Fprintf(log, "%-28s %s\n", r.Name, verdict(results[i].Failed, strings.Join(r.Argv, " ")))
		}
	}
	return results, nil
}

// timeAll adds the rounds' times to the results. The order within a round is shuffled: what
// a command leaves to the kernel's own threads (a network namespace is taken down after its
// last process) would else always burden the same neighbour.
func (s *stand) timeAll(ctx context.Context, opts options, results []result, log io.Writer) error {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection inside a timed span would be ours
	shuffle := rand.New(rand.NewPCG(1, 2))
	for round := range opts.Warmup + opts.Rounds {
		for _, i := range shuffle.Perm(len(results)) {
			if ctx.Err() != nil {
				return fmt.Errorf("interrupted in round %d: nothing written", round+1)
			}
			if results[i].Row.Many == 0 || round%manyEvery == 0 {
				s.round(&results[i], round >= opts.Warmup)
			} else if round >= opts.Warmup {
				results[i].Times = append(results[i].Times, 0) // none in this round
			}
		}
		if opts.Verbose && (round+1)%25 == 0 {
			fmt.Fprintf(log, "round %d of %d\n", round+1, opts.Warmup+opts.Rounds)
		}
	}
	return nil
}

func verdict(failed, command string) string {
	if failed != "" {
		return "failed: " + failed
	}
	return command
}

// environment is small and the same for all: its size is part of what execve costs.
func environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C"}
}

// round adds one time to r, or the reason why it has none from now on.
func (s *stand) round(r *result, counts bool) {
	if r.Failed != "" {
		return
	}
	wall, tail, err := s.timeRow(r.Row, s.null)
	if err != nil {
		r.Failed, r.Times, r.Tails = err.Error(), nil, nil
		return
	}
	if counts {
		r.Times, r.Tails = append(r.Times, wall), append(r.Tails, tail)
	}
}

// try runs a row once and returns the reason when it does not work, with the
// command's own words.
func (s *stand) try(r row) string {
	if r.Missing != "" {
		return r.Missing
	}
	file, err := os.Create(s.words)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if _, _, err = s.timeRow(r, file); err == nil {
		return ""
	}
	words, _ := os.ReadFile(s.words)
	if text := oneLine(string(words)); text != "" {
		return fmt.Sprintf("%v: %s", err, text)
	}
	return err.Error()
}

// hold runs what comes before the rounds of r, with a container id of its own in the place of {held}, and returns
// why that did not work.
func (s *stand) hold(r *row) string {
	if len(r.Before) == 0 || r.Missing != "" {
		return ""
	}
	s.n++
	id := fmt.Sprintf("%s-held%d", s.prefix, s.n)
	fill := func(argv []string) []string {
		argv = slices.Clone(argv)
		if i := slices.Index(argv, "{held}"); i >= 0 {
			argv[i] = id
		}
		return argv
	}
	r.Argv = fill(r.Argv)
	for i := range r.After {
		r.After[i] = fill(r.After[i])
	}
	last := len(r.Before) - 1
	for _, argv := range r.Before[:last] {
		if err := s.run(fill(argv), s.null); err != nil {
			return err.Error()
		}
	}
	pid, err := statePID(fill(r.Before[last]))
	if err != nil {
		return err.Error()
	}
	s.held = append(s.held, pid)
	return ""
}

// release runs what comes after the rounds of all rows.
func (s *stand) release(results []result) {
	for i, r := range results {
		for _, argv := range r.Row.After {
			if err := s.run(argv, s.null); err != nil && r.Failed == "" {
				results[i].Failed = err.Error()
			}
		}
	}
	s.held = nil
	reapOrphans(time.Now().Add(patience), nil)
}

// children are the processes of which the bench is the parent: proc_pid_task_children(5).
func children() []int {
	var pids []int
	files, _ := filepath.Glob("/proc/self/task/*/children")
	for _, file := range files {
		data, _ := os.ReadFile(file)
		for _, word := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(word); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// timeRow times the commands of a row: wall is what its caller sees of them. Then, outside of that time, it
// waits for orphans of theirs: tail.
func (s *stand) timeRow(r row, out *os.File) (wall, tail time.Duration, err error) {
	if r.Many > 0 {
		wall, err = s.timeMany(r, out)
	} else {
		commands := s.named(append([][]string{r.Argv}, r.Then...))
		for _, argv := range commands {
			begin := time.Now()
			err = errors.Join(err, s.run(argv, out))
			wall += time.Since(begin)
		}
	}
	end := time.Now()
	left := reapOrphans(end.Add(patience), s.held)
	switch {
	case err != nil:
		return 0, 0, err
	case left:
		return 0, 0, fmt.Errorf("a process it started was still there %v after its end", patience)
	}
	return wall, time.Since(end), nil
}

// timeMany starts a row's command as often as it says, some at a time.
func (s *stand) timeMany(r row, out *os.File) (time.Duration, error) {
	commands := make(chan []string, r.Many)
	for range r.Many {
		commands <- s.named([][]string{r.Argv})[0]
	}
	close(commands)
	errs := make([]error, manyWorkers)
	var all sync.WaitGroup
	begin := time.Now()
	for i := range errs {
		all.Go(func() {
			for argv := range commands {
				errs[i] = errors.Join(errs[i], s.run(argv, out))
			}
		})
	}
	all.Wait()
	return time.Since(begin), errors.Join(errs...)
}

// run starts argv and waits for its end. Another exit status than 0 is an error. out takes both output streams.
func (s *stand) run(argv []string, out *os.File) error {
	p, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Env: s.env, Files: []*os.File{s.null, out, out}})
	if err != nil {
		return err
	}
	watch := time.AfterFunc(patience, func() { p.Kill() })
	state, err := p.Wait()
	killed := !watch.Stop()
	switch {
	case err != nil:
		return err
	case killed:
		return fmt.Errorf("killed after %v", patience)
	case !state.Success():
		return fmt.Errorf("%v", state)
	}
	return nil
}

// named gives the commands of one container an id of its own.
func (s *stand) named(commands [][]string) [][]string {
	s.n++
	named := slices.Clone(commands)
	for k, argv := range named {
		if i := slices.Index(argv, "{id}"); i >= 0 {
			named[k] = slices.Clone(argv)
			named[k][i] = fmt.Sprintf("%s-%d", s.prefix, s.n)
		}
	}
	return named
}

// reapOrphans waits until the bench has no child left but those that are held, and says whether it still has
// one at the deadline. The bench is a subreaper: an orphan of a timed command becomes its child.
func reapOrphans(deadline time.Time, held []int) (left bool) {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR || pid > 0:
			continue
		case err != nil: // ECHILD
			return false
		case len(held) > 0 && !slices.ContainsFunc(children(), func(pid int) bool { return !slices.Contains(held, pid) }):
			return false
		case time.Now().After(deadline):
			return true
		}
		time.Sleep(100 * time.Microsecond)
	}
}
