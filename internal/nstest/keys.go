package nstest

import (
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// UseUpKeys uses up a user's quota of keys, to the end of the test: its thread is locked, and has them in a session keyring of its own.
func UseUpKeys(t testing.TB, uid int) {
	t.Helper()
	runtime.LockOSThread() // for good: it ends with the test
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil {
		t.Skipf("needs keyrings: %v", err)
	}
	// The keys are of who the thread is to file systems.
	if err := unix.Setfsuid(uid); err != nil {
		t.Fatal(err)
	}
	defer unix.Setfsuid(0)
	for i := 0; ; i++ {
		switch _, err := unix.AddKey("user", strconv.Itoa(i), []byte("x"), unix.KEY_SPEC_SESSION_KEYRING); err {
		case nil:
		case unix.EDQUOT:
			return
		default:
			t.Fatalf("add_key: %v", err)
		}
	}
}
