// Command bench times kakuri beside its peers, in one run on one machine, and
// writes what it saw to a table:
//
//	go run ./bench
//	go run ./bench -n 300 -only 'run|floor' -out /tmp/results.md
//	go run ./bench -row 'old build=/tmp/old/kakuri-runtime run --bundle {bundle} {id}'
//
// It builds kakuri's commands, a bare Go program and, with gcc, the C floor (floor.c),
// prepares a bundle, and starts each command once a round, in another order each
// round. What counts is the wall time from before the start of a process to its
// end, as its parent sees it, and of that the ratio to a peer in the same round: a
// machine that is slow for a second is slow for both.
//
// With -engines it times the engine's verbs beside docker and podman instead, into another table.
//
// Everything runs in a mount and a network namespace of the bench's own, with private
// propagation, so that no mount and no link can stay on the machine. Directories, cgroups and
// processes that a command leaves are looked for, and reported.
//
// The rows are in rows.go, what kakuri promises in targets.go. The exit status
// is 1 when a row of kakuri's failed or the bench could not run, never because a
// machine was slow.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// options are what the command line asks for; they travel to the inner process as JSON.
type options struct {
	Rounds  int
	Warmup  int
	Out     string
	Only    string
	Verbose bool
	Cgroup2 bool     // show the commands version 2 of cgroups alone
	Extra   []string // rows of the user's own, NAME=COMMAND
	Engines bool     // kakuri run and its kin beside docker and podman
	Peers   string   // the root file system that those two are of; empty is this machine's
}

// job is what the outer process hands to the inner one.
type job struct {
	Options  options
	Dir      string // working directory of the run, removed by the outer process
	Binaries []binary
	Outside  string // the outer process's mount namespace, as /proc shows it
	Prefix   string // begins the name of each container of this run
	Commit   string // of kakuri's sources
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdin, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		if !errors.Is(err, errReported) {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		stop()
		os.Exit(1)
	}
}

// errReported ends the outer process when the inner one has already said why.
var errReported = errors.New("the inner bench failed")

// innerArg is the whole command line of the inner process.
const innerArg = "inside"

func run(ctx context.Context, args []string, stdin io.Reader, stderr io.Writer) error {
	if len(args) == 1 && args[0] == innerArg {
		return inside(ctx, stdin, stderr)
	}
	if len(args) == 1 && args[0] == engineArg {
		return insideEngines(ctx, stdin, stderr)
	}
	opts, err := parse(args, stderr)
	if err != nil {
		return err
	}
	return outside(ctx, opts, stderr)
}

func parse(args []string, stderr io.Writer) (options, error) {
	var opts options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&opts.Rounds, "n", 100, "measured rounds")
	flags.IntVar(&opts.Warmup, "warmup", 10, "rounds before them that do not count")
	flags.StringVar(&opts.Out, "out", "", "file to write (default bench/RESULTS.md of the module, or RESULTS-cgroup2.md)")
	flags.BoolVar(&opts.Cgroup2, "cgroup2", false, "have version 2 of cgroups alone at /sys/fs/cgroup, with what controllers the machine leaves it")
	flags.StringVar(&opts.Only, "only", "", "time only the rows whose name matches this `regexp`")
	flags.BoolVar(&opts.Verbose, "v", false, "say what is run")
	flags.BoolVar(&opts.Engines, "engines", false, "time the engine beside docker and podman, into RESULTS-engine.md")
	flags.StringVar(&opts.Peers, "peers", "", "with -engines, a `root` file system that docker and podman are taken from")
	flags.Func("row", "add a row, `NAME=COMMAND`; {bundle}, {rootfs} and {id} are filled in", func(s string) error {
		if name, command, ok := strings.Cut(s, "="); !ok || name == "" || strings.TrimSpace(command) == "" {
			return errors.New("want NAME=COMMAND")
		}
		opts.Extra = append(opts.Extra, s)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	if flags.NArg() > 0 {
		return opts, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if opts.Rounds < 1 || opts.Warmup < 0 {
		return opts, fmt.Errorf("-n %d -warmup %d: want at least one round, and no negative number", opts.Rounds, opts.Warmup)
	}
	if _, err := regexp.Compile(opts.Only); err != nil {
		return opts, fmt.Errorf("-only: %w", err)
	}
	return opts, nil
}

// outside builds, starts the inner process in its namespaces, and removes what is left.
func outside(ctx context.Context, opts options, stderr io.Writer) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("needs root: it mounts, in a namespace of its own; run it with sudo")
	}
	module, err := moduleRoot()
	if err != nil {
		return err
	}
	if opts.Engines {
		return outsideEngines(ctx, opts, module, stderr)
	}
	if opts.Out == "" {
		name := "RESULTS.md"
		if opts.Cgroup2 {
			name = "RESULTS-cgroup2.md"
		}
		opts.Out = filepath.Join(module, "bench", name)
	}
	if opts.Out, err = filepath.Abs(opts.Out); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kakuri-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	undo, err := makeMountpoints(stateMounts)
	defer undo()
	if err != nil {
		return err
	}
	j := job{
		Options:  opts,
		Dir:      dir,
		Binaries: buildAll(ctx, module, filepath.Join(dir, "bin")),
		Prefix:   fmt.Sprintf("kkbench%d", os.Getpid()),
		Commit:   commit(ctx, module),
	}
	if j.Outside, err = os.Readlink("/proc/self/ns/mnt"); err != nil {
		return err
	}
	// For an Unshareflags with CLONE_NEWNS the child makes / private, recursively, before it
	// executes anything: there is no moment in which a mount could travel to the machine.
	err = reexec(ctx, j, innerArg, &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET}, 20*time.Second, stderr)
	if left := removeCgroups(j.Prefix); len(left) > 0 {
		fmt.Fprintf(stderr, "bench: cgroups that the run left behind, removed: %s\n", strings.Join(left, " "))
	}
	return err
}

