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
		{"./launch", "^TestLinknames$"}, // needs the sources of go
		{"./cgroup", ""},
		{"./cgroup/systemd", ""},
		{"./seccomp", "AgainstLibseccomp$"}, // needs gcc, and says nothing of the kernel
		{"./oci", ""},
		{"./verify", ""},
		// Minutes of an emulator's time, for races in our own files.
		{"./engine", "^Test(ReserveBesideSweepers|ThousandRuns|StreamsAreExact|ManyCommands)$"},
		{"./tour/live", ""},
		{"./internal/experiments", ""},
		{"./cli", ""},
	}
}

// smokeJobs come first in each guest: that it is the one that was asked for, and the
// commands themselves.
func smokeJobs(o options) []job {
	bin := "/" + workDir + "/vm/bin/"
	guest := "set -e; test $(cat /proc/1/comm) = init"
	if o.Systemd {
		guest = "set -e; test $(cat /proc/1/comm) = systemd; systemctl --no-pager status dbus.socket user@999.service"
	}
	guest += "; cd /sys/fs/cgroup; for c in cpuset cpu io memory pids; do grep -qw $c cgroup.controllers; done; ip link show lo up | grep -q LOOPBACK; test -b /dev/vdc"
	return []job{
		{"guest", "/", []string{"sh", "-c", guest}},
		{"kakuri-runtime --version", "/", []string{bin + "kakuri-runtime", "--version"}},
		{"kakuri run host true", "/", []string{bin + "kakuri", "run", "host", "true"}},
		{"kakuri tour", "/", []string{bin + "kakuri", "tour", "--lang", "en"}},
	}
}
