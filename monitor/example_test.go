package monitor_test

import (
	"os"

	"github.com/kakuri/kakuri/monitor"
)

// A container is started by a monitor, and its output shown until it ends. It is not run here: dir has to have the files of a container.
func Example() {
	run := func(program, dir, runtime string, lock *os.File) (*monitor.Exit, error) {
		s, err := monitor.Spawn(program, os.Environ(), nil) // as early as possible: it prepares itself meanwhile
		if err != nil {
			return nil, err
		}
		defer s.Close()
		if err := s.Attach(monitor.Stdout | monitor.Stderr); err != nil {
			return nil, err
		}
		if _, err := s.Launch(monitor.Order{Dir: dir, Run: runtime}, lock); err != nil {
			return nil, err
		}
		for {
			m, err := s.Next()
			switch {
			case err != nil || m.Exit != nil:
				return m.Exit, err
			case m.Stream == monitor.Stdout:
				os.Stdout.Write(m.Data)
			}
		}
	}
	_ = run
}
