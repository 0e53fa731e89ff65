package engine

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/seccomp"
	mobyseccomp "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// explainDenials has the container's filter ask its monitor about what it refuses, and says what the monitor needs
// to know to answer, and to tell a way out. It is for --security-opt seccomp=explain; without a filter there is nothing to explain.
func (b *builder) explainDenials(run string) (*monitor.Denials, error) {
	plain := b.spec.Linux.Seccomp
	if !b.security.explain || plain == nil {
		return nil, nil
	}
	profile, err := json.Marshal(plain)
	if err != nil {
		return nil, err
	}
	ways, err := b.ways(plain)
	if err != nil {
		return nil, err
	}
	b.spec.Linux.Seccomp = seccomp.Notifying(plain, b.host.Arch, monitor.DenialSocket(run, b.id))
	b.because("linux.seccomp.listenerPath", "--security-opt seccomp=explain")
	return &monitor.Denials{Profile: profile, Ways: ways}, nil
}

// ways finds, for each call that a profile lacks, the least option that lets it through: another profile, or a capability.
func (b *builder) ways(plain *specs.LinuxSeccomp) (map[string]string, error) {
	have, err := seccomp.Compile(plain, b.host.Arch)
	if err != nil || have == nil {
		return nil, err
	}
	out := waysOut{arch: b.host.Arch, have: have, ways: map[string]string{}}
	for _, name := range []string{"builtin", "debug", "docker"} {
		p, err := mobyseccomp.GetDefaultProfile(&b.spec)
		if err != nil {
			return nil, err
		}
		if name != "docker" {
			p = narrow(p, b.capSet(), name)
		}
		if err := out.note("--security-opt seccomp="+name, p); err != nil {
			return nil, err
		}
	}
	// Docker's profile has more calls for some capabilities.
	for _, c := range []abi.Capability{
		abi.CapDACReadSearch, abi.CapSyslog, abi.CapSysTime, abi.CapSysTTYConfig, abi.CapSysNice, abi.CapSysPacct, abi.CapSysPtrace, abi.CapSysChroot,
		abi.CapPerfmon, abi.CapBPF, abi.CapSysBoot, abi.CapSysModule, abi.CapSysRawio, abi.CapSysAdmin,
	} {
		spec, caps := b.spec, *b.spec.Process.Capabilities
		caps.Bounding = append(slices.Clone(caps.Bounding), c.String())
		process := *spec.Process
		process.Capabilities, spec.Process = &caps, &process
		p, err := mobyseccomp.GetDefaultProfile(&spec)
		if err != nil {
			return nil, err
		}
		if err := out.note(fmt.Sprintf("--cap-add %s", c), narrow(p, b.capSet().With(c), "builtin")); err != nil {
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
func (w *waysOut) note(way string, p *specs.LinuxSeccomp) error {
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
