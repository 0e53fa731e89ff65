package wait

import (
	"time"

	"golang.org/x/sys/unix"
)

// Poll waits until one of the descriptors is ready, and gives how many are: poll(2). None are when the time is over; less than none is no limit.
func Poll(fds []unix.PollFd, limit time.Duration) (int, error) {
	for end, left := time.Now().Add(limit), limit; ; left = max(time.Until(end), 0) {
		timeout := -1
		if limit >= 0 {
			timeout = int((left + time.Millisecond - 1) / time.Millisecond) // never shorter than asked for
		}
		if n, err := unix.Poll(fds, timeout); err != unix.EINTR {
			return n, err
		}
		if limit >= 0 && !time.Now().Before(end) {
			return 0, nil
		}
	}
}

// Socket makes a call of a socket within the time, by SO_RCVTIMEO or SO_SNDTIMEO, which connect(2) has as well: socket(7). EAGAIN is that it is over.
// The shortest wait of such a call may be longer than the time from one signal to the next.
func Socket(fd, option int, limit time.Duration, call func() error) error {
	for end, left := time.Now().Add(limit), limit; left > 0; left = time.Until(end) {
		value := unix.NsecToTimeval(int64(max(left, time.Microsecond))) // zero would be no limit
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &value); err != nil {
			return err
		}
		if err := call(); err != unix.EINTR {
			return err
		}
	}
	return unix.EAGAIN
}
