package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/cgroup/limits"
	"github.com/kakuri/kakuri/internal/wait"
)

// OOMKills counts the processes that the kernel has ended in the cgroup because its memory ran out.
func (g *Group) OOMKills() (uint64, error) {
	n, dir, err := g.memory()
	if err != nil {
		return 0, err
	}
	return n.oomKills(dir)
}

func (g *Group) memory() (*node, int, error) {
	n := g.of("memory", limits.V1)
	if n == nil {
		n = g.of("memory", limits.V2)
	}
	if n == nil {
		return nil, -1, errors.New("the container has no cgroup with the memory controller")
	}
	dir, err := n.open()
	return n, dir, err
}

func (n *node) oomKills(dir int) (uint64, error) {
	file := "memory.oom_control"
	if n.h.Version == limits.V2 {
		file = "memory.events"
	}
	text, err := readFile(dir, file)
	if err != nil {
		return 0, n.errorf("read %s: %w", file, err)
	}
	return keyed(text, "oom_kill")
}

// OOM sends on the channel each time that the kernel ends a process of the cgroup because its memory ran out; on version 1, each
// time that memory runs out. The channel is closed when the cgroup has no more processes, is removed, or ctx ends.
func (g *Group) OOM(ctx context.Context) (<-chan struct{}, error) {
	n, dir, err := g.memory()
	if err != nil {
		return nil, err
	}
	watch := n.watchV2
	if n.h.Version == limits.V1 {
		watch = n.watchV1
	}
	// A descriptor of its own: the watch outlives the Group's.
	own, err := openDir(dir, ".")
	if err != nil {
		return nil, n.errorf("open: %w", err)
	}
	group := os.NewFile(uintptr(own), n.String())
	next, events, err := watch(group)
	if err != nil {
		group.Close()
		return nil, err
	}
	ch := make(chan struct{})
	go func() {
		defer close(ch)
		defer group.Close()
		defer events.Close()
		stop := context.AfterFunc(ctx, func() { events.Close() })
		defer stop()
		for {
			ok, oom := next()
			if oom {
				select {
				case ch <- struct{}{}:
				case <-ctx.Done():
					return
				}
			}
			if !ok {
				return
			}
		}
	}()
	return ch, nil
}

// A watcher waits for the next event: ok is false at the end of them, oom says that memory ran out.
type watcher func() (ok, oom bool)

// watchV1 has the kernel count in an eventfd: Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control".
func (n *node) watchV1(group *os.File) (watcher, *os.File, error) {
	dir := int(group.Fd())
	control, err := openFile(dir, "memory.oom_control", unix.O_RDONLY)
	if err != nil {
		return nil, nil, n.errorf("open memory.oom_control: %w", err)
	}
	defer unix.Close(control)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		if err = writeFile(dir, "cgroup.event_control", fmt.Sprintf("%d %d", fd, control)); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return nil, nil, n.errorf("watch memory.oom_control: %w", err)
	}
	events := os.NewFile(uintptr(fd), "eventfd")
	return func() (bool, bool) {
		buf := make([]byte, 8)
		if _, err := events.Read(buf); err != nil {
			return false, false
		}
		// The end of a cgroup counts as an event, too.
		_, err := readFile(dir, "memory.oom_control")
		return err == nil, err == nil
	}, events, nil
}

// watchV2 watches two files: the count of ends, and whether there is still a process. A cgroup's
// removal makes no event of its own.
func (n *node) watchV2(group *os.File) (watcher, *os.File, error) {
	dir := int(group.Fd())
	last, err := n.oomKills(dir)
	if err != nil {
		return nil, nil, err
	}
	events, err := wait.Changes(func(inotify int) error {
		for _, file := range []string{"memory.events", "cgroup.events"} {
			// By descriptor: a name would be looked up anew.
			f, err := openFile(dir, file, unix.O_RDONLY)
			if err == nil {
				_, err = unix.InotifyAddWatch(inotify, fmt.Sprintf("/proc/self/fd/%d", f), unix.IN_MODIFY)
				unix.Close(f)
			}
			if err != nil {
				return fmt.Errorf("watch %s: %w", file, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, n.errorf("%w", err)
	}
	// One that came between the count and the watch makes no event.
	count, err := n.oomKills(dir)
	early := err == nil && count > last
	return func() (bool, bool) {
		if early {
			early, last = false, count
			return true, true
		}
		buf := make([]byte, 4096)
		if _, err := events.Read(buf); err != nil {
			return false, false
		}
		count, err := n.oomKills(dir)
		oom := err == nil && count > last
		last = max(last, count)
		text, err2 := readFile(dir, "cgroup.events")
		populated, _ := keyed(text, "populated")
		return err == nil && err2 == nil && populated == 1, oom
	}, events, nil
}

// firstLine is a file's text up to its end of line.
func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
