package house

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/kakuri/kakuri"

// A room is a directory of packages, and the rooms that it may import besides its
// own packages.
type room struct {
	path string // below the module; packages below it belong to it, but for those with a line of their own
	may  []string
	why  string // what the room is, so that it may import no more
}

// below is all that the library stands on.
var below = []string{
	"abi",
	"seccomp",
	"netip",
	"cgroup/limits",
	"cgroup",
	"plan",
	"namespace",
	"launch",
	"host",
	"oci",
	"storage",
	"monitor/log",
	"monitor/logread",
	"monitor/dns",
	"monitor",
	"image",
	"archive",
	"volume",
	"internal/files",
	"internal/leanjson",
	"internal/process",
	"network",
	"network/netdb",
	"network/reach",
	"uplink",
	"uplink/world",
	"engine/content",
	"engine/dirs",
	"engine/profile",
	"engine/ps",
	"internal/selinux",
}

// rooms is who may import whom. Data flows one way: whatever is not in the list
// would be an arrow upward, or a question in the middle of doing.
var rooms = []room{
	{"abi", nil, "it is the kernel's numbers with their names, and stands on nothing"},
	{"seccomp", []string{"abi"}, "it turns a profile into a program: values in, values out"},
	{"cgroup/limits", []string{"abi"}, "it turns resources into values for files: values in, values out"},
	{"netip", nil, "it is addresses as values, without what the library's does before main"},
	{"plan", []string{"abi", "seccomp", "netip"}, "it turns a spec into a plan: values in, values out"},
	{"ui", nil, "it turns values into text, and knows of no container"},
	{"namespace", []string{"abi"}, "it reads the kernel, and never changes it"},
	{"launch", []string{"abi", "plan", "internal/origlimit", "internal/process", "internal/wait"}, "it executes a plan, and decides nothing"},
	{"host", []string{"abi", "plan", "launch", "internal/files", "internal/thread"}, "it gathers facts for plans, if need be in a throw-away child"},
	{"network/netlink", []string{"netip", "internal/thread"}, "it reads devices, addresses, routes and sockets, and carries messages of others"},
	{"network", []string{"plan", "netip", "network/netlink", "internal/dbus", "internal/files", "internal/thread"}, "it does what a plan says of networks, keeps records of rules as other rooms do, and every container's start has it"},
	{"verify", []string{"abi", "plan", "namespace", "cgroup", "cgroup/limits", "network", "netip", "network/netlink", "internal/thread", "internal/wait"}, "it reads back what a plan asked for, by the readers and what cgroup and network read"},
	{"cgroup/systemd", []string{"namespace", "cgroup/limits", "internal/dbus"}, "it has one program make a cgroup, and knows nothing else of it"},
	{"cgroup", []string{"abi", "cgroup/limits", "internal/wait"}, "it makes and limits one cgroup, and knows of nothing else that a container has"},
	{"oci", []string{"abi", "plan", "launch", "network", "host", "namespace", "oci/specjson", "oci/criu", "cgroup", "cgroup/limits", "cgroup/systemd", "internal/files", "internal/leanjson", "internal/process", "internal/thread", "internal/wait"}, "it runs bundles by the floors below it, and is no engine"},
	{"oci/criu", []string{"internal/wait"}, "it speaks to one program, and knows of no container"},
	{"oci/specjson", []string{"abi"}, "it reads config.json at every start, and has to stay light"},
	{"internal/sandbox", []string{"abi", "seccomp", "internal/files"}, "it shuts a process in, and knows of no archive"},
	{"storage", []string{"abi", "plan", "launch", "host", "archive", "internal/files", "internal/sandbox"}, "it keeps layers and shows them, and knows of no image and no container"},
	{"monitor/log", []string{"internal/wait"}, "it is in every container's monitor, and stands on system calls alone"},
	{"monitor/dns", []string{"netip"}, "it is in every container's monitor, and what it answers from it is told"},
	{"monitor/logread", []string{"monitor/log", "internal/wait"}, "it reads what monitor/log wrote, for whoever shows it"},
	{"archive", []string{"internal/files"}, "it moves files between tars and directories by descriptor, and knows of no container"},
	{"volume", []string{"archive", "internal/files"}, "it keeps volumes, and knows of no container"},
	{"network/netdb", []string{"internal/files", "internal/leanjson", "netip"}, "it keeps records of networks, and changes none; every monitor has it"},
	{"network/reach", []string{"namespace", "network/netlink", "internal/files", "internal/thread", "internal/wait", "ui"}, "it reads what the kernel has between two ends, judges, and changes nothing"},
	{"uplink/stack", []string{"netip", "internal/files"}, "it is a TCP/IP stack between a device and sockets, and one program links it"},
	{"uplink/world", []string{"plan", "launch", "uplink", "internal/files", "internal/process"}, "it keeps two namespaces for an ordinary user, and knows of no container"},
	{"uplink", []string{"plan", "network", "netip", "internal/dbus", "internal/files", "internal/leanjson", "internal/process", "internal/seqpacket"}, "it starts one program and speaks to it, and is in every monitor"},
	{"uplink/serve", []string{"abi", "plan", "launch", "network", "netip", "network/netlink", "uplink", "internal/files", "internal/leanjson", "internal/process", "internal/seqpacket"}, "it connects one network namespace with the machine, and knows of no container"},
	{"image", []string{"abi", "archive", "internal/files", "internal/leanjson"}, "it keeps and moves images; what keeps their layers it is told by its caller"},
	{"monitor", []string{"abi", "seccomp", "plan", "launch", "namespace", "oci", "cgroup", "network", "network/netdb", "netip", "monitor/log", "monitor/dns", "internal/files", "internal/leanjson", "internal/seqpacket", "uplink", "network/netlink"}, "it is the memory of every idle container, and knows of no image and no volume"},
	{"engine/content", []string{"abi", "archive", "namespace", "plan", "storage", "volume", "internal/files", "internal/sandbox", "internal/thread"}, "it moves files in and out, and starts no container"},
	{"engine/dirs", []string{"plan", "internal/files"}, "it finds the directories of an engine, and knows nothing of what is in them"},
	{"engine/profile", []string{"abi", "seccomp"}, "it turns names into profiles, and knows of no container"},
	{"engine/ps", []string{"abi", "namespace"}, "it shows processes as ps does, and knows of no container"},
	{"engine", append([]string{"monitor", "internal/wait"}, below...), "it is the library: fronts import it, it imports no front"},
	{"tour", []string{"engine", "ui", "namespace", "plan", "abi"}, "it shows experiments on the engine, and is no front itself"},
	{"cli", []string{"engine", "network/reach", "image", "volume", "ui", "plan", "verify", "namespace", "tour", "abi"}, "it parses, calls the engine, and prints what that gives it"},
	{"cmd/kakuri", []string{"cli"}, "it wires one front, and no more"},
	{"cmd/kakuri-runtime", []string{"oci", "plan", "monitor", "abi", "internal/files"}, "each import is paid for at every start of a container"},
	{"cmd/kakuri-uplink", []string{"uplink/serve", "uplink/stack"}, "it is the one program with a TCP/IP stack, and no more"},
	{"bench", []string{"internal/testimage"}, "it measures the commands from outside"},
	{"internal/dbus", []string{"internal/wait"}, "it speaks to other programs of the machine, and knows of none"},
	{"internal/origlimit", nil, "it must be initialised before anything that raises the limit it keeps"},
	{"internal/files", nil, "it takes files as a whole, locks and removes, for all who keep records"},
	{"internal/leanjson", nil, "it is a piece of the standard library, but lighter at a start"},
	{"internal/selinux", []string{"internal/files"}, "it chooses labels and gives them to files, and knows of no container"},
	{"internal/seqpacket", []string{"internal/wait"}, "it carries messages between processes, and knows none of them"},
	{"internal/process", []string{"internal/wait"}, "it opens and names processes, and knows what none of them is for"},
	{"internal/thread", nil, "it lends threads to what changes them, and stands on nothing"},
	{"internal/wait", nil, "it is how long a system call waits, and stands on nothing"},
	{"internal/callers", nil, "it has nothing but tests"},
	{"internal/experiments", nil, "it has nothing but tests"},
	{"internal/nstest", nil, "it keeps tests from the machine, and no room's code imports it"},
	{"internal/testimage", []string{"internal/nstest"}, "it makes images for tests, and no room's code imports it"},
	{"internal/real", nil, "it has nothing but tests"},
	{"internal/docgen", nil, "it writes pages, and is for its own tests"},
	{"internal/dist", []string{"cli", "internal/docgen"}, "it packs what was built"},
	{"internal/hostile", nil, "it makes archives for the tests of all rooms"},
	{"internal/golden", nil, "it compares what tests get with files, and no room's code imports it"},
	{"internal/house", nil, "it has no code"},
	{"internal/vm", nil, "it starts what was built, on another kernel"},
}

