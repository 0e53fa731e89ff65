package launch

import (
	"debug/elf"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/plan"
)

// TestWhoSharesMemory: who enters a container has memory of its own from the clone on. In the container's control group the kernel may end it for want of memory, and
// all who share that.
func TestWhoSharesMemory(t *testing.T) {
	step := func(op plan.Op) plan.Plan { return plan.Plan{Steps: []plan.Step{{Op: op}, {Op: &plan.Exec{}}}} }
	for _, test := range []struct {
		what string
		op   plan.Op
		want bool
	}{
		{"a container's first process", &plan.Setsid{}, true},
		{"one that enters a mount namespace", &plan.Setns{NS: abi.NSMount}, false},
		{"one that enters clocks", &plan.Setns{NS: abi.NSTime}, false},
		{"one that joins a network", &plan.Setns{NS: abi.NSNetwork}, true},
		{"a copy that goes on", &plan.Fork{}, false},
		{"an init of this program's", &plan.Init{}, false},
		{"an init that is the stub", &plan.Init{Stub: true}, true},
	} {
		if got := mayShare(step(test.op)); got != test.want {
			t.Errorf("%s: %v", test.what, got)
		}
	}
}

// TestStubFits: all of the stub is copied into its image.
func TestStubFits(t *testing.T) {
	nstest.Root(t)
	f, err := elf.Open(nstest.Binary(t, "kakuri")) // which has symbols, as a test's program has not
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name == "github.com/kakuri/kakuri/launch.stub" || s.Name == "github.com/kakuri/kakuri/launch.stub.abi0" {
			if s.Size == 0 || s.Size > stubSize {
				t.Errorf("it has %d bytes, and %d are copied", s.Size, stubSize)
			}
			return
		}
	}
	t.Error("this program has no stub")
}
