package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/volume"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// prepare compiles a run on an empty root file system.
func prepare(t testing.TB, r Config) (*Prepared, error) {
	t.Helper()
	e := &Engine{dir: filepath.Join(t.TempDir(), "none"), data: filepath.Join(t.TempDir(), "none"), network: "none"}
	e.host = rootFacts()
	if r.Rootfs == "" {
		r.Rootfs = t.TempDir()
	}
	if r.Command == nil {
		r.Command = []string{"true"}
	}
	return e.Prepare(t.Context(), r)
}

// rootFacts are those of root on a machine that lacks nothing.
func rootFacts() plan.Facts {
	f := plan.Facts{Arch: abi.ArchX86_64, Kernel: "6.12.0", Caps: abi.AllCaps, LastCap: abi.LastCap, AllIDs: true}
	for i := range f.Rlimits {
		f.Rlimits[i] = plan.LimitFact{Soft: 1024, Hard: 4096}
	}
	return f
}

func spec(t testing.TB, r Config) specs.Spec {
	t.Helper()
	p, err := prepare(t, r)
	if err != nil {
		t.Fatal(err)
	}
	return p.Spec
}

func noSpec(t testing.TB, r Config, text string) {
	t.Helper()
	p, err := prepare(t, r)
	if err == nil {
		t.Errorf("%+v: works: %d steps", r, len(p.Plan.Steps))
	} else if !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v: want %q, in one line", err, text)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("KAKURI_SECRET", "of the caller")
	base := []string{"PATH=" + defaultPath, "HOSTNAME=h", "HOME=/"}
	for _, c := range []struct {
		env, want []string
	}{
		{nil, base},
		{[]string{"A=1"}, []string{"PATH=" + defaultPath, "HOSTNAME=h", "A=1", "HOME=/"}},
		{[]string{"A=1", "B=1", "A=2"}, []string{"PATH=" + defaultPath, "HOSTNAME=h", "A=2", "B=1", "HOME=/"}},
		{[]string{"A="}, []string{"PATH=" + defaultPath, "HOSTNAME=h", "A=", "HOME=/"}},
		{[]string{"A==x=y"}, []string{"PATH=" + defaultPath, "HOSTNAME=h", "A==x=y", "HOME=/"}},
		{[]string{"A=1", "PATH=/x", "HOSTNAME=y"}, []string{"PATH=/x", "HOSTNAME=y", "A=1", "HOME=/"}},
		{[]string{"HOME=/elsewhere"}, []string{"PATH=" + defaultPath, "HOSTNAME=h", "HOME=/elsewhere"}},
		{[]string{"HOSTNAME=x"}, []string{"PATH=" + defaultPath, "HOSTNAME=x", "HOME=/"}},
		{[]string{"A=line\nbreak"}, []string{"PATH=" + defaultPath, "HOSTNAME=h", "A=line\nbreak", "HOME=/"}},
		{[]string{"HOSTNAME"}, []string{"PATH=" + defaultPath, "HOME=/"}},
		{[]string{"A=1", "A", "B"}, base},
		{[]string{"A", "A=1"}, []string{"PATH=" + defaultPath, "HOSTNAME=h", "A=1", "HOME=/"}},
		{[]string{"HOME="}, base},
		{[]string{"HOME"}, base}, // a process always has one, as runc gives it
		{[]string{"HOMER=1"}, []string{"PATH=" + defaultPath, "HOSTNAME=h", "HOMER=1", "HOME=/"}},
	} {
		if got := spec(t, Config{Env: c.env, Hostname: "h"}).Process.Env; !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.env, got, c.want)
		}
	}
	for _, env := range []string{"", "=x", "A=\x00"} {
		noSpec(t, Config{Env: []string{env}}, "-e ")
	}
	if got := spec(t, Config{TTY: true}).Process.Env; !slices.Contains(got, "TERM=xterm") {
		t.Errorf("with a terminal: %q", got)
	}
	if got := spec(t, Config{}).Process.Env; slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "TERM=") || strings.Contains(s, "SECRET") }) {
		t.Errorf("without a terminal: %q", got)
	}
}

// CVE-2026-57231: variables of the image that are a name alone, or a pattern of names, are nothing of the caller's.
func TestCVE_2026_57231(t *testing.T) {
	t.Setenv("KAKURI_SECRET", "of the caller")
	var img image.Image
	img.Config.Config.Env = []string{"KAKURI_SECRET", "KAKURI_*", "*", "KAKURI_*=", "*=", "$KAKURI_SECRET=1", "A=$KAKURI_SECRET", "B=${KAKURI_SECRET}", "", "=", "=C"}
	want := []string{"PATH=" + defaultPath, "HOSTNAME=h", "$KAKURI_SECRET=1", "A=$KAKURI_SECRET", "B=${KAKURI_SECRET}", "HOME=/"}
	c := Config{Hostname: "h"}
	c.applyImage(img)
	if got := spec(t, c).Process.Env; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	// What it takes away is what the engine would set.
	img.Config.Config.Env = []string{"PATH", "HOSTNAME"}
	c = Config{Hostname: "h"}
	c.applyImage(img)
	if got := spec(t, c).Process.Env; !slices.Equal(got, []string{"HOME=/"}) {
		t.Errorf("%q", got)
	}
}

