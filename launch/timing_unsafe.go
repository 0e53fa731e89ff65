package launch

import (
	"time"
	"unsafe"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// stamps is memory that both sides write clock readings to: for each step its
// begin and end on the container's side, two struct timespec. The clock is
// CLOCK_REALTIME, the only one that a time namespace leaves alone.
type stamps struct {
	mem  []byte
	host []time.Duration // of the runtime's side, -1 for none
}

const stampSize = 32

func newStamps(steps int) (*stamps, error) {
	mem, err := unix.Mmap(-1, 0, steps*stampSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	s := &stamps{mem: mem, host: make([]time.Duration, steps)}
	for i := range s.host {
		s.host[i] = -1
	}
	return s, nil
}

func (s *stamps) free() {
	if s.mem != nil {
		unix.Munmap(s.mem)
		s.mem = nil
	}
}

// ours times the runtime's side of step i, from the call to that of its result.
func (s *stamps) ours(i int) func() {
	if s == nil {
		return func() {}
	}
	start := time.Now()
	return func() { s.host[i] = time.Since(start) }
}

// around puts a clock reading before and after rows. A step that ends in an
// execve has no reading after it.
func (s *stamps) around(i int, rows []plan.Row) []plan.Row {
	read := func(off int) plan.Row {
		at := uintptr(unsafe.Pointer(unsafe.SliceData(s.mem))) + uintptr(i*stampSize+off)
		return plan.Row{Call: abi.CallClockGettime, Args: [6]plan.Arg{{Val: unix.CLOCK_REALTIME}, {Val: uint64(at)}}, N: 2}
	}
	out := append([]plan.Row{read(0)}, rows...)
	return append(out, read(16))
}

// micros gives the duration of each step in microseconds, -1 where there is none.
func (s *stamps) micros(p plan.Plan) []float64 {
	out := make([]float64, len(p.Steps))
	at := func(i, off int) int64 {
		ts := (*unix.Timespec)(unsafe.Pointer(&s.mem[i*stampSize+off]))
		return ts.Nano()
	}
	for i := range p.Steps {
		switch begin, end := at(i, 0), at(i, 16); {
		case end > 0:
			out[i] = float64(end-begin) / 1e3
		case s.host[i] >= 0:
			out[i] = float64(s.host[i].Nanoseconds()) / 1e3
		default:
			out[i] = -1
		}
	}
	return out
}
