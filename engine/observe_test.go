package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/cgroup"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
)

// TestEventFilters: which events filters let pass is Docker's answer.
func TestEventFilters(t *testing.T) {
	ev := Event{Type: "container", Action: "health_status: healthy", Scope: "local", Actor: monitor.Actor{ID: "abcdef", Attributes: map[string]string{"name": "web", "image": "nginx:latest", "a": "1", "b": ""}}}
	for _, test := range []struct {
		filters string
		want    bool
	}{
		{"", true}, {"event=health_status", true}, {"event=health_status: healthy", true}, {"event=die", false}, {"event=die event=health_status", true},
		{"type=container", true}, {"type=image", false}, {"container=web", true}, {"container=/web", true}, {"container=abc", true}, {"container=we", false}, {"container=", false},
		{"image=nginx", true}, {"image=nginx:latest", true}, {"image=nginx:1", false}, {"label=a", true}, {"label=a=1", true}, {"label=a=2", false}, {"label=a label=c", false}, {"label=b=", true},
		{"scope=local", true}, {"scope=swarm", false}, {"volume=web", false}, {"network=abc", false}, {"type=container container=other", false},
	} {
		f := Filters{}
		for _, word := range strings.SplitN(test.filters, " ", 2) {
			if strings.HasPrefix(test.filters, "event=health_status: ") {
				word = test.filters
			}
			if k, v, ok := strings.Cut(word, "="); ok && !slices.Contains(f[k], v) {
				f[k] = append(f[k], v)
			}
		}
		if got := f.event(&ev); got != test.want {
			t.Errorf("%q: %v", test.filters, got)
		}
	}
}

// TestEventFiltersImage: a repository names all of its tags, of the image itself and of its containers; and nothing happens to what there is not here.
func TestEventFiltersImage(t *testing.T) {
	of := func(kind, id, key, name string) *Event {
		return &Event{Type: kind, Actor: monitor.Actor{ID: id, Attributes: map[string]string{key: name}}}
	}
	for _, test := range []struct {
		event  *Event
		images []string // that it is an event of
		others []string
	}{
		{of("image", "sha256:ab", "name", "nginx:1.25"), []string{"nginx", "nginx:1.25", "sha256:ab"}, []string{"nginx:1", "nginx:latest", "ab", ""}},
		{of("image", "sha256:ab", "name", "localhost:5000/a/b:c"), []string{"localhost:5000/a/b", "localhost:5000/a/b:c"}, []string{"a/b", "localhost", "b"}},
		{of("container", "cd", "image", "nginx:1.25"), []string{"nginx", "nginx:1.25"}, []string{"nginx:latest", "docker.io/library/nginx"}},
		{of("container", "cd", "image", "nginx"), []string{"nginx"}, []string{"nginx:1"}},
		{of("volume", "v", "driver", "local"), nil, []string{"v", "local", ""}},
	} {
		for _, v := range append(test.images, test.others...) {
			if got, want := (Filters{"image": {v}}).event(test.event), slices.Contains(test.images, v); got != want {
				t.Errorf("image=%s, %s of %v: %v", v, test.event.Type, test.event.Actor.Attributes, got)
			}
		}
		for _, key := range []string{"config", "daemon", "node", "plugin", "secret", "service"} {
			if (Filters{key: {test.event.Actor.ID}}).event(test.event) {
				t.Errorf("%s=%s lets one of a %s pass", key, test.event.Actor.ID, test.event.Type)
			}
		}
	}
}

