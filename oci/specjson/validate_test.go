package specjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"reflect"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// sound is a document without faults, into which those of the tests are put.
const sound = `{
	"ociVersion": "1.2.0",
	"root": {"path": "rootfs"},
	"process": {"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
	"linux": {"namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "cgroup"}]}
}`

// changed returns sound with the members of change in place of its own.
func changed(t *testing.T, change string) []byte {
	t.Helper()
	var base, top map[string]any
	if err := json.Unmarshal([]byte(sound), &base); err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(change))
	dec.UseNumber()
	if err := dec.Decode(&top); err != nil {
		t.Fatalf("%s: %v", change, err)
	}
	return asJSON(overlay(base, top))
}

func overlay(base, top map[string]any) map[string]any {
	for name, value := range top {
		under, ok := base[name].(map[string]any)
		over, also := value.(map[string]any)
		switch {
		case value == "gone":
			delete(base, name)
		case ok && also:
			base[name] = overlay(under, over)
		default:
			base[name] = value
		}
	}
	return base
}

func decoded(t *testing.T, data []byte) *specs.Spec {
	t.Helper()
	spec, err := Decode(data)
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return spec
}

// user gives the container a user namespace, the rest of a change comes after it.
const (
	withUser  = `"namespaces":[{"type":"mount"},{"type":"user"}]`
	withTime  = `"namespaces":[{"type":"mount"},{"type":"time"}]`
	mapped    = withUser + `,"uidMappings":[{"containerID":0,"hostID":1000,"size":100}],"gidMappings":[{"containerID":0,"hostID":1000,"size":100}]`
	onlyMount = `"namespaces":[{"type":"mount"}]`
)

