package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/golden"
	"github.com/kakuri/kakuri/ui"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// helpOf is what a command line with --help prints.
func helpOf(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	code := Main(context.Background(), append(args, "--help"), IO{In: strings.NewReader(""), Out: &out, Err: &errs})
	if code != 0 || errs.Len() > 0 {
		t.Errorf("%v --help: code %d, stderr %q", args, code, &errs)
	}
	return out.String()
}

func TestHelpGolden(t *testing.T) {
	for _, name := range []string{"run", "unshare"} {
		golden.Check(t, filepath.Join("testdata", "help", name+".txt"), helpOf(t, name))
	}
}

// everyCommand lists c and all below it.
func everyCommand(c *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		list = append(list, everyCommand(sub)...)
	}
	return list
}

// The help of each command fits into 80 columns, has all its flags and commands, and
// nothing that only cobra and pflag understand.
func TestHelpOfEach(t *testing.T) {
	all := everyCommand(Root(IO{}))
	if len(all) < 14 {
		t.Fatalf("only %d commands", len(all))
	}
	for _, c := range all {
		path := c.CommandPath()
		got := helpOf(t, strings.Fields(path)[1:]...)
		for _, bad := range []string{"\x00", "`", "[flags]", "true|false", "stringArray", "%!"} {
			if strings.Contains(got, bad) {
				t.Errorf("%s: help has %q:\n%s", path, bad, got)
			}
		}
		for line := range strings.Lines(got) {
			line = strings.TrimSuffix(line, "\n")
			if ui.Width(line) > helpColumns || strings.TrimRight(line, " ") != line {
				t.Errorf("%s: a line of %d columns: %q", path, ui.Width(line), line)
			}
		}
		words := strings.FieldsFunc(got, func(r rune) bool { return strings.ContainsRune(" \n[=", r) })
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if slices.Contains(words, "--"+f.Name) == f.Hidden {
				t.Errorf("%s: --%s is hidden: %v, and in the help: %v", path, f.Name, f.Hidden, !f.Hidden)
			}
		})
		for _, sub := range c.Commands() {
			if strings.Contains(got, "\n  "+sub.Name()+" ") == (sub.Hidden || sub.Name() == "help") {
				t.Errorf("%s: %s is hidden: %v, and not so in the help:\n%s", path, sub.Name(), sub.Hidden, got)
			}
		}
	}
}

