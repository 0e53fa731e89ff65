package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Version is the version of this program; the build sets it.
var Version = "0.1.0-dev"

// IO is where a command reads and writes.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
}

// warn tells what is not as it was asked for.
func (io IO) warn(text string) { fmt.Fprintln(io.Err, "warning:", format.Lines(text)) }

type writer = io.Writer // where a parameter is called io

// file returns the stream as a file, nil when it is none.
func file(v any) *os.File {
	f, _ := v.(*os.File)
	return f
}

// onTerminal reports whether somebody reads the answer on a terminal.
func (io IO) onTerminal() bool {
	out := file(io.Out)
	return out != nil && term.IsTerminal(int(out.Fd()))
}

// shown is where documents are written that have strangers' words in them: on a terminal what could act on it is written out, which JSON alone leaves
// as it is when it is a letter of Unicode.
func (io IO) shown() writer {
	if io.onTerminal() {
		return format.Terminal(io.Out)
	}
	return io.Out
}

// quietLog shuts the log of Go's library: net/http tells there of what a registry sends unasked, in the registry's words and among ours.
func quietLog() { log.SetOutput(io.Discard) }

// maxReport is how much of an error is printed: what names of which it tells may be a stranger's, such as an image's USER of a megabyte.
const maxReport = 8 << 10

// report prints an error. Its text may be a stranger's, such as a registry's.
func (io IO) report(err error) {
	text := err.Error()
	if len(text) > maxReport { // the end has the cause
		text = strings.ToValidUTF8(text[:maxReport/2], "") + " … " + strings.ToValidUTF8(text[len(text)-maxReport/2:], "")
	}
	fmt.Fprintln(io.Err, "kakuri:", format.Lines(text))
}

// An exitCode ends a command with a code, and no message.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// Main runs one command line and returns its exit code.
func Main(ctx context.Context, args []string, io IO) int {
	if done, code := engine.Child(); done {
		return code
	}
	if len(args) == 1 && (args[0] == "--version" || args[0] == "-v") {
		if _, err := io.Out.Write([]byte(versionLine(os.Args[0]))); err != nil { // the flags of no command have to be made for that
			io.report(err)
			return 1
		}
		return 0
	}
	args, err := globals(args)
	if err != nil {
		io.report(err)
		return 125
	}
	if err := notHere(args); err != nil {
		io.report(err)
		return 1
	}
	quietLog()
	engine.Prefault()
	collectLate()
	root := newRoot(io, args)
	root.SetArgs(args)
	if err = root.ExecuteContext(ctx); err == nil {
		return 0
	}
	var code exitCode
	if errors.As(err, &code) {
		return int(code)
	}
	io.report(err)
	var exit *engine.ExitError
	switch {
	case errors.As(err, new(cancelledError)):
		return 0 // as with Docker
	case errors.As(err, &exit):
		return exit.Code
	case isUsage(err):
		return 125
	}
	return 1
}

// collectLate has the first collection of garbage, which most commands end before, come at 32 MB, and the later ones as usual.
func collectLate() {
	usual := debug.SetGCPercent(800)
	runtime.AddCleanup(new([64]byte), func(percent int) { debug.SetGCPercent(percent) }, usual)
}

// globals takes the options that Docker has before the command off a line: those of a daemon's client have nothing to do here.
func globals(args []string) (rest []string, err error) {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		name, value, given := strings.Cut(args[0], "=")
		if name == "-D" || name == "--debug" {
			args = args[1:]
			continue
		}
		if !slices.Contains([]string{"-l", "--log-level", "--config", "-c", "--context", "-H", "--host"}, name) {
			if strings.HasPrefix(name, "--") && !slices.Contains([]string{"--", "--help", "--version"}, name) {
				return nil, fmt.Errorf("unknown flag: %s\nSee 'kakuri --help'", name) // or the command would be taken for its value
			}
			break
		}
		if args = args[1:]; !given {
			if len(args) == 0 {
				return nil, fmt.Errorf("flag needs an argument: %s", name)
			}
			value, args = args[0], args[1:]
		}
		switch name {
		case "--config":
			err = os.Setenv("DOCKER_CONFIG", value) // for credentials
		case "-c", "--context":
			if value != "default" {
				err = fmt.Errorf("%s %s: there are no contexts: kakuri works on this machine, without a daemon", name, value)
			}
		case "-H", "--host":
			err = fmt.Errorf("%s %s: there is no daemon to ask: kakuri works on this machine, itself", name, value)
		}
		if err != nil {
			return nil, err
		}
	}
	return args, nil
}

