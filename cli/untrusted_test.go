package cli

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/plan"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// What strangers name, label and write cannot act on the terminal of who lists it, in no
// format; logs and exec are raw, as the container's own terminal would be.
func TestUntrustedOnTerminal(t *testing.T) {
	place(t)
	nstest.NoLeaks(t, "/run/kakuri/containers")
	const evil = "\x1b]0;owned\a\u202e\u009b2J\r"
	root := nstest.RootFS(t)
	create := exec.Command("kakuri", "create", "--name", "untrusted", "--label", "evil="+evil, "-e", "EVIL="+evil, "--rootfs", root, "sh", "-c", ": "+evil)
	if out, err := create.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer exec.Command("kakuri", "rm", "-f", "untrusted").Run()
	for _, args := range [][]string{
		{"ps", "-a", "--no-trunc"}, {"ps", "-a", "--format", "{{.Labels}} {{.Command}}"}, {"ps", "-a", "--format", "{{.Label \"evil\"}}"}, {"ps", "-a", "--format", "json"}, {"ps", "-a", "--format", "table {{.Labels}}"},
		{"inspect", "untrusted"}, {"inspect", "-f", "{{.Config.Env}} {{index .Config.Labels \"evil\"}}", "untrusted"},
		{"rm", "untrusted" + evil}, {"events", "--since", "1h", "--until", "0s"}, {"events", "--since", "1h", "--until", "0s", "--format", "{{.Actor.Attributes}}"},
	} {
		text := onTerminal(t, args...)
		if i := strings.IndexAny(text, "\x1b\a\u202e\u009b"); i >= 0 || strings.Contains(strings.ReplaceAll(text, "\r\n", ""), "\r") {
			t.Errorf("kakuri %q writes control characters: %q", args, text)
		}
		if args[0] != "events" && !strings.Contains(text, "owned") {
			t.Errorf("kakuri %q does not show what it should: %q", args, text)
		}
	}
}

// onTerminal is what a command line writes to the terminal that it has.
func onTerminal(t *testing.T, args ...string) string {
	t.Helper()
	master, tty := terminal(t)
	c := exec.Command("kakuri", args...)
	c.Stdin, c.Stdout, c.Stderr = tty, tty, tty
	var all bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(&all, master)
	}()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	tty.Close() // the last one: the master's reader ends
	<-done
	return all.String()
}

