package profile

import (
	"testing"

	"github.com/kakuri/kakuri/abi"
)

// The ways out: the least option that lets a call through.
func TestWays(t *testing.T) {
	caps := abi.Caps(abi.CapChown, abi.CapSetuid, abi.CapKill)
	plain, err := Named("builtin", caps)
	if err != nil {
		t.Fatal(err)
	}
	ways, err := Ways(plain, caps, abi.ArchX86_64)
	if err != nil {
		t.Fatal(err)
	}
	for call, want := range map[string]string{
		"process_vm_readv": "--security-opt seccomp=debug", "ptrace": "", "unshare": "--cap-add CAP_SYS_ADMIN", "mount": "--cap-add CAP_SYS_ADMIN",
		"settimeofday": "--cap-add CAP_SYS_TIME", "io_uring_setup": "", "execve": "", "reboot": "--cap-add CAP_SYS_BOOT", "readahead": "--security-opt seccomp=docker",
		"personality 0x40000": "--security-opt seccomp=debug", "personality 0x8": "", "socket 17": "--cap-add CAP_NET_RAW", "socket 16 12": "--cap-add CAP_NET_RAW", "socket 16 16": "--cap-add CAP_NET_ADMIN",
		"socket 16 6": "--security-opt seccomp=docker", "socket 31": "--security-opt seccomp=docker", "socket 2": "", "socket 16 0": "", "socket": "",
	} {
		if ways[call] != want {
			t.Errorf("%s: %q, want %q", call, ways[call], want)
		}
	}
}