func TestValidate(t *testing.T) {
	for _, test := range []struct{ change, want string }{
		{`{"ociVersion":"gone"}`, `ociVersion: want a semantic version, got "": write the version`},
		{`{"ociVersion":"1"}`, `ociVersion: want a semantic version, got "1"`},
		{`{"ociVersion":"1.0"}`, `ociVersion: want a semantic version`},
		{`{"ociVersion":"1.0.0.0"}`, `ociVersion: want a semantic version`},
		{`{"ociVersion":"1.02.0"}`, `ociVersion: want a semantic version`},
		{`{"ociVersion":"v1.0.0"}`, `ociVersion: want a semantic version`},
		{`{"ociVersion":"1.0.0-"}`, `ociVersion: want a semantic version`},
		{`{"ociVersion":"1.0.0-rc.01"}`, `ociVersion: want a semantic version`},
		{`{"ociVersion":"1.0.0-a_b"}`, `ociVersion: want a semantic version`},
		{`{"ociVersion":"1.0.0+"}`, `ociVersion: want a semantic version`},
		{`{"ociVersion":"1.0.0 "}`, `ociVersion: want a semantic version`},
		{`{"ociVersion":"0.2.0"}`, `ociVersion: want version 1 of runtime-spec, got "0.2.0"`},
		{`{"ociVersion":"2.0.0"}`, `ociVersion: want version 1 of runtime-spec`},
		{`{"root":"gone"}`, `root: want an object, got none: add "root": {"path": "rootfs"}`},
		{`{"root":{"path":""}}`, `root.path: want a path, got ""`},
		{`{"root":{"path":"a\u0000b"}}`, `root.path: want no NUL character, got "a\x00b"`},

		{`{"process":{"cwd":"src"}}`, `process.cwd: want an absolute path, got "src": begin it with /`},
		{`{"process":{"cwd":""}}`, `process.cwd: want an absolute path, got ""`},
		{`{"process":{"args":[]}}`, `process.args: want a program to run, got none`},
		{`{"process":{"args":"gone"}}`, `process.args: want a program to run, got none`},
		{`{"process":{"args":["sh","-c","\u0000"]}}`, `process.args[2]: want no NUL character`},
		{`{"process":{"env":["A=1","B"]}}`, `process.env[1]: want NAME=value, got "B"`},
		{`{"process":{"env":["=1"]}}`, `process.env[0]: want NAME=value`},
		{`{"process":{"env":["A=\u0000"]}}`, `process.env[0]: want no NUL character`},
		{`{"process":{"terminal":true,"consoleSize":{"height":65536,"width":80}}}`, `process.consoleSize: want at most 65535 rows and columns, got 65536 and 80`},
		{`{"process":{"user":{"uid":4294967295}}}`, `process.user.uid: want an id up to 4294967294, got 4294967295`},
		{`{"process":{"user":{"gid":4294967295}}}`, `process.user.gid: want an id`},
		{`{"process":{"user":{"additionalGids":[1,4294967295]}}}`, `process.user.additionalGids[1]: want an id`},
		{`{"process":{"user":{"umask":512}}}`, `process.user.umask: want at most 511, which is 0777, got 512`},
		{`{"linux":{` + mapped + `},"process":{"user":{"uid":100}}}`, `process.user.uid: want an id that linux.uidMappings maps, got 100`},
		{`{"linux":{` + mapped + `},"process":{"user":{"gid":100}}}`, `process.user.gid: want an id that linux.gidMappings maps, got 100`},
		{`{"linux":{` + mapped + `},"process":{"user":{"additionalGids":[99,4000000000]}}}`, `process.user.additionalGids[1]: want an id that linux.gidMappings maps`},
		{`{"process":{"apparmorProfile":"a\u0000"}}`, `process.apparmorProfile: want no NUL character`},
		{`{"process":{"selinuxLabel":"a\u0000"}}`, `process.selinuxLabel: want no NUL character`},
		{`{"process":{"oomScoreAdj":1001}}`, `process.oomScoreAdj: want an integer from -1000 to 1000, got 1001`},
		{`{"process":{"oomScoreAdj":-1001}}`, `process.oomScoreAdj: want an integer from -1000 to 1000, got -1001`},
		{`{"process":{"rlimits":[{"type":"RLIMIT_FOO"}]}}`, `process.rlimits[0].type: want a resource of getrlimit(2), such as RLIMIT_NOFILE, got "RLIMIT_FOO"`},
		{`{"process":{"rlimits":[{"type":"nofile"}]}}`, `process.rlimits[0].type: want a resource`},
		{`{"process":{"rlimits":[{"type":"RLIMIT_CPU"},{"type":"RLIMIT_AS"},{"type":"RLIMIT_CPU"}]}}`, `process.rlimits[2].type: want each resource once, got a second RLIMIT_CPU`},
		{`{"process":{"rlimits":[{"type":"RLIMIT_CPU","soft":18446744073709551615,"hard":7}]}}`, `process.rlimits[0].soft: want at most the hard limit, 7, got 18446744073709551615`},
		{`{"process":{"scheduler":{"policy":"SCHED_FAST"}}}`, `process.scheduler.policy: want one of SCHED_OTHER,`},
		{`{"process":{"scheduler":{"policy":""}}}`, `process.scheduler.policy: want one of`},
		{`{"process":{"scheduler":{"policy":"SCHED_ISO"}}}`, `process.scheduler.policy: want a policy that Linux has`},
		{`{"process":{"scheduler":{"policy":"SCHED_FIFO"}}}`, `process.scheduler.priority: want an integer from 1 to 99 for SCHED_FIFO, got 0`},
		{`{"process":{"scheduler":{"policy":"SCHED_FIFO","flags":["SCHED_FLAG_KEEP_PARAMS"]}}}`, `process.scheduler.priority: want an integer from 1 to 99 for SCHED_FIFO, got 0`},
		{`{"process":{"scheduler":{"policy":"SCHED_RR","priority":100}}}`, `process.scheduler.priority: want an integer from 1 to 99 for SCHED_RR, got 100`},
		{`{"process":{"scheduler":{"policy":"SCHED_BATCH","priority":1}}}`, `process.scheduler.priority: want 0 for SCHED_BATCH, got 1`},
		{`{"process":{"scheduler":{"policy":"SCHED_OTHER","nice":-21}}}`, `process.scheduler.nice: want an integer from -20 to 19, got -21`},
		{`{"process":{"scheduler":{"policy":"SCHED_OTHER","nice":20}}}`, `process.scheduler.nice: want an integer from -20 to 19, got 20`},
		{`{"process":{"scheduler":{"policy":"SCHED_OTHER","period":1}}}`, `process.scheduler.policy: want SCHED_DEADLINE with runtime, deadline or period, got "SCHED_OTHER"`},
		{`{"process":{"scheduler":{"policy":"SCHED_DEADLINE","runtime":1023,"deadline":5000}}}`, `process.scheduler: want 1024 <= runtime <= deadline <= period, got runtime 1023, deadline 5000, period 0`},
		{`{"process":{"scheduler":{"policy":"SCHED_DEADLINE","runtime":6000,"deadline":5000}}}`, `process.scheduler: want 1024`},
		{`{"process":{"scheduler":{"policy":"SCHED_DEADLINE","runtime":2000,"deadline":5000,"period":4000}}}`, `process.scheduler: want 1024`},
		{`{"process":{"scheduler":{"policy":"SCHED_DEADLINE","runtime":2000,"deadline":5000,"period":9223372036854775808}}}`, `process.scheduler: want 1024`},
		{`{"process":{"scheduler":{"policy":"SCHED_DEADLINE","runtime":2000,"deadline":5000,"priority":1}}}`, `process.scheduler.priority: want 0 for SCHED_DEADLINE`},
		{`{"process":{"scheduler":{"policy":"SCHED_OTHER","flags":["SCHED_FLAG_RESET_ON_FORK","RESET"]}}}`, `process.scheduler.flags[1]: want a flag`},
		{`{"process":{"ioPriority":{"class":"IOPRIO_CLASS_NONE","priority":0}}}`, `process.ioPriority.class: want one of IOPRIO_CLASS_RT, IOPRIO_CLASS_BE and IOPRIO_CLASS_IDLE, got "IOPRIO_CLASS_NONE"`},
		{`{"process":{"ioPriority":{"class":"IOPRIO_CLASS_BE","priority":8}}}`, `process.ioPriority.priority: want an integer from 0 to 7, got 8`},
		{`{"process":{"ioPriority":{"class":"IOPRIO_CLASS_BE","priority":-1}}}`, `process.ioPriority.priority: want an integer from 0 to 7, got -1`},
		{`{"process":{"execCPUAffinity":{"initial":"3-1"}}}`, `process.execCPUAffinity.initial: want numbers and ranges up to 65535, such as "0-3,7", got "3-1"`},
		{`{"process":{"execCPUAffinity":{"final":"0-9876543210"}}}`, `process.execCPUAffinity.final: want numbers`},
		{`{"process":{"execCPUAffinity":{"final":"65536"}}}`, `process.execCPUAffinity.final: want numbers`},
		{`{"process":{"execCPUAffinity":{"final":" , "}}}`, `process.execCPUAffinity.final: want numbers`},
		{`{"process":{"scheduler":{"policy":"SCHED_DEADLINE","deadline":2048}}}`, "sched_setattr: `SCHED_DEADLINE` requires `runtime`"},
		{`{"process":{"scheduler":{"policy":"SCHED_DEADLINE","runtime":2048}}}`, "sched_setattr: `SCHED_DEADLINE` requires `deadline`"},
		{`{"process":{"scheduler":{"policy":"SCHED_DEADLINE","runtime":3000,"deadline":2048}}}`, "runtime (3000) must be <= deadline (2048)"},
		{`{"process":{"scheduler":{"policy":"SCHED_DEADLINE","runtime":2000,"deadline":3000,"period":2500}}}`, "deadline (3000) must be <= period (2500)"},
		{`{"process":{"scheduler":{"policy":"SCHED_DEADLINE","runtime":1023,"deadline":3000}}}`, "runtime (1023) must be between 1024 and 9223372036854775807"},
		{`{"process":{"execCPUAffinity":{"final":"1-"}}}`, `process.execCPUAffinity.final: want numbers`},
		{`{"process":{"execCPUAffinity":{"final":"1-2-3"}}}`, `process.execCPUAffinity.final: want numbers`},
		{`{"process":{"execCPUAffinity":{"final":"+1"}}}`, `process.execCPUAffinity.final: want numbers`},

		{`{"hostname":"web","linux":{` + onlyMount + `}}`, `hostname: want a uts namespace to set it in, got "web" without one: add {"type": "uts"} to linux.namespaces, or remove it`},
		{`{"domainname":"lan","linux":"gone"}`, `domainname: want a uts namespace to set it in, got "lan" without one`},
		{`{"hostname":"` + strings.Repeat("x", 65) + `"}`, `hostname: want at most 64 bytes`},
		{`{"hostname":"a\u0000"}`, `hostname: want no NUL character`},
		{`{"hostname":"web","linux":{"sysctl":{"kernel.hostname":"db"}}}`, `sysctl "kernel.hostname" is not allowed as it conflicts with the OCI "hostname" field`},
		{`{"domainname":"lan","linux":{"sysctl":{"kernel.domainname":"wan"}}}`, `linux.sysctl["kernel.domainname"]: want the same as domainname`},

		{`{"mounts":[{"destination":"/a"},{"destination":""}]}`, `mounts[1].destination: want an absolute path, got ""`},
		{`{"mounts":[{"destination":"/\u0000"}]}`, `mounts[0].destination: want no NUL character`},
		{`{"mounts":[{"destination":"/a","source":"\u0000"}]}`, `mounts[0].source: want no NUL character`},
		{`{"mounts":[{"destination":"/a","type":"t\u0000"}]}`, `mounts[0].type: want no NUL character`},
		{`{"mounts":[{"destination":"/a","options":["ro","mode=\u0000"]}]}`, `mounts[0].options[1]: want no NUL character`},
		{`{"mounts":[{"destination":"/a","options":["idmap"]}]}`, `mounts[0].options: want mappings for idmap, got none, and no user namespace to take them from`},
		{`{"mounts":[{"destination":"/a","options":["ridmap"]}]}`, `mounts[0].options: want mappings for idmap`},
		{`{"mounts":[{"destination":"/a","options":["idmap"],"uidMappings":[{"size":1}]}]}`, `mounts[0]: want both uidMappings and gidMappings, or neither, got 1 and 0 mappings`},
		{`{"mounts":[{"destination":"/a","options":["idmap"],"uidMappings":[{"size":1}],"gidMappings":[{"size":0}]}]}`, `mounts[0].gidMappings[0].size: want at least 1, got 0`},

		{`{"hooks":{"prestart":[{"path":"bin/x"}]}}`, `hooks.prestart[0].path: want an absolute path, got "bin/x"`},
		{`{"hooks":{"createRuntime":[{"path":"/x"},{"path":"/x","timeout":0}]}}`, `hooks.createRuntime[1].timeout: want more than 0 seconds, got 0`},
		{`{"hooks":{"createContainer":[{"path":"/x","timeout":-3}]}}`, `hooks.createContainer[0].timeout: want more than 0 seconds, got -3`},
		{`{"hooks":{"startContainer":[{"path":"/x\u0000"}]}}`, `hooks.startContainer[0].path: want no NUL character`},
		{`{"hooks":{"poststart":[{"path":"/x","args":["a","\u0000"]}]}}`, `hooks.poststart[0].args[1]: want no NUL character`},
		{`{"hooks":{"poststop":[{"path":"/x","env":["\u0000"]}]}}`, `hooks.poststop[0].env[0]: want no NUL character`},
		{`{"annotations":{"run.oci.mount_context_type":"label"}}`, `annotations.run.oci.mount_context_type: want context, fscontext, defcontext or rootcontext, got "label"`},
		{`{"annotations":{"":"x"}}`, `annotations: want a name for each annotation, got ""`},

		{`{"linux":{"namespaces":[{"type":"mnt"},{"type":"mount"}]}}`, `linux.namespaces[0].type: want one of pid, network, mount, ipc, uts, user, cgroup and time, got "mnt"`},
		{`{"linux":{"namespaces":[{"type":""},{"type":"mount"}]}}`, `linux.namespaces[0].type: want one of`},
		{`{"linux":{"namespaces":[{"type":"mount"},{"type":"mount","path":"/proc/1/ns/mnt"}]}}`, `linux.namespaces[1].type: want each type once, got a second "mount"`},
		{`{"linux":{"namespaces":[{"type":"mount"},{"type":"pid","path":"proc/1/ns/pid"}]}}`, `linux.namespaces[1].path: want an absolute path, got "proc/1/ns/pid"`},
		{`{"linux":{"namespaces":[{"type":"mount"},{"type":"pid","path":"/p\u0000"}]}}`, `linux.namespaces[1].path: want no NUL character`},
		{`{"linux":{"uidMappings":[{"size":1}]}}`, `linux.uidMappings: want a user namespace for the mappings, got none`},
		{`{"linux":{"gidMappings":[{"size":1}]}}`, `linux.uidMappings: want a user namespace for the mappings, got none`},
		{`{"linux":{` + withUser + `}}`, `linux.uidMappings: want mappings of uids and gids for the new user namespace, got 0 and 0 of them`},
		{`{"linux":{` + withUser + `,"uidMappings":[{"size":1}]}}`, `linux.uidMappings: want mappings of uids and gids for the new user namespace, got 1 and 0 of them`},
		{`{"linux":{` + mapped + `,"uidMappings":[{"containerID":0,"hostID":0,"size":10},{"containerID":9,"hostID":100,"size":10}]}}`,
			`linux.uidMappings[1]: want ids that no other mapping has, got "9 100 10", and before it "0 0 10"`},
		{`{"linux":{` + mapped + `,"gidMappings":[{"containerID":0,"hostID":50,"size":10},{"containerID":10,"hostID":41,"size":10}]}}`,
			`linux.gidMappings[1]: want ids that no other mapping has`},
		{`{"linux":{` + mapped + `,"uidMappings":[{"containerID":0,"hostID":4294967295,"size":1}]}}`, `linux.uidMappings[0]: want ids up to 4294967294, got "0 4294967295 1"`},
		{`{"linux":{` + mapped + `,"uidMappings":[{"containerID":1,"hostID":0,"size":4294967295}]}}`, `linux.uidMappings[0]: want ids up to 4294967294`},
		{`{"linux":{` + mapped + `,"uidMappings":[{"containerID":0,"hostID":0,"size":0}]}}`, `linux.uidMappings[0].size: want at least 1, got 0`},

		{`{"linux":{"sysctl":{"net.core.somaxconn":"1"},` + onlyMount + `}}`, `linux.sysctl["net.core.somaxconn"]: want a namespace of type network to set it in, got none: add {"type": "network"} to linux.namespaces, or remove it`},
		{`{"linux":{"sysctl":{"kernel.shm_rmid_forced":"1"},` + onlyMount + `}}`, `linux.sysctl["kernel.shm_rmid_forced"]: want a namespace of type ipc`},
		{`{"linux":{"sysctl":{"fs.mqueue.msg_max":"1"},` + onlyMount + `}}`, `linux.sysctl["fs.mqueue.msg_max"]: want a namespace of type ipc`},
		{`{"linux":{"sysctl":{"kernel.domainname":"x"},` + onlyMount + `}}`, `linux.sysctl["kernel.domainname"]: want a namespace of type uts`},
		{`{"linux":{"sysctl":{"kernel.core_pattern":"|/x"}}}`, `linux.sysctl["kernel.core_pattern"]: want a setting that belongs to a namespace, got "|/x"`},
		{`{"linux":{"sysctl":{"vm.overcommit_memory":"1"}}}`, `want a setting that belongs to a namespace`},
		{`{"linux":{"sysctl":{"kernel.sem.x":"1"}}}`, `want a setting that belongs to a namespace`},
		{`{"linux":{"sysctl":{"netX":"1"}}}`, `want a setting that belongs to a namespace`},
		{`{"linux":{"sysctl":{"":"1"}}}`, `linux.sysctl[""]: want a name with dots`},
		{`{"linux":{"sysctl":{"net/ipv4/../../kernel/core_pattern":"1"}}}`, `linux.sysctl["net/ipv4/../../kernel/core_pattern"]: want a name with dots, such as net.ipv4.ip_forward, got "net/ipv4/`},
		{`{"linux":{"sysctl":{"net/./ipv4":"1"}}}`, `want a name with dots`},
		{`{"linux":{"sysctl":{"net.//.kernel.core_pattern":"1"}}}`, `want a name with dots`},
		{`{"linux":{"sysctl":{"net//ipv4":"1"}}}`, `want a name with dots`},
		{`{"linux":{"sysctl":{"/net/ipv4/ip_forward":"1"}}}`, `want a name with dots`},
		{`{"linux":{"sysctl":{"kernel/core_pattern":"1"}}}`, `want a setting that belongs to a namespace`},
		{`{"linux":{"sysctl":{"user.max_net_namespaces":"1"}}}`, `want a namespace of type user to set it in`},
		{`{"hostname":"web","linux":{"sysctl":{"kernel/hostname":"db"}}}`, `linux.sysctl["kernel/hostname"]: want no setting that a field of config.json is for, got "db"`},
		{`{"linux":{"sysctl":{"net.ipv4./..core_pattern":"1"}}}`, `want a name with dots`},
		{`{"linux":{"sysctl":{"net.../kernel/core_pattern":"1"}}}`, `want a name with dots`},
		{`{"linux":{"sysctl":{"net..ipv4":"1"}}}`, `want a name with dots`},
		{`{"linux":{"sysctl":{"net.":"1"}}}`, `want a name with dots`},
		{`{"linux":{"sysctl":{"net.a b":"1"}}}`, `want a name with dots`},
		{`{"linux":{"sysctl":{"net.a\u0000":"1"}}}`, `want a name with dots`},
		{`{"linux":{"sysctl":{"net.core.somaxconn":"1\nkernel.core_pattern=x"}}}`, `linux.sysctl["net.core.somaxconn"]: want one line, got "1\nkernel.core_pattern=x"`},
		{`{"linux":{"sysctl":{"net.core.somaxconn":"1\u0000"}}}`, `want one line`},

		{`{"linux":{"cgroupsPath":"/a/../../b"}}`, `linux.cgroupsPath: want a path without .., got "/a/../../b"`},
		{`{"linux":{"cgroupsPath":".."}}`, `linux.cgroupsPath: want a path without ..`},
		{`{"linux":{"cgroupsPath":"a\u0000"}}`, `linux.cgroupsPath: want no NUL character`},
		{`{"linux":{"devices":[{"path":"dev/x","type":"c"}]}}`, `linux.devices[0].path: want an absolute path, got "dev/x"`},
		{`{"linux":{"devices":[{"path":"/x","type":"a"}]}}`, `linux.devices[0].type: want one of c, u, b and p, got "a"`},
		{`{"linux":{"devices":[{"path":"/x","type":"c","major":-1}]}}`, `linux.devices[0]: want major up to 4095 and minor up to 1048575, got -1 and 0`},
		{`{"linux":{"devices":[{"path":"/x","type":"b","minor":1048576}]}}`, `linux.devices[0]: want major up to 4095`},
		{`{"linux":{"devices":[{"path":"/x","type":"u","major":4096}]}}`, `linux.devices[0]: want major up to 4095`},
		{`{"linux":{"devices":[{"path":"/x","type":"p","uid":4294967295}]}}`, `linux.devices[0].uid: want an id`},
		{`{"linux":{"devices":[{"path":"/x","type":"p","gid":4294967295}]}}`, `linux.devices[0].gid: want an id`},
		{`{"linux":{"devices":[{"path":"/x","type":"c","minor":1},{"path":"/x","type":"c","minor":2}]}}`, `linux.devices[1].path: want a place of its own, got "/x" as devices[0]`},

		{`{"linux":{"netDevices":{"eth0":{}},` + onlyMount + `}}`, `linux.netDevices: want a network namespace to move them to, got none`},
		{`{"linux":{"netDevices":{"":{}}}}`, `linux.netDevices[""]: want the name of a network interface, got ""`},
		{`{"linux":{"netDevices":{"..":{}}}}`, `want the name of a network interface, got ".."`},
		{`{"linux":{"netDevices":{"a/b":{}}}}`, `linux.netDevices["a/b"]: want the name of a network interface`},
		{`{"linux":{"netDevices":{"sixteen-bytes-xx":{}}}}`, `want the name of a network interface`},
		{`{"linux":{"netDevices":{"eth0":{"name":"a b"}}}}`, `linux.netDevices.eth0.name: want the name of a network interface, or one with %d once, got "a b"`},
		{`{"linux":{"netDevices":{"eth0":{"name":"à"}}}}`, `linux.netDevices.eth0.name: want the name of a network interface`},
		{`{"linux":{"netDevices":{"eth0":{"name":"a%s"}}}}`, `linux.netDevices.eth0.name: want the name`},
		{`{"linux":{"netDevices":{"eth0":{"name":"a%d%d"}}}}`, `linux.netDevices.eth0.name: want the name`},
		{`{"linux":{"netDevices":{"eth0":{"name":"lan"},"eth1":{"name":"lan"}}}}`, `linux.netDevices.eth1.name: want a name that no other device gets, got "lan"`},
		{`{"linux":{"netDevices":{"a":{"name":"b"},"b":{}}}}`, `linux.netDevices.b.name: want a name that no other device gets`},

		{`{"linux":{"maskedPaths":["/proc/kcore","proc/keys"]}}`, `linux.maskedPaths[1]: want an absolute path, got "proc/keys"`},
		{`{"linux":{"readonlyPaths":[""]}}`, `linux.readonlyPaths[0]: want an absolute path, got ""`},
		{`{"linux":{"maskedPaths":["/proc/kcore"],"namespaces":[]}}`, `linux.maskedPaths: want a mount namespace to apply it in, got none: add {"type": "mount"}`},
		{`{"linux":{"readonlyPaths":["/proc/sys"],"namespaces":[]}}`, `linux.readonlyPaths: want a mount namespace`},
		{`{"linux":{"rootfsPropagation":"rshared","namespaces":[]}}`, `linux.rootfsPropagation: want a mount namespace`},
		{`{"linux":{"rootfsPropagation":"rsalve"}}`, `linux.rootfsPropagation: want one of shared, slave, private and unbindable, or with r before it, got "rsalve"`},
		{`{"linux":{"mountLabel":"\u0000"}}`, `linux.mountLabel: want no NUL character`},

		{`{"linux":{"seccomp":{}}}`, `linux.seccomp.defaultAction: want an action such as SCMP_ACT_ERRNO, got "": correct it; without linux.seccomp there is no filter`},
		{`{"linux":{"seccomp":{"defaultAction":"ALLOW"}}}`, `linux.seccomp.defaultAction: want an action`},
		{`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/s"}}}`, `linux.seccomp.defaultAction: want an action that lets the container start`},
		{`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}}}`, `linux.seccomp.defaultErrnoRet: want SCMP_ACT_ERRNO or SCMP_ACT_TRACE as the action, got "SCMP_ACT_ALLOW"`},
		{`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":4096}}}`, `linux.seccomp.defaultErrnoRet: want an integer from 0 to 4095, got 4096`},
		{`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","x86"]}}}`, `linux.seccomp.architectures[1]: want an architecture such as SCMP_ARCH_X86_64, got "x86"`},
		{`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_NEW_LISTENER"]}}}`, `linux.seccomp.flags[0]: want a flag of seccomp(2)`},
		{`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerMetadata":"x"}}}`, `linux.seccomp.listenerMetadata: want listenerPath beside it, got none`},
		{`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/\u0000"}}}`, `linux.seccomp.listenerPath: want no NUL character`},
		{`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}}}`, `linux.seccomp.listenerPath: want the socket of an agent for SCMP_ACT_NOTIFY`},
		{`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a",""],"action":"SCMP_ACT_KILL"}]}}}`, `linux.seccomp.syscalls[0].names[1]: want the name of a system call, got ""`},
		{`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"]}]}}}`, `linux.seccomp.syscalls[0].action: want an action`},
		{`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_KILL","errnoRet":1}]}}}`, `linux.seccomp.syscalls[0].errnoRet: want SCMP_ACT_ERRNO or SCMP_ACT_TRACE as the action, got "SCMP_ACT_KILL"`},
		{`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_TRACE","errnoRet":65536}]}}}`, `linux.seccomp.syscalls[0].errnoRet: want an integer from 0 to 65535, got 65536`},
		{`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_KILL","args":[{"index":6,"op":"SCMP_CMP_EQ"}]}]}}}`, `linux.seccomp.syscalls[0].args[0].index: want an integer from 0 to 5, got 6`},
		{`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_KILL","args":[{"op":"EQ"}]}]}}}`, `linux.seccomp.syscalls[0].args[0].op: want a comparison such as SCMP_CMP_EQ, got "EQ"`},

		{`{"linux":{"intelRdt":{"closID":"../x"}}}`, `linux.intelRdt.closID: want one name, or / for the default class, got "../x"`},
		{`{"linux":{"intelRdt":{"closID":".."}}}`, `linux.intelRdt.closID: want one name`},
		{`{"linux":{"intelRdt":{"l3CacheSchema":"L3:0=f\nMB:0=1"}}}`, `linux.intelRdt.l3CacheSchema: want one line`},
		{`{"linux":{"intelRdt":{"memBwSchema":"MB:0=1\nL3:0=1"}}}`, `linux.intelRdt.memBwSchema: want one line`},
		{`{"linux":{"intelRdt":{"memBwSchema":"L3:0=1"}}}`, `linux.intelRdt.memBwSchema: want MB: at the beginning, got "L3:0=1"`},
		{`{"linux":{"intelRdt":{"schemata":["L3:0=1","a\nb"]}}}`, `linux.intelRdt.schemata[1]: want one line`},
		{`{"linux":{"memoryPolicy":{}}}`, `linux.memoryPolicy.mode: want a mode such as MPOL_BIND, got ""`},
		{`{"linux":{"memoryPolicy":{"mode":"MPOL_DEFAULT","nodes":"0"}}}`, `linux.memoryPolicy.nodes: want no nodes for MPOL_DEFAULT, got "0"`},
		{`{"linux":{"memoryPolicy":{"mode":"MPOL_BIND"}}}`, `linux.memoryPolicy.nodes: want nodes for MPOL_BIND, got ""`},
		{`{"linux":{"memoryPolicy":{"mode":"MPOL_BIND","nodes":"x"}}}`, `linux.memoryPolicy.nodes: want numbers`},
		{`{"linux":{"memoryPolicy":{"mode":"MPOL_PREFERRED","flags":["STATIC"]}}}`, `linux.memoryPolicy.flags[0]: want a flag such as MPOL_F_STATIC_NODES, got "STATIC"`},
		{`{"linux":{"memoryPolicy":{"mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_STATIC_NODES","MPOL_F_RELATIVE_NODES"]}}}`, `linux.memoryPolicy.flags: want one of MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES, got both`},
		{`{"linux":{"personality":{"domain":"linux"}}}`, `linux.personality.domain: want LINUX or LINUX32, got "linux"`},
		{`{"linux":{"personality":{"domain":"LINUX","flags":["ADDR_NO_RANDOMIZE"]}}}`, `linux.personality.flags: want none, got "ADDR_NO_RANDOMIZE"`},
		{`{"linux":{"timeOffsets":{"boottime":{"secs":1}}}}`, `linux.timeOffsets: want a time namespace to set them in, got none`},
		{`{"linux":{"namespaces":[{"type":"mount"},{"type":"time","path":"/proc/9/ns/time"}],"timeOffsets":{"boottime":{}}}}`, `linux.timeOffsets: want a new time namespace, got one with a path`},
		{`{"linux":{` + withTime + `,"timeOffsets":{"realtime":{}}}}`, `linux.timeOffsets.realtime: want the clock monotonic or boottime, got "realtime"`},
		{`{"linux":{` + withTime + `,"timeOffsets":{"boottime":{"nanosecs":1000000000}}}}`, `linux.timeOffsets.boottime.nanosecs: want an integer from 0 to 999999999, got 1000000000`},
		{`{"linux":{` + withTime + `,"timeOffsets":{"boottime":{"secs":9223372037}}}}`, `linux.timeOffsets.boottime.secs: want an integer from -9223372036 to 9223372036, got 9223372037`},
		{`{"linux":{` + withTime + `,"timeOffsets":{"boottime":{"secs":-9223372037}}}}`, `linux.timeOffsets.boottime.secs: want an integer`},

		{`{"linux":{"resources":{"devices":[{"type":"p","access":"r"}]}}}`, `linux.resources.devices[0].type: want one of a, b and c, got "p"`},
		{`{"linux":{"resources":{"devices":[{"access":""}]}}}`, `linux.resources.devices[0].access: want some of r, w and m, got ""`},
		{`{"linux":{"resources":{"devices":[{"access":"RWM"}]}}}`, `linux.resources.devices[0].access: want some of r, w and m, got "RWM"`},
		{`{"linux":{"resources":{"devices":[{"access":"r","major":-2}]}}}`, `linux.resources.devices[0].major: want an integer from 0 to 4095, got -2`},
		{`{"linux":{"resources":{"devices":[{"access":"r","minor":1048576}]}}}`, `linux.resources.devices[0].minor: want an integer from 0 to 1048575, got 1048576`},
		{`{"linux":{"resources":{"memory":{"limit":-2}}}}`, `linux.resources.memory.limit: want a limit, or -1 for none, got -2`},
		{`{"linux":{"resources":{"memory":{"reservation":-2}}}}`, `linux.resources.memory.reservation: want a limit`},
		{`{"linux":{"resources":{"memory":{"kernel":-2}}}}`, `linux.resources.memory.kernel: want a limit`},
		{`{"linux":{"resources":{"memory":{"kernelTCP":-2}}}}`, `linux.resources.memory.kernelTCP: want a limit`},
		{`{"linux":{"resources":{"memory":{"limit":5,"swap":4}}}}`, `linux.resources.memory.swap: want at least memory.limit, 5, got 4`},
		{`{"linux":{"resources":{"memory":{"swappiness":101}}}}`, `linux.resources.memory.swappiness: want an integer from 0 to 100, got 101`},
		{`{"linux":{"resources":{"cpu":{"mems":"0\n"}}}}`, `linux.resources.cpu.mems: want numbers`},
		{`{"linux":{"resources":{"cpu":{"burst":2,"quota":1}}}}`, `linux.resources.cpu.burst: want at most cpu.quota, 1, got 2`},
		{`{"linux":{"resources":{"cpu":{"idle":2}}}}`, `linux.resources.cpu.idle: want 0 or 1, got 2`},
		{`{"linux":{"resources":{"cpu":{"cpus":"a"}}}}`, `linux.resources.cpu.cpus: want numbers`},
		{`{"linux":{"resources":{"blockIO":{"weightDevice":[{"major":8,"minor":0}]}}}}`, `linux.resources.blockIO.weightDevice[0]: want weight or leafWeight, got neither`},
		{`{"linux":{"resources":{"blockIO":{"weightDevice":[{"major":-1,"minor":0,"weight":1}]}}}}`, `linux.resources.blockIO.weightDevice[0]: want major up to 4095`},
		{`{"linux":{"resources":{"blockIO":{"throttleReadBpsDevice":[{"major":4096}]}}}}`, `linux.resources.blockIO.throttleReadBpsDevice[0]: want major`},
		{`{"linux":{"resources":{"blockIO":{"throttleWriteBpsDevice":[{"minor":-1}]}}}}`, `linux.resources.blockIO.throttleWriteBpsDevice[0]: want major`},
		{`{"linux":{"resources":{"blockIO":{"throttleReadIOPSDevice":[{},{"minor":-1}]}}}}`, `linux.resources.blockIO.throttleReadIOPSDevice[1]: want major`},
		{`{"linux":{"resources":{"blockIO":{"throttleWriteIOPSDevice":[{"minor":-1}]}}}}`, `linux.resources.blockIO.throttleWriteIOPSDevice[0]: want major`},
		{`{"linux":{"resources":{"hugepageLimits":[{"pageSize":"2M"}]}}}`, `linux.resources.hugepageLimits[0].pageSize: want a size such as 64KB, 2MB or 1GB, got "2M"`},
		{`{"linux":{"resources":{"hugepageLimits":[{"limit":1}]}}}`, `linux.resources.hugepageLimits[0].pageSize: want a size`},
		{`{"linux":{"resources":{"hugepageLimits":[{"pageSize":"0MB"}]}}}`, `linux.resources.hugepageLimits[0].pageSize: want a size`},
		{`{"linux":{"resources":{"hugepageLimits":[{"pageSize":"../../2MB"}]}}}`, `linux.resources.hugepageLimits[0].pageSize: want a size`},
		{`{"linux":{"resources":{"network":{"priorities":[{"name":"eth0 5\nlo"}]}}}}`, `linux.resources.network.priorities[0].name: want the name of a network interface, got "eth0 5\nlo"`},
		{`{"linux":{"resources":{"rdma":{"mlx5_0":{}}}}}`, `linux.resources.rdma.mlx5_0: want hcaHandles or hcaObjects, got neither`},
		{`{"linux":{"resources":{"rdma":{"a b":{"hcaObjects":1}}}}}`, `linux.resources.rdma["a b"]: want the name of an RDMA device`},
		{`{"linux":{"resources":{"unified":{"../cgroup.procs":"1"}}}}`, `linux.resources.unified["../cgroup.procs"]: want the name of a file in a cgroup, such as memory.high, got "../cgroup.procs"`},
		{`{"linux":{"resources":{"unified":{"memory":"1"}}}}`, `linux.resources.unified.memory: want the name of a file`},
		{`{"linux":{"resources":{"unified":{"..":"1"}}}}`, `want the name of a file`},
		{`{"linux":{"resources":{"unified":{"memory.high":"\u0000"}}}}`, `linux.resources.unified["memory.high"]: want no NUL character`},
	} {
		warnings, err := Validate(decoded(t, changed(t, test.change)))
		if err == nil {
			t.Errorf("%s: accepted, with warnings %v", test.change, warnings)
			continue
		}
		if !strings.HasPrefix(err.Error(), "config.json: ") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s\ngot  %v\nwant %s", test.change, err, test.want)
		}
		checkErrors(t, err)
	}
}

