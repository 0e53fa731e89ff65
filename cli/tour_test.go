package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

// tourCommand runs one command line inside the test.
func tourCommand(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = Main(context.Background(), append([]string{"tour"}, args...), IO{In: strings.NewReader(""), Out: &o, Err: &e})
	return code, o.String(), e.String()
}

func TestTourUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"E13"}, "E13 needs networks, and is a script of its own: examples/two-networks.sh of the source; here are E1, E2, "},
		{[]string{"E1", "nonsense"}, "no experiment is called nonsense"},
		{[]string{"--lang", "fr"}, `--lang: language "fr": not one of en, ja`},
		{[]string{"--format", "yaml", "E1"}, "--format yaml: there are text and json"},
		{[]string{"--no-such-flag"}, "unknown flag: --no-such-flag\nSee 'kakuri tour --help'"},
		{[]string{"serve", "0"}, `"0" is no port: want a number from 1 to 65535`},
		{[]string{"ask", "65536"}, `"65536" is no port`},
	} {
		code, out, errs := tourCommand(c.args...)
		if code != 125 || out != "" || !strings.HasPrefix(errs, "kakuri: ") || !strings.Contains(errs, c.want) {
			t.Errorf("%v: code %d, stdout %q, stderr %q; want %q", c.args, code, out, errs, c.want)
		}
	}
}

func TestTourHelp(t *testing.T) {
	code, out, errs := tourCommand("--help")
	if code != 0 || errs != "" {
		t.Errorf("code %d, stderr %q", code, errs)
	}
	for _, want := range []string{"kakuri tour [OPTIONS] [EXPERIMENT...]", "--lang", "--format", "--svg FILE", "--pause"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "serve") {
		t.Errorf("help shows what only containers use:\n%s", out)
	}
}

// Each line on the input lets the tour go on once, its end for good.
func TestEnterPressed(t *testing.T) {
	var prompt bytes.Buffer
	enter := enterPressed(strings.NewReader("\n\n"), true)
	for range 4 {
		if err := enter(context.Background(), &prompt); err != nil {
			t.Fatal(err)
		}
	}
	if prompt.String() != strings.Repeat("[Enter]", 4) {
		t.Errorf("prompt %q", prompt.String())
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := enterPressed(tourSilence{}, true)(ctx, &prompt); err == nil {
		t.Error("the end of the context does not end the wait")
	}
	prompt.Reset()
	if err := enterPressed(tourSilence{}, false)(context.Background(), &prompt); err != nil || prompt.Len() > 0 {
		t.Errorf("without --pause: %v, %q", err, prompt.String())
	}
}

// tourSilence is an input on which nothing comes.
type tourSilence struct{}

func (tourSilence) Read([]byte) (int, error) { select {} }
