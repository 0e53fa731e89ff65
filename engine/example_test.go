package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/internal/nstest"
)

// place is an engine in a directory of its own.
func place() (e *engine.Engine, done func(), err error) {
	dir, err := os.MkdirTemp("", "kakuri")
	if err != nil {
		return nil, nil, err
	}
	e, err = engine.Open(engine.Options{Dir: dir, Runtime: nstest.BinaryPath("kakuri-runtime")})
	return e, func() { os.RemoveAll(dir) }, err
}

func ExampleEngine_Run() {
	e, done, err := place()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer done()
	var out bytes.Buffer
	c := engine.Config{Image: "host", Command: []string{"sh", "-c", "echo process $$; exit 3"}, AutoRemove: true}
	res, err := e.Run(context.Background(), c, engine.Streams{Out: &out, Err: os.Stderr}, engine.RunOptions{})
	fmt.Printf("%q %d %v\n", out.String(), res.Code, err)
	// Output: "process 1\n" 3 <nil>
}

// A container that goes on, another process in it, and its end.
func ExampleEngine_Exec() {
	e, done, err := place()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer done()
	ctx := context.Background()
	c := engine.Config{Name: "web", Image: "host", Command: []string{"sleep", "1000"}, StopSignal: "KILL"}
	if _, err := e.Run(ctx, c, engine.Streams{}, engine.RunOptions{Detach: true}); err != nil {
		fmt.Println(err)
		return
	}
	res, err := e.Exec(ctx, "web", engine.ExecConfig{Command: []string{"sh", "-c", "exit 4"}}, engine.Streams{})
	fmt.Println("exec:", res.Code, err)
	fmt.Println("stop:", e.Stop(ctx, "web", engine.StopOptions{}))
	list, err := e.List(engine.ListOptions{All: true})
	for _, c := range list {
		fmt.Println(c.Name, c.Status, c.ExitCode, err)
	}
	fmt.Println("remove:", e.Remove(ctx, "web", engine.RemoveOptions{}))
	// Output:
	// exec: 4 <nil>
	// stop: <nil>
	// web exited 137 <nil>
	// remove: <nil>
}

// The plan of a container that is not made.
func ExampleEngine_Prepare() {
	e, done, err := place()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer done()
	p, err := e.Prepare(context.Background(), engine.Config{Image: "host", Command: []string{"true"}, Hostname: "box"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range p.Plan.Steps {
		if strings.HasPrefix(s.Op.String(), "sethostname") {
			fmt.Println(s.Side, s.Op, "because of", s.Cause)
		}
	}
	// Output: container sethostname box because of --hostname
}
