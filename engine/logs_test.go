package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
)

func itoa(n int) string { return strconv.Itoa(n) }

// logs returns a container's log.
func logs(t testing.TB, e *Engine, ref string, o LogOptions) string {
	t.Helper()
	var b strings.Builder
	err := e.Logs(context.Background(), ref, o, func(l LogLine) error { fmt.Fprintf(&b, "%v %s", l.Stream, l.Text); return nil })
	if err != nil {
		t.Error(err)
	}
	return b.String()
}

// ended waits until a container has no monitor any more.
func ended(t testing.TB, e *Engine, id string) Container {
	t.Helper()
	if _, err := e.Wait(context.Background(), id, NotRunning); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "the monitor has ended", func() bool { return !exists(monitor.Place(e.dir, id)) })
	c, err := e.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLogs(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	for _, driver := range []string{"", "json-file", "local"} {
		cfg := sh(root, "echo one; sleep .2; echo two >&2; sleep .2; printf three")
		cfg.AutoRemove = false
		cfg.Log = LogConfig{Driver: driver, Options: map[string]string{"max-size": "1m"}}
		c := ended(t, e, started(t, e, cfg).ID)
		if got := logs(t, e, c.Name, LogOptions{}); got != "stdout one\nstderr two\nstdout three" {
			t.Errorf("%s: %q", driver, got)
		}
		two := 2
		if got := logs(t, e, c.Name, LogOptions{Tail: &two, Follow: true}); got != "stderr two\nstdout three" {
			t.Errorf("%s, the last two: %q", driver, got)
		}
		if got := logs(t, e, c.Name, LogOptions{Since: time.Now()}); got != "" {
			t.Errorf("%s, since now: %q", driver, got)
		}
	}
	cfg := sh(root, "echo one")
	cfg.AutoRemove, cfg.Log.Driver = false, "none"
	c := ended(t, e, started(t, e, cfg).ID)
	if err := e.Logs(context.Background(), c.ID, LogOptions{}, nil); err == nil || err.Error() != "configured logging driver does not support reading" {
		t.Errorf("none: %v", err)
	}
	cfg.Log = LogConfig{Driver: "json-file", Options: map[string]string{"max-size": "x"}}
	if _, err := e.Create(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "max-size=x") {
		t.Errorf("a bad option: %v", err)
	}
}

// TestLogsInOrder: what a program writes to both streams is kept in its order, though it has all been written before anybody reads.
func TestLogsInOrder(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	for script, want := range map[string]string{
		"echo one; echo two >&2": "stdout one\nstderr two\n",
		"echo one >&2; echo two": "stderr one\nstdout two\n",
	} {
		cfg := sh(root, script)
		cfg.AutoRemove = false
		c := ended(t, e, started(t, e, cfg).ID)
		if got := logs(t, e, c.Name, LogOptions{}); got != want {
			t.Errorf("%s: %q", script, got)
		}
	}
}