func TestCaps(t *testing.T) {
	all := capNames(abi.AllCaps)
	base := capNames(defaultCaps())
	for _, c := range []struct {
		add, drop []string
		want      []string
	}{
		{nil, nil, base},
		{nil, []string{"all"}, []string{}},
		{nil, []string{"ALL"}, []string{}},
		{[]string{"all"}, nil, all},
		{[]string{"ALL"}, []string{"all"}, all},
		{[]string{"chown"}, []string{"all"}, []string{"CAP_CHOWN"}},
		{[]string{"CAP_CHOWN", "cap_kill"}, []string{"All"}, []string{"CAP_CHOWN", "CAP_KILL"}},
		{[]string{"all"}, []string{"sys_admin", "CAP_KILL"}, slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == "CAP_SYS_ADMIN" || s == "CAP_KILL" })},
		{nil, []string{"chown"}, slices.DeleteFunc(slices.Clone(base), func(s string) bool { return s == "CAP_CHOWN" })},
		{[]string{"chown"}, []string{"chown"}, base}, // Docker adds after it drops
		{[]string{"net_raw"}, nil, capNames(defaultCaps().With(abi.CapNetRaw))},
	} {
		got := spec(t, Config{CapAdd: c.add, CapDrop: c.drop}).Process.Capabilities
		if !slices.Equal(got.Bounding, c.want) || !slices.Equal(got.Permitted, c.want) || !slices.Equal(got.Effective, c.want) {
			t.Errorf("add %q drop %q: %+v, want %q", c.add, c.drop, got, c.want)
		}
		if len(got.Inheritable)+len(got.Ambient) > 0 {
			t.Errorf("inheritable %q, ambient %q", got.Inheritable, got.Ambient)
		}
	}
	for _, name := range []string{"", "nosuch", "CAP_", "cap_chown ", "CAP_CAP_CHOWN", "0"} {
		noSpec(t, Config{CapAdd: []string{name}}, "--cap-add "+name+": there is no such capability")
		noSpec(t, Config{CapDrop: []string{name}}, "--cap-drop "+name+": there is no such capability")
	}
	// Another user than root has them only as a bound.
	got := spec(t, Config{User: "5"}).Process.Capabilities
	if !slices.Equal(got.Bounding, base) || len(got.Permitted)+len(got.Effective)+len(got.Ambient)+len(got.Inheritable) > 0 {
		t.Errorf("as a user: %+v", got)
	}
	if got := spec(t, Config{Privileged: true}).Process.Capabilities; !slices.Equal(got.Permitted, all) {
		t.Errorf("privileged: %q", got.Permitted)
	}
}

// CVE-2022-0811: a sysctl is one parameter of one namespace that the container has for
// itself.
func TestCVE_2022_0811(t *testing.T) {
	for key, value := range map[string]string{
		"net.ipv4.ip_forward": "1", "net.core.somaxconn": "1024", "net.ipv4.conf.all.rp_filter": "0", "net.ipv4.ping_group_range": "0 10",
		"fs.mqueue.msg_max": "20", "kernel.msgmax": "65536", "kernel.sem": "250 32000 32 128", "kernel.shm_rmid_forced": "1",
		// What a value means is the kernel's business; it is one write to one file.
		"net.ipv4.tcp_mem": "1+kernel.core_pattern=|/bin/x", "net.ipv4.ip_default_ttl": "64 kernel.core_pattern=x",
	} {
		s := spec(t, Config{Sysctls: map[string]string{key: value}}).Linux.Sysctl
		if s[key] != value {
			t.Errorf("%s: %q", key, s)
		}
	}
	for key, text := range map[string]string{
		"kernel.core_pattern": "it is the host's", "vm.overcommit_memory": "it is the host's", "fs.file-max": "it is the host's",
		"kernel.shmmax2": "it is the host's", "kernel.msgmax.x": "it is the host's", "fs.mqueuex": "it is the host's", "netx.ipv4.ip_forward": "it is the host's",
		"kernel.hostname": "use --hostname", "kernel.domainname": "use --hostname", "user.max_user_namespaces": "it is the host's",
		"net/ipv4/ip_forward": "is named as", "net.ipv4/../../kernel/core_pattern": "is named as", "net..core": "is named as", ".net.core": "is named as",
		"net.": "is named as", "net.ipv4.ip_forward+kernel.core_pattern": "is named as", "net.x=1": "is named as", "net.x\ny": `net.x\ny: a parameter is named as`, "net x": "is named as", "": "",
		"net.ipv4.\x00": "", "net": "it is the host's", "NET.ipv4.ip_forward": "it is the host's",
	} {
		noSpec(t, Config{Sysctls: map[string]string{key: "1"}}, text)
	}
	for _, value := range []string{"1\nkernel.core_pattern=x", "1\x00"} {
		noSpec(t, Config{Sysctls: map[string]string{"net.ipv4.ip_forward": value}}, "line break")
	}
	for _, r := range []Config{
		{Network: "host", Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}},
		{IPC: "host", Sysctls: map[string]string{"kernel.msgmax": "1"}},
		{IPC: "host", Sysctls: map[string]string{"fs.mqueue.msg_max": "1"}},
	} {
		noSpec(t, r, "which the container shares")
	}
	// The defaults are there where the network is the container's own, and give way.
	if s := spec(t, Config{}).Linux.Sysctl; s["net.ipv4.ip_unprivileged_port_start"] != "0" || s["net.ipv4.ping_group_range"] != "0 65535" {
		t.Errorf("%q", s)
	}
	if s := spec(t, Config{Network: "host"}).Linux.Sysctl; len(s) != 0 {
		t.Errorf("--network host: %q", s)
	}
	if s := spec(t, Config{Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "80"}}).Linux.Sysctl; s["net.ipv4.ip_unprivileged_port_start"] != "80" {
		t.Errorf("%q", s)
	}
}

