// Package launch executes a plan: it clones the container's first process and
// runs both sides of the plan, from the first change on the host to execve.
//
// A Go process has threads before main, so it cannot unshare or join most
// namespaces itself. Run therefore turns the container's side of the plan into
// a flat table of raw system calls first ([plan.Lower]), clones, and lets the
// child run down that table: no allocation, no locks, no Go runtime, no
// decision. The child reports {step, row, errno} over a socket; only the
// parent formats. The runtime's side of the plan goes through the same loop, in
// this process; operations that are not raw calls are done by [Hands].
//
//	p, err := launch.Run(ctx, plan, launch.Options{})
//	if err != nil {
//		return err // an *Error that names the step
//	}
//	status, err := p.Wait()
//
// What it may not do: decide (the plan has decided), or format in the child.
// It is the only room with raw clone. Files with unsafe end in _unsafe.go; the only others of
// rooms are one in cgroup, for bpf(2), and one in internal/origlimit.
package launch
