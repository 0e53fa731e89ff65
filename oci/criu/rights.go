package criu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Magic numbers of image files: images/magic.h.
const (
	magicPstree  = 0x50273030
	magicSeccomp = 0x64413049
)

// A Thread is what an image says that one of its threads may do.
type Thread struct {
	PID, TID     int    // as they see themselves
	Capabilities uint64 // those of all of its sets, the bounding set's among them
	NoNewPrivs   bool
	Filters      [][]byte // of seccomp, as seccomp(2) has them, the one that was loaded last first
}

// Threads reads the threads of an image, by which CRIU makes them: a message or a number that is there twice is refused, since
// another reader might take the other one. The dead do nothing any more, and are left out.
func Threads(dir *os.File) ([]Thread, error) {
	filters, err := readFilters(dir)
	if err != nil {
		return nil, err
	}
	processes, err := messages(dir, "pstree.img", magicPstree)
	if err != nil {
		return nil, err
	}
	var list []Thread
	for _, b := range processes {
		pid, _, err := number(b, 1)
		if err != nil {
			return nil, fmt.Errorf("criu: pstree.img: %w", err)
		}
		tids, err := numbers(b, 5)
		if err != nil {
			return nil, fmt.Errorf("criu: pstree.img: %w", err)
		}
		threads, err := process(dir, uint32(pid), tids, filters)
		if err != nil {
			return nil, err
		}
		list = append(list, threads...)
	}
	return list, nil
}

// process reads the threads of one, of which the first has its number.
func process(dir *os.File, pid uint32, tids []uint64, filters []filter) (list []Thread, err error) {
	leader, dead, err := readThread(dir, pid, pid, filters)
	if err != nil || dead {
		return nil, err
	}
	list = append(list, leader.Thread)
	for _, tid := range tids {
		if uint32(tid) == pid {
			continue
		}
		t, _, err := readThread(dir, pid, uint32(tid), filters)
		if err != nil {
			return nil, err
		}
		if len(t.Filters) == 0 && leader.forAll {
			t.Filters = leader.Filters
		}
		list = append(list, t.Thread)
	}
	return list, nil
}

// A thread may have filters that the kernel gives to all threads of its process: SECCOMP_FILTER_FLAG_TSYNC.
type thread struct {
	Thread
	forAll bool
}

// readThread reads core_entry: what it is of in tc (3), what it may in thread_core (5).
func readThread(dir *os.File, pid, tid uint32, filters []filter) (t thread, dead bool, err error) {
	name := fmt.Sprintf("core-%d.img", tid)
	list, err := messages(dir, name, magicCore)
	if err != nil {
		return t, false, err
	}
	t.PID, t.TID = int(pid), int(tid)
	if len(list) == 0 {
		err = errors.New("it is cut short")
	} else {
		dead, err = t.read(list[0], filters)
	}
	if err != nil {
		return t, false, fmt.Errorf("criu: %s: %w", name, err)
	}
	return t, dead, nil
}

func (t *thread) read(core []byte, filters []filter) (dead bool, err error) {
	const stateDead = 2
	task, _, err := message(core, 3)
	if err != nil {
		return false, err
	}
	if state, _, err := number(task, 1); err != nil || state == stateDead && t.PID == t.TID {
		return true, err
	}
	own, _, err := message(core, 5)
	if err != nil {
		return false, err
	}
	creds, ok, err := message(own, 10)
	if err != nil {
		return false, err
	}
	if !ok {
		return false, errors.New("it has no credentials: it is of an old CRIU")
	}
	for _, set := range []int{9, 10, 11, 12, 19} { // cap_inh, cap_prm, cap_eff, cap_bnd, cap_amb
		words, err := numbers(creds, set)
		if err != nil {
			return false, err
		}
		for i, w := range words[:min(len(words), 2)] {
			t.Capabilities |= uint64(uint32(w)) << (32 * i)
		}
	}
	privs, _, err := number(creds, 18)
	if err != nil {
		return false, err
	}
	t.NoNewPrivs = uint32(privs) != 0
	return false, t.filtered(own, filters)
}