// TestBoundOfCgroups: a container that has its control groups to write makes them, on version 2 within a bound that it cannot change.
func TestBoundOfCgroups(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	r := sh(root, "cd /sys/fs/cgroup; if [ -f cgroup.max.descendants ]; then cat cgroup.max.descendants; mkdir x && echo made; echo max 2>/dev/null >cgroup.max.descendants; cat cgroup.max.descendants; fi")
	r.SecurityOpt = []string{"writable-cgroups"}
	text := "4096\nmade\n4096\n"
	if !unifiedMemory() {
		r.UserNS, text = "host", "" // which version 1 asks for
	}
	want(t, e, r, text)
}

func TestSecurityOpt(t *testing.T) {
	nstest.Root(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	docker := write("docker.json", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO"}]}`)
	for opt, want := range map[string]struct{ filter, masks, nnp bool }{
		"no-new-privileges": {true, true, true}, "no-new-privileges=true": {true, true, true}, "no-new-privileges:true": {true, true, true},
		"no-new-privileges=false": {true, true, false}, "seccomp=unconfined": {false, true, false}, "seccomp=builtin": {true, true, false}, "seccomp:unconfined": {false, true, false},
		"systempaths=unconfined": {true, false, false}, "apparmor=unconfined": {true, true, false}, "label=disable": {true, true, false}, "seccomp=" + docker: {true, true, false},
	} {
		s := spec(t, Config{SecurityOpt: []string{opt}})
		if (s.Linux.Seccomp != nil) != want.filter || (len(s.Linux.MaskedPaths) > 0) != want.masks || (len(s.Linux.ReadonlyPaths) > 0) != want.masks || s.Process.NoNewPrivileges != want.nnp {
			t.Errorf("%s: filter %v, %d masks, nnp %v", opt, s.Linux.Seccomp != nil, len(s.Linux.MaskedPaths), s.Process.NoNewPrivileges)
		}
	}
	for opt, want := range map[string]bool{"writable-cgroups": true, "writable-cgroups=true": true, "writable-cgroups=false": false, "level=default": false} {
		s := spec(t, Config{SecurityOpt: []string{opt}, Resources: Resources{CPUShares: 512}})
		i := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Type == "cgroup" })
		if i < 0 || slices.Contains(s.Mounts[i].Options, "ro") == want {
			t.Errorf("%s: mount %d: %+v", opt, i, s.Mounts)
		}
		for _, privileged := range []bool{false, true} {
			s := spec(t, Config{SecurityOpt: []string{opt}, Privileged: privileged})
			if _, bound := s.Linux.Resources.Unified["cgroup.max.descendants"]; bound != (want && !privileged && unifiedMemory()) {
				t.Errorf("%s, privileged %v: %v", opt, privileged, s.Linux.Resources.Unified)
			}
		}
	}
	if files, _ := unifiedDefaults(true); files["cgroup.max.descendants"] != "4096" || files["memory.oom.group"] != "1" {
		t.Errorf("%v", files)
	}
	for opt, text := range map[string]string{
		"writable-cgroups=x": "unknown",
		"":                   "unknown", "nonsense": "unknown", "seccomp": "unknown", "seccomp=": "unknown", "seccomp=/no/such": "no such file",
		"seccomp=" + write("bad.json", "{"): "--security-opt seccomp=", "apparmor=": "unknown", "label": "unknown", "label=x": "unknown", "label=type:": "unknown", "label=level": "unknown",
		"no-new-privileges=maybe": "unknown", "systempaths=x": "unknown",
	} {
		noSpec(t, Config{SecurityOpt: []string{opt}}, text)
	}
	p := spec(t, Config{Privileged: true})
	if p.Linux.Seccomp != nil || len(p.Linux.MaskedPaths)+len(p.Linux.ReadonlyPaths) > 0 {
		t.Error("privileged: confined")
	}
	if s := spec(t, Config{Privileged: true, SecurityOpt: []string{"seccomp=" + docker}}); s.Linux.Seccomp == nil {
		t.Error("privileged with a profile: no filter")
	}
}

