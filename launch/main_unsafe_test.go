package launch_test

import "unsafe"

// ptr is the address of v as a system call takes it; v is a variable of the package.
func ptr[T any](v *T) uintptr { return uintptr(unsafe.Pointer(v)) }

// bytesPtr is the address of b's first byte.
//
//go:uintptrescapes
func bytesPtr(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