// checkErrors checks what every result of Validate has to be.
func checkErrors(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	all, ok := err.(Errors)
	var first *Error
	if !ok || !errors.As(err, &first) || first != all[0] {
		t.Fatalf("%T: %v", err, err)
	}
	if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
		t.Errorf("the message has a control character: %q", err)
	}
	met := map[string]bool{}
	for _, fault := range all {
		line := fault.Error()
		if fault.Want == "" || fault.Got == "" || fault.Hint == "" || fault.File == "" || met[line] {
			t.Errorf("incomplete or repeated: %+v", *fault)
		}
		met[line] = true
	}
}

// TestSound has what is allowed, near what is not.
func TestSound(t *testing.T) {
	for _, change := range []string{
		`{}`,
		`{"ociVersion":"1.0.2-dev"}`,
		`{"ociVersion":"1.0.0-rc5"}`,
		`{"ociVersion":"1.1.0-rc.2+build.007.x-y"}`,
		`{"ociVersion":"1.3.99"}`,
		`{"root":{"path":"/srv/../x","readonly":true}}`,
		`{"process":{"user":{"uid":4294967294,"umask":511,"additionalGids":[0]},"oomScoreAdj":-1000}}`,
		`{"process":{"oomScoreAdj":1000}}`,
		`{"process":{"consoleSize":{"height":99999,"width":0}}}`,
		`{"process":{"terminal":true,"consoleSize":{"height":65535,"width":65535}}}`,
		`{"process":{"env":["A=","_=\n","A=B=C"]}}`,
		`{"process":{"rlimits":[{"type":"RLIMIT_RTTIME","soft":0,"hard":0},{"type":"RLIMIT_CPU","soft":18446744073709551615,"hard":18446744073709551615}]}}`,
		`{"process":{"scheduler":{"policy":"SCHED_RR","priority":99,"nice":19,"flags":["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_UTIL_CLAMP_MAX"]}}}`,
		`{"process":{"scheduler":{"policy":"SCHED_IDLE","nice":-20}}}`,
		`{"process":{"scheduler":{"policy":"SCHED_FIFO","flags":["SCHED_FLAG_KEEP_POLICY","SCHED_FLAG_KEEP_PARAMS"]}}}`,
		`{"process":{"scheduler":{"policy":"SCHED_DEADLINE","runtime":1024,"deadline":1024}}}`,
		`{"process":{"scheduler":{"policy":"SCHED_DEADLINE","nice":19,"runtime":42000,"deadline":1000000,"period":1000000}}}`,
		`{"process":{"ioPriority":{"class":"IOPRIO_CLASS_IDLE","priority":7}}}`,
		`{"process":{"execCPUAffinity":{"initial":"7","final":",0-3,7,,00008 , 65535,"}}}`,
		`{"process":{"capabilities":{"bounding":["CAP_KILL"],"permitted":["CAP_KILL","CAP_CHECKPOINT_RESTORE"],"inheritable":["CAP_KILL"],"effective":["CAP_KILL"],"ambient":["CAP_KILL"]}}}`,
		`{"hostname":"` + strings.Repeat("x", 64) + `","domainname":"a.b"}`,
		`{"hostname":"web","linux":{"sysctl":{"kernel.domainname":"lan"}}}`,
		`{"hostname":"web","linux":{"namespaces":[{"type":"mount"},{"type":"uts","path":"/proc/9/ns/uts"}]}}`,
		`{"mounts":[{"destination":"/","type":"tmpfs","options":["mode=755","unknown","size=1"]},{"destination":"/a/../b"}]}`,
		`{"mounts":[{"destination":"/a","options":["bind","idmap"]}],"linux":{` + mapped + `}}`,
		`{"mounts":[{"destination":"/a","options":["ridmap"]}],"linux":{"namespaces":[{"type":"mount"},{"type":"user","path":"/proc/9/ns/user"}]}}`,
		`{"mounts":[{"destination":"/a","options":["idmap"],"uidMappings":[{"size":1}],"gidMappings":[{"size":1}]}]}`,
		`{"hooks":{"prestart":[{"path":"/x","timeout":1,"env":["odd"]}]}}`,
		`{"annotations":{"a":"\u0000"}}`,
		`{"linux":{` + mapped + `},"process":{"user":{"uid":99,"gid":99,"additionalGids":[0]}}}`,
		`{"linux":{` + mapped + `,"uidMappings":[{"containerID":0,"hostID":0,"size":4294967295}]}}`,
		`{"linux":{` + mapped + `,"uidMappings":[{"containerID":0,"hostID":10,"size":10},{"containerID":10,"hostID":0,"size":10}]}}`,
		`{"linux":{"namespaces":[{"type":"mount"},{"type":"user","path":"/u"}],"uidMappings":[{"size":1}]},"process":{"user":{"uid":9}}}`,
		`{"linux":{` + mapped + `,"sysctl":{"user.max_net_namespaces":"1"}}}`,
		`{"linux":{"sysctl":{"net/ipv4/conf/eth0.100/forwarding":"1","net.ipv4.conf.eth0/100.forwarding":"1"}}}`,
		`{"linux":{"sysctl":{"net.ipv4.conf.eth-0@x.forwarding":"1","kernel.sem":"250 32000 32 128","fs.mqueue.msg_max":"10","net.ipv4.ip_local_reserved_ports":""}}}`,
		`{"linux":{"cgroupsPath":"system.slice:docker:77"}}`,
		`{"linux":{"cgroupsPath":"/a/..b/.../c"}}`,
		`{"linux":{"devices":[{"path":"/x","type":"b","major":4095,"minor":1048575,"fileMode":25008},{"path":"/y","type":"u","fileMode":4095},{"path":"/z","type":"p","fileMode":4534,"major":-1}]}}`,
		`{"linux":{"devices":[{"path":"/x","type":"c"},{"path":"/x","type":"c"}]}}`,
		`{"linux":{"netDevices":{"fifteen-bytes-x":{},"eth1":{"name":"lan%d"},"eth2":{"name":"lan%d"}}}}`,
		`{"linux":{"rootfsPropagation":"runbindable","maskedPaths":["/"],"readonlyPaths":["/proc/sys"]}}`,
		`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_TRACE","defaultErrnoRet":65535,"flags":["SECCOMP_FILTER_FLAG_TSYNC"],"architectures":["SCMP_ARCH_SHEB"]}}}`,
		`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_LOG","listenerPath":"/s","listenerMetadata":"m","syscalls":[{"names":["a"],"action":"SCMP_ACT_NOTIFY","args":[{"index":5,"op":"SCMP_CMP_GT"}]}]}}}`,
		`{"linux":{"intelRdt":{"closID":"/","memBwSchema":"MB:0=1","l3CacheSchema":"0=f","schemata":["L3:0=1"]}}}`,
		`{"linux":{"intelRdt":{"closID":"..x"}}}`,
		`{"linux":{"memoryPolicy":{"mode":"MPOL_PREFERRED","flags":["MPOL_F_NUMA_BALANCING"]}}}`,
		`{"linux":{"personality":{"domain":"LINUX","flags":[]}}}`,
		`{"linux":{` + withTime + `,"timeOffsets":{"boottime":{"secs":-9223372036,"nanosecs":999999999},"monotonic":{}}}}`,
		`{"linux":{"timeOffsets":{}}}`,
		`{"linux":{"resources":{"devices":[{"allow":true,"type":"a","major":-1,"minor":-1,"access":"mwr"}],"memory":{"limit":-1,"swap":-1,"swappiness":100}}}}`,
		`{"linux":{"resources":{"memory":{"swappiness":18446744073709551615},"pids":{"limit":-5},"cpu":{"cpus":"0, 1,","mems":" 0"}}}}`,
		`{"linux":{"resources":{"memory":{"limit":5,"swap":0}}}}`,
		`{"linux":{"resources":{"memory":{"limit":5,"swap":5},"cpu":{"burst":9,"quota":-1,"cpus":"","idle":1},"pids":{"limit":0}}}}`,
		`{"linux":{"resources":{"cpu":{"burst":9,"quota":0,"idle":0}}}}`,
		`{"linux":{"resources":{"unified":{"hugetlb.1GB.max":"1","io.max":"8:0 rbps=1\n8:16 rbps=1"},"rdma":{"mlx5_1":{"hcaObjects":0}},"hugepageLimits":[{"pageSize":"64KB"}]}}}`,
	} {
		warnings, err := Validate(decoded(t, changed(t, change)))
		if err != nil || warnings != nil {
			t.Errorf("%s\n%v\n%v", change, err, warnings)
		}
	}
}

