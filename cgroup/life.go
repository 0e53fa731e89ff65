package cgroup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/cgroup/limits"
)

// patience is how long this package waits for the kernel when its caller sets no end.
const patience = 10 * time.Second

func patient(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, patience)
}

// pause waits between two tries, longer each time.
func pause(ctx context.Context, wait *time.Duration, most time.Duration) error {
	t := time.NewTimer(*wait)
	defer t.Stop()
	*wait = min(*wait*2, most)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// AllPids lists the processes in the cgroup and in those below it, by the numbers of the caller's pid namespace.
func (g *Group) AllPids() ([]int, error) {
	pids, err := g.list(allPidsIn)
	slices.Sort(pids)
	return slices.Compact(pids), err
}

// list reads pids in the hierarchy by which processes are listed.
func (g *Group) list(read func(dir int) ([]int, error)) ([]int, error) {
	n, err := g.main()
	if err != nil {
		return nil, err
	}
	dir, err := n.open()
	if err != nil {
		return nil, err
	}
	pids, err := read(dir)
	if err != nil {
		return nil, n.errorf("read cgroup.procs: %w", err)
	}
	return pids, nil
}

// pidsIn reads cgroup.procs. Processes of other pid namespaces show as 0, and are left out.
func pidsIn(dir int) ([]int, error) {
	text, err := readFile(dir, "cgroup.procs")
	if errors.Is(err, unix.ENOTSUP) { // a threaded cgroup
		text, err = readFile(dir, "cgroup.threads")
	}
	if err != nil {
		return nil, err
	}
	var pids []int
	for f := range strings.FieldsSeq(text) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			return nil, fmt.Errorf("%q is no process", f)
		}
		if pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) }

func allPidsIn(dir int) (pids []int, err error) {
	err = walk(dir, func(at int) ([]string, error) {
		here, err := pidsIn(at)
		if err != nil {
			return nil, err
		}
		pids = append(pids, here...)
		return subdirs(at)
	}, func(int, string) error { return nil })
	return pids, err
}