// TestNoTimeNamespaces: where the kernel makes none, a container whose clocks nobody shifts has the host's.
func TestNoTimeNamespaces(t *testing.T) {
	e := &Engine{dir: filepath.Join(t.TempDir(), "none"), data: filepath.Join(t.TempDir(), "none"), network: "none", host: rootFacts()}
	for _, c := range []struct {
		none   bool
		offset int64
		want   bool
	}{{false, 0, true}, {true, 0, false}, {true, 1, true}} {
		e.host.NoTimeNS = c.none
		p, err := e.Prepare(t.Context(), Config{Rootfs: t.TempDir(), Command: []string{"true"}, Boottime: time.Duration(c.offset)})
		if err != nil {
			t.Fatal(err)
		}
		if has := slices.ContainsFunc(p.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.TimeNamespace }); has != c.want {
			t.Errorf("%+v: a time namespace: %t", c, has)
		}
	}
}

// TestAppArmor: the program is to enter the profile that is named last; where the kernel knows of none, there is no container.
func TestAppArmor(t *testing.T) {
	facts, err := host.Read(host.Needs{Labels: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		opts        []string
		privileged  bool
		want, shown string
	}{
		{nil, false, "", ""},
		{[]string{"apparmor=p"}, false, "p", "p"},
		{[]string{"apparmor:p"}, true, "p", "p"},
		{[]string{"apparmor=p", "no-new-privileges", "apparmor=q//r"}, false, "q//r", "q//r"},
		{[]string{"apparmor=p", "apparmor=unconfined"}, false, "", "unconfined"},
	} {
		r := Config{SecurityOpt: c.opts, Privileged: c.privileged}
		if r.appArmor() != c.shown {
			t.Errorf("%q: shown as %q", c.opts, r.appArmor())
		}
		if c.want != "" && !facts.AppArmor {
			noSpec(t, r, "apparmor="+c.want+": AppArmor is not enabled in this kernel")
			continue
		}
		p, err := prepare(t, r)
		if err != nil {
			t.Errorf("%q: %v", c.opts, err)
			continue
		}
		step := slices.IndexFunc(p.Plan.Steps, func(s plan.Step) bool {
			_, ok := s.Op.(*plan.SecurityLabel)
			return ok
		})
		if p.Spec.Process.ApparmorProfile != c.want || (step >= 0) != (c.want != "") {
			t.Errorf("%q: profile %q, step %d", c.opts, p.Spec.Process.ApparmorProfile, step)
		}
	}
}

// TestLabels: processes and files have the labels that the record has, the caller's volumes those that are asked for, and there is none where the kernel knows of none.
func TestLabels(t *testing.T) {
	nstest.Root(t)
	e := &Engine{dir: filepath.Join(t.TempDir(), "none"), data: filepath.Join(t.TempDir(), "none"), network: "none", host: rootFacts()}
	for opts, want := range map[string]struct {
		labels     []string
		unlabelled bool
	}{
		"label=type:a_t label:level:s0:c1,c2":       {labels: []string{"type:a_t", "level:s0:c1,c2"}},
		"label=disable label=type:a_t":              {labels: []string{"type:a_t"}},
		"label=type:a_t label=user:u label=disable": {unlabelled: true},
	} {
		_, err := parseSecurityOpt(strings.Fields(opts))
		labels, unlabelled := (&Config{SecurityOpt: strings.Fields(opts)}).labels()
		if err != nil || !slices.Equal(labels, want.labels) || unlabelled != want.unlabelled {
			t.Errorf("%s: %q, %t, %v", opts, labels, unlabelled, err)
		}
	}
	facts, err := host.Read(host.Needs{Labels: true})
	if err != nil {
		t.Fatal(err)
	}
	if l, err := e.labelsFor(&Config{Image: "host", PID: "container:x", SecurityOpt: nil}); err != nil || l.Process != "" {
		t.Errorf("who looks into another: %+v, %v", l, err)
	}
	l, err := e.labelsFor(&Config{Rootfs: "/r", SecurityOpt: []string{"label=type:a_t", "label=disable"}})
	if err != nil || l.Process+l.File != "" {
		t.Errorf("none: %+v, %v", l, err)
	}
	if l, err := e.labelsFor(&Config{Rootfs: "/r", SecurityOpt: []string{"label=type:a_t"}}); !facts.SELinux && (err == nil || !strings.Contains(err.Error(), "label=type:a_t: SELinux is not enabled in this kernel")) {
		t.Errorf("%+v, %v", l, err)
	}
	dir := t.TempDir()
	volumes := volume.Open(dir + "/volumes")
	v, _, err := volumes.Create(VolumeConfig{Name: "shared"})
	if err != nil {
		t.Fatal(err)
	}
	// What is mounted of a volume may be another directory.
	elsewhere := dir + "/elsewhere"
	if _, _, err := volumes.Create(VolumeConfig{Name: "elsewhere", Options: map[string]string{"type": "none", "o": "bind", "device": elsewhere}}); err != nil {
		t.Fatal(err)
	}
	shared, own, plain, file := v.Dir(), dir+"/own", dir+"/plain", dir+"/hosts"
	for _, d := range []string{elsewhere, own, plain} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	label := func(path string) string {
		buf := make([]byte, 100)
		n, _ := unix.Lgetxattr(path, "security.selinux", buf)
		return strings.TrimRight(string(buf[:max(n, 0)]), "\x00")
	}
	before := label(plain)
	b := &builder{engine: e, volumes: volumes, run: Config{Rootfs: "/r"}, rec: Record{ProcessLabel: "u:r:a_t:s0:c1,c2", MountLabel: "u:object_r:f_t:s0:c1,c2", Volumes: []MountPoint{
		{Type: "volume", Name: "shared", Source: shared, Destination: "/v"}, {Type: "volume", Name: "elsewhere", Destination: "/e", Mode: "z"}, {Type: "bind", Source: own, Destination: "/o", Mode: "ro,Z"}, {Type: "bind", Source: plain, Destination: "/p", Mode: "ro"},
	}}}
	if err := b.label(); !facts.SELinux && (err == nil || !strings.Contains(err.Error(), "SELinux is not enabled in this kernel")) {
		t.Errorf("after a boot without: %v", err)
	}
	b.host.SELinux = true
	b.spec, b.opts.Causes = specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}, map[string]string{}
	if err := errors.Join(b.label(), b.relabel(), b.labelFile(file)); err != nil {
		t.Fatal(err)
	}
	if p, m := b.spec.Process.SelinuxLabel, b.spec.Linux.MountLabel; p != b.rec.ProcessLabel || m != b.rec.MountLabel {
		t.Errorf("%q, %q", p, m)
	}
	for path, want := range map[string]string{shared: "u:object_r:f_t:s0", elsewhere: "u:object_r:f_t:s0", own: b.rec.MountLabel, plain: before, file: b.rec.MountLabel} {
		if got := label(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	b.run.Mounts = []Mount{{Type: "image", Flag: "--mount type=image"}}
	if err := b.label(); err == nil || !strings.Contains(err.Error(), "--mount type=image: the files of an image") {
		t.Errorf("%v", err)
	}
}

func TestUlimits(t *testing.T) {
	core := specs.POSIXRlimit{Type: "RLIMIT_CORE"}
	for _, c := range []struct {
		limits []Ulimit
		want   []specs.POSIXRlimit
	}{
		{nil, []specs.POSIXRlimit{core}},
		{[]Ulimit{{"nofile", 10, 20}}, []specs.POSIXRlimit{core, {Type: "RLIMIT_NOFILE", Soft: 10, Hard: 20}}},
		{[]Ulimit{{"core", -1, -1}}, []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: ^uint64(0), Hard: ^uint64(0)}}},
		{[]Ulimit{{"nproc", 5, -1}}, []specs.POSIXRlimit{core, {Type: "RLIMIT_NPROC", Soft: 5, Hard: ^uint64(0)}}},
	} {
		if got := spec(t, Config{Ulimits: c.limits}).Process.Rlimits; !slices.Equal(got, c.want) {
			t.Errorf("%v: %v", c.limits, got)
		}
	}
	for _, name := range []string{"", "nosuch", "RLIMIT_CORE", "core "} {
		noSpec(t, Config{Ulimits: []Ulimit{{name, 1, 1}}}, "there is no such limit")
	}
	noSpec(t, Config{Ulimits: []Ulimit{{"nofile", 20, 10}}}, "above the hard limit")
}