func TestWarnings(t *testing.T) {
	for _, test := range []struct{ change, want string }{
		{`{"ociVersion":"1.4.0"}`, `ociVersion: want at most 1.3, got "1.4.0": what later versions added is ignored`},
		{`{"ociVersion":"1.99999999999999999999.0"}`, `ociVersion: want at most 1.3`},
		{`{"process":"gone"}`, `process: want an object, got none: the container can be created, but not started`},
		{`{"process":{"capabilities":{"effective":["CAP_KILL","CAP_CHOWN"],"permitted":["CAP_KILL"]}}}`, `process.capabilities.effective: want only what is permitted as well, got CAP_CHOWN`},
		{`{"mounts":[{"destination":"tmp/a"}]}`, `mounts[0].destination: want an absolute path, got "tmp/a": it is taken from the container's root`},
		{`{"mounts":[{"destination":"/a","options":["bind"],"uidMappings":[{"size":1}],"gidMappings":[{"size":1}]}]}`, `mounts[0].options: want idmap or ridmap beside uidMappings, got neither`},
		{`{"linux":{"namespaces":[]}}`, `linux.namespaces: want a mount namespace, got none`},
		{`{"linux":"gone"}`, `linux.namespaces: want a mount namespace, got none`},
		{`{"linux":{"devices":[{"path":"/x","type":"p","fileMode":65536}]}}`, `linux.devices[0].fileMode: want permissions, at most 4095 which is 07777, got 65536`},
		{`{"linux":{"devices":[{"path":"/x","type":"c","fileMode":25008}]}}`, `linux.devices[0].fileMode: want permissions`},
		{`{"linux":{"devices":[{"path":"/x","type":"c","fileMode":69206454}]}}`, `linux.devices[0].fileMode: want permissions, at most 4095 which is 07777, got 69206454: only these bits are taken`},
		{`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[],"action":"SCMP_ACT_KILL"}]}}}`, `linux.seccomp.syscalls[0].names: want a system call at least, got none`},
		{`{"linux":{"resources":{"devices":[{"access":"rwa"}]}}}`, `linux.resources.devices[0].access: want some of r, w and m, got "rwa": other letters are ignored`},
	} {
		warnings, err := Validate(decoded(t, changed(t, test.change)))
		if err != nil || len(warnings) != 1 || !strings.Contains(warnings.Error(), test.want) {
			t.Errorf("%s\ngot  %v, %v\nwant %s", test.change, err, warnings, test.want)
		}
	}
}

