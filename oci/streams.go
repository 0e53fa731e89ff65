package oci

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ownStreams are the standard streams of this process that the user of a process to be made is to own, as with runc: without that he could
// write to a pipe that he was given, and not open it anew, which is what programs do that log to /dev/stdout. Not those that are
// his already, and not /dev/null, which is everybody's.
func ownStreams(l *specs.Linux, p *specs.Process) (list []uint32) {
	if p == nil || p.Terminal {
		return nil
	}
	uid, known := p.User.UID, true
	if l != nil && len(l.UIDMappings) > 0 {
		uid, known = outside(l.UIDMappings, uid)
	}
	for fd := range uint32(3) {
		var st unix.Stat_t
		if unix.Fstat(int(fd), &st) != nil || known && st.Uid == uid {
			continue
		}
		if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3) {
			continue
		}
		list = append(list, fd)
	}
	return list
}

// outside is what an id inside of a user namespace is to its maker.
func outside(maps []specs.LinuxIDMapping, id uint32) (uint32, bool) {
	for _, m := range maps {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + id - m.ContainerID, true
		}
	}
	return 0, false
}
