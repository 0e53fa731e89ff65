// Command dist builds what people install: for each architecture a Debian package and
// a tarball of static programs, man pages, completions and systemd units.
//
//	go run ./internal/dist            # into dist/
//	go run ./internal/dist -arch arm64 -to /tmp/out
//
// The same source gives the same bytes: times are the commit's, or SOURCE_DATE_EPOCH's.
// No tool of Debian is needed: a package is an ar(5) of two tars, see deb(5).
package main
