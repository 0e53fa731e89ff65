package ui

import (
	"fmt"
	"time"
)

// Size returns n bytes with four digits in units of 1000, as docker's image lists have
// it: "72.8MB". A negative n is "-1B" and so on.
func Size(n int64) string { return scale(n, 1000, "B", "kB", "MB", "GB", "TB", "PB", "EB") }

// Size1024 returns n bytes in units of 1024, as docker stats has it: "1.5GiB".
func Size1024(n int64) string {
	return scale(n, 1024, "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
}

func scale(n int64, base float64, units ...string) string {
	f, i := float64(n), 0
	for (f >= base || f <= -base) && i < len(units)-1 {
		f /= base
		i++
	}
	return fmt.Sprintf("%.4g%s", f, units[i])
}

// Duration returns d in one unit, in the words of docker ps: "Less than a second",
// "About a minute", "3 hours", "2 weeks". A negative d counts as none.
func (l Lang) Duration(d time.Duration) string {
	const day = 24 * time.Hour
	hours := int((d + 30*time.Minute) / time.Hour) // docker rounds hours, and cuts the rest
	switch {
	case d < time.Second:
		return l.Say(words.NoTime)
	case d < time.Minute:
		return l.Count(words.Seconds, int(d/time.Second))
	case d < 2*time.Minute:
		return l.Say(words.AMinute)
	case d < time.Hour:
		return l.Count(words.Minutes, int(d/time.Minute))
	case hours == 1:
		return l.Say(words.AnHour)
	case hours < 48:
		return l.Count(words.Hours, hours)
	case hours < 24*7*2:
		return l.Count(words.Days, hours/24)
	case hours < 24*30*2:
		return l.Count(words.Weeks, hours/24/7)
	case hours < 24*365*2:
		return l.Count(words.Months, hours/24/30)
	}
	return l.Count(words.Years, int(d/day)/365)
}

// Ago returns how long before now t was: "3 minutes ago".
func (l Lang) Ago(t, now time.Time) string { return l.Say(words.Ago, l.Duration(now.Sub(t))) }
