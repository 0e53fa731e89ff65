package engine

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/selinux"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// A level is a named posture: what a container may when nothing else is asked for. Namespaces, masks
// and what the caller passes on are the same in all of them.
type level struct {
	name       string
	caps       func() abi.CapSet
	seccomp    string // the name of a profile
	noNewPrivs bool
	core       bool // core dumps as the caller has them
	seeAll     bool // processes of other users are to be seen in /proc
}

// The names of levels.
const (
	levelDefault = "default"
	levelDocker  = "docker"
	levelStrict  = "strict"
)

// levels are those of --security-opt level=NAME, from the least to the most that it keeps away.
func levels() []level {
	return []level{
		{name: levelDocker, caps: dockerCaps, seccomp: "docker", core: true, seeAll: true},
		{name: levelDefault, caps: defaultCaps, seccomp: "builtin"},
		{name: levelStrict, caps: strictCaps, seccomp: "strict", noNewPrivs: true},
	}
}

func findLevel(name string) (level, bool) {
	i := slices.IndexFunc(levels(), func(l level) bool { return l.name == name })
	if i < 0 {
		return level{}, false
	}
	return levels()[i], true
}

// strictCaps are what a program needs that starts as root, gives files to a user and steps down.
func strictCaps() abi.CapSet {
	return abi.Caps(abi.CapChown, abi.CapDACOverride, abi.CapFsetid, abi.CapFowner, abi.CapSetgid, abi.CapSetuid, abi.CapKill, abi.CapSetfcap)
}

// defaultCaps are the capabilities that images people use need, valid in the
// container's own user namespace only.
func defaultCaps() abi.CapSet {
	return strictCaps().With(abi.CapSetpcap).With(abi.CapNetBindService).With(abi.CapSysChroot)
}

// dockerCaps are Docker's.
func dockerCaps() abi.CapSet {
	return defaultCaps().With(abi.CapAuditWrite).With(abi.CapMknod).With(abi.CapNetRaw)
}

// maskedPaths are the files of the kernel that tell of the host, or lead to it. What one shows others do, too: the counts of
// /proc/interrupts are in /sys/kernel/irq, for each processor, and in /proc/irq; the kernel's command line is in /proc/bootconfig, as its own says; where the kernel lies is in what
// tools for its crashes read. Block devices that are made of others have names that people gave: files behind loop devices, volumes of LVM.
func maskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/bootconfig", "/proc/cmdline", "/proc/config.gz", "/proc/interrupts", "/proc/kallsyms",
		"/proc/irq", "/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/kpagecgroup", "/proc/kpagecount", "/proc/kpageflags",
		"/proc/latency_stats", "/proc/pagetypeinfo", "/proc/sched_debug", "/proc/scsi", "/proc/slabinfo",
		"/proc/timer_list", "/proc/timer_stats", "/proc/vmallocinfo",
		"/sys/devices/virtual/block", "/sys/devices/virtual/powercap", "/sys/devices/virtual/thermal", "/sys/firmware", "/sys/fs/selinux",
		"/sys/kernel/boot_params", "/sys/kernel/irq", "/sys/kernel/notes", "/sys/kernel/vmcoreinfo",
	}
}

func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/sys", "/proc/sysrq-trigger"}
}

// thermalThrottle lists the directories that tell, for each processor, how often it was too hot: what runs beside a container
// can be read from that (GHSA-6fw5-f8r9-fgfm). Few virtual machines have them, so one is looked for first.
func thermalThrottle(sys string) []string {
	const name = "thermal_throttle"
	if !exists(sys + "/devices/system/cpu/cpu0/" + name) {
		return nil
	}
	list, _ := filepath.Glob(sys + "/devices/system/cpu/cpu[0-9]*/" + name)
	for i := range list {
		list[i] = "/sys" + strings.TrimPrefix(list[i], sys)
	}
	return list
}

// sensors lists the directories of what measures heat, power and voltages, each below the device that it is a part of.
func sensors(sys string) (list []string) {
	const name = "/class/hwmon"
	entries, _ := files.List(sys + name) // few virtual machines have any
	for _, e := range entries {
		if to, err := os.Readlink(sys + name + "/" + e); err == nil {
			dir := path.Join("/sys"+name, to)
			if up := path.Dir(dir); path.Base(up) == "hwmon" { // not so below what has a class itself, as nvme's
				dir = up
			}
			if !slices.Contains(list, dir) {
				list = append(list, dir)
			}
		}
	}
	slices.Sort(list)
	return list
}

// mask hides a path of the kernel's file systems.
func (b *builder) mask(p, why string) {
	b.because(fmt.Sprintf("linux.maskedPaths[%d]", len(b.spec.Linux.MaskedPaths)), "%s", why)
	b.spec.Linux.MaskedPaths = append(b.spec.Linux.MaskedPaths, p)
}

