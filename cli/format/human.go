package format

import (
	"fmt"
	"time"

	"github.com/kakuri/kakuri/ui"
)

// Size is a number of bytes with four digits, in decimal units: 1.234kB.
func Size(n float64) string {
	return scaled(n, 1000, 4, "B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
}

// Short is a number of bytes with three digits, in decimal units: 1.23kB.
func Short(n float64) string {
	return scaled(n, 1000, 3, "B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
}

// Binary is a number of bytes with four digits, in binary units: 1.234KiB.
func Binary(n float64) string {
	return scaled(n, 1024, 4, "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
}

func scaled(n, base float64, digits int, units ...string) string {
	i := 0
	for ; n >= base && i < len(units)-1; i++ {
		n /= base
	}
	return fmt.Sprintf("%.*g%s", digits, n, units[i])
}

// Span is a duration in Docker's words: "About a minute", "2 weeks".
func Span(d time.Duration) string {
	seconds, minutes, hours := int(d.Seconds()), int(d.Minutes()), int(d.Hours()+0.5)
	const day, week, month, year = 24, 7 * 24, 30 * 24, 365 * 24
	switch {
	case seconds < 1:
		return "Less than a second"
	case seconds == 1:
		return "1 second"
	case seconds < 60:
		return fmt.Sprintf("%d seconds", seconds)
	case minutes == 1:
		return "About a minute"
	case minutes < 60:
		return fmt.Sprintf("%d minutes", minutes)
	case hours == 1:
		return "About an hour"
	case hours < 2*day:
		return fmt.Sprintf("%d hours", hours)
	case hours < 2*week:
		return fmt.Sprintf("%d days", hours/day)
	case hours < 2*month:
		return fmt.Sprintf("%d weeks", hours/week)
	case hours < 2*year:
		return fmt.Sprintf("%d months", hours/month)
	}
	return fmt.Sprintf("%d years", int(d.Hours())/year)
}

// ID is the short form of an id: twelve digits, without the digest's algorithm.
func ID(id string) string {
	for i := range len(id) {
		if id[i] == ':' {
			id = id[i+1:]
			break
		}
	}
	return id[:min(12, len(id))]
}

// Ellipsis cuts s to a number of columns; the last of them is an ellipsis then.
func Ellipsis(s string, columns int) string { return ui.Cut(s, columns, "…") }
