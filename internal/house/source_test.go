package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// A source is a Go file of the repository.
type source struct {
	path string // from the repository's root
	file *ast.File
	set  *token.FileSet
}

func (s source) test() bool  { return strings.HasSuffix(s.path, "_test.go") }
func (s source) dir() string { return filepath.Dir(s.path) }

// program reports whether the file is of a command.
func (s source) program() bool { return s.file.Name.Name == "main" }

func (s source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.path, s.set.Position(n.Pos()).Line)
}

// imports gives the paths that the file imports.
func (s source) imports() []string {
	var list []string
	for _, i := range s.file.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		list = append(list, p)
	}
	return list
}

// parse reads one file's text.
func parse(t *testing.T, path string, text any) source {
	t.Helper()
	set := token.NewFileSet()
	name := path
	if text == nil {
		name = filepath.Join("../..", path)
	}
	f, err := parser.ParseFile(set, name, text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return source{path: path, file: f, set: set}
}

// sources reads all files of the repository.
func sources(t *testing.T) []source {
	t.Helper()
	var list []source
	err := filepath.WalkDir("../..", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == "testdata" || e.Name() == "bin" || strings.HasPrefix(e.Name(), ".") && e.Name() != ".."):
			return fs.SkipDir
		case e.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		path, err = filepath.Rel("../..", path)
		list = append(list, parse(t, path, nil))
		return err
	})
	if err != nil || len(list) < 50 {
		t.Fatalf("%d source files, %v", len(list), err)
	}
	return list
}

// rules are what each file is asked; the answers are sentences.
var rules = []func(s source) []string{
	unsafeIsMarked, noInit, noExit, noSymlinkWalk, noLogrus, cheapToStart, plainErrors, ownComments,
}

// unsafeIsMarked: who reviews memory looks at files of that name first.
func unsafeIsMarked(s source) []string {
	marked := strings.HasSuffix(s.path, "_unsafe.go") || strings.HasSuffix(s.path, "_unsafe_test.go")
	if slices.Contains(s.imports(), "unsafe") && !marked {
		return []string{s.path + " imports unsafe: its name has to end in _unsafe.go"}
	}
	if marked && !slices.Contains(s.imports(), "unsafe") {
		return []string{s.path + " is named after unsafe, and does not import it"}
	}
	return nil
}

// noInit: what runs before main is paid for at every start, and hides.
func noInit(s source) []string {
	var list []string
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			list = append(list, s.at(f)+": an init function: do it where it is needed")
		}
	}
	return list
}

// selected finds uses of names of packages: selected("os", "Exit").
func selected(s source, pkg string, names ...string) []ast.Node {
	var list []ast.Node
	ast.Inspect(s.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == pkg && slices.Contains(names, sel.Sel.Name) {
			list = append(list, sel)
		}
		return true
	})
	return list
}

// noExit: only a command ends the process; a library returns errors.
func noExit(s source) []string {
	if s.test() || s.program() {
		return nil
	}
	var list []string
	for _, n := range slices.Concat(selected(s, "os", "Exit"), selected(s, "syscall", "Exit"), selected(s, "unix", "Exit"),
		selected(s, "log", "Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln")) {
		list = append(list, s.at(n)+": ends the process outside of a command: return an error")
	}
	return list
}

// noSymlinkWalk: a path of an image that was resolved by string has changed by the
// time it is used.
func noSymlinkWalk(s source) []string {
	if s.test() {
		return nil
	}
	var list []string
	for _, n := range selected(s, "filepath", "EvalSymlinks") {
		list = append(list, s.at(n)+": filepath.EvalSymlinks: open the path below a descriptor, with openat2")
	}
	return list
}

func noLogrus(s source) []string {
	var list []string
	for _, i := range s.imports() {
		if strings.HasSuffix(i, "/logrus") {
			list = append(list, s.path+" imports logrus: errors are returned, and log/slog is for cmd/")
		}
	}
	return list
}

// cheapToStart: maps and regular expressions of a package are made at every start,
// used or not.
func cheapToStart(s source) []string {
	if s.test() || s.program() {
		return nil
	}
	var list []string
	for _, d := range s.file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		ast.Inspect(g, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncLit:
				return false
			case *ast.CompositeLit:
				if _, ok := n.Type.(*ast.MapType); ok {
					list = append(list, s.at(n)+": a map of the package: a switch or a sorted array is free")
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.SelectorExpr); ok && fmt.Sprint(f.X) == "regexp" {
					list = append(list, s.at(n)+": a regular expression of the package is compiled at every start")
				}
			}
			return true
		})
	}
	return list
}

// plainErrors: one line, lower case, no full stop, no "failed to".
func plainErrors(s source) []string {
	var list []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 || s.test() {
			return true
		}
		if name := called(call); name != "errors.New" && name != "fmt.Errorf" {
			return true
		}
		lit, ok := call.Args[0].(*ast.BasicLit)
		if !ok {
			return true
		}
		text, _ := strconv.Unquote(lit.Value)
		if slices.Contains(theirWords, text) {
			return true
		}
		if why := badError(text, front(s)); why != "" {
			list = append(list, fmt.Sprintf("%s: error %q %s", s.at(call), text, why))
		}
		return true
	})
	return list
}

func called(call *ast.CallExpr) string {
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	return fmt.Sprint(f.X) + "." + f.Sel.Name
}

// front reports whether a file's errors are for people at once: Docker's usage errors
// have a second line.
func front(s source) bool {
	return strings.HasPrefix(s.path, "cli/") || strings.HasPrefix(s.path, "internal/")
}

