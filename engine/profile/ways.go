package profile

import (
	"fmt"
	"slices"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Ways finds, for each call that a container's profile lacks, the least option that lets it through: another profile, or one capability more.
func Ways(plain *specs.LinuxSeccomp, caps abi.CapSet, arch abi.Arch) (map[string]string, error) {
	have, err := seccomp.Compile(plain, arch)
	if err != nil || have == nil {
		return nil, err
	}
	out := waysOut{arch: arch, have: have, ways: map[string]string{}}
	for _, name := range []string{builtin, debug, docker} {
		if err := out.note("--security-opt seccomp="+name, name, caps); err != nil {
			return nil, err
		}
	}
	// Docker's profile has more calls for some capabilities.
	for _, c := range []abi.Capability{
		abi.CapDACReadSearch, abi.CapSyslog, abi.CapSysTime, abi.CapSysTTYConfig, abi.CapSysNice, abi.CapSysPacct, abi.CapSysPtrace, abi.CapSysChroot,
		abi.CapPerfmon, abi.CapBPF, abi.CapSysBoot, abi.CapSysModule, abi.CapSysRawio, abi.CapSysAdmin,
	} {
		if err := out.note(fmt.Sprintf("--cap-add %s", c), builtin, caps.With(c)); err != nil {
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
