package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kakuri/kakuri/internal/wait"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// noAgent is how runc puts it, and what others look for.
const noAgent = "failed to connect with seccomp agent specified in the seccomp profile"

// sendListener sends the listener of process pid's filter to the agent: one message with the
// descriptor and the state of container and process, and what is left of a long one after it.
func (c *Container) sendListener(op *plan.SendListener, pid, fd int) error {
	s := specs.ContainerProcessState{
		Version: specs.Version, Fds: []string{specs.SeccompFdName}, Pid: pid, Metadata: op.Metadata,
		State: specs.State{Version: c.state.Version, ID: c.ID, Status: specs.StateCreating, Pid: pid, Bundle: c.state.Bundle, Annotations: c.state.Annotated},
	}
	if c.state.PID != 0 && c.state.PID != pid { // another process of a container that runs
		s.State.Status, s.State.Pid = specs.StateRunning, c.state.PID
	}
	data, err := json.Marshal(&s)
	if err != nil {
		return err
	}
	err = sendFD(op.Path, data, fd, answerTime)
	var refused *os.PathError
	if errors.As(err, &refused) && refused.Op == "connect" {
		err = fmt.Errorf("%s: %w", noAgent, err)
	}
	if err != nil {
		return fmt.Errorf("linux.seccomp.listenerPath: %w", err)
	}
	return nil
}

// answerTime is how long who listens at a socket has to take what is sent there. The container is locked meanwhile, and who wants to remove it waits.
const answerTime = 30 * time.Second

// sendFD connects to a listening unix socket, and sends data with a descriptor, each within the time.
func sendFD(socket string, data []byte, fd int, limit time.Duration) error {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	try := func(op string, call func() error) error {
		err := wait.Socket(s, unix.SO_SNDTIMEO, limit, call)
		if err == unix.EAGAIN {
			err = os.ErrDeadlineExceeded
		}
		if err != nil {
			return &os.PathError{Op: op, Path: socket, Err: err}
		}
		return nil
	}
	if err := try("connect", func() error { return unix.Connect(s, &unix.SockaddrUnix{Name: socket}) }); err != nil {
		return err
	}
	rights := unix.UnixRights(fd)
	for len(data) > 0 {
		err := try("sendmsg", func() error {
			n, err := unix.SendmsgN(s, data, rights, nil, unix.MSG_NOSIGNAL)
			if err == nil {
				data, rights = data[n:], nil
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
