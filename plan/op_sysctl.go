package plan

import (
	"fmt"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

// OpenProc keeps the host's procfs, for writing sysctls before anything of the
// container is there: its own /proc could be anything (CVE-2025-52881). Which
// namespace a parameter belongs to depends on the writer, not on the mount.
type OpenProc struct {
	New bool // the host's has something mounted over /proc/sys: a new one, that is attached nowhere
}

// Name implements [Op].
func (*OpenProc) Name() string { return "open proc" }

// String implements [Op].
func (o *OpenProc) String() string {
	if o.New {
		return "mount proc, attached nowhere = " + RegProc.String()
	}
	return "open /proc = " + RegProc.String()
}

func (o *OpenProc) lower(a *Asm) {
	if o.New {
		a.newFS("proc", "proc", nil, abi.MountAttrNosuid|abi.MountAttrNodev|abi.MountAttrNoexec, RegProc)
		return
	}
	a.call(abi.CallOpenat, cwd(), a.str("/proc"), num(abi.OPath|abi.OCloexec|a.o.Directory), num(0)).into(RegProc)
}

// Sysctl writes a kernel parameter of the container's namespaces: proc(5).
type Sysctl struct{ Key, Value string }

// Name implements [Op].
func (*Sysctl) Name() string { return "sysctl" }

// String implements [Op].
func (s *Sysctl) String() string {
	return fmt.Sprintf("write /proc/sys/%s %q", sysctlPath(s.Key), s.Value)
}

// OfNetwork reports whether the parameter is one of the network namespace.
func (s *Sysctl) OfNetwork() bool { return strings.HasPrefix(sysctlPath(s.Key), "net/") }

// sysctlPath turns "net.ipv4.ip_forward" into "net/ipv4/ip_forward". As
// sysctl(8), a key whose first separator is a slash is a path already, and dots in it stay.
func sysctlPath(key string) string {
	dot, slash := strings.IndexByte(key, '.'), strings.IndexByte(key, '/')
	if slash >= 0 && (dot < 0 || slash < dot) {
		return key
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, key)
}

func (s *Sysctl) lower(a *Asm) {
	f := a.tmp()
	how := a.openHow(abi.OWronly|abi.OCloexec, abi.ResolveBeneath|abi.ResolveNoSymlinks|abi.ResolveNoXdev)
	a.call(abi.CallOpenat2, fd(RegProc), a.str("sys/"+sysctlPath(s.Key)), how, num(24)).into(f)
	a.call(abi.CallWrite, fd(f), a.mem([]byte(s.Value)), num(uint64(len(s.Value))))
}
