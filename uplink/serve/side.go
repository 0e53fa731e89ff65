package serve

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/kakuri/kakuri/internal/process"
	"github.com/kakuri/kakuri/internal/seqpacket"
	"golang.org/x/sys/unix"
)

// A side is the process in the namespaces, as the other one sees it. Its words are those of [inside].
type side struct {
	mu   sync.Mutex
	conn *os.File
	pid  int
	proc *process.Process // nil where it has ended already
	gone chan struct{}    // closed when it has ended
}

// answerPatience is how long a word is waited for. Who asks this program waits longer, and has a process go on meanwhile that was stopped by a signal.
const answerPatience = 20 * time.Second

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

// hear waits for an answer. A process that gives none is ended: another one is made in its place.
func (s *side) hear() (answer []string, got int, err error) {
	buf := make([]byte, wordsMax)
	s.conn.SetReadDeadline(time.Now().Add(answerPatience))
	n, list, err := seqpacket.Receive(s.conn, buf, 1)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.kill()
		return nil, -1, fmt.Errorf("the process in the namespaces, %d, did not answer within %v, and was ended: try again", s.pid, answerPatience)
	}
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

// end ends it, and waits for that. When its connection does it would end by itself, but for one that was stopped by a signal.
func (s *side) end() {
	s.conn.Close()
	s.kill()
	<-s.gone
}

func (s *side) kill() {
	if s.proc != nil {
		s.proc.Signal(unix.SIGKILL)
	}
}
