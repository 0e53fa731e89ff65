package plan_test

import (
	"fmt"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// A container that shares everything with the host but its host name.
func ExampleCompile() {
	spec := &specs.Spec{
		Version:  "1.3.0",
		Process:  &specs.Process{Args: []string{"/bin/hostname"}, Cwd: "/srv", NoNewPrivileges: true},
		Hostname: "box",
		Linux:    &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.UTSNamespace}}},
	}
	facts := plan.Facts{Arch: abi.ArchX86_64, Caps: abi.AllCaps, LastCap: abi.LastCap}
	p, err := plan.Compile(spec, facts, plan.Options{Causes: map[string]string{"hostname": "--hostname box"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range p.Steps {
		if s.Cause.Field == "hostname" {
			fmt.Printf("%v side: %v, because of %v\n", s.Side, s.Op, s.Cause)
		}
	}
	for _, c := range p.Checks()[:3] {
		fmt.Printf("to be seen: %s: %s\n", c.Check.Property(), c.Check.Asked())
	}
	// Output:
	// container side: sethostname box, because of --hostname box
	// to be seen: namespaces: its own: uts
	// to be seen: session: its own
	// to be seen: host name: box
}

// A spec that cannot be compiled is refused with the place of its fault.
func ExampleSpecError() {
	spec := &specs.Spec{Process: &specs.Process{Args: []string{"sh"}}, Hostname: "box"}
	_, err := plan.Compile(spec, plan.Facts{}, plan.Options{})
	fmt.Println(err)
	// Output:
	// config.json: hostname: "box" needs a uts namespace
}

// What unshare(1) does is a plan as well.
func ExampleCompileUnshare() {
	p, err := plan.CompileUnshare(plan.UnshareOptions{
		New: []abi.Namespace{abi.NSUTS}, Args: []string{"hostname", "box"}, Env: []string{"PATH=/bin"},
	}, plan.Facts{Arch: abi.ArchX86_64})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(p.Text())
	// Output:
	//   #  side       operation                                 because
	//   1  runtime    clone uts                                 what unshare does
	//   2  runtime    sync runtime to container: host prepared  what unshare does
	//   3  container  prctl pdeathsig KILL                      what unshare does
	//   4  runtime    sync runtime to container: start          what unshare does
	//   5  container  rt_sigprocmask, no signal blocked         what unshare does
	//   6  container  execve hostname box                       what unshare does
}
