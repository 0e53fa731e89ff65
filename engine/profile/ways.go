package profile

import (
	"fmt"
	"slices"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Ways finds, for each call that a container's profile lacks, the least option that lets it through: another profile, or one capability more. Of calls that a profile lets through for
// some arguments it has one for each kind, as seccomp.Kind says.
func Ways(plain *specs.LinuxSeccomp, caps abi.CapSet, arch abi.Arch) (map[string]string, error) {
	have, err := seccomp.Compile(plain, arch)
	if err != nil || have == nil {
		return nil, err
	}
	out := waysOut{arch: arch, have: have, ways: map[string]string{}}
	type option struct {
		flag, profile string
		caps          abi.CapSet
	}
	named := func(name string) option { return option{"--security-opt seccomp=" + name, name, caps} }
	with := func(c abi.Capability) option { return option{fmt.Sprintf("--cap-add %s", c), builtin, caps.With(c)} }
	options := []option{named(builtin), named(debug), with(abi.CapNetRaw), with(abi.CapNetAdmin), named(docker)}
	// Docker's profile has more calls for some capabilities.
	for _, c := range []abi.Capability{
		abi.CapDACReadSearch, abi.CapSyslog, abi.CapSysTime, abi.CapSysTTYConfig, abi.CapSysNice, abi.CapSysPacct, abi.CapSysPtrace, abi.CapSysChroot,
		abi.CapPerfmon, abi.CapBPF, abi.CapSysBoot, abi.CapSysModule, abi.CapSysRawio, abi.CapSysAdmin,
	} {
		options = append(options, with(c))
	}
	for _, o := range options {
		if err := out.note(o.flag, o.profile, o.caps); err != nil {
			return nil, err
		}
	}
	return out.ways, nil
}

// waysOut are the options that let a call through which a filter refuses, the first that was found for each.
type waysOut struct {
	arch abi.Arch
	have *seccomp.Program // that refuses
	ways map[string]string
}

// note takes what a profile lets through that the filter does not: with some arguments, or with all of them.
func (w *waysOut) note(way, name string, caps abi.CapSet) error {
	p, err := Named(name, caps)
	if err != nil {
		return err
	}
	more, err := seccomp.Compile(p, w.arch)
	if err != nil || more == nil {
		return err
	}
	for _, k := range kinds() {
		nr, ok := w.arch.Syscall(k.call)
		if key := seccomp.Kind(k.call, k.args); ok && w.ways[key] == "" && !allowsOne(w.have, w.arch, nr, k.args) && allowsOne(more, w.arch, nr, k.args) {
			w.ways[key] = way
		}
	}
	for i := range abi.SyscallCount {
		name := abi.SyscallNameAt(i)
		nr, ok := w.arch.SyscallAt(i)
		if !ok || w.ways[name] != "" {
			continue
		}
		some, all := w.allows(w.have, nr)
		some1, all1 := w.allows(more, nr)
		if some1 && !some || all1 && !all {
			w.ways[name] = way
		}
	}
	return nil
}

// allows reports whether a filter lets a call through with some arguments, and with all of them.
func (w *waysOut) allows(p *seccomp.Program, nr uint32) (some, all bool) {
	answers := seccomp.Reach(p.Instructions, w.arch, nr)
	some = slices.Contains(answers, abi.SeccompRetAllow)
	return some, some && len(answers) == 1
}

// A kind is a call with arguments that profiles tell it by.
type kind struct {
	call string
	args [6]uint64
}

// kinds are those of calls that some profile lets through for some arguments.
func kinds() []kind {
	list := []kind{{"personality", [6]uint64{abi.PerAddrNoRandomize}}}
	for family := range uint64(1 << familyBits) {
		list = append(list, kind{"socket", [6]uint64{family, unix.SOCK_RAW, 0}})
	}
	for protocol := range uint64(32) { // MAX_LINKS of linux/netlink.h
		list = append(list, kind{"socket", [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW, protocol}})
	}
	return list
}

func allowsOne(p *seccomp.Program, arch abi.Arch, nr uint32, args [6]uint64) bool {
	return p.Decide(arch, nr, args[:]...) == abi.SeccompRetAllow
}