// elsewhere tells whom Docker's variables send to an engine of another machine that a command is for this one: what it removes is not what was meant. The
// microscope's own commands are never for an engine.
func elsewhere(io IO, c *cobra.Command) {
	for c.HasParent() && c.Parent().HasParent() {
		c = c.Parent()
	}
	if !slices.Contains([]string{"run", "image", "system", "group"}, c.GroupID) || c.Name() == "completion" {
		return
	}
	name, value := "DOCKER_HOST", os.Getenv("DOCKER_HOST")
	scheme, _, _ := strings.Cut(value, "://")
	far := value != "" && scheme != "unix" && scheme != "fd"
	if value == "" { // as with Docker, whose DOCKER_HOST goes before DOCKER_CONTEXT
		name, value = "DOCKER_CONTEXT", os.Getenv("DOCKER_CONTEXT")
		far = value != "" && value != "default"
	}
	if far {
		io.warn(name + "=" + value + " has no effect: kakuri works on this machine, without a daemon")
	}
}

// notHere says what to do in place of a command that there is not.
func notHere(args []string) error {
	name := first(args)
	if name == "help" && len(args) > 1 {
		name = args[1]
	}
	isVerb := func(v verb) bool { return v.is(name) }
	if name == "" || name == "help" || strings.HasPrefix(name, "__") || slices.ContainsFunc(verbs(), isVerb) {
		return nil
	}
	docker := strings.Fields("build buildx builder checkpoint compose config context node plugin secret service stack swarm trust")
	if slices.Contains(docker, name) {
		return fmt.Errorf("%s is not in this version\nSee 'kakuri --help'", name)
	}
	return unknownCommand("kakuri", name, verbNames(verbs()))
}

func verbNames(list []verb) (names []string) {
	for _, v := range list {
		names = append(names, v.name)
	}
	return names
}

// A usageError is a command line that cannot be understood.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func isUsage(err error) bool {
	var u usageError
	return errors.As(err, &u)
}

// A verb is a command, its group in the help, and what makes it.
type verb struct {
	name, group string
	make        func(IO) *cobra.Command
	also        []string // other names of it
	below       []verb   // of a command that is there for those below it
}

func (v verb) is(name string) bool { return v.name == name || slices.Contains(v.also, name) }

func verbs() []verb {
	return []verb{
		{name: "run", group: "run", make: newRun},
		{name: "create", group: "run", make: newCreate},
		{name: "start", group: "run", make: newStart},
		{name: "stop", group: "run", make: newStop},
		{name: "restart", group: "run", make: newRestart},
		{name: "kill", group: "run", make: newKill},
		{name: "rm", group: "run", make: newRM},
		{name: "pause", group: "run", make: newPause},
		{name: "unpause", group: "run", make: newUnpause},
		{name: "wait", group: "run", make: newWait},
		{name: "attach", group: "run", make: newAttach},
		{name: "exec", group: "run", make: newExec},
		{name: "logs", group: "run", make: newLogs},
		{name: "ps", group: "run", make: newPS},
		{name: "top", group: "run", make: newTop},
		{name: "stats", group: "run", make: newStats},
		{name: "port", group: "run", make: newPort},
		{name: "inspect", group: "run", make: newInspect},
		{name: "rename", group: "run", make: newRename},
		{name: "update", group: "run", make: newUpdate},
		{name: "cp", group: "run", make: newCP},
		{name: "diff", group: "run", make: newDiff},
		{name: "commit", group: "run", make: newCommit},
		{name: "export", group: "run", make: newExport},
		{name: "images", group: "image", make: newImages},
		{name: "pull", group: "image", make: newPull},
		{name: "push", group: "image", make: newPush},
		{name: "tag", group: "image", make: newTag},
		{name: "rmi", group: "image", make: newRMI},
		{name: "history", group: "image", make: newHistory},
		{name: "save", group: "image", make: newSave},
		{name: "load", group: "image", make: newLoad},
		{name: "import", group: "image", make: newImport},
		{name: "search", group: "image", make: newSearch},
		{name: "login", group: "image", make: newLogin},
		{name: "logout", group: "image", make: newLogout},
		{name: "events", group: "system", make: newEvents},
		{name: "info", group: "system", make: newInfo},
		{name: "version", group: "system", make: newVersion},
		{name: "completion", group: "system", make: newCompletion},
		{name: "container", group: "group", make: group("container", "Manage containers"), below: containerVerbs()},
		{name: "image", group: "group", make: group("image", "Manage images"), below: imageVerbs()},
		{name: "manifest", group: "group", make: group("manifest", "Manage manifest lists"), below: manifestVerbs()},
		{name: "network", group: "group", make: group("network", "Manage networks"), below: networkVerbs()},
		{name: "volume", group: "group", make: group("volume", "Manage volumes"), below: volumeVerbs()},
		{name: "system", group: "group", make: group("system", "Manage kakuri"), below: systemVerbs()},
		{name: "tour", group: "see", make: newTour},
		{name: "explain", group: "see", make: newExplain},
		{name: "verify", group: "see", make: newVerify},
		{name: "ns", group: "see", make: newNS},
		{name: "unshare", group: "tool", make: newUnshare},
		{name: "enter", group: "tool", make: newEnter},
	}
}