// reexec runs the bench once more, in namespaces of its own, with what it is to do; arg says which part of it, and grace
// how long it has to clean up after a signal.
func reexec(ctx context.Context, j job, arg string, attr *syscall.SysProcAttr, grace time.Duration, stderr io.Writer) error {
	input, err := json.Marshal(j)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", arg)
	cmd.Stdin = strings.NewReader(string(input))
	cmd.Stdout, cmd.Stderr = os.Stdout, stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	cmd.SysProcAttr = attr
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) && exit.Exited() {
		return errReported
	} else if err != nil {
		return fmt.Errorf("the inner bench: %w", err)
	}
	return nil
}

// inside is the process in the namespaces: it prepares, measures and writes.
func inside(ctx context.Context, stdin io.Reader, stderr io.Writer) error {
	var j job
	if err := json.NewDecoder(stdin).Decode(&j); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	if err := checkPrivate(j.Outside); err != nil {
		return err
	}
	facts := readFacts(j.Dir)
	w, err := prepare(j)
	if err != nil {
		return err
	}
	facts.Cgroups = w.Cgroups.describe(w.HybridReplaced)
	rows, err := selectRows(allRows(w), j.Options.Only)
	if err != nil {
		return err
	}
	s, err := newStand(w)
	if err != nil {
		return err
	}
	defer s.close()
	results, err := s.tryAll(ctx, w, rows, stderr)
	if err != nil {
		s.release(results)
		return err
	}
	before := takeCensus(w)
	err = s.timeAll(ctx, j.Options, results, stderr)
	facts.Created = s.created(w)
	s.release(results)
	if err != nil {
		return err
	}
	facts.Load[1] = loadAverage()
	facts.Commit = j.Commit
	if st, err := os.Stat(w.binary("kakuri-runtime").Path); err == nil {
		facts.Size = st.Size()
	}
	facts.Left = leftBehind(before, func() census { return takeCensus(w) })
	report := report{Facts: facts, Options: j.Options, Results: results, Targets: judge(results)}
	if err := writeFile(j.Options.Out, report.markdown()); err != nil {
		return err
	}
	fmt.Print(report.summary())
	fmt.Println("written:", j.Options.Out)
	return failures(results)
}

// failures is the error for rows of kakuri's that did not run; a peer may be missing.
func failures(results []result) error {
	var errs []error
	for _, r := range results {
		if r.Row.Ours && r.Failed != "" {
			errs = append(errs, fmt.Errorf("%s: %s", r.Row.Name, r.Failed))
		}
	}
	return errors.Join(errs...)
}

// writeFile replaces path as a whole, so that an interrupted run leaves the old table.
func writeFile(path, text string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".results-")
	if err != nil {
		return err
	}
	_, err = tmp.WriteString(text)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return err
}
