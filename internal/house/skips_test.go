package house

import (
	"os/exec"
	"strings"
	"testing"
)

// The end of test.sh says why tests were skipped. Reasons may have more lines than one, come from a helper's file, and come before or behind the result.
func TestSkips(t *testing.T) {
	const log = `=== RUN   TestPassed
    a_test.go:1: no reason
--- PASS: TestPassed (0.00s)
=== RUN   TestLive
    checkpoint_test.go:70: first
    checkpoint_test.go:73: needs a criu that works with this kernel: exit status 1:
        Warn  (criu/kerndat.c:1):
        Error (criu/x.c:2): a
        Error (criu/x.c:3): b
        Looks bad.
--- SKIP: TestLive (0.12s)
=== RUN   TestHelper
=== RUN   TestHelper/one
    serve.go:48: needs docker-registry
=== RUN   TestHelper/two
--- PASS: TestHelper (0.00s)
    --- SKIP: TestHelper/one (0.00s)
    --- PASS: TestHelper/two (0.00s)
=== RUN   TestA
=== PAUSE TestA
=== RUN   TestB
=== PAUSE TestB
=== CONT  TestA
    x_test.go:5: of A
=== NAME  TestB
    x_test.go:6: of B
=== NAME  TestA
--- SKIP: TestA (0.00s)
--- SKIP: TestB (0.00s)
PASS
ok  	example.org/a	0.1s
--- SKIP: TestKept (0.00s)
    kept_test.go:9: kept back
=== RUN   TestLive
--- SKIP: TestLive (0.00s)
=== RUN   TestLast
--- SKIP: TestLast (0.00s)
`
	want := []string{
		"TestLive\tcheckpoint_test.go:73: needs a criu that works with this kernel: exit status 1:",
		"TestHelper/one\tserve.go:48: needs docker-registry",
		"TestA\tx_test.go:5: of A", "TestB\tx_test.go:6: of B", "TestKept\tkept_test.go:9: kept back", "TestLive\t", "TestLast\t",
	}
	c := exec.Command("awk", "-f", "../../testdata/skips.awk")
	c.Stdin = strings.NewReader(log)
	out, err := c.CombinedOutput()
	if err != nil || string(out) != strings.Join(want, "\n")+"\n" {
		t.Errorf("%v:\n%s\nwant\n%s", err, out, strings.Join(want, "\n"))
	}
}
