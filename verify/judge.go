package verify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
)

// An answer is what was measured, and whether it is what was asked for.
type answer struct {
	measured string
	ok       bool
	unknown  string
}

func yes(measured string) answer   { return answer{measured: measured, ok: true} }
func no(measured string) answer    { return answer{measured: measured} }
func unknown(reason string) answer { return answer{unknown: reason} }

// cannot is the answer where reading failed.
func cannot(err error) answer {
	if errors.Is(err, fs.ErrPermission) {
		return unknown("only its user and root may read it")
	}
	return unknown(err.Error())
}

// judgeNew compares namespaces, by inode, with those of the reader and of its pid 1.
func judgeNew(asked []abi.Namespace, its, ours, first [8]uint64) answer {
	var host, reader []string
	for _, t := range asked {
		n := namespace.Namespace{Type: t, Inode: its[t]}
		switch {
		case n.Inode == 0:
			return cannot(errUnreadable)
		case n.Inode == first[t], n.Initial():
			host = append(host, t.String())
		case n.Inode == ours[t]:
			reader = append(reader, t.String())
		}
	}
	var shared []string
	if len(host) > 0 {
		shared = append(shared, "the host's: "+strings.Join(host, " "))
	}
	if len(reader) > 0 {
		shared = append(shared, "the reader's: "+strings.Join(reader, " "))
	}
	if len(shared) > 0 {
		return no(strings.Join(shared, ", "))
	}
	return yes((&plan.NewNamespacesCheck{New: asked}).Asked())
}

// judgeIDMap compares maps line by line; their order means nothing to the kernel.
func judgeIDMap(c *plan.IDMapCheck, m namespace.IDMap) answer {
	got := plan.IDMapCheck{Group: c.Group}
	for _, r := range m {
		got.Map = append(got.Map, plan.IDMapping{Inside: r.Inside, Outside: r.Outside, Size: r.Count})
	}
	byInside := func(a, b plan.IDMapping) int { return int(int64(a.Inside) - int64(b.Inside)) }
	sorted := func(m []plan.IDMapping) []plan.IDMapping { return slices.SortedFunc(slices.Values(m), byInside) }
	measured := got.Asked()
	if len(m) == 0 {
		measured = "none"
	}
	return answer{measured: measured, ok: slices.Equal(sorted(got.Map), sorted(c.Map))}
}

func judgeClocks(c *plan.TimeCheck, t namespace.TimeOffsets, own bool) answer {
	got := plan.TimeCheck{Boottime: int64(t.Boottime), Monotonic: int64(t.Monotonic)}
	if !own {
		return no(got.Asked() + ", the reader's own")
	}
	return answer{measured: got.Asked(), ok: got == *c}
}

// judgeRoot wants one mount at "/", and not the one that the reader has there. Two are the
// sign of a root that was moved over another and left it where it was: pivot_root(2) lays
// the old one over the new.
func judgeRoot(its, ours []namespace.Mount) answer {
	isRoot := func(m namespace.Mount) bool { return m.Point == "/" }
	var at []namespace.Mount
	var types []string
	for _, m := range its {
		if isRoot(m) {
			at, types = append(at, m), append(types, m.Type)
		}
	}
	switch {
	case len(at) == 0:
		return no("no mount at /: the process has changed its root directory")
	case len(at) > 1:
		return no(fmt.Sprintf("%d mounts at /, one over another: %s", len(at), strings.Join(types, " ")))
	}
	root := at[0]
	if i := slices.IndexFunc(ours, isRoot); i >= 0 {
		host := ours[i]
		if root.ID == host.ID || root.Root == host.Root && root.Major == host.Major && root.Minor == host.Minor {
			return no(fmt.Sprintf("the host's: %s %d:%d %s", root.Type, root.Major, root.Minor, root.Root))
		}
	}
	if attributes(root)&abi.MountAttrRdonly != 0 {
		return yes("its own, read-only")
	}
	return yes("its own, writable")
}

