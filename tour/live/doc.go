// Package live runs the experiments of package tour on this machine: it starts containers
// of the image host, reads them from the host side and from inside, and ends them again.
//
//	results, err := live.Run(ctx, live.Options{Engine: e, Exe: exe, Experiments: tour.Experiments()})
//
// The host side is read through package namespace and from /proc, the inside by a shell
// in the container that is sent one script after the other. Inside, nothing is needed but
// that shell and the few programs that every distribution has (cat, readlink, id, mkfifo,
// sleep, uname). Whatever way [Run] ends, no container, mount or segment of it is left.
//
// What it may not do: judge or print.
package live
