// Package thread lends threads to what changes them. A thread that has joined a namespace, or has another root directory, is of no use to other
// goroutines: it ends with what it was for.
//
//	<-thread.Aside(func() {
//		err = unix.Setns(ns, unix.CLONE_NEWNET)
//		…
//	})
//
// What it may not do: know what the thread is for.
package thread
