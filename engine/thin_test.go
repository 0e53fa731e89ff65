package engine

import (
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/internal/nstest"
)

// TestThin: the command as it is installed lacks registries, codecs and CDI, and nobody sees that: it has kakuri-full do what
// needs them, before a container and instead of it.
func TestThin(t *testing.T) {
	nstest.Root(t)
	thin, whole := nstest.Binary(t, "kakuri"), nstest.Binary(t, WholeName)
	e, ctx := openAt(t, "/run/kakuri"), t.Context()
	imported(t, e, nstest.RootFS(t), "small:1", `CMD ["true"]`)
	store, err := e.Images()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	go server.Serve(l)
	defer server.Close()
	name := l.Addr().String() + "/a/small:1"
	err = store.Tag(ctx, "small:1", name)
	if err == nil {
		_, err = store.Push(ctx, name, image.PushOptions{})
	}
	if err == nil {
		_, err = store.Remove(ctx, name, image.RemoveOptions{})
	}
	if err == nil {
		_, err = store.Remove(ctx, "small:1", image.RemoveOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("/run/cdi", 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll("/run/cdi")
	put(t, "/run/cdi/v.yaml", "cdiVersion: \"0.6.0\"\nkind: v.com/x\ndevices: [{name: one, containerEdits: {env: [CARD=one]}}]\n")

	// said is what a program says and gives back, its own name apart.
	said := func(program, line string) (text string, code int) {
		t.Helper()
		c := exec.CommandContext(ctx, program, strings.Fields(line)...)
		out, err := c.CombinedOutput()
		if c.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), c.ProcessState.ExitCode()
	}
	free := "127.0.0.1:1/none"
	for _, test := range []struct {
		line string
		text []string
		code int
	}{
		{"run --rm --network none " + name + " echo in", []string{"Unable to find image '" + name + "' locally", "Pulling from", "Status: Downloaded newer image for " + name, "\nin\n"}, 0},
		{"run --rm --network none " + name + " echo in", []string{"in\n"}, 0},
		{"run --rm --network none " + free + " true", []string{"kakuri: pull 127.0.0.1:1/none:latest:", "connection refused"}, 125},
		{"run --rm --network none --device v.com/x=one " + name + " env", []string{"CARD=one\n"}, 0},
		{"run --rm --network none --device v.com/x=two " + name + " env", []string{"kakuri: --device v.com/x=two: there is no device"}, 125},
		{"run --rm --network none --log-driver syslog --log-opt syslog-address=tcp+tls://127.0.0.1:1 --log-opt syslog-tls-ca-cert=/none " + name, []string{"syslog-tls", "/none: no such file"}, 125},
		{"pull " + name, []string{"Image is up to date"}, 0},
		{"volume ls", []string{"DRIVER"}, 0},
		{"container", []string{"prune"}, 0},
		{"nothing", []string{`unknown command "nothing"`}, 125},
		{"", []string{"kakuri runs programs in isolated environments"}, 0},
	} {
		out, code := said(thin, test.line)
		at := 0
		for _, text := range test.text {
			i := strings.Index(out[at:], text)
			if i < 0 {
				t.Errorf("kakuri %s: %q; want %q in this order", test.line, out, test.text)
				break
			}
			at += i
		}
		if code != test.code {
			t.Errorf("kakuri %s: code %d, want %d: %s", test.line, code, test.code, out)
		}
	}
	for _, verb := range []string{"run", "create", "start", "exec", "ps", "container run", "container ls", "images", "events", "version"} {
		a, codeA := said(thin, verb+" --help")
		b, codeB := said(whole, verb+" --help")
		if a != b || codeA != 0 || codeB != 0 {
			t.Errorf("%s --help: codes %d and %d: %q and %q", verb, codeA, codeB, a, b)
		}
	}

	alone := filepath.Join(nstest.Dir(t), "kakuri")
	data, err := os.ReadFile(thin)
	if err == nil {
		err = os.WriteFile(alone, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "/nowhere")
	t.Setenv("KAKURI_RUNTIME", nstest.Binary(t, "kakuri-runtime"))
	for _, line := range []string{"pull " + name, "run --rm --network none " + free + " true"} {
		if out, code := said(alone, line); code != 125 || !strings.Contains(out, "kakuri-full is neither beside this program nor in PATH") {
			t.Errorf("alone, kakuri %s: code %d: %s", line, code, out)
		}
	}
	if out, code := said(alone, "run --rm --network none "+name+" echo in"); code != 0 || out != "in\n" {
		t.Errorf("alone, with an image that is there: code %d: %s", code, out)
	}
}