func TestCommand(t *testing.T) {
	entry := func(s ...string) []string { return s }
	for _, c := range []struct {
		entrypoint []string
		command    []string
		want       []string
	}{
		{nil, []string{"a", "b"}, []string{"a", "b"}},
		{entry("x"), []string{"a", "b"}, []string{"x", "a", "b"}},
		{entry("x"), []string{}, []string{"x"}},
		{entry(""), []string{"a"}, []string{"a"}},
	} {
		if got := spec(t, Config{Entrypoint: c.entrypoint, Command: c.command}).Process.Args; !slices.Equal(got, c.want) {
			t.Errorf("%v: %q", c, got)
		}
	}
	noSpec(t, Config{Command: []string{}}, "no command")
	noSpec(t, Config{Entrypoint: entry(""), Command: []string{}}, "no command")
	noSpec(t, Config{Workdir: "relative"}, "must be an absolute path")
	if got := spec(t, Config{Workdir: "/a/../b//c/"}).Process.Cwd; got != "/b/c" {
		t.Error(got)
	}
	noSpec(t, Config{Name: "bad name"}, "--name")
	noSpec(t, Config{StopSignal: "SIGNONE"}, "there is no such signal")
	e := &Engine{dir: t.TempDir(), data: t.TempDir(), host: rootFacts(), look: true}
	if _, err := e.Prepare(t.Context(), Config{Image: "debian", Command: []string{"true"}}); err == nil || !strings.Contains(err.Error(), "No such image: debian:latest") {
		t.Errorf("%v", err)
	}
}

