package abi

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// A Range is the numbers of processors or memory nodes from First to Last.
type Range struct{ First, Last uint32 }

// String returns "0-3", or "7" for one number.
func (r Range) String() string {
	if r.First == r.Last {
		return strconv.FormatUint(uint64(r.First), 10)
	}
	return strconv.FormatUint(uint64(r.First), 10) + "-" + strconv.FormatUint(uint64(r.Last), 10)
}

// MaxListed is the highest processor or memory node that a list may name: no kernel counts further than 8191, and a
// bitmap of all that are listed stays small.
const MaxListed = 65535

// ParseList reads a list as cpuset(7), "List format", has it: "0-3,7", with spaces around the numbers and commas too many, which
// the kernel passes over. The ranges are in ascending order and apart from each other, however the list names them; an empty list
// has none, and one of commas alone is none.
func ParseList(s string) (list []Range, ok bool) {
	if s == "" {
		return nil, true
	}
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.Trim(part, " "); part == "" {
			continue
		}
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, errTo := strconv.ParseUint(last, 10, 16)
		if err != nil || errTo != nil || from > to {
			return nil, false
		}
		list = append(list, Range{uint32(from), uint32(to)})
	}
	if len(list) == 0 {
		return nil, false
	}
	return merged(list), true
}

// merged joins ranges that overlap or touch.
func merged(list []Range) []Range {
	slices.SortFunc(list, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	out := list[:1]
	for _, r := range list[1:] {
		if last := &out[len(out)-1]; r.First <= last.Last+1 {
			last.Last = max(last.Last, r.Last)
		} else {
			out = append(out, r)
		}
	}
	return out
}
