package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// A Stand is how signals are taken while a program runs: see [launch.Stand].
type Stand = launch.Stand

// The stands.
const (
	Apart   = launch.Apart
	Passing = launch.Passing
	InPlace = launch.InPlace
)

// Execute runs a plan of [plan.CompileUnshare] or [plan.CompileEnter] to its end. Its process
// keeps the caller's streams and descriptors. An error is an [*ExitError].
func (e *Engine) Execute(ctx context.Context, p plan.Plan, stand Stand) (Result, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	res := Result{Plan: p, Warnings: p.Warnings}
	signals := stand.Take()
	defer signals.Release()
	proc, err := start(ctx, p)
	if err != nil {
		code, err := monitor.LaunchError(err)
		return res, &ExitError{code, err}
	}
	signals.For(proc)
	status, err := proc.Wait()
	if err != nil {
		return res, &ExitError{125, fmt.Errorf("wait: %w", err)}
	}
	res.Code = launch.ExitCode(status)
	if status.Signaled() {
		res.Signal = status.Signal()
	}
	return res, nil
}

// start launches p. The kernel binds the file of a mount namespace in older ones only, which
// keeps them from holding each other; newer kernels tell the age by a number that each
// processor takes from a stock of its own, and refuse some that are in fact younger, with
// ELOOP. On the processor that the caller's namespace was made on, numbers do grow: so each
// is tried.
func start(ctx context.Context, p plan.Plan) (*launch.Process, error) {
	o := launch.Options{Hands: oci.Hands{}, KeepFDs: true}
	proc, err := launch.Run(ctx, p, o)
	var all unix.CPUSet
	if !keepsLooped(err) || unix.SchedGetaffinity(0, &all) != nil {
		return proc, err
	}
	defer unix.SchedSetaffinity(0, &all)
	o.Start = func(pid int) error { return unix.SchedSetaffinity(pid, &all) }
	for cpu := range len(all) * 64 {
		if !all.IsSet(cpu) {
			continue
		}
		var one unix.CPUSet
		one.Set(cpu)
		if unix.SchedSetaffinity(0, &one) != nil {
			continue
		}
		if proc, err = launch.Run(ctx, p, o); !keepsLooped(err) {
			break
		}
	}
	return proc, err
}

// keepsLooped reports whether a mount namespace was refused as the older one.
func keepsLooped(err error) bool {
	var step *launch.Error
	if !errors.As(err, &step) || step.Errno() != syscall.ELOOP {
		return false
	}
	k, ok := step.Step.Op.(*plan.KeepNamespace)
	return ok && k.NS == abi.NSMount
}

// Inherited returns the signals that a program in this one's place finds blocked or ignored.
func Inherited() plan.Sigmask {
	blocked, ignored := launch.InheritedSignals()
	return plan.Sigmask{Blocked: blocked, Ignored: ignored}
}

// EndBy ends this process by a signal: see [launch.EndBy].
func EndBy(sig syscall.Signal) { launch.EndBy(sig) }

// NamespaceFile is where the kernel shows a namespace of a process.
func NamespaceFile(pid int, ns abi.Namespace) string {
	return fmt.Sprintf("/proc/%d/ns/%s", pid, ns.ProcName())
}

// Joins lists the namespaces of the process pid to join, of those kinds that the kernel has. The
// caller's own user namespace cannot be joined: setns(2). Others that are the caller's own are
// joined where it has the privilege (to join one's own mount namespace leads to its root
// directory), and left out where the kernel would refuse what changes nothing.
func Joins(pid int, kinds []abi.Namespace, privileged bool) ([]plan.JoinNamespace, error) {
	var list []plan.JoinNamespace
	for _, ns := range kinds {
		p := NamespaceFile(pid, ns)
		theirs, err := os.Readlink(p)
		if os.IsNotExist(err) {
			if !exists(fmt.Sprintf("/proc/%d", pid)) {
				return nil, fmt.Errorf("there is no process %d", pid)
			}
			continue // this kernel has no such namespaces
		}
		if err != nil {
			return nil, err
		}
		ours, err := os.Readlink("/proc/self/ns/" + ns.ProcName())
		if err == nil && ours == theirs && (ns == abi.NSUser || !privileged) {
			continue
		}
		list = append(list, plan.JoinNamespace{NS: ns, Path: p})
	}
	return list, nil
}