func TestNamespaceModes(t *testing.T) {
	kinds := func(s specs.Spec) string {
		var list []string
		for _, n := range s.Linux.Namespaces {
			list = append(list, string(n.Type))
		}
		return strings.Join(list, " ")
	}
	all := "user pid mount network ipc uts cgroup time"
	for _, c := range []struct {
		run  Config
		want string
	}{
		{Config{}, all},
		{Config{PID: "host"}, "user mount network ipc uts cgroup time"},
		{Config{IPC: "host"}, "user pid mount network uts cgroup time"},
		{Config{UTS: "host"}, "user pid mount network ipc cgroup time"},
		{Config{Network: "host"}, "user pid mount ipc uts cgroup time"},
		{Config{Network: "none"}, all},
		{Config{UserNS: "host"}, "pid mount network ipc uts cgroup time"},
		{Config{CgroupNS: "host"}, "user pid mount network ipc uts time"},
		{Config{Privileged: true}, "pid mount network ipc uts cgroup time"},
		{Config{Privileged: true, UserNS: "auto"}, all},
		{Config{PID: "private", IPC: "shareable", UserNS: "auto"}, all},
	} {
		if got := kinds(spec(t, c.run)); got != c.want {
			t.Errorf("%+v: %s, want %s", c.run, got, c.want)
		}
	}
	s := spec(t, Config{})
	if len(s.Hostname) != 12 || s.Linux.UIDMappings[0].HostID < 0x70000000 || s.Linux.UIDMappings[0].Size != 65536 {
		t.Errorf("host name %q, ids %+v", s.Hostname, s.Linux.UIDMappings)
	}
	if s := spec(t, Config{Hostname: "h", Domainname: "d"}); s.Hostname != "h" || s.Domainname != "d" {
		t.Errorf("%q %q", s.Hostname, s.Domainname)
	}
	machine, err := os.Hostname()
	if s := spec(t, Config{Network: "host"}); err != nil || s.Hostname != machine || !slices.Contains(s.Process.Env, "HOSTNAME="+machine) {
		t.Errorf("--network host: %q %q, want %q", s.Hostname, s.Process.Env, machine)
	}
	if s := spec(t, Config{Network: "host", Hostname: "h"}); s.Hostname != "h" {
		t.Errorf("--network host --hostname h: %q", s.Hostname)
	}
	if s := spec(t, Config{UTS: "host"}); s.Hostname != "" {
		t.Errorf("--uts host: host name %q", s.Hostname)
	}
	for _, r := range []Config{{PID: "container:none"}, {Network: "container:none"}} {
		noSpec(t, r, "No such container")
	}
	noSpec(t, Config{IPC: "container:"}, "invalid container name or ID: value is empty")
	p, err := prepare(t, Config{Boottime: time.Hour, Monotonic: -time.Second})
	if err != nil || p.Options.Boottime != int64(time.Hour) || p.Options.Monotonic != -int64(time.Second) {
		t.Errorf("%v %+v", err, p)
	}
}

