package wait

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// signalled makes the call in a thread that gets a signal each millisecond. After at of them it says so, once; after five thousand it gives the call up, by end.
func signalled(t *testing.T, at int, say, end func(), call func() error) error {
	t.Helper()
	thread, ended := make(chan int), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		thread <- unix.Gettid()
		ended <- call()
	}()
	for tid, sent := <-thread, 0; ; sent++ {
		select {
		case err := <-ended:
			if sent < at || sent == 0 {
				t.Errorf("ended after %d signals: %v", sent, err)
			}
			return err
		case <-time.After(time.Millisecond):
		}
		if sent == at && say != nil {
			say()
		}
		if sent == 5000 {
			t.Error("signals of more than five seconds, and it waits as long as they come")
			end()
			return <-ended
		}
		if err := unix.Tgkill(os.Getpid(), tid, unix.SIGURG); err != nil {
			t.Error(err)
		}
	}
}

func pair(t *testing.T) [2]int {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	return fds
}

// TestSignals: those that come all the time neither end a wait before its time, nor make it longer.
func TestSignals(t *testing.T) {
	for _, test := range []struct {
		limit   time.Duration
		answers bool
	}{{50 * time.Millisecond, false}, {time.Hour, true}, {-1, true}} {
		t.Run(fmt.Sprintf("poll %v", test.limit), func(t *testing.T) {
			fds, at, n := pair(t), 0, 0
			answer := func() { unix.Shutdown(fds[1], unix.SHUT_WR) }
			var say func()
			if test.answers {
				at, say = 20, answer
			}
			err := signalled(t, at, say, answer, func() (err error) {
				n, err = Poll([]unix.PollFd{{Fd: int32(fds[0]), Events: unix.POLLIN}}, test.limit)
				return err
			})
			if err != nil || n > 0 != test.answers {
				t.Errorf("%d, %v", n, err)
			}
		})
		if test.limit < 0 {
			continue
		}
		t.Run(fmt.Sprintf("read %v", test.limit), func(t *testing.T) {
			fds, at := pair(t), 0
			answer := func() { unix.Shutdown(fds[1], unix.SHUT_WR) }
			var say func()
			want := error(unix.EAGAIN)
			if test.answers {
				at, say, want = 20, answer, nil
			}
			err := signalled(t, at, say, answer, func() error {
				return Socket(fds[0], unix.SO_RCVTIMEO, test.limit, func() error {
					_, err := unix.Read(fds[0], make([]byte, 1))
					return err
				})
			})
			if err != want {
				t.Errorf("%v, want %v", err, want)
			}
		})
	}
	t.Run("connect", func(t *testing.T) {
		to := &unix.SockaddrUnix{Name: filepath.Join(t.TempDir(), "s")}
		fds := make([]int, 3)
		for i := range fds {
			var err error
			if fds[i], err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0); err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fds[i])
		}
		// One may wait to be accepted, and nobody accepts it.
		if err := errors.Join(unix.Bind(fds[0], to), unix.Listen(fds[0], 0), unix.Connect(fds[1], to)); err != nil {
			t.Fatal(err)
		}
		err := signalled(t, 0, nil, func() { unix.Shutdown(fds[0], unix.SHUT_RD) }, func() error {
			return Socket(fds[2], unix.SO_SNDTIMEO, 50*time.Millisecond, func() error { return unix.Connect(fds[2], to) })
		})
		if err != unix.EAGAIN {
			t.Errorf("%v, want %v", err, unix.EAGAIN)
		}
	})
}

// TestWhole: a wait is as long as asked for, and none asks only.
func TestWhole(t *testing.T) {
	fds := pair(t)
	for _, limit := range []time.Duration{0, time.Nanosecond, 1500 * time.Microsecond} {
		begin := time.Now()
		n, err := Poll([]unix.PollFd{{Fd: int32(fds[0]), Events: unix.POLLIN}}, limit)
		if took := time.Since(begin); n != 0 || err != nil || took < limit {
			t.Errorf("%v: %d, %v after %v", limit, n, err, took)
		}
	}
	if n, err := Poll([]unix.PollFd{{Fd: int32(fds[0]), Events: unix.POLLOUT}}, 0); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}
