package launch

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// adopting counts the callers of Adopt.
var adopting struct {
	sync.Mutex
	callers int
	before  int32 // whether this process adopted before the first of them
}

// Adopt has orphans among this process's descendants become its children, until
// release is called: PR_SET_CHILD_SUBREAPER. It is the process's attribute, and goes
// back to what it was with the last caller's release; whoever adopts has to reap.
func Adopt() (release func(), err error) {
	a := &adopting
	a.Lock()
	defer a.Unlock()
	if a.callers == 0 {
		if err := unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&a.before)), 0, 0, 0); err != nil {
			return nil, err
		}
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, err
	}
	a.callers++
	return func() {
		a.Lock()
		defer a.Unlock()
		if a.callers--; a.callers == 0 && a.before == 0 {
			unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
		}
	}, nil
}
