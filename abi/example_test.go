package abi_test

import (
	"fmt"

	"github.com/kakuri/kakuri/abi"
)

func Example() {
	for _, a := range []abi.Arch{abi.ArchX86_64, abi.ArchX86, abi.ArchAARCH64} {
		nr, ok := a.Syscall("pivot_root")
		fmt.Println(a, nr, ok)
	}
	fmt.Println(abi.MountAttrWords(abi.MountAttrRdonly | abi.MountAttrNosuid))
	fmt.Println(abi.EROFS.Name(), abi.EROFS)
	// Output:
	// SCMP_ARCH_X86_64 155 true
	// SCMP_ARCH_X86 217 true
	// SCMP_ARCH_AARCH64 41 true
	// rdonly,nosuid
	// EROFS read-only file system
}
