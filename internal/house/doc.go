// Package house tests the rules that all rooms keep: who imports whom
// (imports_test.go), what no source file does (source_test.go), what makes a pure
// room pure (pure_test.go), and what each import costs the runtime
// (runtime_test.go, with the list in testdata).
//
// Its main types are those of the tests: a room with what it may import, and a
// source file. To let a room import another one is a line in the table of
// imports_test.go, which says why; the list of the runtime's packages is written anew by
//
//	go test ./internal/house -update
//
// What it may not do: have any code, or be imported.
package house
