package plan

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/golden"
)

// TestCompile compares each case's plan with its plan.txt, and where the folder
// has them its calls with calls.txt and its checks with checks.txt. An empty file
// of that name and -update add one.
func TestCompile(t *testing.T) {
	eachCase(t, func(t *testing.T, c planCase, p Plan) {
		golden.Check(t, filepath.Join(c.dir, "plan.txt"), p.Text())
		for _, more := range []struct {
			file string
			text func() string
		}{
			{"calls.txt", func() string { return p.TextAs(Layout{Calls: c.facts.Arch}) }},
			{"checks.txt", func() string { return checksText(p) }},
		} {
			file := filepath.Join(c.dir, more.file)
			if _, err := os.Stat(file); err == nil {
				golden.Check(t, file, more.text())
			}
		}
	})
}

// checksText lists what the kernel must show once p has run.
func checksText(p Plan) string {
	var b strings.Builder
	for _, c := range p.Checks() {
		fmt.Fprintf(&b, "%3d  %s: %s\n", c.N, c.Check.Property(), c.Check.Asked())
	}
	return b.String()
}

func TestTextWidth(t *testing.T) {
	for _, c := range cases(t) {
		p := c.compile(t)
		for _, width := range []int{1, 2, 20, 40, 80, 132} {
			if got, want := wordsOnly(p.TextAs(Layout{Width: width})), wordsOnly(p.Text()); width < 40 && got != want {
				t.Errorf("%s: at %d columns something is missing", c.name(), width)
			}
			for line := range strings.Lines(p.TextAs(Layout{Width: width})) {
				line = strings.TrimSuffix(line, "\n")
				if n := len([]rune(line)); n > width && !strings.HasPrefix(line, "warning: ") {
					t.Errorf("%s: %d columns where %d are: %q", c.name(), n, width, line)
				}
			}
		}
		if p.TextAs(Layout{Width: 0}) != p.Text() || p.TextAs(Layout{Width: 1000}) != p.Text() {
			t.Errorf("%s: a wide terminal cuts something", c.name())
		}
	}
}

func wordsOnly(s string) string { return strings.Join(strings.Fields(s), "") }

// TestTextShowsAll: in a narrow terminal long paths and causes go on below, in their columns.
func TestTextShowsAll(t *testing.T) {
	p := Plan{Steps: []Step{
		{Op: &Bind{Source: "/var/lib/containers/" + strings.Repeat("0123456789abcdef", 4) + "/merged", Dest: "/data"}, Cause: Cause{Field: "mounts[0]"}, Side: Container},
		{Op: &Setsid{}, Cause: because("default: a reason that is much longer than the room that is left for it on the line")},
	}}
	want := "" +
		"  #  side       operation                              because\n" +
		"  1  container  bind /var/lib/containers/              config.json mounts[0]\n" +
		"                0123456789abcdef0123456789abcdef01234\n" +
		"                56789abcdef0123456789abcdef/merged on\n" +
		"                /data\n" +
		"  2  runtime    setsid                                 default: a reason that is\n" +
		"                                                       much longer than the room\n" +
		"                                                       that is left for it on\n" +
		"                                                       the line\n"
	if got := p.TextAs(Layout{Width: 80}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestTextIn has another language for headings and causes, which is wider than its runes are many; of its words none starts a line.
func TestTextIn(t *testing.T) {
	p := Plan{Steps: []Step{{Op: &Umask{Mask: 0o22}, Side: Container, Cause: Cause{Reason: "why"}}}, Warnings: []string{"w"}}
	in := &Language{
		Heading: strings.ToUpper,
		Reason:  func(s string) string { return strings.ToUpper(s) + "\n" },
		Width:   func(s string) int { return 10 * utf8.RuneCountInString(s) },
		Wrap:    func(s string, width int) []string { return []string{fmt.Sprint(width), "WHY"} },
	}
	whole := p.TextAs(Layout{In: in})
	if want := "umask 0022  WHY\\n\nwarning: w\n"; !strings.HasSuffix(whole, want) || !strings.Contains(whole, "BECAUSE") {
		t.Errorf("%q does not end with %q", whole, want)
	}
	// 16 runes before the operation, 160 columns wide; its column has the 44 that are the most where there is room, and a cause the rest.
	want := "\n  1  container  44" + strings.Repeat(" ", 26) + "94\n" + strings.Repeat(" ", 160) + "WHY" + strings.Repeat(" ", 16) + "WHY\nwarning: w\n"
	if got := p.TextAs(Layout{In: in, Width: 300}); !strings.HasSuffix(got, want) {
		t.Errorf("%q does not end with %q", got, want)
	}
}

// TestTextTimings has a duration for the first step, none for the second, and
// fewer durations than steps.
func TestTextTimings(t *testing.T) {
	p := Plan{Steps: []Step{
		{Op: &Setsid{}, Cause: because("first")},
		{Op: &Setsid{}, Cause: because("second"), Side: Container},
		{Op: &Setsid{}},
	}}
	want := "" +
		"  #         us  side       operation  because\n" +
		"  1       12.3  runtime    setsid     first\n" +
		"  2             container  setsid     second\n" +
		"  3        2.0  runtime    setsid     default\n" +
		"          14.3  runtime    sum        of its steps, waiting for the other side included\n"
	if got := p.TextAs(Layout{Micros: []float64{12.34, -1, 2}}); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := strings.Count(p.TextAs(Layout{Micros: []float64{1, 2}}), "sum"); got != 2 {
		t.Errorf("%d sums of two sides", got)
	}
}

// TestTextOfHostileNames: what config.json names a thing must not pass for a step.
func TestTextOfHostileNames(t *testing.T) {
	forged := "/x\n  9  container  seccomp filter\x1b[2K\u202e\u0085\xff"
	p := Plan{
		Steps: []Step{
			{Op: &Bind{Source: forged, Dest: forged}, Cause: Cause{Reason: forged}},
			{Op: &Mount{Type: forged, Dest: forged, Options: []string{forged}}, Cause: Cause{Field: "mounts[0]"}},
			{Op: &Hostname{Host: forged}},
			{Op: &Exec{Args: []string{forged}, Env: []string{forged}}},
		},
		Warnings: []string{forged},
	}
	for _, text := range []string{p.Text(), p.TextAs(Layout{Width: 60}), p.TextAs(Layout{Calls: abi.ArchX86_64})} {
		for _, bad := range []string{"\x1b", "\u202e", "\u0085", "\xff", "\n  9"} {
			if strings.Contains(text, bad) {
				t.Errorf("text lets %q through:\n%s", bad, text)
			}
		}
	}
	if got := len(strings.Split(strings.TrimSpace(p.Text()), "\n")); got != 1+4+1 {
		t.Errorf("%d lines, want 6:\n%s", got, p.Text())
	}
}
