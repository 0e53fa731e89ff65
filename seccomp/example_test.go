package seccomp_test

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/seccomp"
)

func ExampleCompile() {
	profile := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno,
		Architectures: []specs.Arch{specs.ArchX86},
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read", "write", "exit_group"}, Action: specs.ActAllow},
			{Names: []string{"socket"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{
				{Index: 0, Value: 1, Op: specs.OpEqualTo}, // AF_UNIX
			}},
		},
	}
	p, err := seccomp.Compile(profile, abi.ArchX86_64)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, call := range []struct {
		name string
		args []uint64
	}{{"read", nil}, {"mount", nil}, {"socket", []uint64{1}}, {"socket", []uint64{16}}, {"mseal", nil}} {
		nr, _ := abi.ArchX86_64.Syscall(call.name)
		fmt.Println(call.name, call.args, seccomp.AnswerWords(p.Decide(abi.ArchX86_64, nr, call.args...)))
	}
	// Output:
	// read [] allow
	// mount [] errno EPERM
	// socket [1] allow
	// socket [16] errno EPERM
	// mseal [] errno ENOSYS
}

func ExampleDisassemble() {
	p, err := seccomp.Compile(&specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls:      []specs.LinuxSyscall{{Names: []string{"mount"}, Action: specs.ActErrno}},
	}, abi.ArchAARCH64)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(seccomp.Disassemble(p.Instructions))
	// Output:
	//    0  load [4]                           ; architecture
	//    1  if A == 0xc00000b7 then 3 else 2   ; aarch64
	//    2  return 0x0                         ; kill thread
	//    3  load [0]                           ; system call
	//    4  if A == 40 then 5 else 6           ; mount
	//    5  return 0x50001                     ; errno EPERM
	//    6  return 0x7fff0000                  ; allow
}
