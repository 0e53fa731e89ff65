package monitor

import (
	"testing"
	"time"
)

func TestBackOff(t *testing.T) {
	for _, test := range []struct{ last, ran, want time.Duration }{
		{0, 0, firstWait}, {firstWait, 0, 2 * firstWait}, {firstWait, longEnough - 1, 2 * firstWait}, {lastWait - 1, 0, lastWait}, {lastWait, 0, lastWait},
		{lastWait, longEnough, firstWait},
	} {
		if got := backOff(test.last, test.ran); got != test.want {
			t.Errorf("after a wait of %v and a run of %v it is %v, want %v", test.last, test.ran, got, test.want)
		}
	}
}

// TestPauseIsEnded: whoever stops a container that waits for its next start waits for nothing.
func TestPauseIsEnded(t *testing.T) {
	m := &monitor{stopping: make(chan struct{}), order: Order{Dir: t.TempDir()}}
	m.stay()
	if m.pause(time.Hour) || m.state.Status != Exited || !m.state.Stopped {
		t.Errorf("%+v", m.state)
	}
}
