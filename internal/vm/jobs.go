package main

// A job is one command in the guest.
type job struct {
	Name string
	Dir  string
	Argv []string
}

// A testPackage is tested in guests.
type testPackage struct {
	path string
	skip string // tests that cannot run there, as go test -skip takes them
}

// testPackages are the rooms whose tests meet the kernel.
func testPackages() []testPackage {
	return []testPackage{
		{"./internal/nstest", ""},
		{"./namespace", ""},
		{"./host", ""},
		{"./launch", "^TestLinknames$"},     // needs the sources of go
		{"./seccomp", "AgainstLibseccomp$"}, // needs gcc, and says nothing of the kernel
		{"./oci", ""},
		{"./verify", ""},
		{"./engine", ""},
		{"./tour/live", ""},
		{"./internal/experiments", ""},
		{"./cli", ""},
	}
}

// smokeJobs come first in each guest: the commands themselves.
func smokeJobs() []job {
	bin := "/" + workDir + "/vm/bin/"
	return []job{
		{"kakuri-runtime --version", "/", []string{bin + "kakuri-runtime", "--version"}},
		{"kakuri run host true", "/", []string{bin + "kakuri", "run", "host", "true"}},
		{"kakuri tour", "/", []string{bin + "kakuri", "tour", "--lang", "en"}},
	}
}
