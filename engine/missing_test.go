package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
)

// TestMissingCalls: where a system call is missing without which answers would be wrong (a container that runs taken for one that has ended), both programs say
// which, and do nothing.
func TestMissingCalls(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	programs := filepath.Dir(nstest.BinaryPath("kakuri"))
	for i, call := range []string{"", "openat2", "clone3", "pidfd_open", "close_range", "statx"} {
		errno := []int{38, 1}[i%2]
		profile := t.TempDir() + "/profile.json"
		text := fmt.Sprintf(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["none%s"],"action":"SCMP_ACT_ERRNO","errnoRet":%d}]}`, call, errno)
		if err := os.WriteFile(profile, []byte(strings.Replace(text, "none"+call, call, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if call == "" {
			profile = "unconfined"
		}
		c := started(t, e, Config{Rootfs: nstest.RootFS(t), Command: []string{"sleep", "100"}, Mounts: []Mount{{Type: "bind", Source: programs, Dest: "/programs", Options: []string{"rbind", "ro"}}}, SecurityOpt: []string{"seccomp=" + profile}})
		for _, command := range [][]string{{"/programs/kakuri", "ps"}, {"/programs/kakuri-runtime", "list"}} {
			out, code, err := execs(e, c.ID, ExecConfig{Command: command, Env: []string{"HOME=/tmp"}}, "")
			if exit := new(ExitError); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if said := strings.Contains(out, "the system call "+call+" is not there"); call == "" && code != 0 || call != "" && (!said || code == 0) {
				t.Errorf("%s without %q: %d, %s", command[0], call, code, out)
			}
		}
		if err := e.Remove(t.Context(), c.ID, RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
}
