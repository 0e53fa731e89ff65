package plan

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

// An IDMapping is a line of uid_map or gid_map, see user_namespaces(7).
type IDMapping struct {
	Inside, Outside, Size uint32
}

// String returns "0 100000 65536", inside outside size.
func (m IDMapping) String() string { return fmt.Sprintf("%d %d %d", m.Inside, m.Outside, m.Size) }

// has reports whether an id of the container is mapped by the line.
func (m IDMapping) has(id uint32) bool { return id >= m.Inside && id-m.Inside < m.Size }

func mapText(list []IDMapping, sep string) string {
	var lines []string
	for _, m := range list {
		lines = append(lines, m.String())
	}
	return strings.Join(lines, sep)
}

// WriteIDMap writes the container's uid_map or gid_map: user_namespaces(7).
type WriteIDMap struct {
	Group bool
	Map   []IDMapping
}

// Name implements [Op].
func (*WriteIDMap) Name() string { return "write id map" }

func (w *WriteIDMap) file() string {
	if w.Group {
		return "gid_map"
	}
	return "uid_map"
}

// String implements [Op].
func (w *WriteIDMap) String() string {
	return fmt.Sprintf("write %s %s", w.file(), mapText(w.Map, ", "))
}

func (w *WriteIDMap) lower(a *Asm) {
	a.writeChildProc(w.file(), []byte(mapText(w.Map, "\n")+"\n"))
}

// writeChildProc writes to a file of the container's first process in /proc.
func (a *Asm) writeChildProc(name string, text []byte) {
	f := a.tmp()
	a.call(abi.CallOpenat, fd(RegChildProc), a.str(name), num(abi.OWronly|abi.OCloexec), num(0)).into(f)
	a.call(abi.CallWrite, fd(f), a.mem(text), size(text))
}

// HelperIDMap lets newuidmap(1) or newgidmap(1) write the map, for users who may
// not write more than their own id.
type HelperIDMap struct {
	hands
	Group   bool
	Program string // absolute path of the helper
	Map     []IDMapping
}

// Name implements [Op].
func (*HelperIDMap) Name() string { return "helper id map" }

// String implements [Op].
func (h *HelperIDMap) String() string {
	return fmt.Sprintf("%s PID %s", h.Program, mapText(h.Map, " "))
}

// DenySetgroups writes "deny" to the container's setgroups file, without which
// a user without privileges may not write a gid_map: user_namespaces(7).
type DenySetgroups struct{}

// Name implements [Op].
func (*DenySetgroups) Name() string { return "deny setgroups" }

// String implements [Op].
func (*DenySetgroups) String() string { return "write setgroups deny" }

func (*DenySetgroups) lower(a *Asm) { a.writeChildProc("setgroups", []byte("deny")) }

// Setgroups sets the supplementary groups: setgroups(2).
type Setgroups struct {
	Groups []uint32
	Try    bool // where the user namespace denies it, the groups stay: user_namespaces(7)
}

// Name implements [Op].
func (*Setgroups) Name() string { return "setgroups" }

// String implements [Op].
func (s *Setgroups) String() string {
	if len(s.Groups) == 0 {
		return "setgroups none"
	}
	return "setgroups " + groupsText(s.Groups)
}