// TestAllFaults checks that one fault does not hide another, and how many print.
func TestAllFaults(t *testing.T) {
	_, err := Validate(decoded(t, []byte(`{"ociVersion":"2.0.0","process":{"cwd":"a","args":["x"]},"linux":{"namespaces":[{"type":"mount"}]}}`)))
	const want = `config.json: 3 faults: ` +
		`ociVersion: want version 1 of runtime-spec, got "2.0.0": write the version of runtime-spec that the file follows, such as "1.3.0"; ` +
		`process.cwd: want an absolute path, got "a": begin it with /; ` +
		`root: want an object, got none: add "root": {"path": "rootfs"}`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestManyMappings(t *testing.T) {
	mappings := func(n int) []specs.LinuxIDMapping {
		list := make([]specs.LinuxIDMapping, n)
		for i := range list {
			list[i] = specs.LinuxIDMapping{ContainerID: uint32(i), HostID: uint32(2 * i), Size: 1}
		}
		return list
	}
	spec := decoded(t, changed(t, `{"linux":{`+mapped+`}}`))
	spec.Linux.UIDMappings = mappings(340)
	if _, err := Validate(spec); err != nil {
		t.Error(err)
	}
	spec.Linux.GIDMappings = mappings(341)
	if _, err := Validate(spec); err == nil || !strings.Contains(err.Error(), "linux.gidMappings: want at most 340 mappings, got 341") {
		t.Error(err)
	}
}

// TestConfigsAreValid takes the documents of testdata and of runtime-spec.
func TestConfigsAreValid(t *testing.T) {
	faults := map[string]int{
		// These are about form alone.
		"empty-collections.json": 6, "escapes.json": 3, "nulls.json": 11, "numbers.json": 9,
		// These say version 0.5.0-dev, or have a hostname or network devices without the namespace.
		"runtime-spec/spec-example.json": 1, "runtime-spec/zos-example.json": 2, "runtime-spec/freebsd-example.json": 1, "runtime-spec/linux-netdevice.json": 1,
	}
	for name, data := range configs(t) {
		spec := decoded(t, data)
		before := asJSON(spec)
		_, err := Validate(spec)
		checkErrors(t, err)
		if all, _ := err.(Errors); len(all) != faults[name] {
			t.Errorf("%s: %d faults: %v", name, len(all), err)
		}
		if after := asJSON(spec); !reflect.DeepEqual(before, after) {
			t.Errorf("%s: Validate changed the Spec", name)
		}
	}
}

func TestValidateProcess(t *testing.T) {
	warnings, err := ValidateProcess(&specs.Process{Args: []string{"sh"}, Cwd: "/", Capabilities: &specs.LinuxCapabilities{Effective: []string{"CAP_KILL"}}})
	if err != nil || len(warnings) != 1 || warnings[0].Path != "capabilities.effective" || warnings[0].File != "process.json" {
		t.Error(warnings, err)
	}
	_, err = ValidateProcess(&specs.Process{Args: []string{"sh"}, Cwd: "a"})
	if err == nil || err.Error() != `process.json: cwd: want an absolute path, got "a": begin it with /` {
		t.Error(err)
	}
	if _, err = ValidateProcess(nil); err == nil || err.Error() != `process.json: want an object, got none: describe the process` {
		t.Error(err)
	}
}

func TestValidateResources(t *testing.T) {
	limit := int64(-7)
	_, err := ValidateResources(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}})
	if err == nil || err.Error() != `resources.json: memory.limit: want a limit, or -1 for none, got -7: write -1` {
		t.Error(err)
	}
	if _, err := ValidateResources(nil); err != nil {
		t.Error(err)
	}
}

// TestValidateRandom gives Validate what Decode can return and nobody would write: it
// must not fail on any of it, nor answer differently the second time.
func TestValidateRandom(t *testing.T) {
	for seed := range int64(300) {
		spec := new(specs.Spec)
		fill(rand.New(rand.NewSource(seed)), reflect.ValueOf(spec).Elem(), 0)
		warnings, err := Validate(spec)
		checkErrors(t, err)
		again, errAgain := Validate(spec)
		if fmt.Sprint(warnings, err) != fmt.Sprint(again, errAgain) {
			t.Fatalf("seed %d: two answers", seed)
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	for _, name := range []string{"runc-default.json", "docker-default.json", "docker-privileged.json"} {
		spec, err := Decode(configs(b)[name])
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Validate(spec); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
