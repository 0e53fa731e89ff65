package oci

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/wait"
	"github.com/kakuri/kakuri/namespace"
	"golang.org/x/sys/unix"
)

// A container with a pid namespace of its own ends as a whole with its first process: the
// kernel sees to that. Where it shares one, with --pid host or container:NAME, its other
// processes are found by the namespaces that are its own. They need not be this
// process's children, and cannot leave them without CAP_SYS_ADMIN.
//
// The inode by which a namespace is known is given to another one, the container's of somebody else or a service's, as soon as it is gone.
// So one that is remembered is known by its number that is never used again, too: since Linux 6.18 all have
// one, since 6.11 those of mounts. Before that the inode counts only together with the mark of the container among the mounts.

// Mark is the source of the container's /dev, as its mountinfo shows it, where it is to be known by that.
func Mark(id string) string { return "kakuri-" + files.ShortID(id) }

// A kin is by which namespaces the processes of a container are known that has no pid namespace of its own, and perhaps no cgroup.
type kin struct {
	Mounts string `json:"mounts,omitempty"`
	Users  string `json:"users,omitempty"` // empty without a user namespace of its own
	UserNS bool   `json:"userns,omitempty"`
	Mark   string `json:"mark,omitempty"`
}

// identify gives a namespace of a process as nothing else has it: "mnt:[4026532281] 712", or without
// the second number on a kernel that has none.
func identify(pid, ns string) (string, error) {
	path := "/proc/" + pid + "/ns/" + ns
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	name := fmt.Sprintf("%s:[%d]", ns, st.Ino)
	if id := namespace.ID(fd); id != 0 {
		name += fmt.Sprintf(" %d", id)
	}
	return name, nil
}

// note notes in the record by which namespaces the processes of a container
// with first process pid are known. What an ordinary user may read of it changes with its
// state: all at first, nothing while it is built and of an init, the user namespace of one
// that has ended. So this is called at several times.
func (c *kin) note(pid int) {
	if c == nil {
		return
	}
	note := func(to *string, ns string) {
		theirs, err := identify(strconv.Itoa(pid), ns)
		// It may not be in its own one yet.
		if ours, ourErr := identify("self", ns); err == nil && ourErr == nil && theirs != ours {
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
func (c *kin) has(pid string) bool {
	mounts, err := identify(pid, "mnt")
	if err != nil {
		return false // one that has ended is in none, while nobody has reaped it
	}
	if mounts == c.Mounts && c.surely(mounts, pid) {
		return true
	}
	users, err := identify(pid, "user")
	return err == nil && users == c.Users && c.surely(users, pid)
}

// surely reports whether a process is in the namespace that was noted, and not in one with its inode.
func (c *kin) surely(ns, pid string) bool {
	if strings.Contains(ns, " ") {
		return true
	}
	mounts, err := os.ReadFile("/proc/" + pid + "/mountinfo")
	return err == nil && bytes.Contains(mounts, []byte(" - tmpfs "+c.Mark+" "))
}

// endStrays ends the processes that no pid namespace ended, and returns when there are
// none: each round finds what the last one's have started meanwhile.
func endStrays(c *kin) error {
	if c == nil || c.Mounts+c.Users == "" {
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
func endRound(c *kin) (ended int, err error) {
	f, err := os.Open("/proc")
	if err != nil {
		return 0, err
	}
	names, err := f.Readdirnames(-1)
	f.Close()
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
		_, _ = wait.Poll(pidfds[i:i+1], killTime)
		unix.Close(int(pidfds[i].Fd))
	}
	return len(pidfds), nil
}

// killTime is how long a process that was sent SIGKILL has to end. One that the kernel
// holds, as on a server that does not answer, is not waited for without end.
const killTime = 5 * time.Second
