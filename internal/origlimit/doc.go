// Package origlimit keeps the limit of open files that this process was started
// with. Package syscall raises the soft one before main, for Go programs, and a
// container must not inherit that: programs that still use select(2) break above 1024.
//
// The language initialises packages whose imports are initialised in the order of
// their paths. This one imports nothing, and "github.com/..." comes before
// "syscall"; its test fails should that change.
package origlimit
