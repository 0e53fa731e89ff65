package main

import (
	"errors"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestErrorsNameFlags: a value of the command line is not looked for in a file, and one of a file is.
func TestErrorsNameFlags(t *testing.T) {
	var changes []func(*specs.LinuxResources)
	var given []origin
	rest, err := parse([]string{"--memory=1m", "--cpu-quota", "5", "x"}, noting(limitFlags(&changes), limitOrigins(), &given))
	if err != nil || len(rest) != 1 || len(changes) != 2 {
		t.Fatalf("%q, %d changes, %v", rest, len(changes), err)
	}
	given = append(given, origin{"--env", "env"})
	for text, want := range map[string]string{
		"config.json linux.resources.memory.limit: device or resource busy":     "--memory: device or resource busy",
		"resources.json: cpu.quota: want a time: write -1":                      "--cpu-quota: want a time: write -1",
		`process.json: env[2]: want NAME=value, got "X": add the name`:          `--env: want NAME=value, got "X": add the name`,
		"resources.json: cpu.idle: want 0 or 1, got 3":                          "resources.json: cpu.idle: want 0 or 1, got 3",
		"config.json linux.resources.memory.limited: device or resource busy":   "config.json linux.resources.memory.limited: device or resource busy",
		"container not running: memory.limit: it is stopped":                    "container not running: memory.limit: it is stopped",
		"config.json: process.env: as it is in messages of the plan and others": "--env: as it is in messages of the plan and others",
	} {
		cause := errors.New(text)
		if got := ofFlag(cause, given); got.Error() != want || !errors.Is(got, cause) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	// Each origin is a flag of update, or of exec.
	for _, o := range limitOrigins() {
		if find(limitFlags(&changes), o.flag[2:]) == nil {
			t.Errorf("update has no flag %s", o.flag)
		}
	}
}

// TestEmptyLimits: an empty value is none at all where runc's flag is a text, and a fault where it is a number.
func TestEmptyLimits(t *testing.T) {
	var changes []func(*specs.LinuxResources)
	for _, name := range []string{"memory", "memory-reservation", "memory-swap", "cpu-share", "cpu-period", "cpu-quota", "cpu-burst", "cpu-rt-period", "cpu-rt-runtime", "cpu-idle"} {
		if _, err := parse([]string{"--" + name, "", "x"}, limitFlags(&changes)); err != nil || len(changes) != 0 {
			t.Errorf("%s: %d changes, %v", name, len(changes), err)
		}
	}
	for _, name := range []string{"pids-limit", "blkio-weight"} {
		if _, err := parse([]string{"--" + name, "", "x"}, limitFlags(&changes)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
