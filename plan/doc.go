// Package plan turns an OCI runtime-spec configuration into a plan: every kernel
// operation that makes the container, in order, from the first change on the host
// to execve, each with the reason why it is there.
//
//	p, err := plan.Compile(spec, facts, plan.Options{Bundle: dir})
//	if err != nil {
//		return err // a *SpecError names the place in config.json
//	}
//	fmt.Print(p.Text())
//	//   #  side       operation                  because
//	//   1  runtime    clone pid mount network    config.json linux.namespaces
//	//   …
//	//  23  container  mount_setattr / RDONLY     --read-only
//
// A [Plan] is a value: steps and warnings. A [Step] has an operation (an [Op], one of
// a closed set that [Ops] lists), the [Side] that does it, its [Cause], a [Check] by
// which the kernel shows it afterwards, and an undo where it leaves something on
// the host. [Facts] are what has to be known of the host. [CompileUnshare] and
// [CompileEnter] make plans of unshare(1) and nsenter(1).
//
// Plans print ([Plan.Text], [Plan.TextAs]), go to JSON and back, and compare.
// [Asm.Lower] gives an operation as raw system calls, a flat table of [Row] that
// package launch runs through; package verify reads the checks back.
//
// To add an operation: a type in the op_*.go of its family, a line in [Ops], and where
// it can be seen afterwards a check. The tests walk both sets.
//
// What it may not do: ask the machine anything, or the clock; start a goroutine; change
// its arguments. The same spec, facts and options give an equal plan anywhere.
package plan
