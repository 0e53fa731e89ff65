package seccomp

import (
	"slices"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Every word that is listed is understood, and one that is not listed is not.
func TestWords(t *testing.T) {
	profile := func(change func(p *specs.LinuxSeccomp)) error {
		p := &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow, ListenerPath: "/x",
			Syscalls: []specs.LinuxSyscall{{Names: []string{"getcwd"}, Action: specs.ActNotify}},
		}
		change(p)
		_, err := Compile(p, abi.ArchX86_64)
		return err
	}
	for kind, c := range map[string]struct {
		list []string
		set  func(p *specs.LinuxSeccomp, word string)
	}{
		"action": {Actions(), func(p *specs.LinuxSeccomp, w string) { p.Syscalls[0].Action = specs.LinuxSeccompAction(w) }},
		"operator": {Operators(), func(p *specs.LinuxSeccomp, w string) {
			p.Syscalls[0].Args = []specs.LinuxSeccompArg{{Op: specs.LinuxSeccompOperator(w)}}
		}},
		"flag": {Flags(), func(p *specs.LinuxSeccomp, w string) { p.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlag(w)} }},
	} {
		for _, word := range c.list {
			if err := profile(func(p *specs.LinuxSeccomp) { c.set(p, word) }); err != nil {
				t.Errorf("%s %s: %v", kind, word, err)
			}
		}
		if err := profile(func(p *specs.LinuxSeccomp) { c.set(p, "NONE") }); err == nil {
			t.Errorf("%s NONE is understood", kind)
		}
		if slices.Contains(c.list, "") || len(c.list) < 4 {
			t.Errorf("%s: %q", kind, c.list)
		}
	}
}

func TestKind(t *testing.T) {
	const high = 1 << 32 // which the kernel does not read
	for _, c := range []struct {
		call string
		args [6]uint64
		want string
	}{
		{"socket", [6]uint64{16 | high, 3, 12 | high}, "socket 16 12"}, {"socket", [6]uint64{17, 3, 768}, "socket 17"},
		{"personality", [6]uint64{0x40000}, "personality 0x40000"}, {"unshare", [6]uint64{1}, "unshare"},
	} {
		if got := Kind(c.call, c.args); got != c.want {
			t.Errorf("%s %x is %q, want %q", c.call, c.args, got, c.want)
		}
	}
}
