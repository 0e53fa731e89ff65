package verify_test

import (
	"fmt"
	"os"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/verify"
)

// This process shares its pid namespace with the reader, which is itself: it has none of
// its own.
func ExampleContainer() {
	p := plan.Plan{Steps: []plan.Step{{
		Op:    &plan.Clone{New: []abi.Namespace{abi.NSPID}},
		Cause: plan.Cause{Reason: "--pid private"},
		Check: &plan.NewNamespacesCheck{New: []abi.Namespace{abi.NSPID}},
	}}}
	list, err := verify.Container(p, os.Getpid())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range list {
		fmt.Printf("%s: %s, asked %q (%s)\n", r.Verdict(), r.Property, r.Asked, r.Cause)
	}
	fmt.Println(verify.Count(list))
	// Output:
	// differs: namespaces, asked "its own: pid" (--pid private)
	// 0 1 0
}
