package storage

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Project quotas: every file below a directory counts to the project that the directory is in, and has its limit.
// ioctl_xfs_fssetxattr(2), quotactl(2).

// A NoQuotaError is a file system that has no project quotas.
type NoQuotaError struct {
	Dir string
	Err error
}

// Error says what to do.
func (e *NoQuotaError) Error() string {
	return fmt.Sprintf("the size of what a container writes can be limited where the file system of %s has project quotas (ext4: tune2fs -O project,quota -Q prjquota; both ext4 and XFS: mount option prjquota): %v", e.Dir, e.Err)
}

// Unwrap is the kernel's error.
func (e *NoQuotaError) Unwrap() error { return e.Err }

const (
	fsGetXattr       = 0x801c581f // FS_IOC_FSGETXATTR
	fsSetXattr       = 0x401c5820 // FS_IOC_FSSETXATTR
	xflagProjinherit = 0x200      // files made in the directory are in its project, too

	sysQuotactlFD = 443 // the same for all architectures; Linux 5.14
	setProject    = 0x800008<<8 | 2
	validLimits   = 1 // QIF_BLIMITS
)

// project is the number of a container's project: none that people give by hand, and another for each container.
func project(id string) uint32 {
	sum := sha256.Sum256([]byte(id))
	return binary.LittleEndian.Uint32(sum[:])&0x3fffffff | 0x40000000
}

// setQuota bounds what may be written below an empty directory, in bytes, as the project of a container.
func setQuota(dir, id string, size int64) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := limitProject(d, project(id), size); err != nil {
		return &NoQuotaError{dir, err}
	}
	var attr [28]byte
	if err := fsxattr(d, fsGetXattr, &attr); err != nil {
		return &NoQuotaError{dir, err}
	}
	binary.NativeEndian.PutUint32(attr[0:], binary.NativeEndian.Uint32(attr[0:])|xflagProjinherit)
	binary.NativeEndian.PutUint32(attr[12:], project(id))
	if err := fsxattr(d, fsSetXattr, &attr); err != nil {
		limitProject(d, project(id), 0)
		return &NoQuotaError{dir, err}
	}
	return nil
}

// clearQuota forgets the limit of a container, where its directory has one.
func clearQuota(dir, id string) error {
	d, err := os.Open(dir)
	if err != nil {
		return nil // there is nothing to limit
	}
	defer d.Close()
	var attr [28]byte
	if fsxattr(d, fsGetXattr, &attr) != nil || binary.NativeEndian.Uint32(attr[12:]) != project(id) {
		return nil
	}
	return limitProject(d, project(id), 0)
}

// fsxattr reads or writes struct fsxattr of a file.
func fsxattr(f *os.File, request uintptr, attr *[28]byte) error {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(attr)))
	if e != 0 {
		return os.NewSyscallError("ioctl", e)
	}
	return nil
}

// limitProject sets how many bytes a project may have on a file system; 0 is no limit.
func limitProject(f *os.File, id uint32, size int64) error {
	const unit = 1024
	if size < 0 || size > 1<<62 {
		return errors.New("no such size")
	}
	var q [72]byte // struct if_dqblk
	binary.NativeEndian.PutUint64(q[0:], uint64((size+unit-1)/unit))
	binary.NativeEndian.PutUint64(q[8:], uint64((size+unit-1)/unit))
	binary.NativeEndian.PutUint32(q[64:], validLimits)
	_, _, e := unix.Syscall6(sysQuotactlFD, f.Fd(), setProject, uintptr(id), uintptr(unsafe.Pointer(&q)), 0, 0)
	if e != 0 {
		return os.NewSyscallError("quotactl_fd", e)
	}
	return nil
}
