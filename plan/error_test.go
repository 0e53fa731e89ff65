package plan

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/oci/specjson"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// rootFacts is a host where everything is allowed.
func rootFacts() Facts {
	f := Facts{Arch: abi.ArchX86_64, Kernel: "6.12.0", AllIDs: true, Caps: abi.AllCaps, LastCap: abi.LastCap, Cgroup: CgroupFacts{Unified: true}}
	for i := range f.Rlimits {
		f.Rlimits[i] = LimitFact{Soft: abi.RlimitInfinity, Hard: abi.RlimitInfinity}
	}
	return f
}

// userFacts is a host where the caller has no privileges.
func userFacts() Facts {
	f := rootFacts()
	f.UID, f.GID, f.Caps = 1000, 1000, 0
	return f
}

// config is a config.json of the parts given, which stand in for those of a small
// one: `"process":{…}`.
func config(parts ...string) string {
	have := func(name string) bool {
		for _, p := range parts {
			if strings.HasPrefix(p, `"`+name+`"`) {
				return true
			}
		}
		return false
	}
	for _, p := range []string{
		`"process":{"args":["/bin/true"],"cwd":"/"}`, `"root":{"path":"rootfs"}`, `"linux":{"namespaces":[{"type":"mount"}]}`,
	} {
		if name, _, _ := strings.Cut(p[1:], `"`); !have(name) {
			parts = append(parts, p)
		}
	}
	return `{"ociVersion":"1.3.0",` + strings.Join(parts, ",") + `}`
}

func decode(t testing.TB, text string) *specs.Spec {
	t.Helper()
	spec, err := specjson.Decode([]byte(text))
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return spec
}