// judgeMount finds the mount of the place among the container's.
func judgeMount(c *plan.MountCheck, p place, mounts []namespace.Mount) answer {
	i := slices.IndexFunc(mounts, func(m namespace.Mount) bool { return m.ID == p.mount })
	switch {
	case p.missing:
		return no("missing")
	case p.closed:
		return unknown("a directory above it is closed to the caller")
	case !p.top:
		return no("not a mount")
	case i < 0:
		return unknown("it was mounted just now")
	}
	return judgeAttributes(c, mounts[i])
}

// judgeStack takes the mount that has above others over it, by its path, from a list as [stack] has them. hidden are the directories above it that later steps mounted over, each with how
// many times: of what came with those, as a tree that is bound has mounts at the same paths, none is the one.
func judgeStack(c *plan.MountCheck, mounts []namespace.Mount, above int, hidden map[string]int) answer {
	var stack []namespace.Mount
	covered := map[int]bool{} // or what covers
	for _, id := range over(mounts, hidden) {
		covered[id] = true
	}
	for _, m := range mounts {
		if covered[m.Parent] {
			covered[m.ID] = true
		} else if m.Point == path.Clean(c.Dest) {
			stack = append(stack, m)
		}
	}
	if len(stack) <= above {
		return no("not a mount")
	}
	return judgeAttributes(c, stack[len(stack)-1-above])
}

// stack has each mount be behind those that it is upon. The kernel lists them by their ids, and one that was cloned first and attached last is upon those of higher ids.
func stack(mounts []namespace.Mount) {
	parents, depths := make(map[int]int, len(mounts)), make(map[int]int, len(mounts))
	for _, m := range mounts {
		parents[m.ID] = m.Parent
	}
	var depth func(id int) int
	depth = func(id int) int {
		d, known := depths[id]
		if parent, ok := parents[id]; ok && !known {
			depths[id] = 0 // of a circle, which is none of the kernel's
			d = depth(parent) + 1
			depths[id] = d
		}
		return d
	}
	slices.SortStableFunc(mounts, func(a, b namespace.Mount) int { return depth(a.ID) - depth(b.ID) })
}

// over are the uppermost mounts at each of these paths, as many as it says.
func over(mounts []namespace.Mount, paths map[string]int) (ids []int) {
	for at, n := range paths {
		for _, m := range slices.Backward(mounts) {
			if m.Point == at && n > 0 {
				ids, n = append(ids, m.ID), n-1
			}
		}
	}
	return ids
}

// limitOf is how large a tmpfs may grow, in bytes. The kernel names no limit that is its default, half of the memory.
func limitOf(m namespace.Mount) uint64 {
	for o := range strings.SplitSeq(m.Super, ",") {
		if value, ok := strings.CutPrefix(o, "size="); ok {
			kilo, _ := strconv.ParseUint(strings.TrimSuffix(value, "k"), 10, 54)
			return kilo << 10
		}
	}
	var memory unix.Sysinfo_t
	if err := unix.Sysinfo(&memory); err != nil {
		return 0
	}
	page := uint64(os.Getpagesize())
	return memory.Totalram * uint64(memory.Unit) / page / 2 * page
}

func judgeAttributes(c *plan.MountCheck, m namespace.Mount) answer {
	got := attributes(m)
	ok := c.Type == "" || m.Type == c.Type || strings.HasPrefix(m.Type, c.Type+".") // fuse.sshfs
	if want := c.Set & abi.MountAttrAtime; want != 0 {
		ok = ok && got&abi.MountAttrAtime == want
	}
	set, clear := c.Set&^abi.MountAttrAtime, c.Clear&^abi.MountAttrAtime
	ok = ok && got&set == set && got&clear == 0
	// Of access times only what was asked for is worth the words.
	seen := plan.MountCheck{Type: m.Type, Set: got &^ abi.MountAttrAtime, Clear: clear &^ got}
	if c.Set&abi.MountAttrAtime != 0 {
		seen.Set |= got & abi.MountAttrAtime
	}
	if c.Size != 0 {
		page := uint64(os.Getpagesize())
		seen.Size = limitOf(m)
		ok = ok && seen.Size == (c.Size+page-1)/page*page
	}
	if c.Propagation != "" {
		seen.Propagation = m.Propagation()
		// A slave has a master only where the mount that it is a copy of passes its mounts on.
		ok = ok && (slices.Contains(strings.Split(seen.Propagation, ","), c.Propagation) || c.Propagation == "slave" && seen.Propagation == "private")
	}
	return answer{measured: seen.Asked(), ok: ok}
}

