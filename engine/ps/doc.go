// Package ps shows processes as ps(1) does: the columns that its options ask for, read from /proc. Formats that are not
// known here are asked of the machine's own ps, as Docker does.
//
//	t, err := ps.List(ctx, []string{"-o", "pid,comm"}, []int{1, os.Getpid()})
//
// Names and arguments of processes are strangers' texts: no control character of them is in a table.
//
// What it may not do: know what a container is.
package ps