// ownedByRoot lists what is in a procfs beside processes, masks and readonlyPaths. There is one
// of each for all mounts of procfs: who is root of the machine may change mode and owner of
// the machine's own /proc/meminfo by the container's.
func ownedByRoot(procfs string) ([]string, error) {
	f, err := os.Open(procfs)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	covered := append(readonlyPaths(), maskedPaths()...)
	var list []string
	for _, e := range entries {
		p := "/proc/" + e.Name()
		if _, err := strconv.Atoi(e.Name()); err != nil && e.Type()&os.ModeSymlink == 0 && !slices.Contains(covered, p) {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return list, nil
}

// confine sets capabilities, no_new_privs, the profile of AppArmor or the label of SELinux, the seccomp filter, masks.
func (b *builder) confine() error {
	caps, err := b.caps()
	if err != nil {
		return err
	}
	if b.rec.Guarded {
		if caps, err = b.guard(caps); err != nil {
			return err
		}
	}
	b.tellUnheeded()
	names := capNames(caps)
	b.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: names, Permitted: names, Effective: names}
	if b.spec.Process.User.UID != 0 {
		// Another user than root holds none, unless a file grants them.
		b.spec.Process.Capabilities.Permitted, b.spec.Process.Capabilities.Effective = nil, nil
	}
	o := b.security
	b.spec.Process.NoNewPrivileges = o.noNewPrivs != nil && *o.noNewPrivs || o.noNewPrivs == nil && o.level.noNewPrivs
	b.because("process.noNewPrivileges", "--security-opt no-new-privileges")
	if o.noNewPrivs == nil {
		b.because("process.noNewPrivileges", "--security-opt level=%s", o.level.name)
	}
	if profile := b.run.appArmor(); profile != "" && profile != "unconfined" {
		if !host.AppArmor() {
			return fmt.Errorf("--security-opt apparmor=%s: AppArmor is not enabled in this kernel: leave the profile away", profile)
		}
		b.spec.Process.ApparmorProfile = profile
		b.because("process.apparmorProfile", "--security-opt apparmor=%s", profile)
	}
	if err := b.label(); err != nil {
		return err
	}
	if !b.run.Privileged && !o.unmasked {
		for _, p := range slices.Concat(maskedPaths(), thermalThrottle("/sys"), sensors("/sys")) {
			b.mask(p, "default: tells of the host")
		}
		b.spec.Linux.ReadonlyPaths = readonlyPaths()
		b.because("linux.readonlyPaths", "default: kernel settings are read-only")
		if b.hostRoot() {
			more, err := ownedByRoot("/proc")
			if err != nil {
				return err
			}
			b.spec.Linux.ReadonlyPaths = append(b.spec.Linux.ReadonlyPaths, more...)
		}
	}
	return b.seccomp()
}

func capNames(set abi.CapSet) []string {
	names := []string{}
	for _, c := range set.List() {
		names = append(names, c.String())
	}
	return names
}

// caps applies --cap-add and --cap-drop to the default set, as Docker does.
func (b *builder) caps() (abi.CapSet, error) {
	all := abi.CapSet(1)<<(b.host.LastCap+1) - 1
	if b.run.Privileged {
		b.because("process.capabilities", "--privileged")
		return all, nil
	}
	set := b.security.level.caps()
	b.because("process.capabilities", "default: %d capabilities", set.Len())
	if name := b.security.level.name; name != levelDefault {
		b.because("process.capabilities", "--security-opt level=%s", name)
	}
	if len(b.run.CapAdd)+len(b.run.CapDrop) > 0 {
		b.because("process.capabilities", "%s", strings.TrimSpace(flagList("--cap-drop", b.run.CapDrop)+flagList(" --cap-add", b.run.CapAdd)))
	}
	return changed(set, all, &b.run)
}

// changed are the capabilities of a set after --cap-drop and --cap-add: all is what their word ALL means.
func changed(set, all abi.CapSet, run *Config) (abi.CapSet, error) {
	has := func(list []string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, "all") })
	}
	if has(run.CapDrop) {
		set = 0
	}
	if has(run.CapAdd) {
		set = all
	}
	for _, l := range []struct {
		flag  string
		names []string
		do    func(abi.Capability)
	}{
		{"--cap-drop", run.CapDrop, func(c abi.Capability) { set = set.Without(c) }},
		{"--cap-add", run.CapAdd, func(c abi.Capability) { set = set.With(c) }},
	} {
		for _, name := range l.names {
			if strings.EqualFold(name, "all") {
				continue
			}
			c, ok := abi.ParseCapability(name)
			if !ok {
				return 0, fmt.Errorf("%s %s: there is no such capability (man 7 capabilities lists them)", l.flag, name)
			}
			l.do(c)
		}
	}
	return set, nil
}

