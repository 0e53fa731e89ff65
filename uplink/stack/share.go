package stack

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// A share is what may be there at once, and how much of it those have who share it: an address may have as many as are free. So one that takes all it can
// get has half, two a third each, and there is always as much for the next one.
type share struct {
	mu    sync.Mutex
	max   int
	total int
	of    map[tcpip.Address]int
}

func newShare(max int) *share { return &share{max: max, of: map[tcpip.Address]int{}} }

// take takes one for an address, unless that has its share.
func (s *share) take(a tcpip.Address) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[a] >= s.max-s.total {
		return false
	}
	s.of[a]++
	s.total++
	return true
}

// give gives one back.
func (s *share) give(a tcpip.Address) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.of[a]--; s.of[a] == 0 {
		delete(s.of, a)
	}
}

func (s *share) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}
