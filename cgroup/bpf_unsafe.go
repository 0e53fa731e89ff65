package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/cgroup/limits"
)

// filterName marks our programs among those of a cgroup: systemd attaches its own.
const filterName = "kakuri_devices"

// progAttr is the part of union bpf_attr for BPF_PROG_LOAD: bpf(2).
type progAttr struct {
	progType, insnCount uint32
	insns, license      uint64
	logLevel, logSize   uint32
	logBuf              uint64
	kernVersion, flags  uint32
	name                [unix.BPF_OBJ_NAME_LEN]byte
}

// attachAttr is that for BPF_PROG_ATTACH and BPF_PROG_DETACH.
type attachAttr struct{ target, prog, attachType, flags, replace uint32 }

// queryAttr is that for BPF_PROG_QUERY, up to its end: Linux 6.17 to 7.1 write the last field whatever
// size they are told.
type queryAttr struct {
	target, attachType, flags, attachFlags uint32
	ids                                    uint64
	count, _                               uint32
	progFlags, linkIDs, linkFlags, version uint64
}

func bpf(command int, attr unsafe.Pointer, size uintptr) (int, error) {
	// The verifier gives EAGAIN when a signal interrupts it.
	for range 32 {
		r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
		switch {
		case errno == 0:
			return int(r), nil
		case errno != unix.EAGAIN && errno != unix.EINTR:
			return -1, errno
		}
	}
	return -1, unix.EAGAIN
}

// loadFilter loads a program, and on an error has the verifier say why.
func loadFilter(p limits.Program) (int, error) {
	code, license := p.Bytes(), []byte("Apache-2.0\x00")
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&code[0])
	pin.Pin(&license[0])
	attr := progAttr{
		progType: unix.BPF_PROG_TYPE_CGROUP_DEVICE, insnCount: uint32(len(p)),
		insns: uint64(uintptr(unsafe.Pointer(&code[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	copy(attr.name[:], filterName)
	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err == nil || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		return fd, err
	}
	log := make([]byte, 1<<16)
	pin.Pin(&log[0])
	attr.logLevel, attr.logSize, attr.logBuf = 1, uint32(len(log)), uint64(uintptr(unsafe.Pointer(&log[0])))
	if fd, again := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); again == nil {
		return fd, nil
	}
	text, _, _ := bytes.Cut(log, []byte{0})
	return -1, fmt.Errorf("%w: %s", err, bytes.TrimSpace(text))
}

// filters lists the ids of the device programs of the cgroup itself.
func filters(dir int) ([]uint32, error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	ids := make([]uint32, 64) // as many as a cgroup can have
	pin.Pin(&ids[0])
	attr := queryAttr{target: uint32(dir), attachType: unix.BPF_CGROUP_DEVICE, ids: uint64(uintptr(unsafe.Pointer(&ids[0]))), count: uint32(len(ids))}
	if _, err := bpf(unix.BPF_PROG_QUERY, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return nil, err
	}
	return ids[:min(int(attr.count), len(ids))], nil
}

// A Filter is a program for device nodes that a cgroup of version 2 has.
type Filter struct {
	ID     uint32
	Name   string
	Tag    [8]byte // the beginning of a hash of the program as it was loaded: SHA-1 before Linux 6.18, SHA-256 since
	Unread error   // why there is no name and no tag; nil where there is
}

// Ours reports whether this package attached it.
func (f Filter) Ours() bool { return f.Name == filterName }

// Filters lists the programs of the cgroup at dir itself, not those of the cgroups above. It needs CAP_NET_ADMIN and
// CAP_BPF, or CAP_SYS_ADMIN: bpf(2), BPF_PROG_QUERY. What a program holds cannot be read, but for its tag.
func Filters(dir string) ([]Filter, error) {
	top, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cgroup %s: %w", dir, err)
	}
	defer unix.Close(top)
	ids, err := filters(top)
	if err != nil {
		return nil, fmt.Errorf("cgroup %s: BPF_PROG_QUERY: %w", dir, err)
	}
	list := make([]Filter, len(ids))
	for i, id := range ids {
		f := &list[i]
		f.ID = id
		fd, info, err := filterInfo(id)
		if f.Unread = err; err != nil {
			continue
		}
		unix.Close(fd)
		copy(f.Tag[:], info[8:])
		name, _, _ := bytes.Cut(info[64:], []byte{0})
		f.Name = string(name)
	}
	return list, nil
}

// filterInfo opens the program with the id, and reads its struct bpf_prog_info: type, id, tag, three lengths, two pointers, load
// time, uid, number of maps, their ids, name.
func filterInfo(id uint32) (int, []byte, error) {
	fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&id), unsafe.Sizeof(id))
	if err != nil {
		return -1, nil, err
	}
	info := make([]byte, 80)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&info[0])
	attr := struct {
		fd, size uint32
		info     uint64
	}{uint32(fd), uint32(len(info)), uint64(uintptr(unsafe.Pointer(&info[0])))}
	if _, err := bpf(unix.BPF_OBJ_GET_INFO_BY_FD, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		unix.Close(fd)
		return -1, nil, err
	}
	return fd, info, nil
}

// openFilter opens the program with the id if it is ours: -1 when it is another's.
func openFilter(id uint32) (int, error) {
	fd, info, err := filterInfo(id)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return -1, nil // gone, or guarded by a security module: not ours
	}
	if err != nil {
		return -1, err
	}
	if name, _, _ := bytes.Cut(info[64:], []byte{0}); string(name) != filterName {
		unix.Close(fd)
		return -1, nil
	}
	return fd, nil
}

// setDeviceFilter attaches d's program to the cgroup, in the place of the one that is there from before,
// in one step: at no time does the cgroup have none. Programs of others stay: all of them have to allow an access.
func setDeviceFilter(dir int, d limits.Devices) error {
	ids, err := filters(dir)
	if err != nil {
		if d.AllowAll() {
			return nil // whoever cannot ask cannot have attached one
		}
		return fmt.Errorf("query: %w: CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, are needed", err)
	}
	var old []int
	defer func() {
		for _, fd := range old {
			unix.Close(fd)
		}
	}()
	for _, id := range ids {
		fd, err := openFilter(id)
		if err != nil {
			return fmt.Errorf("program %d: %w", id, err)
		}
		if fd >= 0 {
			old = append(old, fd)
		}
	}
	if d.AllowAll() && len(old) == 0 {
		return nil
	}
	prog, err := loadFilter(d.Program())
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	defer unix.Close(prog)
	instead := -1
	if len(old) > 0 {
		instead = old[0]
	}
	if err := attachFilter(dir, prog, instead); err != nil {
		return err
	}
	for _, fd := range old[min(1, len(old)):] {
		attr := attachAttr{target: uint32(dir), prog: uint32(fd), attachType: unix.BPF_CGROUP_DEVICE}
		if _, err := bpf(unix.BPF_PROG_DETACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
			return fmt.Errorf("detach: %w", err)
		}
	}
	return nil
}

// attachFilter attaches a program to the cgroup, beside those of others, and in the place of one that is there, if that is not -1.
func attachFilter(dir, prog, instead int) error {
	attr := attachAttr{target: uint32(dir), prog: uint32(prog), attachType: unix.BPF_CGROUP_DEVICE, flags: unix.BPF_F_ALLOW_MULTI}
	if instead >= 0 {
		attr.flags, attr.replace = attr.flags|unix.BPF_F_REPLACE, uint32(instead)
	}
	if _, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	return nil
}
