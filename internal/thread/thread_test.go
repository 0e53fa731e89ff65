package thread

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestAside: what is changed of a thread is of that one alone, which is never the main one, though that one is free.
func TestAside(t *testing.T) {
	masks := func() int { old := unix.Umask(0o022); unix.Umask(old); return old }
	before := masks()
	for range 200 {
		<-Aside(func() {
			if unix.Gettid() == unix.Getpid() {
				t.Error("it runs on the main thread")
				return
			}
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				t.Error(err)
				return
			}
			unix.Umask(0o777)
		})
		if now := masks(); now != before {
			t.Fatalf("the umask is %o", now)
		}
	}
}
