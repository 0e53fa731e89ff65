package house

import (
	"go/ast"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// pure are the rooms that compute and nothing else: the same values in, the same
// values out, on any machine.
var pure = []string{"abi", "cgroup/limits", "netip", "plan", "seccomp", "ui"}

// impure are packages through which a room would ask or change the machine, or the
// moment.
var impure = []string{"os", "net", "syscall", "time", "log", "runtime", "unsafe", "plugin", "embed", "math/rand", "crypto/rand", "golang.org/x/sys", "golang.org/x/term"}

// impurity says what in a file of a pure room is not pure.
func impurity(s source) []string {
	var list []string
	for _, i := range s.imports() {
		for _, bad := range impure {
			if i != bad && !strings.HasPrefix(i, bad+"/") {
				continue
			}
			if i == "time" && strings.HasPrefix(s.path, "ui/") {
				continue // durations and instants that it is given; see below
			}
			list = append(list, s.path+" imports "+i+": a pure room takes values, and asks nobody")
		}
	}
	for _, n := range selected(s, "time", "Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Local", "LoadLocation") {
		list = append(list, s.at(n)+": asks for the moment or the place: take it as a value")
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if g, ok := n.(*ast.GoStmt); ok {
			list = append(list, s.at(g)+": a pure room starts no goroutine")
		}
		return true
	})
	return list
}

// pureRoom gives the pure room that a file is built into, empty when it is of none: tests
// are not, nor the generators beside a room.
func pureRoom(s source) string {
	if s.test() || s.program() {
		return ""
	}
	for _, room := range pure {
		if strings.HasPrefix(s.path, room+"/") {
			return room
		}
	}
	return ""
}

func TestPurity(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range sources(t) {
		room := pureRoom(s)
		if room == "" {
			continue
		}
		seen[room] = true
		for _, fault := range impurity(s) {
			t.Error(fault)
		}
	}
	for _, room := range pure {
		if !seen[room] {
			t.Errorf("no source files in %s", room)
		}
	}
}

func TestImpurity(t *testing.T) {
	for _, test := range []struct {
		path, text string
		faults     int
	}{
		{"plan/a.go", `package plan; import ("fmt"; "path"; "slices")`, 0},
		{"plan/a.go", `package plan; import ("os"; "os/exec"; "net/netip"; "syscall"; "time"; "golang.org/x/sys/unix")`, 6},
		{"plan/a.go", `package plan; import "oslo"`, 0},
		{"plan/a.go", `package plan; func f() { go f(); func() { go f() }() }`, 2},
		{"ui/a.go", `package ui; import "time"; func f(d time.Duration) { _ = time.Second }`, 0},
		{"ui/a.go", `package ui; import "time"; func f() { _ = time.Now(); time.Sleep(1) }`, 2},
	} {
		if got := impurity(parse(t, test.path, test.text)); len(got) != test.faults {
			t.Errorf("%s: %d faults, want %d: %q", test.text, len(got), test.faults, got)
		}
	}
}

// TestWasm builds the pure rooms for a system that has no system calls to make.
func TestWasm(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the pure rooms for js/wasm; runs without -short")
	}
	args := []string{"build"}
	for _, dir := range pure {
		args = append(args, "./"+dir)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("the pure rooms do not build where there is no kernel: %v\n%s", err, out)
	}
}