func TestMounts(t *testing.T) {
	host := t.TempDir()
	last := func(r Config) specs.Mount { s := spec(t, r); return s.Mounts[len(s.Mounts)-1] }
	m := last(Config{Mounts: []Mount{{Type: "bind", Source: host, Dest: "/data", Options: []string{"rbind", "ro"}, Flag: "-v x"}}})
	if m.Type != "bind" || m.Source != host || m.Destination != "/data" || !slices.Equal(m.Options, []string{"rbind", "ro", "rnodev", "ridmap"}) {
		t.Errorf("%+v", m)
	}
	m = last(Config{UserNS: "host", Mounts: []Mount{{Type: "bind", Source: host, Dest: "/data", Options: []string{"rbind"}, Flag: "-v x"}}})
	if slices.Contains(m.Options, "ridmap") {
		t.Errorf("without a user namespace: %+v", m)
	}
	m = last(Config{Mounts: []Mount{{Type: "tmpfs", Dest: "/t", Options: []string{"size=1m"}, Flag: "--tmpfs /t"}}})
	if m.Type != "tmpfs" || !slices.Equal(m.Options, []string{"size=1m"}) {
		t.Errorf("%+v", m)
	}
	// As with Docker, -v makes what is missing and --mount does not.
	missing := filepath.Join(host, "a/b")
	noSpec(t, Config{Mounts: []Mount{{Type: "bind", Source: missing, Dest: "/d", MustHave: true, Flag: "--mount x"}}}, "--mount x: there is no "+missing)
	if exists(missing) {
		t.Error("--mount made its source")
	}
	for _, bad := range []Mount{
		{Type: "bind", Source: host, Dest: "relative", Flag: "-v"}, {Type: "bind", Source: host, Dest: "/", Flag: "-v"}, {Type: "bind", Source: host, Dest: "/a/..", Flag: "-v"},
		{Type: "bind", Source: host, Dest: "", Flag: "-v"}, {Type: "bind", Source: "name", Dest: "/d", Flag: "-v"}, {Type: "bind", Source: "", Dest: "/d", Flag: "-v"},
		{Type: "", Dest: "/d", Flag: "--mount"}, {Type: "tmpfs", Dest: "d", Flag: "--tmpfs"},
	} {
		noSpec(t, Config{Mounts: []Mount{bad}}, bad.Flag)
	}
	shm := func(r Config) string {
		for _, m := range spec(t, r).Mounts {
			if m.Destination == "/dev/shm" {
				return m.Type + " " + strings.Join(m.Options, ",")
			}
		}
		return ""
	}
	if got := shm(Config{}); !strings.Contains(got, "size=67108864") {
		t.Error(got)
	}
	if got := shm(Config{ShmSize: 4096}); !strings.Contains(got, "size=4096") {
		t.Error(got)
	}
	if got := shm(Config{IPC: "host"}); !strings.HasPrefix(got, "bind ") {
		t.Error(got)
	}
	if got := shm(Config{Mounts: []Mount{{Type: "tmpfs", Dest: "/dev/shm/", Options: []string{"size=1g"}, Flag: "--tmpfs /dev/shm"}}}); got != "" {
		t.Errorf("%s is beside the one of --tmpfs", got)
	}
	var order []string
	for _, m := range spec(t, Config{Mounts: []Mount{
		{Type: "bind", Source: host, Dest: "/m/x", Flag: "-v"}, {Type: "tmpfs", Dest: "/n/a/b", Flag: "--tmpfs"}, {Type: "bind", Source: host, Dest: "/m", Flag: "-v"}, {Type: "tmpfs", Dest: "/a", Flag: "--tmpfs"},
	}}).Mounts {
		order = append(order, m.Destination)
	}
	if got := strings.Join(order[len(order)-4:], " "); got != "/m /a /m/x /n/a/b" {
		t.Errorf("mounts are made in the order %s", got)
	}
	for _, d := range []Device{{Host: "/no/such", Inside: "/dev/x", Access: "rwm", Flag: "/no/such"}, {Host: "/etc/passwd", Inside: "/dev/x", Access: "rwm", Flag: "/etc/passwd"}} {
		noSpec(t, Config{Devices: []Device{d}}, "--device "+d.Flag)
	}
}

// Explaining a run changes nothing: no file of the host, no record; and -v makes its
// source only when it runs.
func TestPrepareChangesNothing(t *testing.T) {
	e := &Engine{dir: filepath.Join(t.TempDir(), "kakuri"), host: rootFacts()}
	missing := filepath.Join(t.TempDir(), "a")
	p, err := e.Prepare(t.Context(), Config{Rootfs: t.TempDir(), Command: []string{"true"}, Mounts: []Mount{{Type: "bind", Source: missing, Dest: "/a", Flag: "-v x"}}})
	if err != nil {
		t.Fatal(err)
	}
	if exists(e.dir) {
		t.Error("it made the directory of records")
	}
	if exists(missing) {
		t.Error("it made the source of a mount")
	}
	data, err := json.Marshal(p.Plan)
	if err != nil {
		t.Fatal(err)
	}
	var again plan.Plan
	if err := json.Unmarshal(data, &again); err != nil || again.Text() != p.Plan.Text() {
		t.Errorf("%v: the plan does not come back from its record", err)
	}
	other, err := e.Prepare(t.Context(), Config{Rootfs: t.TempDir(), Command: []string{"true"}})
	if err != nil || other.Container.ID == p.Container.ID {
		t.Errorf("%v: two containers with one id", err)
	}
}

// Each step says which flag, or which default, it is there for.
func TestCauses(t *testing.T) {
	nstest.Root(t)
	p, err := prepare(t, Config{
		ReadOnly: true, CapAdd: []string{"net_raw"}, Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}, Hostname: "h", Workdir: "/w",
		Ulimits: []Ulimit{{"nofile", 1, 2}}, Mounts: []Mount{{Type: "tmpfs", Dest: "/t", Flag: "--tmpfs /t"}}, User: "5", Init: true, SecurityOpt: []string{"no-new-privileges"},
	})
	if err != nil {
		t.Fatal(err)
	}
	text := p.Plan.Text()
	for _, flag := range []string{"--read-only", "--cap-add net_raw", "--sysctl net.ipv4.ip_forward=1", "--hostname", "-w /w", "--ulimit nofile", "--tmpfs /t", "-u 5", "--init", "--security-opt no-new-privileges"} {
		if !strings.Contains(text, flag) {
			t.Errorf("no step is there for %s", flag)
		}
	}
	noConfigJSON(t, p.Plan)
	p, err = prepare(t, Config{Privileged: true, Resources: Resources{Memory: 64 << 20, NanoCPUs: 1e9}})
	if err != nil {
		t.Fatal(err)
	}
	noConfigJSON(t, p.Plan)
	for _, s := range p.Plan.Steps {
		want := ""
		switch s.Op.(type) {
		case *plan.LimitCgroup:
			want = "default: no more than 2048 processes, --memory 67108864, default: as much swap as --memory, --cpus 1"
		case *plan.DeviceRules:
			want = "--privileged"
		default:
			continue
		}
		if s.Cause.String() != want {
			t.Errorf("%s is there for %q, want %q", s.Op, s.Cause, want)
		}
	}
}

