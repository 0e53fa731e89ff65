package serve

import (
	"context"
	"fmt"
	"os"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/process"
	"github.com/kakuri/kakuri/internal/seqpacket"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink"
	"golang.org/x/sys/unix"
)

// enter starts this program once more, as root of the user namespace and in the network namespace: that takes one thread, which a Go program
// never has. Of root's rights it keeps those over the network there. It ends when this one does. there is told of it before it is waited for.
func enter(ctx context.Context, user, net, log *os.File, there func(*side)) (*side, error) {
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer null.Close()
	if _, err := unix.FcntlInt(theirs.Fd(), unix.F_SETFD, 0); err != nil {
		ours.Close()
		return nil, os.NewSyscallError("fcntl", err)
	}
	p, err := launch.Run(ctx, joinPlan(user, net, int(theirs.Fd())), launch.Options{KeepFDs: true, Stdio: [3]*os.File{null, null, log}})
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("a process in the namespaces: %w", err)
	}
	s := &side{conn: ours, pid: p.PID, proc: process.Open(p.PID), gone: make(chan struct{})}
	go func() { p.Wait(); close(s.gone) }()
	there(s)
	if _, _, err := s.hear(); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

func joinPlan(user, net *os.File, fd int) plan.Plan {
	const userReg, netReg plan.Reg = 40, 41
	self := func(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
	keep := abi.CapSet(1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_BIND_SERVICE)
	var p plan.Plan
	for _, s := range []struct {
		side plan.Side
		op   plan.Op
	}{
		{plan.Runtime, &plan.OpenNamespace{NS: abi.NSUser, Path: self(user), Out: userReg}},
		{plan.Runtime, &plan.OpenNamespace{NS: abi.NSNetwork, Path: self(net), Out: netReg}},
		{plan.Runtime, &plan.Clone{}},
		{plan.Container, &plan.Setns{NS: abi.NSUser, FD: userReg}},
		{plan.Container, &plan.Setns{NS: abi.NSNetwork, FD: netReg}},
		{plan.Container, &plan.Setresgid{}},
		{plan.Container, &plan.Setresuid{}},
		{plan.Container, &plan.DropBounding{Keep: keep, Last: lastCap()}},
		{plan.Container, &plan.Capset{Effective: keep, Permitted: keep}},
		{plan.Container, &plan.NoNewPrivs{}},
		{plan.Container, &plan.Sigmask{}},
		{plan.Container, &plan.Exec{File: "/proc/self/exe", Args: []string{uplink.Program, "inside", fmt.Sprint(fd)}, Env: []string{}}},
	} {
		p.Steps = append(p.Steps, plan.Step{Op: s.op, Side: s.side})
	}
	return p
}

// lastCap is the highest capability that the kernel knows.
func lastCap() (last abi.Capability) {
	for c := abi.Capability(0); c < 64; c++ {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err != nil {
			break
		}
		last = c
	}
	return last
}
