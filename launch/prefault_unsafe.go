package launch

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Prefault prepares memory: the stack of the caller's goroutine, which is best near its beginning, and the heap.
//
// It has the kernel map the next part of the Go heap in one call. A program
// that has just started touches each page of it for the first time, and each
// touch is a page fault: 0.25 µs on a plain machine, 16 where the machine is a
// virtual one inside another, against 0.1 to 1.5 a page in one call.
//
// Since Linux 5.14; an older kernel refuses, and nothing is lost.
func Prefault(bytes uintptr) {
	deepen(0)
	const populateWrite = 23 // MADV_POPULATE_WRITE
	const page = 4096
	// A small object of a fresh heap lies near its beginning, and the heap grows
	// upwards, four MiB at a time.
	p := uintptr(unsafe.Pointer(new([64]byte)))
	start := p &^ (page - 1)
	if room := 4<<20 - start%(4<<20); bytes > room {
		bytes = room
	}
	unix.Syscall(unix.SYS_MADVISE, start, bytes&^(page-1), populateWrite)
}

// deepen has the goroutine's stack grow to 64 KB, while next to nothing lies on it. A start of a container gets as deep, and would
// have it copied three times on the way, each frame looked up.
//
//go:noinline
func deepen(n int) byte {
	if n == 0 { // the prologue has made room already
		return 0
	}
	var room [40 << 10]byte
	for i := range room {
		room[i] = byte(n + i)
	}
	return room[n%len(room)]
}
