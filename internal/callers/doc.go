// Package callers has nothing but tests: programs that start an OCI runtime start
// kakuri-runtime in runc's place, each in namespaces of its own, with its state in memory.
// A test skips where its program is not installed, with a line in testdata/skips.txt.
package callers