// What is said of a wrong number of arguments has each command's line once, as its help has it.
func TestUsageOfErrors(t *testing.T) {
	seen := 0
	for _, c := range everyCommand(Root(IO{})) { // before any help was made
		if c.Args == nil {
			continue
		}
		for _, args := range [][]string{nil, slices.Repeat([]string{"x"}, 9)} {
			err := c.Args(c, args)
			if err == nil || !strings.Contains(err.Error(), "Usage:") {
				continue
			}
			seen++
			if got := err.Error(); strings.Contains(got, "[flags]") || !strings.Contains(got, "Usage:  "+c.CommandPath()+" ") {
				t.Errorf("%s: %s", c.CommandPath(), got)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d errors with a usage", seen)
	}
}

// Where the answer ends without an end of line, what follows does not stand behind the question.
func TestAskAtEnd(t *testing.T) {
	for in, want := range map[string]string{"": "[y/N] \n", "y": "[y/N] \n", "n\n": "[y/N] ", "y\n": "[y/N] "} {
		var out strings.Builder
		err := ask(IO{In: strings.NewReader(in), Out: &out}, "WARNING!", "network prune")
		if !strings.HasSuffix(out.String(), want) || (err == nil) != strings.HasPrefix(in, "y") {
			t.Errorf("%q: %q, %v", in, out.String(), err)
		}
	}
}

// A signalling writer sends a signal to this process once it has been asked the question.
type signalling struct {
	strings.Builder
	signal unix.Signal
}

func (s *signalling) Write(p []byte) (int, error) {
	if strings.HasSuffix(string(p), "[y/N] ") {
		unix.Kill(os.Getpid(), s.signal)
	}
	return s.Builder.Write(p)
}

// Ctrl-C at a question is a no without a word.
func TestAskSignalled(t *testing.T) {
	for _, s := range []unix.Signal{unix.SIGINT, unix.SIGTERM} {
		silent, typed := io.Pipe()
		out := &signalling{signal: s}
		err := ask(IO{In: silent, Out: out}, "WARNING!", "network prune")
		if err != exitCode(0) || !strings.HasSuffix(out.String(), "[y/N] \n") {
			t.Errorf("%v: %v, %q", s, err, out.String())
		}
		typed.Close()
	}
}

func TestAllWell(t *testing.T) {
	got := allWell([]string{"containers half made or half removed", "monitors", "records", "images"}, " (digests of layers: --layers)", 60)
	want := `all is well
nothing found in containers half made or half removed,
monitors, records, images (digests of layers: --layers)`
	if got != want {
		t.Errorf("%s", got)
	}
}

func TestUsage(t *testing.T) {
	c := &cobra.Command{Use: "k [OPTIONS]", Run: func(*cobra.Command, []string) {}}
	s := c.Flags()
	s.SortFlags = false
	s.StringP("pid", "p", "", "a pid; with =`FILE` kept")
	s.Lookup("pid").NoOptDefVal = noFile
	s.Bool("all", true, "one two three four five six seven eight")
	s.String("some-very-long-name", "", "`WHAT|EVER` it is")
	s.StringArray("size", nil, "size")
	s.String("format", "text", "a format")
	s.String("level", "info", "a level (the default is info)")
	s.Bool("old", false, "")
	s.Lookup("old").Hidden = true
	want := `Usage:
  k [OPTIONS]

Options:
  -p, --pid[=FILE]    a pid; with =FILE kept
      --all           one two three four five six seven
                      eight
      --some-very-long-name WHAT|EVER
                      WHAT|EVER it is
      --size VALUE    size
      --format VALUE  a format (default: text)
      --level VALUE   a level (the default is info)
`
	if got := usage(c, 55); got != want {
		t.Errorf("usage:\n%s\nwant:\n%s", got, want)
	}
	if got := usage(c, 120); !strings.Contains(got, "  one two three four five six seven eight\n") {
		t.Errorf("a wide terminal is not used:\n%s", got)
	}
	// What cobra itself makes of it goes to stderr's writer, in the same words.
	setHelp(c)
	if got := c.UsageString(); got != usage(c, helpColumns) {
		t.Errorf("UsageString:\n%s", got)
	}
}

func TestProse(t *testing.T) {
	got := prose("one two\nthree four five six\n\n  $ a line that stays as long as it is\n\nkey    value and more of that, too\n", 20)
	want := "one two three four\nfive six\n\n  $ a line that stays as long as it is\n\nkey    value and more of that, too"
	if got != want {
		t.Errorf("prose: %q, want %q", got, want)
	}
}

// create has the flags of run, but for those of who waits for the container's end.
func TestCreateFlags(t *testing.T) {
	flags := func(verb string) (list []string) {
		c, _, err := Root(IO{}).Find([]string{verb})
		if err != nil {
			t.Fatal(err)
		}
		c.Flags().VisitAll(func(f *pflag.Flag) { list = append(list, f.Name+","+f.Shorthand) })
		return list
	}
	run := slices.DeleteFunc(flags("run"), func(f string) bool {
		return slices.Contains([]string{"detach,d", "detach-keys,", "sig-proxy,", "timings,"}, f)
	})
	if create := flags("create"); !slices.Equal(run, create) || len(create) < 80 {
		t.Errorf("create has %q\nrun has %q", create, run)
	}
}

// A verb below a group is the one at the top, by another name or the same.
func TestGroups(t *testing.T) {
	for _, c := range []struct{ below, top string }{
		{"container ls", "ps"}, {"container ps", "ps"}, {"container list", "ps"}, {"container remove", "rm"}, {"image ls", "images"}, {"image rm", "rmi"}, {"image remove", "rmi"}, {"system info", "info"},
		{"system events", "events"}, {"container exec", "exec"}, {"image pull", "pull"}, {"volume list", "volume ls"},
	} {
		a, resta, erra := newRoot(IO{}, strings.Fields(c.below)).Find(strings.Fields(c.below))
		b, restb, errb := newRoot(IO{}, strings.Fields(c.top)).Find(strings.Fields(c.top))
		if erra != nil || errb != nil || len(resta)+len(restb) > 0 || a.Short != b.Short {
			t.Errorf("%s is %q, %s is %q: %v, %v", c.below, a.Short, c.top, b.Short, erra, errb)
		}
	}
	// Only what the line names is made.
	if n := len(newRoot(IO{}, []string{"container", "ls"}).Commands()); n != 1 {
		t.Errorf("%d commands are made for one", n)
	}
}
