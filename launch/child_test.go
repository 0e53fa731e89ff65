package launch_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
)

// The child of a clone has the memory of a Go process and no Go runtime: what it
// runs may call raw system calls, and nothing else. That is held here in the
// machine code of the command that people run, where inlining and checks of the
// stack show.
func TestChildMakesRawCallsOnly(t *testing.T) {
	nstest.Root(t)
	objdump, kakuri := nstest.Binary(t, "objdump"), nstest.Binary(t, "kakuri")
	out, err := exec.Command(objdump, "-s", `kakuri/launch\.child`, kakuri).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	functions := map[string][]string{} // name to what it calls
	name := ""
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(line, "TEXT "); ok {
			name, _, _ = strings.Cut(rest, "(SB)")
			functions[name] = nil
			continue
		}
		if to, ok := leaves(line, name); ok {
			functions[name] = append(functions[name], to)
		}
	}
	for _, want := range []string{"child", "childRows"} {
		if calls := functions["github.com/kakuri/kakuri/launch."+want]; len(calls) == 0 {
			t.Errorf("%s is not in the binary, or calls nothing: %v", want, functions)
		}
	}
	for name, calls := range functions {
		for _, to := range calls {
			if !rawCall(to) {
				t.Errorf("%s calls %s", name, to)
			}
		}
	}
}

// leaves reports where an instruction of a function leads outside of it: a call,
// or a jump to another function.
func leaves(line, function string) (to string, ok bool) {
	f := strings.Fields(line)
	for i, word := range f {
		switch {
		case i < 3: // where it is, and its bytes
		case word == "CALL" || (word == "BL" && i == 3) || // BL is a register of amd64, too
			word == "SYSCALL" || word == "SVC":
			return strings.Join(f[i+1:], " "), true
		case i > 2 && i+1 < len(f) && (strings.HasPrefix(word, "J") || word == "B" || word == "BR") && strings.Contains(f[i+1], "(SB)"):
			return f[i+1], !strings.HasPrefix(f[i+1], function+"(SB)")
		}
	}
	return "", false
}

func rawCall(to string) bool {
	to = strings.TrimSuffix(to, "(SB)")
	switch {
	case to == "syscall.RawSyscall6" || to == "syscall.RawSyscall":
		return true
	case strings.HasPrefix(to, "internal/runtime/syscall") && strings.HasSuffix(to, ".Syscall6"):
		return true
	}
	return strings.HasPrefix(to, "github.com/kakuri/kakuri/launch.child")
}

// Seen with the eyes of the test: what it would find.
func TestChildGuardSees(t *testing.T) {
	for line, want := range map[string]string{
		"  child_unsafe.go:65\t0x4a\te8\t\tCALL runtime.morestack_noctxt.abi0(SB)\t": "runtime.morestack_noctxt.abi0(SB)",
		"  child_unsafe.go:65\t0x4a\te8\t\tCALL AX\t":                                "AX",
		"  child_unsafe.go:65\t0x4a\te9\t\tJMP runtime.gcWriteBarrier2(SB)\t":        "runtime.gcWriteBarrier2(SB)",
		"  child_unsafe.go:65\t0x4a\te9\t\tJMP 0x4b\t":                               "",
		"  child_unsafe.go:65\t0x4a\t48\t\tMOVQ AX, BX\t":                            "",
		"  child_unsafe.go:65\t0x4a\t8a\t\tMOVZX 0(AX), BL\t":                        "",
		"  child_unsafe.go:65\t0x4a\t94\t\tBL runtime.panicIndex(SB)\t":              "runtime.panicIndex(SB)",
	} {
		to, ok := leaves(line, "github.com/kakuri/kakuri/launch.child")
		if ok != (want != "") || (ok && to != want) {
			t.Errorf("%q: %q %v", line, to, ok)
		}
		if ok && rawCall(to) {
			t.Errorf("%q is let through", to)
		}
	}
}

// The functions of the Go runtime that launch links to have the signatures that it
// takes them to have. Go keeps them so, by go.dev/issue/67401; a new Go is looked at here.
func TestLinknames(t *testing.T) {
	goroot := goRoot(t)
	runtimeSide := functions(t, filepath.Join(goroot, "src/runtime/proc.go"))
	syscallSide := functions(t, filepath.Join(goroot, "src/syscall/exec_linux.go"))
	text, err := os.ReadFile(filepath.Join(goroot, "src/runtime/proc.go"))
	if err != nil {
		t.Fatal(err)
	}
	links := regexp.MustCompile(`(?m)^//go:linkname (\S+) (\S+)$`)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range files {
		ours, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range links.FindAllStringSubmatch(string(ours), -1) {
			seen++
			local, target := m[1], m[2]
			name, ok := strings.CutPrefix(target, "syscall.")
			if !ok || !slices.Contains([]string{"runtime_BeforeFork", "runtime_AfterFork", "runtime_AfterForkInChild"}, name) {
				t.Errorf("%s: %s is none of the functions that Go keeps for others", file, target)
				continue
			}
			if got := functions(t, file)[local]; got != "func()" {
				t.Errorf("%s: %s is %s here", file, local, got)
			}
			if got := syscallSide[name]; got != "func()" {
				t.Errorf("%s: package syscall declares %s as %q", file, name, got)
			}
			if got := runtimeSide["syscall_"+name]; got != "func()" {
				t.Errorf("%s: the runtime has %s as %q", file, name, got)
			}
			if !strings.Contains(string(text), "//go:linkname syscall_"+name+" syscall."+name) {
				t.Errorf("%s: the runtime no longer links %s", file, name)
			}
		}
	}
	if seen < 2 {
		t.Errorf("%d links found", seen)
	}
}

// goRoot is where the source of Go is.
func goRoot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	root := strings.TrimSpace(string(out))
	if _, statErr := os.Stat(filepath.Join(root, "src/runtime/proc.go")); err != nil || statErr != nil {
		t.Skip("needs the go command, with its source")
	}
	return root
}

// functions lists the functions that a file declares, as "func()" or with a hint
// of what they take.
func functions(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]string{}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
			text := "func()"
			if fn.Type.Params.NumFields() > 0 || fn.Type.Results.NumFields() > 0 {
				text = "func with parameters or results"
			}
			list[fn.Name.Name] = text
		}
	}
	return list
}