// theirWords are errors that programs look for, or people know: runc's and Docker's, as they are.
var theirWords = []string{
	"Health check exceeded timeout (%v): its process did not start",
	"No help topic for '%s': there is no such command; see kakuri-runtime --help",
	"linux.seccomp.listenerPath: failed to connect with seccomp agent specified in the seccomp profile: %w",
}

// badError says what is wrong with an error's text.
func badError(text string, lines bool) string {
	first := []rune(text + "  ")[:2]
	switch {
	case unicode.IsUpper(first[0]) && unicode.IsLower(first[1]):
		return "begins with a capital"
	case strings.HasSuffix(text, ".") && !strings.HasSuffix(text, "..."):
		return "ends in a full stop"
	case strings.Contains(text, "failed to"):
		return `says "failed to": that it is an error is known`
	case !lines && strings.Contains(text, "\n"):
		return "has several lines: callers show the last one"
	}
	return ""
}

// ownComments: a function that was put between another one and its comment has taken that, and both mislead from then on. Such a comment begins with another
// one's name, or has its own name at the beginning of a later line only.
func ownComments(s source) []string {
	names := map[string]bool{}
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			names[f.Name.Name] = true
		}
	}
	var list []string
	for _, d := range s.file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		for i, line := range strings.Split(f.Doc.Text(), "\n") {
			word, _, _ := strings.Cut(line, " ")
			word = strings.TrimSuffix(word, ":")
			switch {
			case i == 0 && word == f.Name.Name:
			case i == 0 && names[word], i > 0 && word == f.Name.Name:
				list = append(list, fmt.Sprintf("%s: the comment of %s is another one's, or has another one's before it", s.at(f), f.Name.Name))
			default:
				continue
			}
			break
		}
	}
	return list
}

func TestSources(t *testing.T) {
	for _, s := range sources(t) {
		for _, rule := range rules {
			for _, fault := range rule(s) {
				t.Error(fault)
			}
		}
	}
}

// TestRules: each rule finds what it is for, and lets the rest be.
func TestRules(t *testing.T) {
	for _, test := range []struct {
		path, text string
		faults     int
	}{
		{"a/a.go", `package a; import _ "unsafe"`, 1},
		{"a/a_unsafe.go", `package a; import _ "unsafe"`, 0},
		{"a/a_unsafe_test.go", `package a; import _ "unsafe"`, 0},
		{"a/b_unsafe.go", `package a`, 1},
		{"a/a.go", `package a; func init() {}; type x int; func (x) init() {}`, 1},
		{"a/a.go", `package a; import "os"; func f() { os.Exit(1); defer os.Exit(2) }`, 2},
		{"a/a_test.go", `package a; import "os"; func f() { os.Exit(1) }`, 0},
		{"cmd/a/main.go", `package main; import "os"; func main() { os.Exit(1) }`, 0},
		{"a/a.go", `package a; import "log"; func f() { log.Fatalf("x") }`, 1},
		{"a/a.go", `package a; import "path/filepath"; var f = filepath.EvalSymlinks`, 1},
		{"a/a_test.go", `package a; import "path/filepath"; var f = filepath.EvalSymlinks`, 0},
		{"a/a.go", `package a; import _ "github.com/sirupsen/logrus"`, 1},
		{"a/a.go", `package a; var m = map[string]int{"a": 1}; var n map[string]int; func f() { _ = map[int]int{} }`, 1},
		{"a/a.go", `package a; import "regexp"; var r = regexp.MustCompile("x"); func f() { regexp.MustCompile("x") }`, 1},
		{"a/a.go", `package a; import "errors"; var e = []error{errors.New("Bad"), errors.New("EPERM"), errors.New("fine"), errors.New("stop."), errors.New("failed to stop"), errors.New("a\nb")}`, 4},
		{"a/a.go", `package a; import "fmt"; var e = fmt.Errorf("Cannot %d", 1)`, 1},
		{"a/a.go", "package a\n// f does.\n// g does, too.\nfunc g() {}\nfunc f() {}", 1},
		{"a/a.go", "package a\n// What is wanted.\n// g: does it.\nfunc g() {}", 1},
		{"a/a.go", "package a\n// g does what\n// g does.\nfunc g() {}\n// An f, and\n// g.\nfunc f() {}", 0},
	} {
		s := parse(t, test.path, test.text)
		var got []string
		for _, rule := range rules {
			got = append(got, rule(s)...)
		}
		if len(got) != test.faults {
			t.Errorf("%s %s: %d faults, want %d: %q", test.path, test.text, len(got), test.faults, got)
		}
	}
}

// TestDocs: each package says what it is for, in doc.go, or if it is a command in
// any of its files.
func TestDocs(t *testing.T) {
	found, where := map[string]bool{}, map[string]string{}
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		dir := s.dir()
		where[dir] = "doc.go"
		if s.program() {
			where[dir] = "one of its files"
		}
		if s.file.Doc.Text() != "" && (s.program() || filepath.Base(s.path) == "doc.go") {
			found[dir] = true
			if start := "Package " + s.file.Name.Name + " "; !s.program() && !strings.HasPrefix(s.file.Doc.Text(), start) {
				t.Errorf("%s: a package comment begins with %q", s.path, start)
			}
		}
	}
	for dir, place := range where {
		if !found[dir] {
			t.Errorf("%s: no package comment in %s", dir, place)
		}
	}
}
