package main

import (
	"math"
	"slices"
	"time"
)

// stats sum up the wall times of one row.
type stats struct {
	N                int
	Median, Min, P90 time.Duration
}

// summarize ignores zeros: a round in which the row gave no time.
func summarize(times []time.Duration) stats {
	s := slices.DeleteFunc(slices.Clone(times), func(d time.Duration) bool { return d == 0 })
	if len(s) == 0 {
		return stats{}
	}
	slices.Sort(s)
	return stats{N: len(s), Median: median(s), Min: s[0], P90: rank(s, 0.9)}
}

// median of a sorted, non-empty list; of an even number the mean of the two in the middle.
func median[T ~int64 | ~float64](sorted []T) T {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// rank is the smallest value that at least the share p of the sorted list does not exceed.
func rank[T any](sorted []T, p float64) T {
	i := int(math.Ceil(p*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// ratio is the median over the rounds of a's time by b's time in the same round.
// Rounds in which one of them gave none are left out; ok is false when no round is left.
func ratio(a, b []time.Duration) (r float64, ok bool) {
	var ratios []float64
	for i := range min(len(a), len(b)) {
		if a[i] > 0 && b[i] > 0 {
			ratios = append(ratios, float64(a[i])/float64(b[i]))
		}
	}
	if len(ratios) == 0 {
		return 0, false
	}
	slices.Sort(ratios)
	return median(ratios), true
}