// TestErrors: what cannot be compiled is named by its place in config.json.
func TestErrors(t *testing.T) {
	linux := func(rest string) string { return config(`"linux":{"namespaces":[{"type":"mount"}],` + rest + `}`) }
	process := func(rest string) string { return config(`"process":{"args":["/bin/true"],"cwd":"/",` + rest + `}`) }
	mount := func(m string) string { return config(`"mounts":[` + m + `]`) }
	const (
		userNS = `"linux":{"namespaces":[{"type":"mount"},{"type":"user"}],"uidMappings":[{"containerID":0,"hostID":1000,"size":1}],"gidMappings":[{"containerID":0,"hostID":1000,"size":1}]}`
		ranges = `{"containerID":0,"hostID":1000,"size":1},{"containerID":1,"hostID":100000,"size":10}`
		own    = `{"containerID":0,"hostID":1000,"size":1}`
	)
	long := strings.Repeat("/a", 2048)
	for _, test := range []struct {
		name, config, field string
		words               string // that the reason has
	}{
		{"no process", `{"ociVersion":"1.3.0"}`, "process.args", "no command"},
		{"no command", config(`"process":{"args":[],"cwd":"/"}`), "process.args", "no command"},

		{"unknown namespace", config(`"linux":{"namespaces":[{"type":"mount"},{"type":"dream"}]}`), "linux.namespaces[1].type", `"dream"`},
		{"namespace by its name in proc", config(`"linux":{"namespaces":[{"type":"mnt"}]}`), "linux.namespaces[0].type", `"mnt"`},
		{"a second pid namespace", config(`"linux":{"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"pid","path":"/x"}]}`), "linux.namespaces[2]", "second pid"},
		{"user namespace without maps", config(`"linux":{"namespaces":[{"type":"mount"},{"type":"user"}]}`), "linux.uidMappings", "gidMappings"},
		{"user namespace without gid map", config(`"linux":{"namespaces":[{"type":"user"}],"uidMappings":[` + own + `]}`), "linux.uidMappings", "gidMappings"},

		{"host name of the host", config(`"hostname":"box"`), "hostname", "uts namespace"},
		{"domain name of the host", config(`"domainname":"box"`), "domainname", "uts namespace"},
		{"clock that cannot be set", config(`"linux":{"namespaces":[{"type":"mount"},{"type":"time"}],"timeOffsets":{"realtime":{"secs":1}}}`), "linux.timeOffsets.realtime", "boottime"},
		{"offsets without namespace", linux(`"timeOffsets":{"boottime":{"secs":1}}`), "linux.timeOffsets", "new time namespace"},
		{"offsets of a joined namespace", config(`"linux":{"namespaces":[{"type":"mount"},{"type":"time","path":"/x"}],"timeOffsets":{"boottime":{"secs":1}}}`), "linux.timeOffsets", "new time namespace"},
		{"offset that wraps around", config(`"linux":{"namespaces":[{"type":"mount"},{"type":"time"}],"timeOffsets":{"boottime":{"secs":18446744074}}}`), "linux.timeOffsets.boottime", "292 years"},
		{"offset that wraps around below", config(`"linux":{"namespaces":[{"type":"mount"},{"type":"time"}],"timeOffsets":{"monotonic":{"secs":-9223372036854775808}}}`), "linux.timeOffsets.monotonic", "292 years"},

		{"no root", `{"ociVersion":"1.3.0","process":{"args":["a"],"cwd":"/"},"linux":{"namespaces":[{"type":"mount"}]}}`, "root.path", "root file system"},
		{"empty root", config(`"root":{"path":""}`), "root.path", "root file system"},
		{"root in place in a new user namespace", config(`"linux":{"namespaces":[{"type":"user"}],"uidMappings":[` + own + `],"gidMappings":[` + own + `]}`), "root.path", "mount namespace"},

		{"mounts without mount namespace", config(`"linux":{}`, `"root":{"path":"/"}`, `"mounts":[{"destination":"/a","type":"tmpfs"}]`), "mounts", "new mount namespace"},
		{"mounts in a joined one", config(`"linux":{"namespaces":[{"type":"mount","path":"/x"}]}`, `"root":{"path":"/"}`, `"mounts":[{"destination":"/a","type":"tmpfs"}]`), "mounts", "new mount namespace"},
		{"mount on the root", mount(`{"destination":"/a","type":"tmpfs"},{"destination":"/../.","type":"tmpfs"}`), "mounts[1].destination", "root.path"},
		{"mount in /proc", mount(`{"destination":"/proc/../proc/sys","type":"bind","source":"/a"}`), "mounts[0].destination", `"/proc/sys" cannot be mounted because it is inside /proc`},
		{"no procfs on /proc", mount(`{"destination":"/proc","type":"tmpfs","source":"tmpfs"}`), "mounts[0].destination", `"/proc" cannot be mounted because it is not of type proc`},
		{"mount of nothing", mount(`{"destination":"/a"}`), "mounts[0].type", "type"},
		{"bind with data", mount(`{"destination":"/a","type":"bind","source":"/a","options":["ro","size=1m"]}`), "mounts[0].options[1]", `"size=1m"`},
		{"remount with data", mount(`{"destination":"/a","source":"/a","options":["remount","size=1m"]}`), "mounts[0].options[1]", `"size=1m"`},
		{"bind with an r", mount(`{"destination":"/a","source":"/a","options":["bind","r"]}`), "mounts[0].options[1]", `"r"`},
		{"bind by a late option", mount(`{"destination":"/a","source":"/a","options":["rbind","rsize=1"]}`), "mounts[0].options[1]", `"rsize=1"`},
		{"copy-symlink of a tmpfs", mount(`{"destination":"/a","type":"tmpfs","source":"tmpfs","options":["copy-symlink"]}`), "mounts[0].options", "bind"},
		{"dest-nofollow of a tmpfs", mount(`{"destination":"/a","type":"tmpfs","source":"tmpfs","options":["dest-nofollow"]}`), "mounts[0].options", "bind"},
		{"copy-symlink onto a link itself", mount(`{"destination":"/a","source":"/b","options":["bind","copy-symlink","dest-nofollow"]}`), "mounts[0].options", "does not go with"},
		{"copy-symlink of a link itself", mount(`{"destination":"/a","source":"/b","options":["bind","copy-symlink","src-nofollow"]}`), "mounts[0].options", "does not go with"},
		{"copy-symlink of a remount", mount(`{"destination":"/a","source":"/b","options":["bind","remount","copy-symlink"]}`), "mounts[0].options", "are for bind mounts"},
		{"src-nofollow with mapped ids", mount(`{"destination":"/a","type":"bind","source":"/b","options":["src-nofollow"],"uidMappings":[` + own + `],"gidMappings":[` + own + `]}`), "mounts[0].options", "does not go with idmap"},
		{"src-nofollow of a tmpfs", mount(`{"destination":"/a","type":"tmpfs","source":"tmpfs","options":["src-nofollow"]}`), "mounts[0].options", "bind"},
		{"src-nofollow of a remount", mount(`{"destination":"/a","source":"/b","options":["bind","remount","src-nofollow"]}`), "mounts[0].options", "are for bind mounts"},
		{"tmpcopyup of a bind", mount(`{"destination":"/a","type":"bind","source":"/a","options":["tmpcopyup"]}`), "mounts[0].options", "tmpfs"},
		{"mappings of users alone", mount(`{"destination":"/a","type":"bind","source":"/a","uidMappings":[` + own + `]}`), "mounts[0].uidMappings", "belong together"},
		{"mappings of a file system", mount(`{"destination":"/a","type":"tmpfs","uidMappings":[` + own + `],"gidMappings":[` + own + `]}`), "mounts[0].options", "bind mounts"},
		{"idmap without user namespace", mount(`{"destination":"/a","type":"bind","source":"/a","options":["idmap"]}`), "mounts[0].options", "user namespace"},
		{"idmap of a file system", config(userNS, `"mounts":[{"destination":"/a","type":"tmpfs","options":["ridmap"]}]`), "mounts[0].options", "bind mounts"},
		{"idmap of the root's in a joined pid namespace", config(`"root":{"path":"/r"}`, `"mounts":[{"destination":"/a","type":"bind","source":"/r/b","options":["idmap"]}]`,
			strings.Replace(userNS, `"namespaces":[`, `"namespaces":[{"type":"pid","path":"/x"},`, 1)), "mounts[0].options", "needs uidMappings"},
		{"masks without mount namespace", config(`"linux":{"maskedPaths":["/a"]}`, `"root":{"path":"/"}`), "linux.maskedPaths", "new mount namespace"},
		{"read-only paths in a joined one", config(`"linux":{"namespaces":[{"type":"mount","path":"/x"}],"readonlyPaths":["/a"]}`, `"root":{"path":"/"}`), "linux.readonlyPaths", "new mount namespace"},

		{"destination that is too long", mount(`{"destination":"` + long + `","type":"tmpfs"}`), "mounts[0].destination", "4095"},
		{"device that is too long", linux(`"devices":[{"path":"` + long + `","type":"c"}]`), "linux.devices[0].path", "4095"},
		{"directory that is too long", config(`"process":{"args":["a"],"cwd":"` + long + `"}`), "process.cwd", "4095"},

		{"unknown device", linux(`"devices":[{"path":"/dev/a","type":"c","major":1,"minor":1},{"path":"/dev/b","type":"q"}]`), "linux.devices[1].type", `"q"`},
		{"unknown device in a made dev", config(`"mounts":[{"destination":"/dev","type":"tmpfs"}]`,
			strings.TrimSuffix(userNS, "}")+`,"devices":[{"path":"/dev/b","type":""}]}`), "linux.devices[0].type", `""`},
		{"terminal without devpts", process(`"terminal":true`), "process.terminal", "/dev/pts"},
		{"terminal with a devpts elsewhere", config(`"process":{"args":["a"],"cwd":"/","terminal":true}`, `"mounts":[{"destination":"/pts","type":"devpts"},{"destination":"/dev/pts","type":"tmpfs"}]`), "process.terminal", "/dev/pts"},

		{"unknown limit", process(`"rlimits":[{"type":"RLIMIT_CORE","soft":0,"hard":0},{"type":"RLIMIT_LUCK","soft":1,"hard":1}]`), "process.rlimits[1].type", `"RLIMIT_LUCK"`},
		{"soft above hard", process(`"rlimits":[{"type":"RLIMIT_CORE","soft":2,"hard":1}]`), "process.rlimits[0].soft", "2"},
		{"unknown personality", linux(`"personality":{"domain":"SOLARIS"}`), "linux.personality.domain", `"SOLARIS"`},
		{"listener that cannot be sent", linux(`"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x","syscalls":[{"names":["sendmsg"],"action":"SCMP_ACT_NOTIFY"}]}`), "linux.seccomp.syscalls", "sendmsg has to be allowed"},

		{"hook without a slash", config(`"hooks":{"createRuntime":[{"path":"/a"},{"path":"a"}]}`), "hooks.createRuntime[1].path", "not absolute"},
		{"hook that is too long", config(`"hooks":{"poststop":[{"path":"` + long + `"}]}`), "hooks.poststop[0].path", "4095"},
		{"hook of the past", config(`"hooks":{"startContainer":[{"path":"/a","timeout":-1}]}`), "hooks.startContainer[0].timeout", "-1"},
		{"more hooks than steps", config(`"hooks":{"prestart":[` + strings.Repeat(`{"path":"/a"},`, 66000) + `{"path":"/a"}]}`), "mounts, hooks", "65535"},
		{"devices without a network", config(`"linux":{"namespaces":[{"type":"mount"}],"netDevices":{"eth0":{}}}`), "linux.netDevices", "network namespace"},
		{"class without a name", linux(`"intelRdt":{"schemata":["L3:0=f"]}`), "linux.intelRdt.closID", "has to name"},
		{"unknown scheduler", process(`"scheduler":{"policy":"SCHED_LUCK"}`), "process.scheduler.policy", `"SCHED_LUCK"`},
		{"unknown flag of a scheduler", process(`"scheduler":{"policy":"SCHED_RR","flags":["SCHED_FLAG_RECLAIM","FAST"]}`), "process.scheduler.flags[1]", `"FAST"`},
		{"unknown class of io", process(`"ioPriority":{"class":"GOLD"}`), "process.ioPriority.class", `"GOLD"`},
		{"priority of io out of range", process(`"ioPriority":{"class":"IOPRIO_CLASS_BE","priority":8}`), "process.ioPriority.priority", "8"},
		{"unknown memory policy", linux(`"memoryPolicy":{"mode":"MPOL_NEAR"}`), "linux.memoryPolicy.mode", `"MPOL_NEAR"`},
		{"unknown flag of a memory policy", linux(`"memoryPolicy":{"mode":"MPOL_BIND","nodes":"0","flags":["F"]}`), "linux.memoryPolicy.flags[0]", `"F"`},
		{"nodes that are none", linux(`"memoryPolicy":{"mode":"MPOL_BIND","nodes":"0-"}`), "linux.memoryPolicy.nodes", `"0-"`},
		{"nodes without end", linux(`"memoryPolicy":{"mode":"MPOL_BIND","nodes":"0-4294967295"}`), "linux.memoryPolicy.nodes", "65535"},
		{"profile without AppArmor", process(`"apparmorProfile":"p"`), "process.apparmorProfile", "apparmor not supported"},
	} {
		wantSpecError(t, test.name, decode(t, test.config), rootFacts(), Options{Bundle: "/bundle"}, test.field, test.words)
	}

	both := config(`"linux":{"namespaces":[{"type":"user"},{"type":"mount"}],"uidMappings":[` + ranges + `],"gidMappings":[` + ranges + `]}`)
	wantSpecError(t, "ranges without helpers", decode(t, both), userFacts(), Options{}, "linux.uidMappings", "newuidmap")
	f := userFacts()
	f.NewUIDMap = "/usr/bin/newuidmap"
	wantSpecError(t, "ranges with one helper", decode(t, both), f, Options{}, "linux.gidMappings", "newgidmap")
	another := strings.ReplaceAll(userNS, "1000", "1001")
	wantSpecError(t, "another's id", decode(t, config(another)), userFacts(), Options{}, "linux.uidMappings", "privileges")

	// A subordinate id is root inside, as with --userns keep-id.
	f.NewGIDMap = "/usr/bin/newgidmap"
	const kept = `"linux":{"namespaces":[{"type":"user"},{"type":"mount"}],"uidMappings":[{"containerID":0,"hostID":%d,"size":1},{"containerID":1,"hostID":200000,"size":9}],` +
		`"gidMappings":[{"containerID":0,"hostID":%d,"size":1},{"containerID":1,"hostID":200000,"size":9}]}`
	const hook = `"hooks":{"createContainer":[{"path":"/h"}]}`
	wantSpecError(t, "a hook inside, and another's uid is root there", decode(t, config(fmt.Sprintf(kept, 100000, f.GID), hook)), f, Options{}, "hooks.createContainer", "keep-id")
	wantSpecError(t, "a hook inside, and another's gid is root there", decode(t, config(fmt.Sprintf(kept, f.UID, 100000), hook)), f, Options{}, "hooks.createContainer", "keep-id")
	for name, spec := range map[string]string{
		"a hook inside, and the caller is root there": config(fmt.Sprintf(kept, f.UID, f.GID), hook),
		"a hook outside": config(fmt.Sprintf(kept, 100000, 100000), `"hooks":{"createRuntime":[{"path":"/h"}]}`),
	} {
		if _, err := Compile(decode(t, spec), f, Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	var many []string
	for i := range 220 {
		many = append(many, fmt.Sprintf(`{"destination":"/m%d","type":"bind","source":"/m","options":["idmap"]}`, i))
	}
	wantSpecError(t, "more trees than registers", decode(t, config(userNS, `"mounts":[`+strings.Join(many, ",")+`]`)), rootFacts(), Options{}, "mounts", "registers")
}

func wantSpecError(t *testing.T, name string, spec *specs.Spec, host Facts, o Options, field, words string) {
	t.Helper()
	p, err := Compile(spec, host, o)
	var se *SpecError
	if !errors.As(err, &se) {
		t.Errorf("%s: error %v, want a SpecError of %s", name, err, field)
		return
	}
	if se.Field != field || !strings.Contains(se.Reason, words) || strings.Contains(se.Error(), "\n") {
		t.Errorf("%s: %v; want %s and %q in one line", name, se, field, words)
	}
	if want := "config.json: " + field + ": " + se.Reason; se.Error() != want {
		t.Errorf("%s: %v, want %s", name, se, want)
	}
	if len(p.Steps) != 0 {
		t.Errorf("%s: a plan beside an error", name)
	}
}

// TestFaultOfSeccomp: errors of the seccomp room come through as they are.
func TestFaultOfSeccomp(t *testing.T) {
	spec := decode(t, config(`"linux":{"namespaces":[{"type":"mount"}],"seccomp":{"defaultAction":"SCMP_ACT_SING"}}`))
	_, err := Compile(spec, rootFacts(), Options{})
	var se *SpecError
	if err == nil || errors.As(err, &se) {
		t.Errorf("error %v (%T), want that of package seccomp", err, err)
	}
}

func TestNoCommand(t *testing.T) {
	if _, err := CompileUnshare(UnshareOptions{}, rootFacts()); err == nil {
		t.Error("unshare of no command is a plan")
	}
	if _, err := CompileEnter(EnterOptions{}, rootFacts()); err == nil {
		t.Error("enter without a command is a plan")
	}
	_, err := CompileUnshare(UnshareOptions{New: []abi.Namespace{abi.NSUser}, UIDs: []IDMapping{{0, 5, 1}}, Args: []string{"a"}}, userFacts())
	if err == nil || !strings.Contains(err.Error(), "newuidmap") {
		t.Errorf("another's id is mapped: %v", err)
	}
}
