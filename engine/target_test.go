package engine

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// A container of kakuri-runtime is verified by its id, in the default place and in a caller's.
func TestRuntimePlan(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dir := nstest.Dir(t)
	if err := os.Rename(nstest.RootFS(t), filepath.Join(dir, "rootfs")); err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(&specs.Spec{
		Version: specs.Version, Root: &specs.Root{Path: "rootfs"}, Hostname: "box", Process: &specs.Process{Args: []string{"/bin/sleep", "1000"}, Cwd: "/"},
		Mounts: []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}},
		Linux:  &specs.Linux{CgroupsPath: "/verified-" + filepath.Base(dir), Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.UTSNamespace}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/config.json", config, 0o600); err != nil {
		t.Fatal(err)
	}
	runtime := func(want int, args ...string) {
		t.Helper()
		c := exec.Command(nstest.Binary(t, "kakuri-runtime"), args...)
		c.Dir = dir
		if err := c.Run(); c.ProcessState.ExitCode() != want {
			t.Fatalf("%q: %v", args, err)
		}
	}
	verify := func(want int, text string, args ...string) {
		t.Helper()
		c := exec.Command(nstest.Binary(t, "kakuri"), append([]string{"verify"}, args...)...)
		out, err := c.CombinedOutput()
		if c.ProcessState.ExitCode() != want || !strings.Contains(string(out), text) {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
	}
	for _, root := range []string{"", dir + "/state"} {
		var global, flag []string
		if root != "" {
			global, flag = []string{"--root", root}, []string{"--runtime-root", root}
		}
		runtime(0, append(global, "create", "one")...)
		verify(0, "host name", append(flag, "one")...)
		verify(0, "control group", append(flag, "--all", "one")...)
		runtime(0, append(global, "start", "one")...)
		verify(0, "properties are as asked", append(flag, "one")...)
		runtime(0, append(global, "kill", "one", "KILL")...)
		nstest.Until(t, "its end", func() bool {
			rec, _, err := RuntimePlan(root, "one")
			return err != nil && rec.ID == "one"
		})
		verify(1, "it is stopped", append(flag, "one")...)
		runtime(0, append(global, "delete", "one")...)
	}
	verify(1, "No such container: one", "one")
	verify(1, "container does not exist", "--runtime-root", dir+"/state", "one")
	verify(1, "invalid container ID format", "--runtime-root", dir+"/state", "../one")
}
