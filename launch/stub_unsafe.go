package launch

import (
	"encoding/binary"
	"runtime"
	"unsafe"

	"github.com/kakuri/kakuri/plan"
)

// stub is the program of the stub, in stub_*.s. It is copied, never called.
func stub()

var _ = stub // its name is used in assembly alone

// stubCode returns where the stub's instructions are. The function's value would
// lead to what Go code calls in its place.
func stubCode() unsafe.Pointer

// stubSize is how much of it is copied: more than it has. What it reads is behind that.
const stubSize = 1280

// stubImage is an ELF executable of one segment, readable and executable, that
// holds the stub's program: elf(5). Behind that are what it gives to capset(2): a header, and
// the sets of its two calls, which are the same where one is enough; and what it gives to seccomp(2): a struct sock_fprog,
// the flags, and the filter's instructions.
func stubImage(s *plan.Stub) []byte {
	const base, header, capset, filter = 0x400000, 64 + 56, 8 + 2*24, 16 + 8
	caps := s.Caps
	image := make([]byte, header+stubSize+capset+filter+len(s.Filter))
	le := binary.LittleEndian
	copy(image, "\x7fELF\x02\x01\x01")
	le.PutUint16(image[16:], 2) // ET_EXEC
	machine := uint16(62)       // EM_X86_64
	if runtime.GOARCH == "arm64" {
		machine = 183 // EM_AARCH64
	}
	le.PutUint16(image[18:], machine)
	le.PutUint32(image[20:], 1)
	le.PutUint64(image[24:], base+header) // entry
	le.PutUint64(image[32:], 64)          // program headers
	le.PutUint16(image[52:], 64)
	le.PutUint16(image[54:], 56)
	le.PutUint16(image[56:], 1)
	p := image[64:]
	le.PutUint32(p, 1)     // PT_LOAD
	le.PutUint32(p[4:], 5) // PF_R | PF_X
	le.PutUint64(p[16:], base)
	le.PutUint64(p[24:], base)
	le.PutUint64(p[32:], uint64(len(image)))
	le.PutUint64(p[40:], uint64(len(image)))
	le.PutUint64(p[48:], 0x1000)
	code := unsafe.Slice((*byte)(stubCode()), stubSize)
	copy(image[header:], code)
	if len(caps) > 0 {
		le.PutUint32(image[header+stubSize:], plan.CapsetVersion)
		copy(image[header+stubSize+8:], caps[0].Data())
		copy(image[header+stubSize+32:], caps[len(caps)-1].Data())
	}
	if len(s.Filter) > 0 {
		const at = header + stubSize + capset
		le.PutUint16(image[at:], uint16(len(s.Filter)/8)) // instructions of 8 bytes
		le.PutUint64(image[at+8:], base+at+filter)
		le.PutUint32(image[at+16:], uint32(s.FilterFlags))
		copy(image[at+filter:], s.Filter)
	}
	return image
}
