package nstest

import (
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// JoinKeyring gives the test's thread, which is locked to its end, a session keyring: one of a name, or for an empty one a new one without.
func JoinKeyring(t testing.TB, name string) (ring int) {
	t.Helper()
	runtime.LockOSThread() // for good: it ends with the test
	var err error
	if name == "" {
		ring, err = unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	} else {
		ring, err = unix.KeyctlJoinSessionKeyring(name)
	}
	if err != nil {
		t.Skipf("needs keyrings: %v", err)
	}
	return ring
}

// UseUpKeys uses up a user's quota of keys, to the end of the test, with keys in a session keyring of the test's own.
func UseUpKeys(t testing.TB, uid int) {
	t.Helper()
	JoinKeyring(t, "")
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
