// Package host gathers the facts of this machine and this caller that plans
// depend on: [plan.Facts].
//
//	facts, err := host.Read(host.Needs{Cgroup: true})
//
// It only reads, but for the answer that [TimeOnExec] keeps where it is told to. Nothing is guessed from a version number: what is a fact is
// asked of the kernel, and what a kernel cannot do is an error of the step that
// needs it.
package host