// noConfigJSON fails where a step of a plan for a person says that it is there for a file, which nobody has written.
func noConfigJSON(t *testing.T, p plan.Plan) {
	t.Helper()
	for line := range strings.Lines(p.Text()) {
		if strings.Contains(line, "config.json") {
			t.Errorf("a person asked for no config.json: %s", line)
		}
	}
	for _, s := range p.Steps {
		if strings.Contains(s.Cause.String(), "config.json") {
			t.Errorf("%s: a person asked for no config.json: %s", s.Op, s.Cause)
		}
	}
}

// Devices of the host image and of --privileged are those of the host, but for what a
// container has of its own.
func TestHostDevices(t *testing.T) {
	list, err := hostDevices("/dev")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range list {
		names = append(names, d.Path)
		if (d.Type != "c" && d.Type != "b") || d.FileMode == nil || d.UID == nil {
			t.Errorf("%+v", d)
		}
	}
	if !slices.Contains(names, "/dev/null") || slices.Contains(names, "/dev/console") || slices.Contains(names, "/dev/ptmx") ||
		slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "/dev/pts/") || strings.HasPrefix(n, "/dev/shm/") }) {
		t.Errorf("%q", names)
	}
	if _, err := deviceOf("/etc/passwd"); err == nil {
		t.Error("a file is a device")
	}
	if d, err := deviceOf("/dev/zero"); err != nil || d.Major != 1 || d.Minor != 5 || d.Type != "c" {
		t.Errorf("%v %+v", err, d)
	}
}

// The default filter takes its architecture alone, and the families of sockets by
// the bits that the kernel reads.
func TestNarrow(t *testing.T) {
	s := spec(t, Config{}).Linux.Seccomp
	if len(s.Architectures) != 1 {
		t.Errorf("architectures %q", s.Architectures)
	}
	allowed := map[string]bool{}
	for _, c := range s.Syscalls {
		if c.Action != specs.ActAllow {
			continue
		}
		for _, n := range c.Names {
			if n == "socket" {
				for _, a := range c.Args {
					if a.Op != specs.OpMaskedEqual || a.Value != 0xffffffff {
						t.Errorf("socket compares %+v", a)
					}
				}
				if len(c.Args) == 0 {
					t.Error("every socket is allowed")
				}
			}
			allowed[n] = true
		}
	}
	for _, n := range []string{"io_uring_setup", "userfaultfd", "keyctl", "add_key", "process_vm_readv", "bpf", "mount", "unshare", "kexec_load", "socketcall", "ptrace2"} {
		if allowed[n] && n != "unshare" && n != "mount" {
			t.Errorf("%s is allowed", n)
		}
	}
	for _, n := range []string{"read", "execve", "socket", "openat", "clone", "futex"} {
		if !allowed[n] {
			t.Errorf("%s is not allowed", n)
		}
	}
	if bytes.Contains([]byte(fmt.Sprint(allowed)), []byte("vmsplice")) {
		t.Error("vmsplice is allowed")
	}
}

// TestNamesAreLines: a name of the container's own that is more than one line would name others in its /etc/hosts.
func TestNamesAreLines(t *testing.T) {
	nstest.Root(t)
	for _, c := range []Config{{Hostname: "a\n192.0.2.1 example.org"}, {Hostname: "a b"}, {Hostname: "a", Domainname: "b\tc"}, {Hostname: "a#"}} {
		if _, err := prepare(t, c); err == nil || !strings.Contains(err.Error(), "is one line") {
			t.Errorf("%q, %q: %v", c.Hostname, c.Domainname, err)
		}
	}
}

// TestAskedPorts: inspect has what -p asked for as it was written.
func TestAskedPorts(t *testing.T) {
	cfg := Config{Publish: []PortSpec{{HostIP: "127.0.0.1", AnyPort: true, Port: 80}, {HostIP: "127.0.0.2", Port: 80}, {HostPort: 90, HostPortEnd: 91, Port: 90, PortEnd: 91}, {HostPort: 1, HostPortEnd: 3, Port: 53, Proto: "udp"}}}
	want := map[string][]PortBinding{"80/tcp": {{"127.0.0.1", "0"}, {"127.0.0.2", ""}}, "90/tcp": {{"", "90"}}, "91/tcp": {{"", "91"}}, "53/udp": {{"", "1-3"}}}
	if got := cfg.askedBindings(); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestBindings: a port that is routed has none of the host, which inspect shows as an empty one.
func TestBindings(t *testing.T) {
	at := netip.IPv4Unspecified()
	got := bindings([]plan.Publish{{Proto: "tcp", Port: 80, HostAddr: at, HostPort: 8080}, {Proto: "udp", Port: 53, HostAddr: at, Routed: true}})
	want := map[string][]PortBinding{"80/tcp": {{HostIp: "0.0.0.0", HostPort: "8080"}}, "53/udp": {{HostIp: "0.0.0.0"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
