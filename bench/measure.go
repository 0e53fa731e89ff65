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
	"strings"
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
		results[i] = result{Row: r, Failed: s.try(r)}
		if results[i].Failed == "" && !r.Start {
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
			s.round(&results[i], round >= opts.Warmup)
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
	wall, tail, err := s.time(r.Row.Argv, s.null)
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
	if _, _, err = s.time(r.Argv, file); err == nil {
		return ""
	}
	words, _ := os.ReadFile(s.words)
	if text := oneLine(string(words)); text != "" {
		return fmt.Sprintf("%v: %s", err, text)
	}
	return err.Error()
}

// time starts argv and waits for its end: wall is what its caller sees. Then, outside
// of that time, it waits for orphans of the command: tail. Another exit status than 0 is an
// error. out takes both output streams.
func (s *stand) time(argv []string, out *os.File) (wall, tail time.Duration, err error) {
	argv = s.named(argv)
	attr := &os.ProcAttr{Env: s.env, Files: []*os.File{s.null, out, out}}
	begin := time.Now()
	p, err := os.StartProcess(argv[0], argv, attr)
	if err != nil {
		return 0, 0, err
	}
	watch := time.AfterFunc(patience, func() { p.Kill() })
	state, err := p.Wait()
	end := time.Now()
	killed := !watch.Stop()
	if err != nil {
		return 0, 0, err
	}
	left := reapOrphans(end.Add(patience))
	switch {
	case killed:
		return 0, 0, fmt.Errorf("killed after %v", patience)
	case !state.Success():
		return 0, 0, fmt.Errorf("%v", state)
	case left:
		return 0, 0, fmt.Errorf("a process it started was still there %v after its end", patience)
	}
	return end.Sub(begin), time.Since(end), nil
}

// named gives each start a container id of its own.
func (s *stand) named(argv []string) []string {
	i := slices.Index(argv, "{id}")
	if i < 0 {
		return argv
	}
	s.n++
	argv = slices.Clone(argv)
	argv[i] = fmt.Sprintf("%s-%d", s.prefix, s.n)
	return argv
}

// reapOrphans waits until the bench has no child left, and says whether it still has one
// at the deadline. The bench is a subreaper: an orphan of a timed command becomes its child.
func reapOrphans(deadline time.Time) (left bool) {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR || pid > 0:
			continue
		case err != nil: // ECHILD
			return false
		case time.Now().After(deadline):
			return true
		}
		time.Sleep(100 * time.Microsecond)
	}
}
