package cli

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
)

// TestVersionOfAPI: callers of the command that ask for a least version of the API find one.
func TestVersionOfAPI(t *testing.T) {
	for _, name := range []string{"Server.APIVersion", "Client.APIVersion", "Client.DefaultAPIVersion", "Server.MinAPIVersion"} {
		var out, errs bytes.Buffer
		if code := Main(context.Background(), []string{"version", "--format", "{{." + name + "}}"}, IO{Out: &out, Err: &errs}); code != 0 || out.String() != "1.51\n" {
			t.Errorf("%s: %d: %q, %s", name, code, out.String(), errs.String())
		}
	}
}

// An answer that cannot be written is an error, and so it is of what needs no engine.
func TestAnswerToFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range [][]string{{"version"}, {"--version"}, {"-v"}, {"version", "--format", "json"}} {
		var errs bytes.Buffer
		if code := Main(context.Background(), args, IO{Out: full, Err: &errs}); code != 1 || !strings.Contains(errs.String(), "no space left") {
			t.Errorf("%q: %d, %q", args, code, errs.String())
		}
	}
}

// TestVersionLine: a command that has been named docker is known by its first words for one of Docker's manners, and not for Podman's.
func TestVersionLine(t *testing.T) {
	for command, want := range map[string]string{
		"docker": "Docker version 28.5.0, build kakuri-" + Version + "\n", "/usr/local/bin/docker": "Docker version 28.5.0, build kakuri-" + Version + "\n",
		"/usr/bin/kakuri": "kakuri version " + Version + "\n", "": "kakuri version " + Version + "\n",
	} {
		if got := versionLine(command); got != want {
			t.Errorf("%q: %q, want %q", command, got, want)
		}
	}
}