// tellUnheeded warns of capabilities that were asked for by name and are asked for by the kernel in the machine's user namespace alone (capable() in its source),
// where the container has one of its own: with Docker they do what they are for.
func (b *builder) tellUnheeded() {
	if b.look || b.engine == nil || b.engine.warn == nil || b.hostRoot() {
		return
	}
	for _, name := range b.run.CapAdd {
		c, ok := abi.ParseCapability(name)
		if way := unheeded()[c]; ok && way != "" {
			b.engine.warn(fmt.Sprintf("--cap-add %s: the kernel heeds it in the machine's user namespace, and the container has its own: %s", strings.TrimPrefix(c.String(), "CAP_"), way))
		}
	}
}

// unheeded are those capabilities, each with what gives a container the same.
func unheeded() map[abi.Capability]string {
	const host = "as root, --userns host has it in the machine's"
	return map[abi.Capability]string{
		abi.CapIPCLock: "--ulimit memlock=-1 lets it lock memory",
		abi.CapSysNice: "--ulimit nice=40 and --ulimit rtprio=99 let it raise priorities",
		abi.CapSysTime: host, abi.CapSysResource: host, abi.CapSyslog: host, abi.CapSysModule: host, abi.CapSysRawio: host, abi.CapSysPacct: host,
		abi.CapSysTTYConfig: host, abi.CapMknod: host, abi.CapLinuxImmutable: host, abi.CapWakeAlarm: host, abi.CapLease: host, abi.CapPerfmon: host, abi.CapBPF: host,
	}
}

func flagList(flag string, values []string) string {
	s := ""
	for _, v := range values {
		s += flag + " " + v
	}
	return s
}

// securityOpts are the values of --security-opt.
type securityOpts struct {
	level      level
	noNewPrivs *bool // nil is the level's
	unmasked   bool
	seccomp    string // the name of a profile; empty is the level's
	file, text string // or a profile of the user's own
	explain    bool   // tell what the filter refuses
	cgroups    bool   // root inside may divide its control group
}

// cutSecurityOpt splits KEY=VALUE, and KEY:VALUE, which is Docker's older form.
func cutSecurityOpt(s string) (key, value string, has bool) {
	if key, value, has = strings.Cut(s, "="); has {
		return key, value, true
	}
	return strings.Cut(s, ":")
}

// appArmor is the profile that --security-opt asks for, by which the container's programs are confined; unconfined is asked for by that name.
func (c *Config) appArmor() string {
	profile := ""
	for _, s := range c.SecurityOpt {
		if key, value, _ := cutSecurityOpt(s); key == "apparmor" {
			profile = value
		}
	}
	return profile
}

// labels are the parts of a label of SELinux that --security-opt asks for, each KEY:VALUE; with disabled none is to be given.
func (c *Config) labels() (parts []string, disabled bool) {
	for _, s := range c.SecurityOpt {
		switch key, value, _ := cutSecurityOpt(s); {
		case key != "label":
		case value == "disable":
			parts, disabled = nil, true
		case selinux.ValidOption(value):
			parts, disabled = append(parts, value), false
		}
	}
	return parts, disabled
}

func parseSecurityOpt(list []string) (securityOpts, error) {
	var o securityOpts
	o.level, _ = findLevel(levelDefault)
	for _, s := range list {
		key, value, has := cutSecurityOpt(s)
		switch {
		case key == "no-new-privileges" && (!has || value == "true" || value == "false"):
			on := value != "false"
			o.noNewPrivs = &on
		case key == "writable-cgroups" && (!has || value == "true" || value == "false"):
			o.cgroups = value != "false"
		case key == "systempaths" && value == "unconfined":
			o.unmasked = true
		case key == "level":
			l, ok := findLevel(value)
			if !ok {
				return o, fmt.Errorf("--security-opt %s: there are the levels default, docker and strict", s)
			}
			o.level = l
		case key == "seccomp" && value == "explain":
			o.explain = true
		case key == "seccomp" && slices.Contains(profiles(), value):
			o.seccomp, o.file, o.text = value, "", ""
		case key == "seccomp" && value != "":
			text, err := readProfile(value)
			if err != nil {
				return o, fmt.Errorf("--security-opt %s: %w", s, err)
			}
			o.seccomp, o.file, o.text = "", value, text
		case key == "apparmor" && value != "": // see [Config.appArmor]
		case key == "label" && (value == "disable" || selinux.ValidOption(value)): // see [Config.labels]
		default:
			return o, fmt.Errorf("--security-opt %s: unknown; there are level=default|docker|strict, no-new-privileges, apparmor=PROFILE|unconfined, label=disable|user:USER|role:ROLE|type:TYPE|level:LEVEL|filetype:TYPE, seccomp=FILE|%s|explain, systempaths=unconfined, writable-cgroups", s, strings.Join(profiles(), "|"))
		}
	}
	return o, nil
}
