package monitor

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
)

// TestHealth: the state of health is what Docker makes of the same results.
func TestHealth(t *testing.T) {
	began := time.Unix(1e9, 0)
	h := HealthCheck{Retries: 2, StartPeriod: 10 * time.Second}.WithDefaults()
	if h.Interval != 30*time.Second || h.Timeout != 30*time.Second || h.StartInterval != 5*time.Second {
		t.Errorf("defaults %+v", h)
	}
	now := Health{Status: Starting}
	for i, step := range []struct {
		at     int // seconds after the start
		code   int
		status string
		failed int
		wait   time.Duration
	}{
		{1, 1, Starting, 0, 5 * time.Second},   // in the start period a failure does not count
		{6, 1, Starting, 0, 30 * time.Second},  // asked after the period
		{11, 1, Starting, 1, 30 * time.Second}, // it counts
		{12, 1, Unhealthy, 2, 30 * time.Second},
		{13, 0, Healthy, 0, 30 * time.Second},
		{14, -1, Healthy, 1, 30 * time.Second},
		{15, 126, Unhealthy, 2, 30 * time.Second},
	} {
		at := began.Add(time.Duration(step.at) * time.Second)
		now = h.next(now, HealthResult{Start: at, End: at, ExitCode: step.code}, began)
		if now.Status != step.status || now.Failing != step.failed || len(now.Log) != min(i+1, healthLog) {
			t.Errorf("step %d: %s, %d failed, %d results; want %+v", i, now.Status, now.Failing, len(now.Log), step)
		}
		if got := h.wait(now.Status, at.Sub(began)+4*time.Second); got != step.wait {
			t.Errorf("step %d: next in %v, want %v", i, got, step.wait)
		}
	}
	early := h.next(Health{Status: Starting}, HealthResult{Start: began.Add(time.Second)}, began)
	if early.Status != Healthy {
		t.Errorf("well in the start period: %s", early.Status)
	}
	if again := h.next(early, HealthResult{Start: began.Add(2 * time.Second), ExitCode: 1}, began); again.Failing != 1 {
		t.Errorf("not well again in the start period: %d", again.Failing)
	}
}

func TestHealthCommand(t *testing.T) {
	for _, test := range []struct{ in, want []string }{
		{nil, nil}, {[]string{"NONE"}, nil}, {[]string{"CMD"}, nil}, {[]string{"CMD", "a", "b"}, []string{"a", "b"}},
		{[]string{"CMD-SHELL", "a b"}, []string{"/bin/sh", "-c", "a b"}},
	} {
		if got := (&HealthCheck{Test: test.in}).command(); !slices.Equal(got, test.want) {
			t.Errorf("%q: %q", test.in, got)
		}
	}
	if (*HealthCheck)(nil).command() != nil {
		t.Error("none has a command")
	}
}

func TestFirstOf(t *testing.T) {
	if got := firstOf(strings.NewReader("short\xff")); got != "short\ufffd" {
		t.Errorf("%q", got)
	}
	if got := firstOf(strings.NewReader(strings.Repeat("x", 10000))); got != strings.Repeat("x", healthOutput)+"..." {
		t.Errorf("%d bytes", len(got))
	}
}

// TestCheckThatDoesNotEnd: a check whose process waits for a file system that does not answer, beyond any signal, is one that failed, again and again, and no other is
// begun until it ends.
func TestCheckThatDoesNotEnd(t *testing.T) {
	began, answer := make(chan struct{}, 10), make(chan int, 1)
	c := checker{h: &HealthCheck{Timeout: time.Millisecond}, grace: time.Millisecond, run: func() (HealthResult, bool) {
		began <- struct{}{}
		return HealthResult{ExitCode: <-answer}, true
	}}
	for range 3 {
		r, done := c.next()
		if !done || r.ExitCode != -1 || r.Output != "Health check exceeded timeout (1ms): its process cannot be ended" || r.End.Before(r.Start) {
			t.Errorf("%+v %v", r, done)
		}
	}
	<-began
	if more := len(began); more > 0 {
		t.Fatalf("%d more at once", more)
	}
	stuck := c.under
	answer <- 7
	nstest.Until(t, "the end of the check", func() bool { return len(stuck) > 0 }) // nobody else takes it
	answer <- 0
	c.grace = time.Minute
	if r, done := c.next(); !done || r.ExitCode != 0 || len(began) != 1 {
		t.Errorf("%+v %v, after %d checks more", r, done, len(began))
	}
}
