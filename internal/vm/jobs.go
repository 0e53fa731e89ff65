package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// A job is one command in the guest.
type job struct {
	Name string
	Dir  string
	Argv []string
	// Suite says that its lines are those of conformance/run, which tell of cases.
	Suite bool `json:",omitempty"`
	// Shown says that its lines are all printed, and tell of nothing to count.
	Shown bool `json:",omitempty"`
	// Tests says that it is the test binary of a package, and what of it is run.
	Tests *tests `json:",omitempty"`
}

// tests are some of a package's, as the flags of a test binary name them.
type tests struct {
	Run, Skip string
	Limit     time.Duration // of all of them
	Alone     time.Duration // of one or two that are run by themselves
}

func (s *tests) flags() []string {
	if s == nil {
		return nil
	}
	flags := []string{"-test.timeout=" + s.Limit.String()}
	if s.Run != "" {
		flags = append(flags, "-test.run="+s.Run)
	}
	if s.Skip != "" {
		flags = append(flags, "-test.skip="+s.Skip)
	}
	return flags
}

// without leaves out some more.
func (s *tests) without(names []string) *tests {
	rest := *s
	if rest.Skip != "" {
		rest.Skip += "|"
	}
	rest.Skip += nameAll(names)
	return &rest
}

// only leaves out all others.
func (s *tests) only(names []string) *tests {
	return &tests{Run: nameAll(names), Skip: s.Skip, Limit: s.Alone}
}

func nameAll(names []string) string { return "^(" + strings.Join(names, "|") + ")$" }

// A testPackage is tested in guests.
type testPackage struct {
	path string
	skip string // tests that cannot run there, as go test -skip takes them
	long bool   // minutes of an emulator's time, for what meets the kernel in the others, too
	few  string // of a long one, the tests that -quick has all the same, as go test -run takes them
	// usual is how many minutes an emulator takes for it on a machine with other work, where they are more than two.
	usual int
}

// leastLimit is of the tests of a package that takes less than its half, and of one or two tests by themselves.
const leastLimit = 5 * time.Minute

// limits are of the tests of a package, in a guest that has a limit itself: twice what they take usually, or an eighth of a guest's time that bears it. So one that hangs ends
// with what its goroutines do, and leaves time to the other packages. Who gives guests more time than an emulator has knows a machine that is slower than usual.
func limits(usual int, guest time.Duration) (all, alone time.Duration) {
	slower := max(1, float64(guest)/float64(emulatorLimit))
	least := max(leastLimit, guest/8)
	all = max(least, time.Duration(float64(2*usual)*slower)*time.Minute)
	return min(all, guest*2/3), min(least, guest/4)
}

// testPackages are the packages whose tests meet the kernel. Each that has tests is here or in elsewhere.
func testPackages() []testPackage {
	return []testPackage{
		{path: "./internal/nstest"},
		{path: "./internal/sandbox"},
		{path: "./internal/selinux"},
		{path: "./namespace"},
		{path: "./host"},
		{path: "./internal/files"},
		{path: "./internal/process"},
		{path: "./internal/seqpacket"},
		{path: "./internal/thread"},
		{path: "./internal/wait"},
		{path: "./launch", usual: 5, skip: "^TestLinknames$"}, // needs the sources of go
		{path: "./cgroup"},
		{path: "./cgroup/systemd"},
		{path: "./seccomp", skip: "AgainstLibseccomp$"},                    // needs gcc, and says nothing of the kernel
		{path: "./oci", usual: 7, skip: "^Test(CRIULive|DeleteOfHeldUp)$"}, // ten minutes in an emulator, and the guest has no iptables for its CRIU; the freezer of version 1
		{path: "./verify"},
		{path: "./storage", usual: 4, skip: "^TestHostileLayers$"}, // which looks at no kernel that the others do not
		// Minutes of an emulator's time, for races in our own files.
		// Few of the engine's tests are about version 2 of cgroups, about what kernels before 6.15 do not tell, about modules that a machine may lack,
		// or about a slow machine.
		// The last five are about version 1 of control groups.
		{path: "./engine", usual: 40, skip: "^Test(ReserveBesideSweepers|ThousandRuns|StreamsAreExact|ManyCommands|FrozenBelow|LeftByAllProcesses|LeftByAllThreads|LimitWithoutController|StopOfHeldUp)$", long: true,
			few: "^Test(Life|Stats|Update|Death|MacvlanAndIPvlan|OnALAN|LimitsAreSeen|CVE_2022_0492_and_2023_25809|NamespaceModes|RestKeepsOutput|ServedUnwaited)$"},
		{path: "./engine/dirs"},
		{path: "./engine/ps"},
		{path: "./network", usual: 15, long: true},
		{path: "./network/netdb", skip: "^TestLeaseProperty$", long: true}, // a minute of arithmetic
		{path: "./network/reach", long: true},
		{path: "./uplink/world", long: true},
		{path: "./monitor"},
		{path: "./monitor/log", long: true},
		{path: "./monitor/dns", long: true},
		{path: "./uplink", skip: "^TestMany$", long: true}, // which wants more memory for TCP than a guest of 2 GB has
		{path: "./archive", long: true},
		// The guest has none of the peers, and archive tries the layers.
		{path: "./image", skip: "^Test(Skopeo|Umoci|Podman|Docker|DebianRegistry|HostileLayers)$", long: true},
		{path: "./volume", long: true, few: "^Test(Store|Together|Sweep|Populate|PopulateHalf|CVE_2022_23648|CVE_2023_0778|ExportImport|LocalOptions)$"}, // all but hostile archives
		{path: "./tour/live"},
		{path: "./internal/experiments", usual: 3},
		{path: "./cli", usual: 40, long: true},
	}
}