// walk goes through a directory and those below it that into names, and calls back for each of the latter when it is through with it. It goes back by "..": a
// container that may make cgroups can nest them deeper than a process can open files.
func walk(dir int, into func(at int) (below []string, err error), back func(above int, name string) error) error {
	at, err := openDir(dir, ".")
	if err != nil {
		return err
	}
	defer func() { unix.Close(at) }()
	type level struct {
		name  string
		below []string // where it is still to go
	}
	way := []level{{}}
	if way[0].below, err = into(at); err != nil {
		return err
	}
	for {
		here := &way[len(way)-1]
		if len(here.below) == 0 {
			if len(way) == 1 {
				return nil
			}
			above, err := retryFD(func() (int, error) { return unix.Openat(at, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
			if err != nil {
				return err
			}
			unix.Close(at)
			at, way = above, way[:len(way)-1]
			if err := back(at, here.name); err != nil {
				return err
			}
			continue
		}
		name := here.below[0]
		here.below = here.below[1:]
		next, err := openDir(at, name)
		if gone(err) {
			continue
		}
		if err != nil {
			return err
		}
		unix.Close(at)
		at = next
		below, err := into(at)
		if err != nil && !gone(err) {
			return err
		}
		way = append(way, level{name, below})
	}
}

// ErrNoFreezer is the error where nothing can stop a container.
var ErrNoFreezer = errors.New("cannot toggle freezer: the container has no cgroup of version 2, and none with the freezer")

// freezer gives the node that can freeze the container.
func (g *Group) freezer() (*node, int, error) {
	n, err := g.main()
	if err != nil || n.h.Version == limits.V1 && !n.h.has("freezer") {
		return nil, -1, ErrNoFreezer
	}
	dir, err := n.open()
	return n, dir, err
}

// Freeze stops all processes, and returns when they have stopped. When that cannot be had, they go on.
func (g *Group) Freeze(ctx context.Context) error {
	n, dir, err := g.freezer()
	if err != nil {
		return err
	}
	ctx, cancel := patient(ctx)
	defer cancel()
	if n.h.Version == limits.V2 {
		err = freezeV2(ctx, dir)
	} else {
		err = freezeV1(ctx, dir)
	}
	if err != nil {
		return n.errorf("unable to freeze: %w", errors.Join(err, n.thaw(dir)))
	}
	return nil
}

// Thaw lets the processes go on.
func (g *Group) Thaw() error {
	n, dir, err := g.freezer()
	if err != nil {
		return err
	}
	return n.thaw(dir)
}

// LetEnd lets processes end whose first one was sent SIGKILL: those of the cgroup and of those below it that own tells, or all of them where it is nil. With version 1, one that
// stands still does not end. So where something does, they are sent SIGKILL, each of them, or another one could freeze it again, and those that stand still leave the cgroup.
// Others' cgroups below stay as they are.
func (g *Group) LetEnd(ctx context.Context, own func(pid int) bool) error {
	n, dir, err := g.freezer()
	if err != nil || n.path == "/" { // that one nobody freezes
		return err
	}
	if n.h.Version == limits.V1 {
		if still, err := standsStill(dir); err != nil || !still {
			return err
		}
		seen := map[int]bool{}
		for more := true; more; {
			if more, err = g.signalNew(unix.SIGKILL, seen, own); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		for pid := range seen {
			err = errors.Join(err, g.LetGo(pid))
		}
	}
	return errors.Join(err, n.thaw(dir))
}

// standsStill reports whether the cgroup of version 1 does, or one below it.
func standsStill(dir int) (still bool, err error) {
	err = walk(dir, func(at int) ([]string, error) {
		state, err := readFile(at, "freezer.state")
		if still = still || err == nil && strings.TrimSpace(state) != "THAWED"; still || err != nil {
			return nil, err
		}
		return subdirs(at)
	}, func(int, string) error { return nil })
	return still, err
}

// hurry takes away what slows processes down that are all to end, also in cgroups below, as far as there is something: with a thousandth of a processor a large one
// takes minutes to end.
func (g *Group) hurry(ctx context.Context) {
	for _, n := range g.nodes {
		if n.path == "/" {
			continue // all that the machine has is below it
		}
		files := [][2]string{{"cpu.max", "max"}, {"memory.high", "max"}}
		if n.h.Version == limits.V1 {
			if !n.h.has("cpu") {
				continue
			}
			files = [][2]string{{"cpu.cfs_quota_us", "-1"}}
		}
		dir, err := n.open()
		if err != nil {
			continue
		}
		_ = walk(dir, func(at int) ([]string, error) {
			for _, f := range files {
				_ = writeFile(at, f[0], f[1]) // not there without its controller
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			return subdirs(at)
		}, func(int, string) error { return nil })
	}
}

// thawAll lets the processes go on, those too that are frozen by cgroups below.
func (g *Group) thawAll() error {
	n, dir, err := g.freezer()
	if err != nil {
		return err
	}
	if n.h.Version == limits.V2 {
		return n.thaw(dir)
	}
	return walk(dir, func(at int) ([]string, error) {
		if err := n.thaw(at); err != nil {
			return nil, err
		}
		return subdirs(at)
	}, func(int, string) error { return nil })
}

func (n *node) thaw(dir int) error {
	file, value := "cgroup.freeze", "0"
	if n.h.Version == limits.V1 {
		file, value = "freezer.state", "THAWED"
	}
	if err := writeFile(dir, file, value); err != nil {
		return n.errorf("write %s to %s: %w", value, file, err)
	}
	return nil
}

// frozen reports whether the cgroup itself was told to freeze; not whether it stands still because one above it was.
func (g *Group) frozen() (bool, error) {
	n, dir, err := g.freezer()
	if errors.Is(err, ErrNoFreezer) || gone(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	file := "cgroup.freeze"
	if n.h.Version == limits.V1 {
		file = "freezer.self_freezing"
	}
	state, err := readFile(dir, file)
	if gone(err) {
		return false, nil // the cgroup, or on old kernels the file
	}
	if err != nil {
		return false, n.errorf("read %s: %w", file, err)
	}
	return strings.TrimSpace(state) == "1", nil
}

// StandsStill reports whether a process that joins the cgroup sub below this one, or with "" this one itself, would stand still at once: since it, or one above it, was
// told to freeze, by whoever may do so.
func (g *Group) StandsStill(sub string) bool {
	n, _, err := g.freezer()
	if err != nil {
		return false
	}
	dir, err := n.below(sub)
	if err != nil {
		return false // who joins it says so
	}
	return n.isHeld(dir)
}

// Holds reports whether the process pid stands still, in whichever cgroup it is by now: the container's, or one that it was moved to.
func (g *Group) Holds(pid int) bool {
	n, _, err := g.freezer()
	if err != nil {
		return false
	}
	own, err := n.cgroupOf(pid)
	if err != nil {
		return false
	}
	at := &node{h: n.h, path: below(n.h.Root, own), fd: -1, tree: n.tree}
	if at.path == "" {
		return false // it is not to be seen from here
	}
	dir, err := at.open()
	return err == nil && n.isHeld(dir)
}

// LetGo gives the process pid, which was sent SIGKILL, to the caller's own cgroup where it stands still and so would not end: with version 1.
func (g *Group) LetGo(pid int) error {
	n, _, err := g.freezer()
	if err != nil || n.h.Version != limits.V1 || !g.Holds(pid) {
		return nil
	}
	if n.h.Own == "" {
		return n.errorf("process %d stands still, and there is no other cgroup to be seen from here", pid)
	}
	to := &node{h: n.h, path: n.h.Own, fd: -1, tree: n.tree}
	defer to.close()
	return to.join(pid, "")
}

// isHeld reports whether what is in the cgroup dir, which it closes, stands still.
func (n *node) isHeld(dir int) bool {
	defer func() { unix.Close(dir) }()
	if n.h.Version == limits.V1 {
		state, err := readFile(dir, "freezer.state")
		return err == nil && strings.TrimSpace(state) != "THAWED"
	}
	// What each one was told: cgroup.events has "frozen" when the last process stands still, and one may wait in the kernel.
	for {
		told, err := readFile(dir, "cgroup.freeze")
		if err != nil || strings.TrimSpace(told) == "1" {
			return err == nil // the root has none
		}
		above, err := retryFD(func() (int, error) { return unix.Openat(dir, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
		if err != nil {
			return false
		}
		unix.Close(dir)
		dir = above
	}
}

// Frozen is [Group.frozen] for the paths of a record, of which it opens one: a list asks this of each container.
func (h *Host) Frozen(paths map[string]string) (bool, error) {
	for i := range h.Hierarchies {
		hi := &h.Hierarchies[i]
		if p, ok := paths[hi.key()]; ok && (hi.Version == limits.V1 && hi.has("freezer") || len(paths) == 1) {
			paths = map[string]string{hi.key(): p}
			break
		}
	}
	g, err := h.Open(paths, Options{})
	if err != nil {
		return false, err
	}
	defer g.Close()
	return g.frozen()
}

// freezeV1 asks again and again, as the kernel's documentation has it: processes that fork meanwhile
// keep the cgroup in the state FREEZING. To let it go and begin anew helps at times.
func freezeV1(ctx context.Context, dir int) error {
	for i := 1; ; i++ {
		if err := writeFile(dir, "freezer.state", "FROZEN"); err != nil {
			return err
		}
		state, err := readFile(dir, "freezer.state")
		if err != nil {
			return err
		}
		switch state = strings.TrimSpace(state); state {
		case "FROZEN":
			return nil
		case "FREEZING":
		default:
			return fmt.Errorf("freezer.state is %q", state)
		}
		wait := 20 * time.Microsecond
		if i%50 == 0 {
			if err := writeFile(dir, "freezer.state", "THAWED"); err != nil {
				return err
			}
			wait = 10 * time.Millisecond
		}
		if err := pause(ctx, &wait, wait); err != nil {
			return err
		}
	}
}

func freezeV2(ctx context.Context, dir int) error {
	if err := writeFile(dir, "cgroup.freeze", "1"); err != nil {
		return err
	}
	return waitEvent(ctx, dir, "frozen", 1)
}

// waitEvent waits until a key of cgroup.events has a value. The kernel wakes who polls that file.
func waitEvent(ctx context.Context, dir int, key string, want uint64) error {
	fd, err := openFile(dir, "cgroup.events", unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		if _, err := unix.Seek(fd, 0, 0); err != nil {
			return err
		}
		text, err := readAll(fd)
		if err != nil {
			return err
		}
		if v, err := keyed(text, key); err != nil || v == want {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		// In slices, since a context is no descriptor.
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}
		if _, err := unix.Poll(poll, 100); err != nil && err != unix.EINTR {
			return err
		}
	}
}

// Kill sends sig to every process in the cgroup and below it, those included that are forked meanwhile. A frozen
// cgroup stays frozen, but for SIGKILL, which on version 2 ends frozen processes too.
func (g *Group) Kill(ctx context.Context, sig unix.Signal) error {
	// Into an empty one nobody comes but from outside.
	pids, err := g.AllPids()
	empty := gone(err) || err == nil && len(pids) == 0
	if sig == unix.SIGKILL && !empty {
		g.hurry(ctx) // first: to be frozen takes processor time, too
	}
	if n := g.of("", limits.V2); n != nil && sig == unix.SIGKILL && g.host.Unified() {
		if done, err := n.kill(); done || err != nil {
			return err
		}
	}
	if empty {
		return nil
	}
	was, err := g.frozen()
	if err != nil {
		return err
	}
	stopped := !was && g.Freeze(ctx) == nil
	if sig == unix.SIGKILL {
		defer func() { _ = g.thawAll() }() // it is gone, or the signals wait for the next try
	} else if stopped {
		defer func() { _ = g.Thaw() }()
	}
	seen := map[int]bool{}
	for {
		if more, err := g.signalNew(sig, seen, nil); err != nil || !more {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// signalNew sends sig to the processes that are not in seen yet, of those that own tells where it is not nil, and reports whether there were any.
func (g *Group) signalNew(sig unix.Signal, seen map[int]bool, own func(pid int) bool) (more bool, err error) {
	pids, err := g.AllPids()
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, pid := range pids {
		if seen[pid] || own != nil && !own(pid) {
			continue
		}
		seen[pid], more = true, true
		if err := g.signal(pid, sig, own); err != nil {
			return more, err
		}
	}
	return more, nil
}

// kill has the kernel end all processes at once, where it can: since Linux 5.14.
func (n *node) kill() (done bool, err error) {
	dir, err := n.open()
	if gone(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	switch err := writeFile(dir, "cgroup.kill", "1"); {
	case err == unix.ENOENT, err == unix.EOPNOTSUPP: // the latter of a threaded cgroup
		return false, nil
	case err != nil && !gone(err):
		return false, n.errorf("write 1 to cgroup.kill: %w", err)
	}
	return true, nil
}

// signal sends sig to pid, if that is still the process which is in the cgroup.
func (g *Group) signal(pid int, sig unix.Signal, own func(pid int) bool) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.EINVAL || err == unix.ENOENT { // the latter since Linux 6.16
		if err = unix.Kill(pid, sig); err != unix.ESRCH { // a thread, of a threaded cgroup
			return err
		}
	}
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: pidfd_open: %w", pid, err)
	}
	defer unix.Close(fd)
	// The number may have become another process's between the reading and now.
	pids, err := g.AllPids()
	if err != nil || !slices.Contains(pids, pid) || own != nil && !own(pid) {
		if gone(err) {
			return nil
		}
		return err
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("process %d: signal: %w", pid, err)
	}
	return nil
}

// Remove removes the cgroup and those below it, in every hierarchy, as soon as their processes have ended. Until ctx
// ends, or for ten seconds, it waits for that, without turning in circles.
func (g *Group) Remove(ctx context.Context) error {
	ctx, cancel := patient(ctx)
	defer cancel()
	var errs []error
	if g.opts.Unit != nil {
		errs = append(errs, g.opts.Unit.Stop())
	}
	for _, n := range g.nodes {
		errs = append(errs, n.remove(ctx))
	}
	return errors.Join(errs...)
}

// RemoveEmpty removes the cgroup in those hierarchies in which it has no process, and waits for nothing. It is for what a killed command has left, which was making or
// removing the cgroup: with version 1, some hierarchies have it then and others do not.
func (g *Group) RemoveEmpty() error {
	atOnce, cancel := context.WithCancel(context.Background())
	cancel()
	var errs []error
	for _, n := range g.nodes {
		if err := n.remove(atOnce); !errors.Is(err, unix.EBUSY) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (n *node) remove(ctx context.Context) error {
	if n.path == "/" {
		return nil
	}
	n.close()
	parent := &node{h: n.h, path: n.path[:strings.LastIndexByte(n.path, '/')], fd: -1, tree: n.tree}
	name := n.path[len(parent.path)+1:]
	if parent.path == "" {
		parent.path = "/"
	}
	at, err := parent.open()
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.close()
	wait := time.Millisecond
	for {
		err := removeTree(at, name)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return n.errorf("rmdir: %w", err)
		}
		if end := n.await(ctx, &wait); end != nil {
			return n.errorf("not removed: %w%s", err, n.tenants())
		}
	}
}

// await waits for what keeps the cgroup: on version 2 until its last process has ended.
func (n *node) await(ctx context.Context, wait *time.Duration) error {
	if n.h.Version == limits.V2 {
		dir, err := n.open()
		if err == nil {
			err = waitEvent(ctx, dir, "populated", 0)
		}
		n.close()
		if err != nil && !gone(err) {
			return err
		}
	}
	// An ended process leaves its cgroup a moment after its parent has heard of it.
	return pause(ctx, wait, 50*time.Millisecond)
}

// tenants names the processes that keep the cgroup.
func (n *node) tenants() string {
	dir, err := n.open()
	if err != nil {
		return ""
	}
	defer n.close()
	pids, err := allPidsIn(dir)
	if err != nil || len(pids) == 0 {
		return ""
	}
	return fmt.Sprintf(": still in it: %s", strings.Trim(fmt.Sprint(pids), "[]"))
}

// removeTree removes the cgroup name in at, and first those below it.
func removeTree(at int, name string) error {
	occupied := func(err error) bool { return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY) }
	if err := rmdir(at, name); !occupied(err) {
		return err
	}
	dir, err := openDir(at, name)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	err = walk(dir, func(at int) (below []string, err error) {
		list, err := subdirs(at)
		for _, name := range list {
			if err := rmdir(at, name); occupied(err) {
				below = append(below, name)
			} else if err != nil {
				return nil, err
			}
		}
		return below, err
	}, rmdir)
	if err != nil {
		return err
	}
	return rmdir(at, name)
}

// rmdir removes a cgroup that is there.
func rmdir(at int, name string) error {
	for {
		err := unix.Unlinkat(at, name, unix.AT_REMOVEDIR)
		if err == unix.ENOENT {
			return nil
		}
		if err != unix.EINTR {
			return err
		}
	}
}
