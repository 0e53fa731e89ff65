package criu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The beginning of an image file of a process: images/magic.h. Each message after it follows its size.
const (
	magicCommon = 0x54564319
	magicCore   = 0x55053847
	headerSize  = 8
	sizeSize    = 4
)

// maxCore bounds the file of a process, in bytes: what it says of memory is in other files.
const maxCore = 16 << 20

// ForgetParentDeath takes out of the image in dir that the process pid, as it sees itself, is to get a signal when its parent
// ends: PR_SET_PDEATHSIG. Whoever restores it would be that parent.
func ForgetParentDeath(dir *os.File, pid int) error {
	name := fmt.Sprintf("core-%d.img", pid)
	data, mode, err := readFile(dir, name)
	if err == nil {
		data, err = forgetParentDeath(data)
	}
	if err == nil {
		err = Replace(dir, name, data, mode)
	}
	if err != nil {
		return fmt.Errorf("criu: %s: %w", name, err)
	}
	return nil
}

func readFile(dir *os.File, name string) (data []byte, mode uint32, err error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxCore {
		return nil, 0, fmt.Errorf("it is no regular file of at most %d bytes", maxCore)
	}
	data = make([]byte, st.Size())
	n, err := f.ReadAt(data, 0)
	if n == len(data) {
		err = nil
	}
	return data, uint32(st.Mode().Perm()), err
}

// Replace writes a file of an image anew, in one step: not through a link, and not into another's file.
func Replace(dir *os.File, name string, data []byte, mode uint32) error {
	temp := name + ".new"
	unix.Unlinkat(int(dir.Fd()), temp, 0)
	fd, err := unix.Openat(int(dir.Fd()), temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), temp)
	_, err = f.Write(data)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = unix.Renameat(int(dir.Fd()), temp, int(dir.Fd()), name)
	}
	if err != nil {
		unix.Unlinkat(int(dir.Fd()), temp, 0)
	}
	return err
}

// forgetParentDeath leaves out field 8 (pdeath_sig) of field 5 (thread_core) of the core_entry in an image file.
func forgetParentDeath(data []byte) ([]byte, error) {
	const threadCore, pdeathSig = 5, 8
	order := binary.LittleEndian
	if len(data) < headerSize+sizeSize || order.Uint32(data) != magicCommon || order.Uint32(data[4:]) != magicCore {
		return nil, errors.New("it is no image of a process")
	}
	body := data[headerSize+sizeSize:]
	size := order.Uint32(data[headerSize:])
	if uint64(size) > uint64(len(body)) {
		return nil, errors.New("it is cut short")
	}
	core, err := mapFields(body[:size], func(field int, data []byte) ([]byte, bool, error) {
		if field != threadCore || data == nil {
			return data, true, nil
		}
		data, err := mapFields(data, func(field int, data []byte) ([]byte, bool, error) { return data, field != pdeathSig, nil })
		return data, true, err
	})
	if err != nil {
		return nil, err
	}
	out := append([]byte(nil), data[:headerSize]...)
	out = order.AppendUint32(out, uint32(len(core)))
	out = append(out, core...)
	return append(out, body[size:]...), nil
}

// mapFields copies a message, with those fields that f keeps, and the bytes that it gives for those that have any.
func mapFields(b []byte, f func(field int, data []byte) (new []byte, keep bool, err error)) ([]byte, error) {
	var e encoder
	err := eachField(b, func(field, kind int, _ uint64, data, whole []byte) error {
		if kind != wireBytes {
			data = nil
		} else if data == nil {
			data = []byte{}
		}
		data, keep, err := f(field, data)
		if err != nil || !keep {
			return err
		}
		if kind == wireBytes {
			e.must(field, string(data))
		} else {
			e.b = append(e.b, whole...)
		}
		return nil
	})
	return e.b, err
}