// filtered finds the filters of thread_core: of its mode (11), the last one (12) and those before it.
func (t *thread) filtered(own []byte, filters []filter) error {
	const modeFilter, forAll = 2, 1
	mode, _, err := number(own, 11)
	if err != nil || uint32(mode) != modeFilter {
		return err
	}
	at, _, err := number(own, 12)
	if err != nil {
		return err
	}
	t.forAll = true
	for more := true; more; {
		if uint64(uint32(at)) >= uint64(len(filters)) || len(t.Filters) > len(filters) {
			return errors.New("it names a filter of seccomp that is not in seccomp.img")
		}
		f := filters[uint32(at)]
		t.Filters = append(t.Filters, f.program)
		t.forAll = t.forAll && f.flags&forAll != 0
		at, more = f.prev, f.hasPrev
	}
	return nil
}

// A filter is one of seccomp.img, which those of all threads are in.
type filter struct {
	program []byte
	prev    uint64
	hasPrev bool
	flags   uint32
}

// readFilters reads seccomp_entry, which is not there where no thread has a filter.
func readFilters(dir *os.File) (list []filter, err error) {
	const name = "seccomp.img"
	entries, err := messages(dir, name, magicSeccomp)
	if errors.Is(err, unix.ENOENT) || err == nil && len(entries) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = fields(entries[0], func(field int, _ uint64, b []byte) (err error) {
		if field != 1 {
			return nil
		}
		var f filter
		if f.program, _, err = message(b, 1); err == nil {
			f.prev, f.hasPrev, err = number(b, 2)
		}
		if err == nil {
			var flags uint64
			flags, _, err = number(b, 3)
			f.flags = uint32(flags)
		}
		list = append(list, f)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("criu: %s: %w", name, err)
	}
	return list, nil
}

// messages reads those of an image file.
func messages(dir *os.File, name string, magic uint32) (list [][]byte, err error) {
	data, _, err := readFile(dir, name)
	if err != nil {
		return nil, fmt.Errorf("criu: %s: %w", name, err)
	}
	order := binary.LittleEndian
	if len(data) < headerSize || order.Uint32(data) != magicCommon || order.Uint32(data[4:]) != magic {
		return nil, fmt.Errorf("criu: %s: it is no such file of an image", name)
	}
	for data = data[headerSize:]; len(data) > 0; {
		var size uint32
		if len(data) >= sizeSize {
			size, data = order.Uint32(data), data[sizeSize:]
		} else {
			size = ^uint32(0)
		}
		if uint64(size) > uint64(len(data)) {
			return nil, fmt.Errorf("criu: %s: it is cut short", name)
		}
		list, data = append(list, data[:size]), data[size:]
	}
	return list, nil
}

// errTwice is a field that readers may differ about.
var errTwice = errors.New("a field that comes once is there twice")

// number finds a number that a message has once.
func number(b []byte, want int) (n uint64, ok bool, err error) {
	n, _, ok, err = once(b, want, wireVarint)
	return n, ok, err
}

// message finds bytes that a message has once.
func message(b []byte, want int) (data []byte, ok bool, err error) {
	_, data, ok, err = once(b, want, wireBytes)
	return data, ok, err
}

// once finds a field of a kind that a message has once.
func once(b []byte, want, kind int) (n uint64, data []byte, ok bool, err error) {
	err = eachField(b, func(field, is int, v uint64, bytes, _ []byte) error {
		switch {
		case field != want:
		case is != kind:
			return errWire
		case ok:
			return errTwice
		default:
			n, data, ok = v, bytes, true
		}
		return nil
	})
	return n, data, ok, err
}

// numbers finds those that a message has any number of, each in a field of its own or many in one.
func numbers(b []byte, want int) (list []uint64, err error) {
	err = eachField(b, func(field, kind int, v uint64, data, _ []byte) error {
		switch {
		case field != want:
		case kind == wireVarint:
			list = append(list, v)
		case kind != wireBytes:
			return errWire
		default:
			for len(data) > 0 {
				n, rest, ok := varint(data)
				if !ok {
					return errWire
				}
				list, data = append(list, n), rest
			}
		}
		return nil
	})
	return list, err
}
