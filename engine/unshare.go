package engine

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/plan"
)

// Execute runs a plan of [plan.CompileUnshare] or [plan.CompileEnter], whose process keeps the
// caller's streams, to its end; signals has the signals
// that this process gets passed on. An error is an [*ExitError].
func (e *Engine) Execute(ctx context.Context, p plan.Plan, signals bool) (Result, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	res := Result{Plan: p, Warnings: p.Warnings}
	proc, err := launch.Run(ctx, p, launch.Options{Hands: oci.Hands{}})
	if err != nil {
		return res, launchError(err)
	}
	stop := func() {}
	if signals {
		stop = launch.Forward(proc, launch.ForwardOptions{})
	}
	status, err := proc.Wait()
	stop()
	if err != nil {
		return res, &ExitError{125, fmt.Errorf("wait: %w", err)}
	}
	res.Code = status.ExitStatus()
	if status.Signaled() {
		res.Code = 128 + int(status.Signal())
	}
	return res, nil
}

// Joins lists the namespaces of the process pid that are others than the
// caller's: joining the caller's own is pointless, and for user refused.
func Joins(pid int, kinds []abi.Namespace) ([]plan.JoinNamespace, error) {
	var list []plan.JoinNamespace
	for _, ns := range kinds {
		p := fmt.Sprintf("/proc/%d/ns/%s", pid, ns.ProcName())
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
		if ours, err := os.Readlink("/proc/self/ns/" + ns.ProcName()); err == nil && ours == theirs {
			continue
		}
		list = append(list, plan.JoinNamespace{NS: ns, Path: p})
	}
	return list, nil
}
