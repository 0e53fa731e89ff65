package namespace

import (
	"fmt"
	"math"
	"os"
)

// An IDRange is one line of a uid_map or gid_map: Count ids from Inside on are the ids
// from Outside on where the reader stands.
type IDRange struct {
	Inside, Outside, Count uint32
}

// noID is (uid_t)-1, which is no user's id: the kernel prints it where the reader's
// namespace has no id for one of the mapped namespace.
const noID = math.MaxUint32

// An IDMap is the user or group ids of a user namespace against the reader's, in the
// kernel's order; see user_namespaces(7), "User and group ID mappings". An empty map is
// one that nobody has written yet: no id is mapped.
type IDMap []IDRange

// Outside returns the reader's id for id in the namespace; false when it has none.
func (m IDMap) Outside(id uint32) (uint32, bool) {
	for _, r := range m {
		if id >= r.Inside && id-r.Inside < r.Count && r.Outside < noID-(id-r.Inside) {
			return r.Outside + (id - r.Inside), true
		}
	}
	return 0, false
}

// Inside returns the namespace's id for the reader's id; false when it has none, and the
// namespace sees the overflow id (65534, "nobody") instead.
func (m IDMap) Inside(id uint32) (uint32, bool) {
	for _, r := range m {
		if id >= r.Outside && id-r.Outside < r.Count && id != noID {
			return r.Inside + (id - r.Outside), true
		}
	}
	return 0, false
}

// OnHost is the host's number of a user whom this process's user namespace, whose uid_map is given, knows as uid: in an ordinary user's network world that user is
// root. One that is not mapped, or by a map that cannot be read, keeps the number.
func OnHost(uid uint32, uids []byte) uint32 {
	if own, err := ParseIDMap(uids); err == nil {
		if id, ok := own.Outside(uid); ok {
			return id
		}
	}
	return uid
}

// ReadIDMaps returns the uid map and the gid map of the process pid's user namespace.
// The outside ids are the reader's, with one exception: a process of the reader's own
// user namespace shows the map against that namespace's parent.
// The error is fs.ErrNotExist when the process is gone.
func ReadIDMaps(proc *os.File, pid int) (uids, gids IDMap, err error) {
	p, done, err := openProcess(proc, pid)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	return readIDMaps(p, pid)
}

func readIDMaps(p dir, pid int) (uids, gids IDMap, err error) {
	for _, f := range [...]struct {
		name string
		into *IDMap
	}{{"uid_map", &uids}, {"gid_map", &gids}} {
		data, err := p.read(f.name, nil)
		if err == nil {
			*f.into, err = ParseIDMap(data)
		}
		if err != nil {
			return nil, nil, &processError{pid, f.name, err}
		}
	}
	return uids, gids, nil
}

// ParseIDMap parses a uid_map or gid_map.
func ParseIDMap(data []byte) (IDMap, error) {
	m := IDMap{}
	err := lines(data, func(line []byte) error {
		var columns [3]uint32
		f := fields(line, make([]string, 0, 3))
		if len(f) != 3 {
			return fmt.Errorf("id map: line %q: want inside, outside and count", line)
		}
		for i, s := range f {
			n, err := number(s, 32)
			if err != nil {
				return fmt.Errorf("id map: line %q: %w", line, err)
			}
			columns[i] = uint32(n)
		}
		r := IDRange{columns[0], columns[1], columns[2]}
		if r.Count == 0 || uint64(r.Inside)+uint64(r.Count) > noID {
			return fmt.Errorf("id map: line %q: not a range of ids", line)
		}
		m = append(m, r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}