// A pkg is what go list says of a package.
type pkg struct {
	ImportPath string
	Name       string
	Dir        string
	Standard   bool
	Imports    []string
	GoFiles    []string
	Module     *struct{ Path, Version string }
}

// list runs go list with the arguments given, for one architecture.
func list(t *testing.T, goarch string, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json"}, args...)...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+goarch)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var pkgs []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); err == io.EOF {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// roomOf finds the line for a package: the longest path that it is in.
func roomOf(importPath string) (room, bool) {
	p := strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
	var found room
	for _, r := range rooms {
		if (p == r.path || strings.HasPrefix(p, r.path+"/")) && len(r.path) > len(found.path) {
			found = r
		}
	}
	return found, found.path != ""
}

// faults lists the arrows that the table does not have.
func faults(pkgs []pkg) []string {
	var list []string
	for _, p := range pkgs {
		from, ok := roomOf(p.ImportPath)
		if !ok {
			list = append(list, fmt.Sprintf("%s is in no room: give it a line in the table of internal/house, with what it may import", p.ImportPath))
			continue
		}
		for _, imp := range p.Imports {
			to, ok := roomOf(imp)
			if !strings.HasPrefix(imp, module) || !ok || to.path == from.path || slices.Contains(from.may, to.path) {
				continue
			}
			may := "no other room"
			if len(from.may) > 0 {
				may = strings.Join(from.may, ", ")
			}
			list = append(list, fmt.Sprintf("%s imports %s, an arrow %s -> %s that the house does not have: %s; it may import %s",
				p.ImportPath, imp, from.path, to.path, from.why, may))
		}
	}
	return list
}

func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for _, goarch := range []string{"amd64", "arm64"} {
		for _, fault := range faults(list(t, goarch, "./...")) {
			if !seen[fault] {
				seen[fault] = true
				t.Error(fault)
			}
		}
	}
}

