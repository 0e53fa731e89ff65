package serve

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/kakuri/kakuri/internal/seqpacket"
)

// A side is the process in the namespaces, as the other one sees it. Its words are those of [inside].
type side struct {
	mu   sync.Mutex
	conn *os.File
	wait func()
	pid  int
}

// ask sends words, and gives the words of the answer with its descriptor, -1 if it has none.
func (s *side) ask(fd int, words ...any) (answer []string, got int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var fds []int
	if fd >= 0 {
		fds = []int{fd}
	}
	if err := seqpacket.Send(s.conn, []byte(strings.TrimSuffix(fmt.Sprintln(words...), "\n")), fds...); err != nil {
		return nil, -1, err
	}
	return s.hear()
}

func (s *side) hear() (answer []string, got int, err error) {
	buf := make([]byte, wordsMax)
	n, list, err := seqpacket.Receive(s.conn, buf, 1)
	if err != nil {
		return nil, -1, fmt.Errorf("the process in the namespaces: %w", err)
	}
	got = -1
	if len(list) > 0 {
		got = list[0]
	}
	if text, ok := strings.CutPrefix(string(buf[:n]), wordError+" "); ok {
		return nil, got, errors.New(text)
	}
	return strings.Fields(string(buf[:n])), got, nil
}
