package monitor

import "time"

// The wait before a restart doubles from the first to the last; a container that ran for long enough begins anew.
const (
	firstWait  = 100 * time.Millisecond
	lastWait   = time.Minute
	longEnough = 10 * time.Second
)

// wants reports whether a policy starts a container again, which ended by itself with a code and was started again times often.
func (r Restart) wants(code, times int) bool {
	switch r.Policy {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return code != 0 && (r.Retries == 0 || times < r.Retries)
	}
	return false
}

// heeds reports whether a boot of the machine starts a container by the policy unless somebody has stopped it.
func (r Restart) heeds() bool { return r.Policy == "unless-stopped" || r.Policy == "on-failure" }

// backOff is how long to wait after a run that took so long, when the wait before that one was last.
func backOff(last, ran time.Duration) time.Duration {
	if last == 0 || ran >= longEnough {
		return firstWait
	}
	return min(2*last, lastWait)
}