// groupsText lists groups; of a long list, the first ones and how many follow: an error is to stay a line.
func groupsText(groups []uint32) string {
	const most = 32
	text := strings.Trim(fmt.Sprint(groups[:min(most, len(groups))]), "[]")
	if n := len(groups) - most; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

func (s *Setgroups) lower(a *Asm) {
	b := make([]byte, 4*len(s.Groups)+4)
	for i, g := range s.Groups {
		binary.LittleEndian.PutUint32(b[4*i:], g)
	}
	row := a.call(abi.CallSetgroups, num(uint64(len(s.Groups))), a.mem(b))
	if s.Try {
		row.accept(abi.EPERM)
	}
}

// Setresgid sets the real, effective and saved group id: setresgid(2).
type Setresgid struct{ GID uint32 }

// Name implements [Op].
func (*Setresgid) Name() string { return "setresgid" }

// String implements [Op].
func (s *Setresgid) String() string { return fmt.Sprintf("setresgid %d", s.GID) }

func (s *Setresgid) lower(a *Asm) {
	id := num(uint64(s.GID))
	a.call(abi.CallSetresgid, id, id, id)
}

// Setresuid sets the real, effective and saved user id: setresuid(2).
type Setresuid struct{ UID uint32 }

// Name implements [Op].
func (*Setresuid) Name() string { return "setresuid" }

// String implements [Op].
func (s *Setresuid) String() string { return fmt.Sprintf("setresuid %d", s.UID) }

func (s *Setresuid) lower(a *Asm) {
	id := num(uint64(s.UID))
	a.call(abi.CallSetresuid, id, id, id)
}

// DropBounding removes all capabilities but Keep from the bounding set:
// capabilities(7), PR_CAPBSET_DROP.
type DropBounding struct {
	Keep abi.CapSet
	Last abi.Capability // the highest that the kernel knows
}

// Name implements [Op].
func (*DropBounding) Name() string { return "drop bounding" }

// String implements [Op].
func (d *DropBounding) String() string {
	return "prctl capbset_drop, all but " + capText(d.Keep)
}

func capText(s abi.CapSet) string {
	if s == 0 {
		return "none"
	}
	return strings.ToLower(strings.ReplaceAll(s.String(), "CAP_", ""))
}

func (d *DropBounding) lower(a *Asm) {
	for c := abi.Capability(0); c <= d.Last && c < 64; c++ {
		if !d.Keep.Has(c) {
			a.call(abi.CallPrctl, num(abi.PRCapbsetDrop), num(uint64(c)), num(0), num(0), num(0))
		}
	}
}

// Capset sets the three sets of a thread: capset(2).
type Capset struct {
	Effective, Permitted, Inheritable abi.CapSet
}

// Name implements [Op].
func (*Capset) Name() string { return "capset" }

// String implements [Op].
func (c *Capset) String() string {
	s := "capset effective " + capText(c.Effective)
	if c.Permitted == c.Effective {
		s = "capset effective permitted " + capText(c.Effective)
	} else {
		s += ", permitted " + capText(c.Permitted)
	}
	return s + ", inheritable " + capText(c.Inheritable)
}

func (c *Capset) lower(a *Asm) {
	hdr := make([]byte, 8)
	binary.LittleEndian.PutUint32(hdr, CapsetVersion)
	a.call(abi.CallCapset, a.mem(hdr), a.mem(c.Data()))
}

// CapsetVersion is that of the structures of capset(2): _LINUX_CAPABILITY_VERSION_3.
const CapsetVersion = 0x20080522

// Data are the sets as capset(2) takes them.
func (c *Capset) Data() []byte {
	data := make([]byte, 24)
	for i, set := range []abi.CapSet{c.Effective, c.Permitted, c.Inheritable} {
		binary.LittleEndian.PutUint32(data[4*i:], uint32(set))
		binary.LittleEndian.PutUint32(data[12+4*i:], uint32(set>>32))
	}
	return data
}

// Ambient clears the ambient set and raises Caps in it: PR_CAP_AMBIENT.
type Ambient struct{ Caps abi.CapSet }

// Name implements [Op].
func (*Ambient) Name() string { return "ambient" }

// String implements [Op].
func (m *Ambient) String() string { return "prctl cap_ambient " + capText(m.Caps) }

func (m *Ambient) lower(a *Asm) {
	a.call(abi.CallPrctl, num(abi.PRCapAmbient), num(abi.PRCapAmbientClearAll), num(0), num(0), num(0))
	for _, c := range m.Caps.List() {
		a.call(abi.CallPrctl, num(abi.PRCapAmbient), num(abi.PRCapAmbientRaise), num(uint64(c)), num(0), num(0))
	}
}

// KeepCaps keeps (or no longer keeps) the permitted set over the change of
// user: PR_SET_KEEPCAPS.
type KeepCaps struct{ On bool }

// Name implements [Op].
func (*KeepCaps) Name() string { return "keepcaps" }

// String implements [Op].
func (k *KeepCaps) String() string {
	if k.On {
		return "prctl keepcaps on"
	}
	return "prctl keepcaps off"
}

func (k *KeepCaps) lower(a *Asm) {
	on := uint64(0)
	if k.On {
		on = 1
	}
	a.call(abi.CallPrctl, num(abi.PRSetKeepcaps), num(on), num(0), num(0), num(0))
}

// NoNewPrivs makes execve(2) grant nothing any more: PR_SET_NO_NEW_PRIVS.
type NoNewPrivs struct{}

// Name implements [Op].
func (*NoNewPrivs) Name() string { return "no_new_privs" }

// String implements [Op].
func (*NoNewPrivs) String() string { return "prctl no_new_privs" }

func (*NoNewPrivs) lower(a *Asm) {
	a.call(abi.CallPrctl, num(abi.PRSetNoNewPrivs), num(1), num(0), num(0), num(0))
}

// Seccomp loads a filter: seccomp(2).
type Seccomp struct {
	Filter  []byte // struct sock_filter, eight bytes each
	Flags   uint64 // SECCOMP_FILTER_FLAG_*
	Summary string // "309 calls allowed, default errno EPERM"
	Notify  Reg    // the listener's register, where there is one
	// The stub does it, by its Filter, as the last before the program's execve: of its own calls and of those that lead to it the filter need let none through.
	Stub bool `json:",omitempty"`
}

// Name implements [Op].
func (*Seccomp) Name() string { return "seccomp" }

// String implements [Op].
func (s *Seccomp) String() string {
	text := words("seccomp filter,", fmt.Sprintf("%d instructions:", len(s.Filter)/8), s.Summary)
	if s.Stub {
		text += ", by the stub"
	}
	return text
}

func (s *Seccomp) lower(a *Asm) {
	if s.Stub {
		return
	}
	prog := a.newMem(a.alloc(16))
	prog.Refs = []Ref{{Off: 8, To: a.newMem(s.Filter)}}
	binary.LittleEndian.PutUint16(prog.Data, uint16(len(s.Filter)/8))
	a.call(abi.CallSeccomp, num(abi.SeccompSetModeFilter), num(s.Flags), memArg(prog)).into(s.Notify)
}

// Undumpable keeps the container's processes away from this one until its
// execve: no ptrace, no /proc/PID/exe, no /proc/PID/fd (CVE-2016-9962, CVE-2019-5736).
type Undumpable struct{}

// Name implements [Op].
func (*Undumpable) Name() string { return "undumpable" }

// String implements [Op].
func (*Undumpable) String() string { return "prctl dumpable off" }

func (*Undumpable) lower(a *Asm) {
	a.call(abi.CallPrctl, num(abi.PRSetDumpable), num(0), num(0), num(0), num(0))
}
