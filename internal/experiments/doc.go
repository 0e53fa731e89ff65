// Package experiments tests the observations that kakuri is about, E1 to E12, E14 and
// E15, with the built programs and a shell's own tools: ps, pstree, readlink, cat.
//
// Each is made for three kinds of container (kakuri run with the image host, kakuri run
// with a root file system, kakuri-runtime run with a bundle), by root and by an ordinary
// user. What is on the host side, that same user looks at. Package tour shows the same to
// people; it shares no code with this, so that a fault in its readings is found here.
//
//	go test ./internal/experiments -run 'Experiments/bundle/user/E7'
//
// What it may not do: hold anything but tests.
package experiments
