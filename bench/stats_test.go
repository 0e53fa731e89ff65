package main

import (
	"testing"
	"time"
)

func times(millis ...float64) []time.Duration {
	var ds []time.Duration
	for _, m := range millis {
		ds = append(ds, time.Duration(m*float64(time.Millisecond)))
	}
	return ds
}

func TestSummarize(t *testing.T) {
	for _, test := range []struct {
		name  string
		times []time.Duration
		want  stats
	}{
		{"none", nil, stats{}},
		{"only lost rounds", times(0, 0), stats{}},
		{"one", times(3), stats{1, times(3)[0], times(3)[0], times(3)[0]}},
		{"odd, unsorted", times(5, 1, 3), stats{3, times(3)[0], times(1)[0], times(5)[0]}},
		{"even", times(4, 1, 2, 3), stats{4, times(2.5)[0], times(1)[0], times(4)[0]}},
		{"ten", times(1, 2, 3, 4, 5, 6, 7, 8, 9, 100), stats{10, times(5.5)[0], times(1)[0], times(9)[0]}},
		{"a lost round is no fast round", times(4, 0, 2, 6), stats{3, times(4)[0], times(2)[0], times(6)[0]}},
	} {
		if got := summarize(test.times); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestSummarizeKeepsRounds(t *testing.T) {
	in := times(3, 1, 2)
	summarize(in)
	if in[0] != times(3)[0] || in[1] != times(1)[0] {
		t.Errorf("the rounds were sorted in place: %v; ratios need their order", in)
	}
}

func TestRatio(t *testing.T) {
	for _, test := range []struct {
		name string
		a, b []time.Duration
		want float64
		ok   bool
	}{
		{"by round, not by median", times(1, 10, 100), times(2, 20, 200), 0.5, true},
		{"one slow round of both", times(1, 1, 50), times(2, 2, 100), 0.5, true},
		{"one slow round of one", times(1, 1, 50), times(2, 2, 2), 0.5, true},
		{"lost rounds", times(0, 3, 8), times(5, 0, 4), 2, true},
		{"no common round", times(0, 3), times(5, 0), 0, false},
		{"not run", nil, times(5), 0, false},
		{"even", times(1, 3), times(1, 1), 2, true},
	} {
		got, ok := ratio(test.a, test.b)
		if got != test.want || ok != test.ok {
			t.Errorf("%s: %v %v, want %v %v", test.name, got, ok, test.want, test.ok)
		}
	}
}