// TestLogsFollow: who follows sees the lines of every start, by a policy or by a person, and the end.
func TestLogsFollow(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	cfg := Config{Rootfs: root, Restart: Restart{Policy: "on-failure", Retries: 1}, Command: []string{"sh", "-c", "trap 'echo term; exit 0' TERM; echo start; test -e /tmp/x || { touch /tmp/x; exit 1; }; while :; do sleep .1; done"}}
	c := started(t, e, cfg)
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	var b strings.Builder
	starts, done := 0, make(chan error, 1)
	err := e.Logs(ctx, c.ID, LogOptions{Follow: true}, func(l LogLine) error {
		b.Write(l.Text)
		if string(l.Text) == "start\n" {
			starts++
		}
		if starts == 2 && string(l.Text) == "start\n" {
			go func() { done <- e.Restart(ctx, c.ID, StopOptions{}) }()
		}
		if starts == 3 && string(l.Text) == "start\n" {
			go func() {
				err := <-done
				if err == nil {
					err = e.Stop(ctx, c.ID, StopOptions{})
				}
				done <- err
			}()
		}
		return nil
	})
	if err != nil || ctx.Err() != nil || b.String() != "start\nstart\nterm\nstart\nterm\n" {
		t.Errorf("%v, %v: %q", err, ctx.Err(), b.String())
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestLogConfig(t *testing.T) {
	c := Container{dir: "/c", Record: Record{
		ID: strings.Repeat("0123456789abcdef", 4), Name: "web", Image: "nginx:1", ImageID: "sha256:abcdefabcdefabcdef", Command: []string{"a", "b"},
		Config: Config{Env: []string{"OS=x", "os=y", "E=z"}, Labels: map[string]string{"com.a": "1", "b": "2"}},
	}}
	for _, test := range []struct {
		driver  string
		options map[string]string
		tag     string
		attrs   string
	}{
		{"", nil, "0123456789ab", "map[]"},
		{"", map[string]string{"tag": "{{.Name}}/{{.ImageName}}/{{.ImageID}}/{{.Command}}", "labels": "com.a,none", "env": "E"}, "web/nginx:1/abcdefabcdef/a b", "map[E:z com.a:1 tag:web/nginx:1/abcdefabcdef/a b]"},
		{"journald", map[string]string{"tag": "{{.FullID}}", "env-regex": "^(OS|os)", "labels-regex": "^b$"}, c.ID, "map[OS:x b:2 os:y]"},
		{"syslog", map[string]string{"tag": `{{json .ContainerLabels}} {{join (split .ImageName ":") "-" | upper}}`}, `{"b":"2","com.a":"1"} NGINX-1`, "map[]"},
		{"syslog", map[string]string{"tag": `{{with .ExtraAttributes}}{{index . "E"}}{{end}}`, "env": "E"}, "z", "map[E:z]"},
	} {
		c.Config.Log = LogConfig{Driver: test.driver, Options: test.options}
		if err := checkLog(c.Config.Log); err != nil {
			t.Errorf("%s %v is refused before the container is made: %v", test.driver, test.options, err)
		}
		got, err := c.logConfig(context.Background())
		if err != nil || got.Tag != test.tag || fmt.Sprint(got.Attrs) != test.attrs || got.File != "/c/container.log" {
			t.Errorf("%s %v: %v: %+v", test.driver, test.options, err, got)
		}
	}
	c.Config.AutoRemove = true // it lies in memory
	for _, test := range []struct {
		driver  string
		options map[string]string
		want    string
	}{
		{"", nil, "map[max-file:2 max-size:5m]"},
		{"local", map[string]string{"max-size": "1g"}, "map[max-size:1g]"},
		{"json-file", map[string]string{"max-size": "-1"}, "map[max-size:-1]"}, // which is not to be had with several files
		{"json-file", map[string]string{"max-file": "3"}, "map[max-file:3 max-size:5m]"},
		{"none", nil, "map[]"},
	} {
		c.Config.Log = LogConfig{Driver: test.driver, Options: test.options}
		if got, err := c.logConfig(context.Background()); err != nil || fmt.Sprint(got.Options) != test.want {
			t.Errorf("with --rm, %s %v: %v, %v; want %s", test.driver, test.options, got.Options, err, test.want)
		}
	}
	c.Config.AutoRemove = false
	c.Config.Log = LogConfig{Driver: "syslog", Options: map[string]string{"syslog-address": "udp://127.0.0.1:514"}}
	if got, err := c.logConfig(context.Background()); err != nil || fmt.Sprint(got.Server) != "[127 0 0 1]" {
		t.Errorf("the server's address: %v, %v", got.Server, err)
	}
	for _, bad := range []map[string]string{{"tag": "{{"}, {"tag": "{{.Nothing}}"}, {"env-regex": "("}} {
		c.Config.Log = LogConfig{Options: bad}
		if _, err := c.logConfig(context.Background()); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

// TestJournald: a container's lines go to the journal's socket, and a clear error says how to read them where there is no journalctl.
func TestJournald(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	e := &Engine{dir: t.TempDir(), data: t.TempDir()}
	c := Container{Record: Record{ID: files.NewID(), Name: "web", Config: Config{Log: LogConfig{Driver: "journald"}}}, State: State{Status: monitor.Exited}}
	c.dir = filepath.Join(e.homes()[1], c.ID)
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.writeRecord(); err != nil {
		t.Fatal(err)
	}
	if err := c.writeState(); err != nil {
		t.Fatal(err)
	}
	if err := e.Logs(context.Background(), c.ID, LogOptions{}, nil); err == nil || !strings.Contains(err.Error(), "no program journalctl") {
		t.Errorf("%v", err)
	}
}
