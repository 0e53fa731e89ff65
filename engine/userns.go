package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// idRange is how many ids a container has unless it asks for another number: those of
// one slot.
const idRange = 65536

// A userNS is what --userns asks of a user namespace of the container's own.
type userNS struct {
	keep     bool    // an ordinary caller's id is the same inside
	uid, gid *uint32 // which it is instead
	size     uint32  // ids in the namespace, 0 for what there is
}

// parseUserNS reads "auto", "auto:size=N", "keep-id" and "keep-id:uid=U,gid=G,size=N", the
// words of podman's flag.
func parseUserNS(mode string) (u userNS, err error) {
	kind, options, has := strings.Cut(mode, ":")
	switch kind {
	case "", "private", "auto":
	case "keep-id":
		u.keep = true
	default:
		return u, fmt.Errorf("--userns %s: it is host, auto[:size=N], keep-id[:uid=U,gid=G,size=N] or container:NAME", mode)
	}
	if !has {
		return u, nil
	}
	for option := range strings.SplitSeq(options, ",") {
		name, value, _ := strings.Cut(option, "=")
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil || n >= 1<<32-1 {
			return u, fmt.Errorf("--userns %s: %s: want a number below 4294967295", mode, option)
		}
		id := uint32(n)
		switch {
		case name == "size" && id == 0:
			return u, fmt.Errorf("--userns %s: a user namespace has one id or more", mode)
		case name == "size":
			u.size = id
		case name == "uid" && u.keep:
			u.uid = &id
		case name == "gid" && u.keep:
			u.gid = &id
		default:
			return u, fmt.Errorf("--userns %s: %s has no option %q", mode, kind, name)
		}
	}
	return u, nil
}

// inside is which ids an ordinary caller's are in the container.
func (u userNS) inside(uid, gid uint32) (uint32, uint32) {
	if !u.keep {
		return 0, 0
	}
	if u.uid != nil {
		uid = *u.uid
	}
	if u.gid != nil {
		gid = *u.gid
	}
	return uid, gid
}

// slotMap maps the ids of a container to its range on the host.
func (u userNS) slotMap(slot int) ([]specs.LinuxIDMapping, error) {
	size := u.size
	if size == 0 {
		size = idRange
	}
	if size > idRange {
		return nil, fmt.Errorf("--userns: size=%d: a container's range has %d ids", size, idRange)
	}
	return []specs.LinuxIDMapping{{ContainerID: 0, HostID: slotBase(slot), Size: size}}, nil
}

// rootlessMap maps an ordinary caller's id to inside, and other ids to the ranges that
// /etc/subuid or /etc/subgid gives the caller, if there is who maps them.
func (u userNS) rootlessMap(id, inside uint32, others bool, ranges []plan.IDRange) ([]specs.LinuxIDMapping, error) {
	left := ^uint32(0)
	if u.size > 0 {
		left = u.size
		if inside >= left {
			return nil, fmt.Errorf("--userns: size=%d leaves no place for the caller's id, %d", u.size, inside)
		}
	}
	own := specs.LinuxIDMapping{ContainerID: inside, HostID: id, Size: 1}
	if !others {
		if u.size > 1 {
			return nil, fmt.Errorf("--userns: size=%d: without newuidmap and newgidmap a container has one id: install uidmap", u.size)
		}
		return []specs.LinuxIDMapping{own}, nil
	}
	// Files of images and containers lie on the disk by the map that has the caller as root. So that the ids of all others are the same inside, the caller
	// and root change places in it, and nobody moves.
	m := []specs.LinuxIDMapping{{ContainerID: 0, HostID: id, Size: 1}}
	next := uint32(1)
	for _, r := range ranges {
		if n := min(r.Size, left-next); n > 0 {
			m = append(m, specs.LinuxIDMapping{ContainerID: next, HostID: r.Start, Size: n})
			next += n
		}
	}
	if u.size > 0 && next < left {
		return nil, fmt.Errorf("--userns: size=%d: the caller has %d ids: see /etc/subuid and /etc/subgid", u.size, next)
	}
	if inside == 0 {
		return m, nil
	}
	return changePlaces(m, inside, min(inside, next-1)), nil // the ranges may not reach it: root is their last id then
}

// changePlaces gives the id that is 0 in a map to inside, and to 0 that of at.
func changePlaces(m []specs.LinuxIDMapping, inside, at uint32) []specs.LinuxIDMapping {
	own := specs.LinuxIDMapping{ContainerID: inside, HostID: m[0].HostID, Size: 1}
	var out []specs.LinuxIDMapping
	for _, r := range m[1:] {
		if at < r.ContainerID || at >= r.ContainerID+r.Size {
			out = append(out, r)
			continue
		}
		before := at - r.ContainerID
		out = append(out, specs.LinuxIDMapping{ContainerID: 0, HostID: r.HostID + before, Size: 1})
		for _, part := range []specs.LinuxIDMapping{
			{ContainerID: r.ContainerID, HostID: r.HostID, Size: before},
			{ContainerID: at + 1, HostID: r.HostID + before + 1, Size: r.Size - before - 1},
		} {
			if part.Size > 0 {
				out = append(out, part)
			}
		}
	}
	out = append(out, own)
	slices.SortFunc(out, func(a, b specs.LinuxIDMapping) int { return cmp.Compare(a.ContainerID, b.ContainerID) })
	return out
}
