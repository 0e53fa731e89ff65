package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/kakuri/kakuri/monitor"
)

// healthCheck is what the monitor has to do for a container's health; nil for nothing.
func healthCheck(h *Health) *monitor.HealthCheck {
	if h == nil || len(h.Test) == 0 || h.Test[0] == "NONE" {
		return nil
	}
	full := monitor.HealthCheck{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}.WithDefaults()
	return &full
}

// checkHealth reports what is wrong with a health check, in Docker's words.
func checkHealth(h *Health) error {
	if h == nil {
		return nil
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if d.d != 0 && d.d < time.Millisecond {
			return fmt.Errorf("%s in Healthcheck cannot be less than 1ms", d.name)
		}
	}
	if h.Retries < 0 {
		return errors.New("retries in Healthcheck cannot be negative")
	}
	if len(h.Test) > 0 && h.Test[0] != "NONE" && h.Test[0] != "CMD" && h.Test[0] != "CMD-SHELL" {
		return fmt.Errorf("unknown type in Healthcheck: %q: it is NONE, CMD or CMD-SHELL", h.Test[0])
	}
	return nil
}
