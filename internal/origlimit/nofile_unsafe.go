package origlimit

import "unsafe"

// nofile is struct rlimit of getrlimit(2).
var nofile = read()

func read() (lim [2]uint64) {
	getrlimit(unsafe.Pointer(&lim))
	return lim
}

// getrlimit reads RLIMIT_NOFILE, by a raw call in assembly.
//
//go:noescape
func getrlimit(lim unsafe.Pointer)

// NoFile returns the soft and the hard limit of open files, as they were when
// this process began.
func NoFile() (soft, hard uint64) { return nofile[0], nofile[1] }
