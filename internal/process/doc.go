// Package process is processes that are surely the ones that were meant: a number alone is soon another one's.
//
// A [Process] is open, by descriptors of /proc/PID and of the process itself. A [Witness] is one that was written down, for another command to find again.
//
//	p := process.Open(pid)
//	w := p.Witness()
//	p.Close()
//	if p := w.Open(); p != nil { // it runs, and is that one
//		err := p.Signal(unix.SIGCONT)
//	}
//
// What it may not do: know what a process is for.
package process
