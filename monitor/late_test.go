package monitor

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kakuri/kakuri/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestLateStart: who wants the end of a container that does not come to its start has that given up; anybody else waits.
func TestLateStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, starting := newStarting()
		m := &monitor{starting: starting}
		gone := make(chan *run, 2)
		go func() { gone <- m.running(false) }()
		time.Sleep(2 * lateStart)
		if ctx.Err() != nil {
			t.Error("it is given up by who does not want its end")
		}
		go func() { gone <- m.running(true) }()
		time.Sleep(lateStart - time.Second)
		if ctx.Err() != nil {
			t.Error("it is given up at once")
		}
		time.Sleep(2 * time.Second)
		if ctx.Err() == nil {
			t.Error("it is waited for for ever")
		}
		m.settled()
		for range 2 {
			if r := <-gone; r != nil {
				t.Errorf("there is a run: %v", r)
			}
		}
		// A start that was quick enough is not given up afterwards.
		ctx, m.starting = newStarting()
		go func() { gone <- m.running(true) }()
		synctest.Wait()
		m.settled()
		<-gone
		time.Sleep(2 * lateStart)
		if ctx.Err() != nil {
			t.Error("a start that was over is given up")
		}
	})
}

// TestGivenUpSaysWhat: of a start that was given up the error says also where it was, and what could not be undone.
func TestGivenUpSaysWhat(t *testing.T) {
	ctx, giveUp := context.WithCancel(t.Context())
	giveUp()
	m := &monitor{runtime: &oci.Runtime{Root: t.TempDir()}}
	b := &oci.Bundle{Spec: &specs.Spec{}}
	_, _, why := m.runtime.Launch(ctx, "", b, oci.Launch{})
	if err := m.launch(ctx, &run{}, b, oci.Launch{}); why == nil || !strings.Contains(err.Error(), "given up") || !strings.Contains(err.Error(), why.Error()) {
		t.Errorf("%v, of %v", err, why)
	}
}
