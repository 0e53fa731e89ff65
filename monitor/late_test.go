package monitor

import (
	"context"
	"testing"
	"time"
)

// TestLateStart: who wants the end of a container that does not come to its start has that given up; anybody else waits.
func TestLateStart(t *testing.T) {
	defer func(d time.Duration) { lateStart = d }(lateStart)
	lateStart = 50 * time.Millisecond
	ctx, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	m := &monitor{starting: make(chan struct{}), giveUp: giveUp}
	go m.running(false)
	select {
	case <-ctx.Done():
		t.Error("it is given up by who does not want its end")
	case <-time.After(4 * lateStart):
	}
	gone := make(chan *run)
	go func() { gone <- m.running(true) }()
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Error("it is waited for for ever")
	}
	m.settled()
	if r := <-gone; r != nil {
		t.Errorf("there is a run: %v", r)
	}
	// A start that was quick enough is not given up afterwards.
	ctx, giveUp = context.WithCancel(context.Background())
	defer giveUp()
	m.starting, m.giveUp = make(chan struct{}), giveUp
	go func() { gone <- m.running(true) }()
	m.settled()
	<-gone
	time.Sleep(4 * lateStart)
	if ctx.Err() != nil {
		t.Error("a start that was over is given up")
	}
}
