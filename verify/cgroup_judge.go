package verify

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/cgroup/limits"
	"github.com/kakuri/kakuri/plan"
)

// judgeCgroupFile compares what was written to a file of a cgroup with what it holds. The kernel
// does not give back what it was given: it rounds bytes down to pages, writes lists of numbers in
// a way of its own, and has a line for each device.
func judgeCgroupFile(c *plan.CgroupFileCheck, text string, page uint64) answer {
	base := path.Base(c.Path)
	asked := strings.Fields(c.Value)
	lines := strings.Split(strings.TrimSpace(text), "\n")
	switch {
	case base == "cpuset.cpus", base == "cpuset.mems":
		return judgeNumbers(c.Value, lines[0])
	case base == "memory.oom_control":
		return judgeKeyed([]string{"oom_kill_disable", c.Value}, lines)
	case base == "cgroup.subtree_control":
		return judgeControllers(asked, lines[0])
	case len(asked) == 1 && len(lines) == 1 && !strings.HasPrefix(text, "default "):
		got := strings.Fields(lines[0])
		if len(got) == 0 {
			return no("nothing")
		}
		return judgeValue(base, asked[0], got[0], strings.Join(got, " "), page)
	case len(asked) == 1:
		return judgeKeyed([]string{"default", c.Value}, lines)
	case len(lines) == 1 && slices.Equal(strings.Fields(lines[0]), asked):
		return yes(lines[0])
	case len(lines) == 1 && lines[0] != "" && !strings.ContainsAny(c.Value, ":="):
		return no(lines[0])
	}
	return judgeKeyed(asked, lines)
}

// noLimit is where numbers begin that the kernel means "none" by: the largest count of
// pages, which a row of huge pages may be a few below of.
const noLimit = 1 << 62

// judgeValue compares one value. shown is all that stands in the file.
func judgeValue(file, asked, got, shown string, page uint64) answer {
	if asked == got {
		return yes(shown)
	}
	want, okWant := cgroupNumber(asked)
	have, okHave := cgroupNumber(got)
	switch {
	case !okWant || !okHave:
		return no(shown)
	case want == have:
		return yes(shown)
	case want >= noLimit && have >= noLimit:
		return yes(shown + ", no limit")
	}
	unit := uint64(0)
	switch {
	case strings.HasPrefix(file, "memory."):
		unit = page
	case strings.HasPrefix(file, "hugetlb."):
		unit = hugePage(file)
	}
	if unit > 0 && want/unit*unit == have {
		return yes(fmt.Sprintf("%s, whole pages of %d", shown, unit))
	}
	return no(shown)
}

// cgroupNumber reads a number as the kernel's files take it: "max" and -1 are none, K, M and G
// multiply.
func cgroupNumber(s string) (uint64, bool) {
	if s == "max" || s == "-1" {
		return 1<<64 - 1, true
	}
	shift := 0
	if s != "" {
		if i := strings.IndexByte("kmgt", s[len(s)-1]|0x20); i >= 0 {
			s, shift = s[:len(s)-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(s, 0, 64)
	return n << shift, err == nil && n<<shift>>shift == n
}

// hugePage is the size of pages in the name of a file: "hugetlb.2MB.max".
func hugePage(file string) uint64 {
	_, rest, _ := strings.Cut(file, ".")
	size, _, _ := strings.Cut(rest, ".")
	n, _ := cgroupNumber(strings.TrimSuffix(size, "B"))
	return n
}

// judgeKeyed looks for the line that begins with the first word asked for, a device or "default". Of
// a line that has names ("rbps=1") only those that were asked for count.
func judgeKeyed(asked []string, lines []string) answer {
	for _, line := range lines {
		got := strings.Fields(line)
		if len(got) == 0 || got[0] != asked[0] {
			continue
		}
		for i, w := range asked[1:] {
			same := i+1 < len(got) && got[i+1] == w
			if strings.Contains(w, "=") {
				same = slices.Contains(got, w)
			}
			if !same {
				return no(line)
			}
		}
		return yes(line)
	}
	// The kernel shows no line for a device without a limit.
	for _, w := range asked[1:] {
		if w != "0" && !strings.HasSuffix(w, "=max") {
			return no("nothing for " + asked[0])
		}
	}
	return yes("nothing for " + asked[0] + ", no limit")
}

// judgeNumbers compares lists of processors or memory nodes.
func judgeNumbers(asked, got string) answer {
	want, okWant := limits.ParseList(asked)
	have, okHave := limits.ParseList(got)
	return answer{measured: strings.TrimSpace(got), ok: asked == got || okWant && okHave && slices.Equal(want, have)}
}

// numberSet reads "0-3,7" as sorted numbers.
func numberSet(s string) (set []int, ok bool) {
	ranges, ok := limits.ParseList(s)
	for _, r := range ranges {
		for n := r.First; n <= r.Last; n++ {
			set = append(set, int(n))
		}
	}
	return set, ok
}

// numberText is the shortest list for sorted numbers.
func numberText(set []int) string {
	var parts []string
	for i := 0; i < len(set); {
		j := i
		for j+1 < len(set) && set[j+1] == set[j]+1 {
			j++
		}
		part := strconv.Itoa(set[i])
		if j > i {
			part += "-" + strconv.Itoa(set[j])
		}
		parts, i = append(parts, part), j+1
	}
	return strings.Join(parts, ",")
}

// judgeControllers wants controllers switched on by "+", and off by "-".
func judgeControllers(asked []string, line string) answer {
	have := strings.Fields(line)
	for _, w := range asked {
		if strings.HasPrefix(w, "+") != slices.Contains(have, w[1:]) {
			return no(line)
		}
	}
	return yes(line)
}
