package engine

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A container with a pid namespace of its own ends as a whole with its first process: the
// kernel sees to that. Where it shares one, with --pid host or container:NAME, its other
// processes are found by the namespaces that are its own. They need not be this
// process's children, and cannot leave them without CAP_SYS_ADMIN.

// noteNamespaces notes in the record by which namespaces the processes of a container
// with first process pid are known. What an ordinary user may read of it changes with its
// state: all at first, nothing while it is built and of an init, the user namespace of one
// that has ended. So this is called at several times.
func (c *Container) noteNamespaces(pid int) {
	note := func(to *string, ns string) {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
		// It may not be in its own one yet.
		if ours, ourErr := os.Readlink("/proc/self/ns/" + ns); err == nil && ourErr == nil && theirs != ours {
			*to = theirs
		}
	}
	note(&c.Mounts, "mnt")
	if c.UserNS {
		note(&c.Users, "user")
	}
}

// has reports whether a process is in one of the noted namespaces. One with CAP_SYS_ADMIN
// may have made a mount namespace of its own, in the same user namespace.
func (c *Container) has(pid string) bool {
	mounts, err := os.Readlink("/proc/" + pid + "/ns/mnt")
	if err != nil || mounts == c.Mounts {
		return err == nil // one that has ended is in none, while nobody has reaped it
	}
	users, err := os.Readlink("/proc/" + pid + "/ns/user")
	return err == nil && users == c.Users
}

// endStrays ends the processes that no pid namespace ended, and returns when there are
// none: each round finds what the last one's have started meanwhile.
func endStrays(c Container) error {
	if c.Mounts+c.Users == "" {
		return nil
	}
	for range 100 {
		ended, err := endRound(c)
		if err != nil || ended == 0 {
			return err
		}
	}
	return errors.New("its processes start others faster than they can be ended: the next command tries again")
}

// endRound ends those that are there now, and waits for their end.
func endRound(c Container) (ended int, err error) {
	names, err := readNames("/proc")
	if err != nil {
		return 0, err
	}
	var pidfds []unix.PollFd
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || !c.has(name) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		// Looked at again with the pidfd open: it is this process that gets the signal.
		if c.has(name) && unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil {
			pidfds = append(pidfds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
			continue
		}
		unix.Close(fd)
	}
	for i := range pidfds {
		pollEnd(pidfds[i : i+1])
		unix.Close(int(pidfds[i].Fd))
	}
	return len(pidfds), nil
}

// pollEnd waits until a process that was sent SIGKILL has ended. One that the kernel
// holds, as on a server that does not answer, is not waited for without end.
func pollEnd(pidfd []unix.PollFd) {
	const milliseconds = 5000
	for {
		if _, err := unix.Poll(pidfd, milliseconds); err != unix.EINTR {
			return
		}
	}
}