// containerVerbs are those below "kakuri container"; what has no name of its own at the
// top is ls there ps, and prune.
func containerVerbs() []verb {
	return []verb{
		{name: "attach", make: newAttach},
		{name: "commit", make: newCommit},
		{name: "diff", make: newDiff},
		{name: "cp", make: newCP},
		{name: "create", make: newCreate},
		{name: "exec", make: newExec},
		{name: "export", make: newExport},
		{name: "inspect", make: newContainerInspect},
		{name: "kill", make: newKill},
		{name: "logs", make: newLogs},
		{name: "ls", make: newPS, also: []string{"list", "ps"}},
		{name: "pause", make: newPause},
		{name: "port", make: newPort},
		{name: "prune", make: newContainerPrune},
		{name: "rename", make: newRename},
		{name: "restart", make: newRestart},
		{name: "rm", make: newRM, also: []string{"remove"}},
		{name: "run", make: newRun},
		{name: "start", make: newStart},
		{name: "stats", make: newStats},
		{name: "stop", make: newStop},
		{name: "top", make: newTop},
		{name: "unpause", make: newUnpause},
		{name: "update", make: newUpdate},
		{name: "wait", make: newWait},
	}
}

func imageVerbs() []verb {
	return []verb{
		{name: "check", make: newImageCheck},
		{name: "history", make: newHistory},
		{name: "import", make: newImport},
		{name: "inspect", make: newImageInspect},
		{name: "load", make: newLoad},
		{name: "ls", make: newImages, also: []string{"list"}},
		{name: "prune", make: newImagePrune},
		{name: "pull", make: newPull},
		{name: "push", make: newPush},
		{name: "rm", make: newRMI, also: []string{"remove"}},
		{name: "save", make: newSave},
		{name: "tag", make: newTag},
	}
}

func manifestVerbs() []verb {
	return []verb{
		{name: "annotate", make: newManifestAnnotate},
		{name: "create", make: newManifestCreate},
		{name: "inspect", make: newManifestInspect},
		{name: "push", make: newManifestPush},
		{name: "rm", make: newManifestRM},
	}
}

func networkVerbs() []verb {
	return []verb{
		{name: "connect", make: newNetworkConnect},
		{name: "create", make: newNetworkCreate},
		{name: "disconnect", make: newNetworkDisconnect},
		{name: "inspect", make: newNetworkInspect},
		{name: "log", make: newNetworkLog},
		{name: "ls", make: newNetworkLS, also: []string{"list"}},
		{name: "prune", make: newNetworkPrune},
		{name: "rm", make: newNetworkRM, also: []string{"remove"}},
	}
}

func volumeVerbs() []verb {
	return []verb{
		{name: "create", make: newVolumeCreate},
		{name: "export", make: newVolumeExport},
		{name: "import", make: newVolumeImport},
		{name: "inspect", make: newVolumeInspect},
		{name: "ls", make: newVolumeLS, also: []string{"list"}},
		{name: "prune", make: newVolumePrune},
		{name: "rm", make: newVolumeRM, also: []string{"remove"}},
	}
}

func systemVerbs() []verb {
	return []verb{
		{name: "boot", make: newSystemBoot},
		{name: "check", make: newSystemCheck},
		{name: "df", make: newDF},
		{name: "events", make: newEvents},
		{name: "info", make: newInfo},
		{name: "prune", make: newSystemPrune},
	}
}

