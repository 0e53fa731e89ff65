package oci

import (
	"encoding/json"
	"fmt"
	"os"

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
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(socket)
	if err := unix.Connect(socket, &unix.SockaddrUnix{Name: op.Path}); err != nil {
		return fmt.Errorf("linux.seccomp.listenerPath: %s: %w", noAgent, &os.PathError{Op: "connect", Path: op.Path, Err: err})
	}
	rights := unix.UnixRights(fd)
	for len(data) > 0 {
		n, err := unix.SendmsgN(socket, data, rights, nil, unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "sendmsg", Path: op.Path, Err: err}
		}
		data, rights = data[n:], nil
	}
	return nil
}
