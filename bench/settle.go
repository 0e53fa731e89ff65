package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	settleWindow = 100 * time.Millisecond // longer than what sleeps between two steps of a clean-up
	settleMost   = 2 * time.Second
	settledIdle  = 0.9 // the idle share of all processors
)

// A settler waits for a quiet machine. What an engine does after its command has ended (shims, monitors, namespaces that
// the kernel takes down) would be charged to the next command else, whose engine is another one.
type settler struct {
	waits, never int // how often it waited, and how often it gave up
}

// settle returns when the processors were idle for a window, or after settleMost.
func (s *settler) settle() {
	s.waits++
	before, ok := readProcessorTime("/proc/stat")
	for end := time.Now().Add(settleMost); ok && time.Now().Before(end); {
		time.Sleep(settleWindow)
		after, known := readProcessorTime("/proc/stat")
		if before.idleUntil(after) >= settledIdle {
			return
		}
		before, ok = after, known
	}
	s.never++
}

func (s *settler) String() string {
	return fmt.Sprintf("%d of %d commands began when it was not, after %v", s.never, s.waits, settleMost)
}

// processorTime is the first line of proc_stat(5), in ticks.
type processorTime struct{ idle, all uint64 }

func readProcessorTime(path string) (processorTime, bool) {
	words := strings.Fields(firstLine(readText(path)))
	if len(words) < 9 || words[0] != "cpu" {
		return processorTime{}, false
	}
	var t processorTime
	for i, w := range words[1:9] { // guests' time is in that of users already
		n, err := strconv.ParseUint(w, 10, 64)
		if err != nil {
			return processorTime{}, false
		}
		t.all += n
		if i == 3 { // waiting for a disk is not idle: somebody writes
			t.idle = n
		}
	}
	return t, true
}

// idleUntil is the share of the time between two readings in which processors had nothing to do.
func (t processorTime) idleUntil(later processorTime) float64 {
	if later.all <= t.all || later.idle < t.idle {
		return 0
	}
	return float64(later.idle-t.idle) / float64(later.all-t.all)
}
