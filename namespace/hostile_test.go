package namespace

import (
	"syscall"
	"testing"
)

// TestEndlessCommandLine: a process, which may be a container's, has no say in how much memory it takes to look at it.
func TestEndlessCommandLine(t *testing.T) {
	_, said := start(t, "long", &syscall.SysProcAttr{}, 1)
	p, err := ReadProcess(nil, said[0].PID)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Args) != 1 || len(p.Args[0]) != mostArgs {
		t.Errorf("%d arguments, the first one of %d bytes; want one, cut at %d", len(p.Args), len(p.Args[0]), mostArgs)
	}
}
