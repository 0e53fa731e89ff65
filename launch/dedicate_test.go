package launch_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// TestDedicate: one thread, not the one that clones, sleeps with a longer slack, and what is cloned has its caller's.
func TestDedicate(t *testing.T) {
	nstest.Root(t) // the slack of another thread asks for CAP_SYS_NICE
	out, err := nstest.Part("patient").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := strings.Fields(string(out)); len(got) != 4 || got[1] != got[0] || got[2] != "1" || got[3] != got[0] {
		t.Errorf("slack before, after, threads with 1 ms, slack of the program: %q", out)
	}
}

// patient dedicates itself, and prints what TestDedicate wants to know.
func patient([]string) int {
	slack := func(tid string) string {
		data, _ := os.ReadFile("/proc/" + tid + "/timerslack_ns")
		return strings.TrimSpace(string(data))
	}
	before := slack("self")
	launch.Dedicate()
	tasks, _ := filepath.Glob("/proc/self/task/*")
	patient := slices.DeleteFunc(tasks, func(dir string) bool { return slack(filepath.Base(dir)) != "1000000" })
	fmt.Println(before, slack(fmt.Sprint(unix.Gettid())), len(patient))
	p, err := launch.Run(context.Background(), plan.Plan{Steps: []plan.Step{clone(), in(&plan.Exec{Args: []string{"/bin/cat", "/proc/self/timerslack_ns"}})}}, launch.Options{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	status, _ := p.Wait()
	return status.ExitStatus()
}