// masked tells how p shows nothing; false when it shows something.
func (p place) masked() (string, bool) {
	switch {
	case p.missing:
		return "missing", true
	case p.closed:
		return "closed to the container", true
	case p.mode&unix.S_IFMT == unix.S_IFCHR && p.major == 1 && p.minor == 3:
		return "the null device", true
	case p.mode&unix.S_IFMT == unix.S_IFDIR && p.top && p.empty && p.readonly:
		return "an empty directory", true
	}
	return "", false
}

// describe says what p is.
func (p place) describe() string {
	if how, ok := p.masked(); ok {
		return how
	}
	var s string
	switch p.mode & unix.S_IFMT {
	case unix.S_IFDIR:
		s = "a directory"
	case unix.S_IFREG:
		s = "a file"
	case unix.S_IFLNK:
		s = "a symbolic link"
	case unix.S_IFCHR:
		s = fmt.Sprintf("the character device %d:%d", p.major, p.minor)
	case unix.S_IFBLK:
		s = fmt.Sprintf("the block device %d:%d", p.major, p.minor)
	case unix.S_IFIFO:
		s = "a fifo"
	default:
		s = "a socket"
	}
	if p.fs != "" {
		s += " on " + p.fs
	}
	if p.readonly {
		s += ", read-only"
	}
	return s
}

func judgeMask(p place) answer {
	_, ok := p.masked()
	return answer{measured: p.describe(), ok: ok}
}

// judgeReadonly takes a masked path for a read-only one: there is nothing to write.
func judgeReadonly(p place) answer {
	if how, ok := p.masked(); ok {
		return yes(how)
	}
	if p.readonly {
		return yes("read-only")
	}
	return no(p.describe() + ", writable")
}

func judgeDevice(c *plan.DeviceCheck, p place) answer {
	var kind string
	switch p.mode & unix.S_IFMT {
	case unix.S_IFCHR:
		kind = "c"
	case unix.S_IFBLK:
		kind = "b"
	case unix.S_IFIFO:
		kind = "p"
	}
	switch {
	case p.closed:
		return unknown("a directory above it is closed to the caller")
	case p.missing || kind == "":
		return no(p.describe())
	}
	got := plan.DeviceCheck{Path: c.Path, Type: kind, Major: p.major, Minor: p.minor}
	ok := got == *c || kind == "p" && c.Type == "p" // a fifo has no numbers
	return answer{measured: got.Asked(), ok: ok}
}

// judgeSysctl compares word by word. Numbers are compared as such, and of a row of them
// the first ones when fewer were written: the kernel leaves the others as they are.
func judgeSysctl(c *plan.SysctlCheck, got string) answer {
	asked, have := strings.Fields(c.Value), strings.Fields(got)
	numbers := len(asked) > 0
	equal := len(asked) <= len(have)
	for i, word := range asked {
		n, err := strconv.ParseInt(word, 0, 64)
		numbers = numbers && err == nil
		if !equal || word == have[i] {
			continue
		}
		m, errHave := strconv.ParseInt(have[i], 10, 64)
		equal = err == nil && errHave == nil && n == m
	}
	ok := equal && (len(asked) == len(have) || numbers)
	return answer{measured: strings.Join(have, " "), ok: ok}
}

// insideIDs turns a row of ids as the reader has them into the container's.
func insideIDs(row string, m namespace.IDMap) string {
	words := strings.Fields(row)
	for i, word := range words {
		if id, err := strconv.ParseUint(word, 10, 32); err == nil {
			words[i] = idText(m, uint32(id))
		}
	}
	return strings.Join(words, " ")
}

