package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// footprint is what a container that is created, and not started, keeps in memory.
type footprint struct {
	Program string
	Failed  string
	RSS     string // VmRSS of its process, proc_pid_status(5)
	PSS     string // the same with what is shared divided by who shares it, proc_pid_smaps(5)
}

// created creates a container with each runtime, and looks at the process that waits.
func (s *stand) created(w workshop) []footprint {
	var all []footprint
	for _, program := range []string{"kakuri-runtime", "crun", "runc"} {
		f := footprint{Program: program}
		if err := s.footprint(w, &f); err != nil {
			f.Failed = err.Error()
		}
		all = append(all, f)
	}
	return all
}

func (s *stand) footprint(w workshop, f *footprint) error {
	path := w.binary(f.Program).Path
	if path == "" {
		var err error
		if path, err = exec.LookPath(f.Program); err != nil {
			return errors.New("not installed")
		}
	}
	id := s.named([][]string{{"{id}"}})[0][0]
	command := func(words ...string) []string {
		return append([]string{path, "--root", filepath.Join(w.State, f.Program)}, words...)
	}
	if err := s.run(command("create", "--bundle", w.HeldBundle, id), s.null); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	pid, err := statePID(command("state", id))
	if err == nil {
		f.RSS = field(readText(fmt.Sprintf("/proc/%d/status", pid)), "VmRSS")
		f.PSS = field(readText(fmt.Sprintf("/proc/%d/smaps_rollup", pid)), "Pss")
		if f.RSS == "" || f.PSS == "" {
			err = fmt.Errorf("process %d, of which nothing can be read: %w", pid, os.ErrNotExist)
		}
	}
	err = errors.Join(err, s.run(command("delete", "-f", id), s.null))
	reapOrphans(time.Now().Add(patience), s.held)
	return err
}

// statePID runs a runtime's command state, and takes the container's process from its answer.
func statePID(argv []string) (int, error) {
	text, err := exec.Command(argv[0], argv[1:]...).Output()
	if err != nil {
		return 0, fmt.Errorf("state: %w", err)
	}
	var state struct{ PID int }
	if err := json.Unmarshal(text, &state); err != nil {
		return 0, fmt.Errorf("state: %w", err)
	}
	return state.PID, nil
}

func createdTable(all []footprint) string {
	var rows [][]string
	for _, f := range all {
		if f.Failed != "" {
			rows = append(rows, []string{f.Program, "**failed**: " + f.Failed, ""})
		} else {
			rows = append(rows, []string{f.Program, f.RSS, f.PSS})
		}
	}
	return table([]string{"runtime", "resident", "its share"}, "lrr", rows)
}