// unused lists the arrows of the table that no package has.
func unused(pkgs []pkg) []string {
	taken := map[[2]string]bool{}
	for _, p := range pkgs {
		from, _ := roomOf(p.ImportPath)
		for _, imp := range p.Imports {
			if to, ok := roomOf(imp); ok && strings.HasPrefix(imp, module) {
				taken[[2]string{from.path, to.path}] = true
			}
		}
	}
	var list []string
	for _, r := range rooms {
		for _, to := range r.may {
			if !taken[[2]string{r.path, to}] {
				list = append(list, fmt.Sprintf("%s may import %s, and does not: take it out of the table of internal/house", r.path, to))
			}
		}
	}
	return list
}

// TestUnused: the table is the house as it is, and lets nobody in ahead of time.
func TestUnused(t *testing.T) {
	pkgs := append(list(t, "amd64", "./..."), list(t, "arm64", "./...")...)
	for _, arrow := range unused(pkgs) {
		t.Error(arrow)
	}
	// The rule finds what it is for.
	if got := unused(slices.DeleteFunc(pkgs, func(p pkg) bool { return p.ImportPath == module+"/seccomp" })); !slices.ContainsFunc(got, func(s string) bool {
		return strings.HasPrefix(s, "seccomp may import abi,")
	}) {
		t.Errorf("without seccomp's code: %q", got)
	}
}

// TestFaults: the rule finds what it is for.
func TestFaults(t *testing.T) {
	at := func(from, to string) []pkg {
		return []pkg{{ImportPath: module + "/" + from, Imports: []string{module + "/" + to, "os"}}}
	}
	for _, test := range []struct {
		from, to string
		want     string // in the sentence; empty is allowed
	}{
		{"plan", "abi", ""},
		{"plan", "launch", "plan -> launch"},
		{"abi", "plan", "abi -> plan"},
		{"tour/live", "engine", ""},
		{"tour/live", "tour", ""},
		{"cli", "tour/live", ""},
		{"tour", "cli", "tour -> cli"},
		{"oci", "oci/specjson", ""},
		{"oci/specjson", "oci", "oci/specjson -> oci"},
		{"oci/specjson/internal/gen", "abi", ""},
		{"cmd/kakuri", "engine", "cmd/kakuri -> engine"},
		{"cmd/kakuri-runtime", "cli", "cmd/kakuri-runtime -> cli"},
		{"namespace", "internal/nstest", "namespace -> internal/nstest"},
		{"attic", "abi", "in no room"},
	} {
		got := strings.Join(faults(at(test.from, test.to)), "\n")
		if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s imports %s: %q, want %q", test.from, test.to, got, test.want)
		}
	}
}

// TestTable: the table itself has no way round, and says why of each room.
func TestTable(t *testing.T) {
	var visit func(r room, trail []string)
	visit = func(r room, trail []string) {
		if slices.Contains(trail, r.path) {
			t.Fatalf("rooms that import each other: %s", strings.Join(append(trail, r.path), " -> "))
		}
		for _, next := range rooms {
			if slices.Contains(r.may, next.path) {
				visit(next, append(slices.Clone(trail), r.path))
			}
		}
	}
	for _, r := range rooms {
		if r.why == "" {
			t.Errorf("%s: no reason", r.path)
		}
		visit(r, nil)
	}
}