// group makes a command that is there for those below it.
func group(name, short string) func(IO) *cobra.Command {
	return func(IO) *cobra.Command {
		return &cobra.Command{
			Use: name + " COMMAND", Short: short,
			RunE: func(c *cobra.Command, args []string) error {
				if len(args) > 0 {
					return notBelow(c, args[0])
				}
				return c.Help()
			},
		}
	}
}

// notBelow says that c has no command of that name below it.
func notBelow(c *cobra.Command, name string) error {
	var names []string
	for _, below := range c.Commands() {
		names = append(names, below.Name())
	}
	return unknownCommand(c.CommandPath(), name, names)
}

// first is the verb of a command line, empty when it begins with a flag.
func first(args []string) string {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return args[0]
	}
	return ""
}

// Root returns the whole tree of commands, for what documents it.
func Root(io IO) *cobra.Command { return newRoot(io, nil) }

// newRoot makes the tree of commands. With a command line that begins with a verb it
// holds that one alone: making the flags of all of them is a good part of a start.
func newRoot(io IO, line []string) *cobra.Command {
	root := &cobra.Command{
		Use:   "kakuri COMMAND",
		Short: "run programs in isolated environments, and see how",
		Long: `kakuri runs programs in isolated environments, as Docker does, and shows how:
each container is a plan of kernel operations that can be read before it runs,
timed while it runs, and checked against the kernel afterwards.

Begin with:  kakuri tour                 see isolation happen, step by step
             kakuri run -it host bash    a shell over a copy of this machine
             kakuri explain run host ls  the plan behind such a line`,
		SilenceUsage: true, SilenceErrors: true, Version: Version,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.PersistentPreRun = func(c *cobra.Command, _ []string) { elsewhere(io, c) } // not for --help
	root.SetIn(io.In)
	root.SetOut(io.Out)
	root.SetErr(io.Err)
	setHelp(root)
	root.SetVersionTemplate(versionLine(os.Args[0]))
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if c.Name() == "run" || c.Name() == "create" {
			err = laterFlag(err)
		}
		if meant := nearFlags(c, err); meant != nil {
			err = fmt.Errorf("%w: did you mean %s?", err, strings.Join(meant, " or "))
		}
		return usageError{fmt.Errorf("%w\nSee '%s --help'", err, c.CommandPath())}
	})
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Containers:"},
		&cobra.Group{ID: "image", Title: "Images:"},
		&cobra.Group{ID: "system", Title: "Machine:"},
		&cobra.Group{ID: "group", Title: "By kind:"},
		&cobra.Group{ID: "see", Title: "Microscope:"},
		&cobra.Group{ID: "tool", Title: "Namespaces by hand:"},
	)
	completes := first(line) == cobra.ShellCompRequestCmd || first(line) == cobra.ShellCompNoDescRequestCmd
	if completes {
		line = line[1:] // the line to complete
		if len(line) < 2 {
			line = nil
		}
	}
	root.CompletionOptions.DisableDefaultCmd = addVerbs(root, io, verbs(), line)
	if completes {
		completeFlags(root)
	}
	return root
}

// addVerbs makes the commands of list below c, or the one that line names alone, and
// says whether it names one.
func addVerbs(c *cobra.Command, io IO, list []verb, line []string) (known bool) {
	name := first(line)
	known = slices.ContainsFunc(list, func(v verb) bool { return v.is(name) })
	for _, v := range list {
		if known && !v.is(name) {
			continue
		}
		sub := v.make(io)
		sub.GroupID, sub.Aliases = v.group, v.also
		_, rest, _ := strings.Cut(sub.Use, " ")
		sub.Use = strings.TrimSpace(v.name + " " + rest)
		if v.below != nil {
			var below []string
			if known {
				below = line[1:]
			}
			addVerbs(sub, io, v.below, below)
		}
		c.AddCommand(sub)
	}
	return known
}

// laterFlag says of a flag of Docker's that it is not misspelled but missing.
func laterFlag(err error) error {
	text := err.Error()
	name := ""
	if long, ok := strings.CutPrefix(text, "unknown flag: --"); ok {
		name, _, _ = strings.Cut(long, "=")
	}
	if slices.Contains(strings.Fields("cpu-count cpu-percent io-maxbandwidth io-maxiops"), name) {
		return fmt.Errorf("--%s is for Windows", name)
	}
	return err
}
