package thread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Aside runs f on a thread that no other goroutine gets, and that ends with it. The channel is closed when it has ended.
//
// The main thread would stay, and /proc/self show what it has joined. When it comes up, it is held until another one has run f.
func Aside(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: a goroutine that ends so takes its thread along
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			<-Aside(f)
			return
		}
		f()
	}()
	return done
}