// Documents of JSON have what strangers write as it is, where it is no control character of ASCII: a registry's manifest, a process's command line, an image's
// variables. On a terminal the others that act on it are written out, and the document is the same.
func TestDocumentsOnTerminal(t *testing.T) {
	const evil = "\u009b2J\u202e\u007f"
	manifest := []byte(`{"annotations":{"evil":"` + evil + `"}}`)
	entry := image.ManifestEntry{Raw: manifest}
	for name, print := range map[string]func(IO) error{
		"manifest inspect": func(io IO) error { return printManifest(io, image.RemoteManifest{Raw: manifest}, false) },
		"manifest inspect -v": func(io IO) error {
			return printManifest(io, image.RemoteManifest{Entries: []image.ManifestEntry{entry}}, true)
		},
		"ns --format json": func(io IO) error { return (&nsOutput{io: io, format: "json"}).print(evil, nil) },
		"explain --format json": func(io IO) error {
			return (&explainFlags{format: "json"}).print(io, plan.Plan{Warnings: []string{evil}}, 0)
		},
	} {
		master, tty := terminal(t)
		if _, err := term.MakeRaw(int(tty.Fd())); err != nil {
			t.Fatal(err)
		}
		if err := print(IO{Out: tty}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		text := make([]byte, 1<<16)
		n, err := master.Read(text)
		if err != nil {
			t.Fatal(err)
		}
		if out := string(text[:n]); strings.ContainsAny(out, "\u009b\u202e\u007f") || !strings.Contains(out, `\u009b2J\u202e`) {
			t.Errorf("%s writes %q", name, out)
		}
	}
}

// What an image's labels have of lines is within the event's own.
func TestEventIsOneLine(t *testing.T) {
	var e engine.Event
	e.Type, e.Action = "container", "start"
	e.Actor.ID, e.Actor.Attributes = "abc", map[string]string{"a": "x\n2030-01-01T00:00:00Z container die abc\x1b[2J"}
	if text := eventText(e); strings.ContainsAny(text, "\n\x1b") || !strings.HasSuffix(text, `container start abc (a=x\n2030-01-01T00:00:00Z container die abc\x1b[2J)`) {
		t.Errorf("%q", text)
	}
}

// A file's name is one line of diff's on a terminal.
func TestChangeIsOneLine(t *testing.T) {
	c := engine.Change{Kind: 'A', Path: "/tmp/a\nD /etc\x1b[2J"}
	if text := changeText(c, true); text != `A /tmp/a\nD /etc\x1b[2J` {
		t.Errorf("%q", text)
	}
	if text := changeText(c, false); text != "A /tmp/a\nD /etc\x1b[2J" {
		t.Errorf("%q", text)
	}
}

// TestLogOfLibrary: what a registry sends behind its answer reaches no terminal, not by the log of Go's library either.
func TestLogOfLibrary(t *testing.T) {
	var out bytes.Buffer
	defer log.SetOutput(log.Writer())
	log.SetOutput(&out)
	Main(t.Context(), []string{"pull", "a@b"}, IO{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard})
	log.Print("Unsolicited response received on idle HTTP channel")
	if out.Len() > 0 {
		t.Errorf("the log has %q", out.String())
	}
}

// TestLongError: of an error the beginning and the end are printed, whatever it names.
func TestLongError(t *testing.T) {
	var out bytes.Buffer
	code := Main(t.Context(), []string{"pull", strings.Repeat("a", 1<<20) + "/END:"}, IO{In: strings.NewReader(""), Out: io.Discard, Err: &out})
	if s := out.String(); code == 0 || len(s) > maxReport+100 || !strings.HasPrefix(s, "kakuri: ") || !strings.Contains(s, "END:") || !strings.Contains(s, " … ") {
		t.Errorf("%d, %d bytes: %.100q … %.100q", code, len(s), s, s[max(0, len(s)-100):])
	}
}

// TestLoginErrorOnTerminal: that what is kept for a registry is not taken is told in the registry's words, as the path of its tokens.
func TestLoginErrorOnTerminal(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/%1b%5d0;owned%07"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	dir := t.TempDir()
	kept := fmt.Sprintf(`{"auths":{%q:{"auth":"dTpw"}}}`, host)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(kept), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := image.Open(image.Options{Dir: t.TempDir(), DockerConfig: dir, Settings: &image.Settings{Registries: map[string]image.Registry{host: {Insecure: true}}}})
	if err != nil {
		t.Fatal(err)
	}
	var told bytes.Buffer
	c := &cobra.Command{}
	c.SetContext(t.Context())
	if loginKnown(c, IO{Out: io.Discard, Err: &told}, store, host) {
		t.Error("logged in")
	}
	if text := told.String(); strings.ContainsAny(text, "\x1b\a") || !strings.Contains(text, `\x1b]0;owned\x07`) {
		t.Errorf("%q", text)
	}
}

// A name that a container asked for is in its own line alone, too, where refusals are written as they come, and not to a terminal.
func TestRefusalsThatCome(t *testing.T) {
	rows := refusalRows([]engine.Refusal{{Kind: "name", Name: "\x1b[2j.example\n2026-11-30T00:00:00Z  1  question  name not allowed  innocent.example"}}, 0)
	for _, layout := range []string{"", "table"} {
		var out strings.Builder
		if err := format.Rows(&out, refusalSpec(), refusalLayout(layout, true, false), rows); err != nil {
			t.Fatal(err)
		}
		if text := out.String(); strings.Count(text, "\n") != 1 || strings.Contains(text, "\x1b") || !strings.Contains(text, `\x1b[2j.example\n2026`) {
			t.Errorf("%q: %q", layout, text)
		}
	}
	if o := refusalLayout("{{.Name}}", true, false); o.Terminal || o.Format != "{{.Name}}" {
		t.Errorf("a layout of the caller's own: %+v", o)
	}
}

// A name that a container asked for is in its own line alone, however long it is and whatever it has, and says nothing in another column's place.
func TestRefusalsOfLongNames(t *testing.T) {
	long := strings.Repeat("\x1b", 250)
	rows := refusalRows([]engine.Refusal{{Kind: "name", Name: long}, {Kind: "name", Name: "short  not allowed"}}, 0)
	var out strings.Builder
	if err := format.Rows(&out, refusalSpec(), format.Options{Terminal: true}, rows); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], "  NAME") || len(lines[0]) > 100 || !strings.HasSuffix(lines[1], strings.Repeat(`\x1b`, 250)) || len(lines[2]) > 100 || !strings.HasSuffix(lines[2], "name not allowed   short  not allowed") {
		t.Errorf("%q", lines)
	}
}