// elsewhere are the packages whose tests no guest has.
func elsewhere() []struct{ why, paths string } {
	return []struct{ why, paths string }{
		{"values in, values out", "abi cgroup/limits cli/format cmd/kakuri-runtime engine/content engine/profile monitor/logread netip oci/specjson oci/specjson/internal/gen plan storage/erofs storage/tree tour ui"},
		{"messages made and read, which those who ask the kernel try as well", "internal/dbus internal/leanjson network/netlink oci/criu uplink/serve uplink/stack"},
		{"what goes before main: the other tests run in it", "internal/origlimit"},
		{"peers and images that a guest has not", "internal/callers internal/real internal/testimage"},
		{"of the sources, or of the tools for them", "bench internal/dist internal/docgen internal/golden internal/house internal/vm"},
	}
}

// guestJob is whether the guest is the one that was asked for.
func guestJob(o options) job {
	guest := "set -e; test $(cat /proc/1/comm) = init"
	if o.Systemd {
		guest = "set -e; test $(cat /proc/1/comm) = systemd; systemctl --no-pager status dbus.socket user@999.service"
	}
	guest += "; cd /sys/fs/cgroup; for c in cpuset cpu io memory pids; do grep -qw $c cgroup.controllers; done; ip link show lo up | grep -q LOOPBACK; test -b /dev/vdc"
	return job{Name: "guest", Dir: "/", Argv: []string{"sh", "-c", guest}}
}

// policyJob tries the runtime under the guest's policy. SELinux is given its own by that job: from there on, all is under it.
func policyJob(o options) job {
	if o.SELinux {
		return job{Name: "kakuri and kakuri-runtime under SELinux", Dir: "/", Argv: []string{"bash", "/" + workDir + "/internal/vm/selinux.sh"}}
	}
	return job{Name: "kakuri and kakuri-runtime under AppArmor", Dir: "/", Argv: []string{"bash", "/" + workDir + "/internal/vm/apparmor.sh"}}
}

// smokeJobs come first in each guest: the commands themselves.
func smokeJobs(o options) []job {
	bin := "/" + workDir + "/vm/bin/"
	jobs := []job{
		guestJob(o),
		policyJob(o),
		{Name: "kakuri-runtime --version", Dir: "/", Argv: []string{bin + "kakuri-runtime", "--version"}},
		{Name: "kakuri-runtime run, exec, delete", Dir: "/", Argv: []string{"bash", "/" + workDir + "/internal/vm/runtime.sh"}},
		{Name: "kakuri run host true", Dir: "/", Argv: []string{bin + "kakuri", "run", "host", "true"}},
		{Name: "kakuri run --storage-opt size=", Dir: "/", Argv: []string{"unshare", "-m", "bash", "/" + workDir + "/internal/vm/quota.sh"}},
		{Name: "kakuri tour", Dir: "/", Argv: []string{bin + "kakuri", "tour", "--lang", "en"}},
	}
	if o.Systemd {
		jobs = append(jobs,
			job{Name: "kakuri-runtime --systemd-cgroup", Dir: "/", Argv: []string{"bash", "/" + workDir + "/internal/vm/systemd.sh"}},
			job{Name: "kakuri run --memory of an ordinary user", Dir: "/", Argv: []string{"bash", "/" + workDir + "/internal/vm/userlimits.sh"}})
	}
	return jobs
}

// suiteOf names the suite of a checkout, as conformance/run knows it: runc's, or crun's, whose cases are files of Python.
func suiteOf(checkout string) string {
	if fileExists(filepath.Join(checkout, "tests/tests_utils.py")) {
		return "crun"
	}
	return "runc"
}

// suiteJob runs another's suite on kakuri-runtime, or on a peer: the tests of runc or crun, the files of cases that are named or all of them.
func suiteJob(o options) job {
	runtime := "vm/bin/kakuri-runtime"
	if o.Runtime != "" {
		runtime = peerFile
	}
	argv := []string{"env", "RUNTIME=/" + workDir + "/" + runtime, "MACHINE=1", "SHOW=1"}
	if o.Filter != "" {
		argv = append(argv, "FILTER="+o.Filter)
	}
	if o.Systemd {
		argv = append(argv, "RUNC_USE_SYSTEMD=1", "CGROUP_MANAGER=systemd", "FEATURES=+SYSTEMD")
	}
	if o.User != "" {
		argv = append(argv, "ROOTLESS="+o.User, fmt.Sprintf("ROOTLESS_ID=%d", userID))
	}
	suite := suiteOf(o.Suite)
	argv = append(argv, "CASE_TIMEOUT=180", "conformance/run", suite, "/"+workDir+"/"+suiteDir)
	return job{Name: suite + "'s tests", Dir: "/" + workDir, Argv: append(argv, o.Cases...), Suite: true}
}

// scriptJob runs a script, whose lines are shown.
func scriptJob() job {
	return job{Name: "script", Dir: "/var/tmp", Argv: []string{"env", "PATH=/" + workDir + "/vm/bin:" + guestPath, "bash", "/" + workDir + "/" + scriptFile}, Shown: true}
}
