package launch

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// A word is memory of both sides, for one number.
type word int32

func newWord() (*word, error) {
	mem, err := unix.Mmap(-1, 0, int(unsafe.Sizeof(word(0))), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	return (*word)(unsafe.Pointer(unsafe.SliceData(mem))), nil
}

func (w *word) free() {
	if w != nil {
		unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(w)), unsafe.Sizeof(*w)))
	}
}
