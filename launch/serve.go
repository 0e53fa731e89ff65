package launch

import (
	"context"
	"os"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// ServePatience is how long a program of [Serve] gets for what it has not written yet when its mount has gone, before who waits for it ends it.
const ServePatience = 10 * time.Second

// Serve starts the program of a [plan.ServeRoot] with the descriptor that it answers on, a copy of which it gets. What it says goes to
// log. It lives on when this process ends, and ends when the mount has gone; to wait for it is its parent's, who calls. inPlace has it
// where the caller is, in a user namespace that has the same ids. facts are those of the caller; hands may have to write maps of ids.
func Serve(ctx context.Context, op *plan.ServeRoot, fd int, log *os.File, inPlace bool, facts plan.Facts, hands Hands) (*Process, error) {
	o := plan.UnshareOptions{Fork: true, File: op.Program, Args: append([]string{op.Program}, op.Args...), Env: []string{"PATH=/usr/bin:/bin"}}
	if !inPlace && len(op.UIDs) > 0 {
		o.New, o.UIDs, o.GIDs = []abi.Namespace{abi.NSUser}, op.UIDs, op.GIDs
	}
	p, err := plan.CompileUnshare(o, facts)
	if err != nil {
		return nil, err
	}
	again, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	asks := os.NewFile(uintptr(again), "/dev/fuse")
	defer asks.Close()
	return Run(ctx, p, Options{Hands: hands, Stdio: [3]*os.File{asks, log, log}})
}
