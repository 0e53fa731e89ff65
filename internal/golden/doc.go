// Package golden compares what a test gets with a file that somebody has read, and writes that file anew when it is told to:
//
//	golden.Check(t, "testdata/judge.txt", got)
//
//	go test ./network/reach -run Judge -update
//
// What it may not do: be imported by anything but tests.
package golden
