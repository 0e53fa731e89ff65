package engine

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseSize parses a number of bytes with Docker's suffixes, of powers of 1024: b, k, m,
// g, t, p, each with b or ib behind it or not. The number may have a fraction, and an exponent.
func ParseSize(s string) (int64, error) {
	bad := fmt.Errorf("want a size, as in 64m")
	text := strings.ToLower(s)
	shift := 0
	if t := strings.TrimSuffix(text, "b"); t != text {
		text = t
		if u := strings.TrimSuffix(t, "i"); u != t && u != "" && strings.Contains("kmgtp", u[len(u)-1:]) {
			text = u
		}
	}
	if n := len(text); n > 0 {
		if k := strings.IndexByte("kmgtp", text[n-1]); k >= 0 {
			shift, text = 10*(k+1), text[:n-1]
		}
	}
	text = strings.TrimSuffix(text, " ")
	if n := len(text); n == 0 || !strings.Contains("0123456789.", text[n-1:]) {
		return 0, bad // neither inf nor nan
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 && n <= (1<<63-1)>>shift {
		return n << shift, nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if n *= float64(int64(1) << shift); err != nil || n < 0 || n >= 1<<63 {
		return 0, bad
	}
	return int64(n), nil
}