// idText is the container's id for the reader's.
func idText(m namespace.IDMap, id uint32) string {
	inside, ok := m.Inside(id)
	if !ok {
		return "unmapped"
	}
	return strconv.FormatUint(uint64(inside), 10)
}

// judgeIDs wants all ids of the process to be the ones asked for. Groups without an id
// inside are the caller's, and stay where the kernel denies setgroups(2).
func judgeIDs(c *plan.IDCheck, p *namespace.Process, uids, gids namespace.IDMap, denied bool) answer {
	okUID, uid := sameIDs(c.UID, p.UIDs, uids)
	okGID, gid := sameIDs(c.GID, p.GIDs, gids)
	measured := "uid " + uid + " gid " + gid
	var groups, words []string
	for _, g := range slices.Sorted(slices.Values(p.Groups)) {
		if _, ok := gids.Inside(g); !ok && denied {
			words = []string{"the caller's"}
			continue
		}
		groups = append(groups, idText(gids, g))
	}
	var want []string
	for _, g := range c.Groups {
		want = append(want, strconv.FormatUint(uint64(g), 10))
	}
	if words = append(slices.Clone(groups), words...); len(words) > 0 {
		measured += " groups " + strings.Join(words, " ")
	}
	unique := func(l []string) []string { return slices.Compact(slices.Sorted(slices.Values(l))) }
	return answer{measured: measured, ok: okUID && okGID && (c.Callers || slices.Equal(unique(groups), unique(want)))}
}

// sameIDs prints one id where all four are one, else "real 1000 effective 0 …".
func sameIDs(want uint32, ids namespace.IDs, m namespace.IDMap) (bool, string) {
	equal, words := true, make([]string, 4)
	for i, id := range [...]uint32{ids.Real, ids.Effective, ids.Saved, ids.FS} {
		inside, ok := m.Inside(id)
		equal = equal && ok && inside == want
		words[i] = idText(m, id)
	}
	if len(slices.Compact(slices.Clone(words))) == 1 {
		return equal, words[0]
	}
	return equal, fmt.Sprintf("real %s effective %s saved %s fs %s", words[0], words[1], words[2], words[3])
}

// judgeCaps compares the five sets. What execve(2) gives root of a user namespace is the
// bounding set, whatever was permitted before, unless no_new_privs forbids it:
// capabilities(7), "Capabilities and execution of programs by root".
func judgeCaps(c *plan.CapsCheck, got namespace.Caps, root, noNewPrivs bool) answer {
	most := c.Permitted
	if root && !noNewPrivs {
		most |= c.Bounding | c.Inheritable
	}
	var faults []string
	for _, set := range []struct {
		name      string
		want, got abi.CapSet
		fewer     bool // is fine
	}{
		{"bounding", c.Bounding, got.Bounding, false},
		{"permitted", most, got.Permitted, true},
		{"effective", most, got.Effective, true},
		{"inheritable", c.Inheritable, got.Inheritable, false},
		{"ambient", c.Ambient, got.Ambient, false},
	} {
		if more := set.got &^ set.want; more != 0 {
			faults = append(faults, set.name+" has "+capText(more)+" too")
		}
		if less := set.want &^ set.got; less != 0 && !set.fewer {
			faults = append(faults, set.name+" lacks "+capText(less))
		}
	}
	if len(faults) > 0 {
		return no(strings.Join(faults, ", "))
	}
	measured := "effective " + capText(got.Effective)
	if got.Permitted != got.Effective {
		measured += ", permitted " + capText(got.Permitted)
	}
	return yes(measured)
}

func capText(s abi.CapSet) string {
	return strings.ToLower(strings.ReplaceAll(s.String(), "CAP_", ""))
}

func judgeLimit(c *plan.RlimitCheck, limits []namespace.Limit) answer {
	for _, l := range limits {
		if l.Resource == c.Resource {
			got := plan.RlimitCheck{Resource: l.Resource, Soft: l.Soft, Hard: l.Hard}
			return answer{measured: got.Asked(), ok: got == *c}
		}
	}
	return unknown("the kernel has no such limit")
}
