package seccomp

import (
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Where the profile refuses a known call the agent is asked, and everything else is as before: for all calls and sampled
// arguments.
func TestNotifying(t *testing.T) {
	p := notifyingSample(t)
	plain, err := Compile(p, abi.ArchX86_64)
	if err != nil {
		t.Fatal(err)
	}
	asking, err := Compile(Notifying(p, abi.ArchX86_64, "/agent"), abi.ArchX86_64)
	if err != nil {
		t.Fatal(err)
	}
	if !asking.Notify {
		t.Error("nothing asks")
	}
	asked := 0
	for nr := range uint32(500) {
		_, known := abi.ArchX86_64.SyscallName(nr)
		for _, arg := range []uint64{0, 1, 2, 16, 40, 0x5412, 0x10000000, 1 << 32} {
			args := []uint64{arg, arg, arg}
			want, got := plain.Decide(abi.ArchX86_64, nr, args...), asking.Decide(abi.ArchX86_64, nr, args...)
			if known && want&abi.SeccompRetActionFull == abi.SeccompRetErrno {
				want, asked = abi.SeccompRetUserNotif, asked+1
			}
			if got != want {
				t.Fatalf("call %d %x: %#x, want %#x", nr, arg, got, want)
			}
		}
	}
	if asked < 400 {
		t.Errorf("only %d calls are asked about", asked)
	}
}

func notifyingSample(t *testing.T) *specs.LinuxSeccomp {
	t.Helper()
	eio := uint(abi.EIO)
	masked := func(i uint, v uint64) []specs.LinuxSeccompArg {
		return []specs.LinuxSeccompArg{{Index: i, Value: 0xffffffff, ValueTwo: v, Op: specs.OpMaskedEqual}}
	}
	eperm := uint(abi.EPERM)
	return &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, DefaultErrnoRet: &eperm,
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read", "write", "sendmsg", "execve", "exit_group"}, Action: specs.ActAllow},
			{Names: []string{"socket"}, Action: specs.ActAllow, Args: masked(0, 2)},
			{Names: []string{"ioctl"}, Action: specs.ActErrno, ErrnoRet: &eio, Args: masked(1, 0x5412)},
			{Names: []string{"ioctl"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 1, Value: 0x5412, Op: specs.OpNotEqual}}},
			{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: &eio},
			{Names: []string{"reboot"}, Action: specs.ActKillProcess},
		},
	}
}