// TestEvents: the life of a container is told, as it happens and afterwards.
func TestEvents(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	begin := time.Now()
	live := make(chan string, 100)
	ready := make(chan struct{})
	go func() {
		defer close(live)
		first := true
		e.Events(ctx, EventOptions{Since: begin}, func(x Event) error {
			if first {
				first = false
				close(ready)
			}
			live <- x.Action
			return nil
		})
	}()
	e.tell("volume", "create", "v", nil)
	<-ready
	cfg := asleep(root)
	cfg.Labels = map[string]string{"app": "x"}
	c := started(t, e, cfg)
	if _, code, err := execs(e, c.ID, ExecConfig{Command: []string{"false"}}, ""); code != 1 || err != nil {
		t.Fatal(code, err)
	}
	for i, err := range []error{
		e.Pause(ctx, c.ID), e.Unpause(ctx, c.ID), e.Rename(ctx, c.ID, "other"), e.Stop(ctx, c.ID, StopOptions{}), e.Start(ctx, c.ID, StartOptions{}), e.Restart(ctx, c.ID, StopOptions{}),
	} {
		if err != nil {
			t.Fatal(i, err)
		}
	}
	if _, err := e.Update(ctx, c.ID, UpdateConfig{Restart: &Restart{Policy: "always"}}); err != nil {
		t.Fatal(err)
	}
	if err := e.Stop(ctx, c.ID, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(ctx, c.ID, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"create", "start", "exec_create: false", "exec_start: false", "exec_die", "pause", "unpause", "rename", "kill", "die", "stop", "start", "kill", "die", "stop", "start", "restart", "update", "kill", "die", "stop", "destroy"}
	var got []string
	for action := range live {
		got = append(got, action)
		if action == "destroy" {
			break
		}
	}
	if want := append([]string{"create"}, want...); !slices.Equal(got, want) { // first that of the volume
		t.Errorf("as it happened:\n%q, want\n%q", got, want)
	}
	var after []string
	err := e.Events(ctx, EventOptions{Since: begin, Until: time.Now(), Filters: Filters{"container": {c.ID[:12]}, "label": {"app=x"}, "event": {"die", "exec_die"}}}, func(x Event) error {
		after = append(after, x.Action+" "+x.Actor.Attributes["exitCode"])
		if name := x.Actor.Attributes["name"]; x.Action == "die" && name != "other" {
			t.Errorf("its end is told of %q, which it was called before", name)
		}
		return nil
	})
	if err != nil || fmt.Sprint(after) != "[exec_die 1 die 137 die 137 die 137]" {
		t.Errorf("afterwards: %v: %q", err, after)
	}
	after = nil
	e.Events(ctx, EventOptions{Since: begin, Until: time.Now(), Filters: Filters{"container": {c.ID[:12]}, "status": {"exec_die"}}}, func(x Event) error {
		after = append(after, x.Action)
		return nil
	})
	if fmt.Sprint(after) != "[exec_die]" {
		t.Errorf("by their status: %q", after)
	}
	if err := e.Events(ctx, EventOptions{Until: time.Now(), Filters: Filters{"colour": {"red"}}}, nil); err == nil || !strings.HasPrefix(err.Error(), "invalid filter 'colour': there are container, event, image,") {
		t.Errorf("a filter that there is not: %v", err)
	}
}

// TestStopAtOnce: a container that is to be stopped without a wait is sent its own signal all the same, and SIGKILL after it.
func TestStopAtOnce(t *testing.T) {
	nstest.Root(t)
	e, root, ctx := open(t), nstest.RootFS(t), t.Context()
	begin, now := time.Now(), 0
	c := started(t, e, Config{Rootfs: root, StopSignal: "USR2", Command: []string{"sh", "-c", "trap '' USR2; sleep 1000"}})
	if err := errors.Join(e.Stop(ctx, c.ID, StopOptions{Timeout: &now}), e.Start(ctx, c.ID, StartOptions{}), e.Stop(ctx, c.ID, StopOptions{Timeout: &now, Signal: "KILL"}), e.Start(ctx, c.ID, StartOptions{}),
		e.Remove(ctx, c.ID, RemoveOptions{Force: true})); err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := e.Events(ctx, EventOptions{Since: begin, Until: time.Now(), Filters: Filters{"container": {c.ID}, "event": {"kill", "stop", "destroy"}}}, func(x Event) error {
		got = append(got, strings.TrimSpace(x.Action+" "+x.Actor.Attributes["signal"]))
		return nil
	}); err != nil || strings.Join(got, ", ") != "kill 12, kill 9, stop, kill 9, stop, kill 9, destroy" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestStatsFigures(t *testing.T) {
	a := Stats{CPU: 100, SystemCPU: 1000, CPUs: 2}
	b := Stats{CPU: 300, SystemCPU: 1400, CPUs: 2, Memory: 25, MemoryLimit: 200}
	if got := b.CPUPercent(a); got != 100 {
		t.Errorf("half of two processors: %v", got)
	}
	if a.CPUPercent(b) != 0 || a.CPUPercent(a) != 0 || b.MemoryPercent() != 12.5 || a.MemoryPercent() != 0 {
		t.Error("percents")
	}
	for _, test := range []struct {
		raw  map[string]uint64
		want uint64
	}{{nil, 100}, {map[string]uint64{"inactive_file": 30}, 70}, {map[string]uint64{"inactive_file": 30, "total_inactive_file": 40}, 60}, {map[string]uint64{"inactive_file": 300}, 100}} {
		if got := usedMemory(&cgroup.Memory{Usage: cgroup.MemoryEntry{Usage: 100}, Raw: test.raw}); got != test.want {
			t.Errorf("%v: %d", test.raw, got)
		}
	}
	if r, w := blockBytes([]cgroup.BlockIOEntry{{Op: "Read", Value: 1}, {Op: "read", Value: 2}, {Op: "Write", Value: 4}, {Op: "Sync", Value: 8}, {Value: 16}}); r != 3 || w != 4 {
		t.Errorf("block: %d, %d", r, w)
	}
	if total, cpus, err := systemCPU(); err != nil || total == 0 || cpus < 1 {
		t.Errorf("%d, %d, %v", total, cpus, err)
	}
}

// TestStats: the figures are those of the container's own processes.
func TestStats(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	cfg := Config{Rootfs: root, StopSignal: "KILL", Command: []string{"sh", "-c", "sleep 1000 & while :; do :; done"}, Resources: Resources{Memory: 64 << 20}}
	c := started(t, e, cfg)
	ctx := context.Background()
	first, err := e.Stats(ctx, c.ID)
	if err != nil || !first.Running || first.MemoryLimit != 64<<20 || first.Name != c.Name {
		t.Fatalf("%v: %+v", err, first)
	}
	nstest.Until(t, "it has used a processor", func() bool {
		now, err := e.Stats(ctx, c.ID)
		if err != nil {
			t.Fatal(err)
		}
		return now.CPUPercent(first) > 5 && now.Pids == 2 && now.Memory > 0
	})
	if err := e.Stop(ctx, c.ID, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if s, err := e.Stats(ctx, c.ID); err != nil || s.Running || s.CPU != 0 || s.ID != c.ID {
		t.Errorf("stopped: %v: %+v", err, s)
	}
}

// TestTop: the processes of a container are listed, and nobody else's.
func TestTop(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	c := started(t, e, Config{Rootfs: root, StopSignal: "KILL", Command: []string{"sh", "-c", "sleep 1000 & exec sleep 2000"}})
	nstest.Until(t, "both sleep", func() bool {
		table, err := e.Top(context.Background(), c.ID, []string{"-o", "pid,comm"})
		if err != nil {
			t.Fatal(err)
		}
		sleeping := true
		for _, r := range table.Rows {
			sleeping = sleeping && r[1] == "sleep"
		}
		return sleeping && len(table.Rows) == 2
	})
}

func TestUpdateRules(t *testing.T) {
	n := int64(5)
	for _, test := range []struct {
		old, change Resources
		want        string // of the new memory, swap, cpus; or the error
	}{
		{Resources{}, Resources{NanoCPUs: 5e8}, "0 0 500000000"},
		{Resources{Memory: 64 << 20}, Resources{Memory: 100 << 20}, "104857600 134217728 0"},
		{Resources{Memory: 64 << 20}, Resources{Memory: 200 << 20}, "memoryswap"},
		{Resources{Memory: 64 << 20}, Resources{Memory: 200 << 20, MemorySwap: 300 << 20}, "209715200 314572800 0"},
		{Resources{Memory: 64 << 20, MemorySwap: -1}, Resources{Memory: 200 << 20}, "209715200 -1 0"},
		{Resources{CPUPeriod: 100000}, Resources{NanoCPUs: 1e9}, "CPU Period has already been set"},
		{Resources{NanoCPUs: 1e9}, Resources{CPUQuota: 50000}, "NanoCPUs has already been set"},
		{Resources{}, Resources{Memory: 1000}, "Minimum memory limit"},
		{Resources{}, Resources{DeviceRules: []string{"a"}}, "cannot be updated"},
		{Resources{}, Resources{PidsLimit: &n}, "0 0 0"},
	} {
		got, err := test.old.with(test.change, true)
		text := fmt.Sprint(got.Memory, got.MemorySwap, got.NanoCPUs)
		if err != nil {
			text = err.Error()
		}
		if !strings.Contains(text, test.want) {
			t.Errorf("%+v with %+v: %s, want %s", test.old, test.change, text, test.want)
		}
	}
	for _, bad := range []Restart{{Policy: "sometimes"}, {Policy: "always", Retries: 3}, {Policy: "on-failure", Retries: -1}} {
		if checkRestart(&bad) == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// TestUpdate: limits change at once, and stay changed; the policy holds from the next end on.
func TestUpdate(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	ctx := context.Background()
	cfg := asleep(root)
	cfg.Resources.Memory = 64 << 20
	c := started(t, e, cfg)
	pids := int64(77)
	if _, err := e.Update(ctx, c.ID, UpdateConfig{Resources: Resources{Memory: 32 << 20, PidsLimit: &pids}}); err != nil {
		t.Fatal(err)
	}
	s, err := e.Stats(ctx, c.ID)
	if err != nil || s.MemoryLimit != 32<<20 || s.PidsLimit != 77 {
		t.Errorf("%v: memory %d, pids %d", err, s.MemoryLimit, s.PidsLimit)
	}
	if _, err := e.Update(ctx, c.ID, UpdateConfig{Restart: &Restart{Policy: "on-failure", Retries: 1}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := execs(e, c.ID, ExecConfig{Command: []string{"true"}}, ""); err != nil {
		t.Fatal(err)
	}
	box, err := e.runtime().Open(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := box.Kill(ctx, 15, false); err != nil { // by nobody whom the monitor knows
		t.Fatal(err)
	}
	if err := box.Kill(ctx, 9, false); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "it runs again", func() bool {
		now, err := e.Find(c.ID)
		return err == nil && now.Status == monitor.Running && now.Restarts == 1
	})
	if s, err := e.Stats(ctx, c.ID); err != nil || s.MemoryLimit != 32<<20 || s.PidsLimit != 77 {
		t.Errorf("after the restart: %v: memory %d, pids %d", err, s.MemoryLimit, s.PidsLimit)
	}
	if err := e.Stop(ctx, c.ID, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(ctx, c.ID, StartOptions{}); err != nil {
		t.Fatal(err)
	}
	if s, err := e.Stats(ctx, c.ID); err != nil || s.MemoryLimit != 32<<20 || s.PidsLimit != 77 {
		t.Errorf("after a new start: %v: memory %d, pids %d", err, s.MemoryLimit, s.PidsLimit)
	}
}

// TestHealth: a container's health follows its checks, and is told.
func TestHealth(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	cfg := asleep(root)
	cfg.Health = &Health{Test: []string{"CMD-SHELL", "echo checked; test -e /tmp/well"}, Interval: 50 * time.Millisecond, Retries: 2}
	c := started(t, e, cfg)
	is := func(status string) func() bool {
		return func() bool {
			i, err := e.Inspect(c.ID)
			return err == nil && i.State.Health != nil && i.State.Health.Status == status
		}
	}
	nstest.Until(t, "it is not well", is("unhealthy"))
	if _, _, err := execs(e, c.ID, ExecConfig{Command: []string{"touch", "/tmp/well"}}, ""); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "it is well", is("healthy"))
	i, err := e.Inspect(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	log := i.State.Health.Log
	if last := log[len(log)-1]; len(log) > 5 || last.Output != "checked\n" || last.ExitCode != 0 || last.End.Before(last.Start) {
		t.Errorf("%+v", log)
	}
	nstest.Until(t, "both changes are told", func() bool { // right after they can be seen
		var told []string
		e.Events(context.Background(), EventOptions{Since: c.Created, Until: time.Now(), Filters: Filters{"event": {"health_status"}}}, func(x Event) error { told = append(told, x.Action); return nil })
		return fmt.Sprint(told) == "[health_status: unhealthy health_status: healthy]"
	})
}

// TestHealthFrozen: a check that finds the container's control group frozen on its way into it is not one that failed, as none is made of a container that is paused.
func TestHealthFrozen(t *testing.T) {
	nstest.Root(t)
	h, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	e, root := open(t), nstest.RootFS(t)
	cfg := asleep(root)
	cfg.Health = &Health{Test: []string{"CMD", "true"}, Interval: 10 * time.Millisecond, Retries: 1}
	c := started(t, e, cfg)
	last := func() time.Time { // when the last check that was passed began
		i, err := e.Inspect(c.ID)
		if err != nil || i.State.Health == nil || len(i.State.Health.Log) == 0 {
			return time.Time{}
		}
		r := i.State.Health.Log[len(i.State.Health.Log)-1]
		if r.ExitCode != 0 {
			t.Fatalf("%+v", r)
		}
		return r.Start
	}
	nstest.Until(t, "it is well", func() bool { return !last().IsZero() })
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.PID))
	if err != nil {
		t.Fatal(err)
	}
	dir, mark, file, frozen, thawed := "/sys/fs/cgroup", "0::", "cgroup.freeze", "1", "0"
	if !h.Unified() {
		dir, mark, file, frozen, thawed = "/sys/fs/cgroup/freezer", ":freezer:", "freezer.state", "FROZEN", "THAWED"
	}
	_, group, _ := strings.Cut(string(groups), mark)
	group, _, _ = strings.Cut(group, "\n")
	dir += group
	set := func(text string) {
		t.Helper()
		if err := os.WriteFile(dir+"/"+file, []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	defer os.WriteFile(dir+"/"+file, []byte(thawed), 0)
	more := func() bool { // than the first process
		pids, err := os.ReadFile(dir + "/cgroup.procs")
		return err == nil && len(strings.Fields(string(pids))) > 1
	}
	// A check whose process comes no further than into the control group is given up, and its process ends. One that has come to its command waits.
	nstest.Until(t, "a check is given up", func() bool {
		for n := 0; !more(); n++ {
			if n == 100000 {
				return false
			}
		}
		set(frozen)
		defer set(thawed)
		for range 150 {
			if !more() {
				return true
			}
			time.Sleep(10 * time.Millisecond)
		}
		return false
	})
	thaw := time.Now()
	nstest.Until(t, "another check is passed", func() bool { return last().After(thaw) })
	told := 0
	e.Events(context.Background(), EventOptions{Since: c.Created, Until: time.Now(), Filters: Filters{"event": {"health_status: unhealthy"}}}, func(Event) error { told++; return nil })
	if told > 0 {
		t.Errorf("it was not well %d times", told)
	}
}

// TestHealthTimeout: a check that hangs is ended, and is none that was passed.
func TestHealthTimeout(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	cfg := asleep(root)
	cfg.Health = &Health{Test: []string{"CMD", "sh", "-c", "echo begun; sleep 100"}, Interval: 20 * time.Millisecond, Timeout: 600 * time.Millisecond, Retries: 1}
	c := started(t, e, cfg)
	nstest.Until(t, "a check that had begun is ended", func() bool {
		now, err := e.Find(c.ID)
		if err != nil || now.Health == nil || len(now.Health.Log) == 0 {
			return false
		}
		if now.Health.Status != monitor.Unhealthy {
			t.Errorf("it is %s", now.Health.Status)
		}
		// On a busy machine the first ones may not have come to their command.
		return slices.ContainsFunc(now.Health.Log, func(r monitor.HealthResult) bool {
			return r.ExitCode == -1 && r.Output == "Health check exceeded timeout (600ms): begun\n"
		})
	})
	nstest.Until(t, "no check is left but one", func() bool {
		pids, err := e.Top(context.Background(), c.ID, []string{"-o", "pid,args"})
		return err == nil && len(pids.Rows) <= 4
	})
}

// TestHealthStopped: a container that stops each other process in it, the checks too before they are their command, is not well.
func TestHealthStopped(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	c := started(t, e, Config{
		Rootfs: root, Command: []string{"sh", "-c", "while :; do kill -STOP -1; done"},
		Health: &Health{Test: []string{"CMD", "true"}, Interval: 20 * time.Millisecond, Timeout: 300 * time.Millisecond, Retries: 1},
	})
	nstest.Until(t, "a check could not begin", func() bool {
		now, err := e.Find(c.ID)
		if err != nil || now.Health == nil {
			return false
		}
		for _, r := range now.Health.Log {
			if r.ExitCode == -1 && r.Output == "Health check exceeded timeout (300ms): its process did not start" {
				return true
			}
		}
		return false
	})
}

// TestDeath: a certificate says how a container ended, and by whom.
func TestDeath(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	ctx := context.Background()
	run := func(line string, r Resources) Container {
		return started(t, e, Config{Rootfs: root, Command: []string{"sh", "-c", line}, Resources: r})
	}
	death := func(c Container, want monitor.Death, code int) *monitor.Death {
		t.Helper()
		c = ended(t, e, c.ID)
		d := c.Death
		if d == nil || d.Cause != want.Cause || d.Signal != want.Signal || !strings.Contains(d.By, want.By) || fmt.Sprint(d.Log) != fmt.Sprint(want.Log) || c.ExitCode != code {
			t.Errorf("code %d: %+v, want code %d, %+v", c.ExitCode, d, code, want)
		}
		return d
	}
	death(run("seq 1 12; echo oops; exit 3", Resources{}), monitor.Death{Cause: "exit", Log: strings.Fields("4 5 6 7 8 9 10 11 12 oops")}, 3)
	c := run("trap 'exit 5' TERM; echo up; while :; do sleep .01; done", Resources{})
	nstest.Until(t, "it is up", func() bool { return logs(t, e, c.ID, LogOptions{}) != "" })
	if err := e.Stop(ctx, c.ID, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	death(c, monitor.Death{Cause: "exit", By: "itself, after SIGTERM by process " + itoa(os.Getpid()), Log: []string{"up"}}, 5)
	c = run("trap '' TERM; echo up; while :; do sleep .01; done", Resources{})
	nstest.Until(t, "it is up", func() bool { return logs(t, e, c.ID, LogOptions{}) != "" })
	one := 1
	if err := e.Stop(ctx, c.ID, StopOptions{Timeout: &one}); err != nil {
		t.Fatal(err)
	}
	death(c, monitor.Death{Cause: "signal", Signal: 9, By: "1 s after SIGTERM", Log: []string{"up"}}, 137)
	c = run("exec sleep 1000", Resources{})
	if err := e.Kill(ctx, c.ID, ""); err != nil {
		t.Fatal(err)
	}
	death(c, monitor.Death{Cause: "signal", Signal: 9, By: "process " + itoa(os.Getpid())}, 137)
	c = run("trap 'exit 6' USR1; echo up; while :; do sleep .01; done", Resources{})
	nstest.Until(t, "it is up", func() bool { return logs(t, e, c.ID, LogOptions{}) != "" })
	if err := e.Kill(ctx, c.ID, "USR1"); err != nil {
		t.Fatal(err)
	}
	death(c, monitor.Death{Cause: "exit", By: "itself, after SIGUSR1 by process " + itoa(os.Getpid()), Log: []string{"up"}}, 6)
	d := death(run("tail /dev/zero", Resources{Memory: 16 << 20}), monitor.Death{Cause: "oom", Signal: 9, By: "the kernel"}, 137)
	if d != nil && (d.Memory["limit"] != 16<<20 || d.Memory["oom_kills"] == 0) {
		t.Errorf("figures %v", d.Memory)
	}
	// One that did not start: the step of the plan.
	res, err := e.Run(ctx, Config{Rootfs: root, Command: []string{"/nosuch"}}, Streams{}, RunOptions{Detach: true})
	if err == nil {
		t.Fatal("it runs")
	}
	i, err := e.Inspect(res.ID)
	if err != nil || i.Death == nil || i.Death.Cause != "setup" || !strings.Contains(i.Death.Step, ": execve ") || i.State.ExitCode != 127 || !strings.Contains(i.State.Error, "/nosuch") {
		t.Errorf("%v: %+v, %+v", err, i.Death, i.State)
	}
	if err := e.Remove(ctx, res.ID, RemoveOptions{}); err != nil {
		t.Error(err)
	}
}

// TestRootlessBeside: all that is done beside a container works for an ordinary user.
func TestRootlessBeside(t *testing.T) {
	u := nstest.User(t)
	nstest.Inside(t, nstest.Place{User: u}, func(t *testing.T) {
		e, root := open(t), nstest.RootFS(t)
		ctx := context.Background()
		cfg := Config{Rootfs: root, StopSignal: "KILL", Command: []string{"sh", "-c", "echo up; exec sleep 1000"}, Health: &Health{Test: []string{"CMD", "true"}, Interval: 50 * time.Millisecond}}
		c := started(t, e, cfg)
		if out, code, err := execs(e, c.ID, ExecConfig{Command: []string{"sh", "-c", "id -u; cat"}}, "typed"); out != "0\ntyped" || code != 0 || err != nil {
			t.Errorf("exec: %q, %d, %v", out, code, err)
		}
		if out, code, err := execs(e, c.ID, ExecConfig{Command: []string{"tty"}, TTY: true}, ""); !strings.HasPrefix(out, "/dev/pts/") || err != nil {
			t.Errorf("exec on a terminal: %q, %d, %v", out, code, err)
		}
		table, err := e.Top(ctx, c.ID, []string{"-o", "pid,args"})
		if err != nil || len(table.Rows) == 0 || !strings.Contains(fmt.Sprint(table.Rows), "sleep 1000") {
			t.Errorf("top: %v: %v", table, err)
		}
		if s, err := e.Stats(ctx, c.ID); err != nil || !s.Running || s.Pids == 0 {
			t.Errorf("stats: %v, %+v", err, s)
		}
		nstest.Until(t, "it is well", func() bool {
			i, err := e.Inspect(c.ID)
			return err == nil && i.State.Health != nil && i.State.Health.Status == "healthy"
		})
		if got := logs(t, e, c.ID, LogOptions{}); got != "stdout up\n" {
			t.Errorf("log: %q", got)
		}
		if err := e.Stop(ctx, c.ID, StopOptions{}); err != nil {
			t.Fatal(err)
		}
		if c = ended(t, e, c.ID); c.Death == nil || c.Death.Signal != 9 {
			t.Errorf("death: %+v", c.Death)
		}
	})
}

// TestEventsOfAFailure: a container that was to be removed at its end, and did not start, is seen to go.
func TestEventsOfAFailure(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	begin := time.Now()
	refused(t, e, Config{Rootfs: root, Command: []string{"/no/command"}}, 127, "no such file")
	var got []string
	if err := e.Events(t.Context(), EventOptions{Since: begin, Until: time.Now()}, func(x Event) error {
		got = append(got, x.Action)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"create", "destroy"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestEventsOfPrune: each prune that came to its end is told, also where there was nothing to remove.
func TestEventsOfPrune(t *testing.T) {
	nstest.Root(t)
	e, ctx, begin := open(t), t.Context(), time.Now()
	if _, _, err := e.PruneContainers(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := e.NetworkPrune(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.VolumePrune(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := e.PruneImages(ctx, false, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := e.PruneImages(ctx, false, Filters{"colour": {"red"}}); err == nil {
		t.Error("a filter that there is not was taken")
	}
	var got []string
	if err := e.Events(ctx, EventOptions{Since: begin, Until: time.Now()}, func(x Event) error {
		got = append(got, x.Type+" "+x.Action+" "+x.Actor.Attributes["reclaimed"])
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"container prune 0", "network prune 0", "volume prune 0", "image prune 0"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
