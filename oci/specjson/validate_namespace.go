package specjson

import (
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// namespaceUse is what a container does with one type of namespace.
type namespaceUse uint8

const (
	inherited namespaceUse = iota // it shares the runtime's
	created                       // it gets a new one
	joined                        // it enters the one at a path
)

// has tells whether the container is in a namespace other than the runtime's, or
// one that the document names by its path at least.
func (c *checker) has(n abi.Namespace) bool { return c.ns[n] != inherited }

// namespaces reads linux.namespaces, which other rules depend on.
func (c *checker) namespaces(l *specs.Linux) {
	const base = "linux.namespaces"
	if l == nil {
		l = &specs.Linux{}
	}
	for i := range l.Namespaces {
		ns := &l.Namespaces[i]
		number, ok := abi.ParseNamespace(string(ns.Type))
		switch {
		case !ok || number.String() != string(ns.Type):
			c.refuse(place{base, i, "type"}.String(), "one of pid, network, mount, ipc, uts, user, cgroup and time", quote(string(ns.Type)),
				"correct or remove it")
			continue
		case c.has(number):
			c.refuse(place{base, i, "type"}.String(), "each type once", "a second "+quote(string(ns.Type)), "remove one of them")
		}
		c.ns[number] = created
		if ns.Path != "" {
			c.ns[number] = joined
			c.absolute(place{base, i, "path"}, ns.Path)
		}
	}
	if !c.has(abi.NSMount) {
		c.warn(base, "a mount namespace", "none", "all mounts are made in the runtime's own, until the container is deleted")
	}
}

// userMappings wants mappings for a new user namespace and none without one. Beside
// a path they are allowed: containerd and CRI-O write both, and who joins compares.
func (c *checker) userMappings(l *specs.Linux) {
	uids, gids := len(l.UIDMappings), len(l.GIDMappings)
	switch {
	case !c.has(abi.NSUser) && uids+gids > 0:
		c.refuse("uidMappings", "a user namespace for the mappings", "none", `add {"type": "user"} to linux.namespaces, or remove uidMappings and gidMappings`)
	case c.ns[abi.NSUser] == created && (uids == 0 || gids == 0):
		c.refuse("uidMappings", "mappings of uids and gids for the new user namespace", decimal(uids)+" and "+decimal(gids)+" of them",
			"add uidMappings and gidMappings")
	}
	c.mappings("uidMappings", l.UIDMappings)
	c.mappings("gidMappings", l.GIDMappings)
}

// maxMappings is how many lines /proc/PID/uid_map takes, see user_namespaces(7).
const maxMappings = 340

// mappings wants what the kernel takes in uid_map: ranges with something in them,
// that end before the id -1 and do not overlap on either side.
func (c *checker) mappings(base string, list []specs.LinuxIDMapping) {
	if len(list) > maxMappings {
		c.refuse(base, "at most "+strconv.Itoa(maxMappings)+" mappings", decimal(len(list)), "join neighbouring ranges")
		return
	}
	for i := range list {
		m := &list[i]
		switch {
		case m.Size == 0:
			c.refuse(place{base, i, "size"}.String(), "at least 1", "0", "remove the mapping, or say how many ids it has")
		case m.ContainerID > noID-m.Size || m.HostID > noID-m.Size:
			c.refuse(place{base, i, ""}.String(), "ids up to 4294967294", mapping(m), "make size smaller")
		}
		for j := range list[:i] {
			if n := &list[j]; overlap(m.ContainerID, m.Size, n.ContainerID, n.Size) || overlap(m.HostID, m.Size, n.HostID, n.Size) {
				c.refuse(place{base, i, ""}.String(), "ids that no other mapping has", mapping(m)+", and before it "+mapping(n), "make the ranges disjoint")
			}
		}
	}
}

// mapping writes a mapping as uid_map does: inside, outside, length.
func mapping(m *specs.LinuxIDMapping) string {
	return `"` + natural(m.ContainerID) + " " + natural(m.HostID) + " " + natural(m.Size) + `"`
}

func overlap(a, aSize, b, bSize uint32) bool {
	return uint64(a) < uint64(b)+uint64(bSize) && uint64(b) < uint64(a)+uint64(aSize)
}

// sysctls wants settings that belong to a namespace which the container has: any
// other would change the host. As for sysctl(8) and runc, slashes may separate the
// parts of a key, and then a dot is one of a name; no part may lead somewhere else
// below /proc/sys.
func (c *checker) sysctls(l *specs.Linux) {
	if len(l.Sysctl) == 0 {
		return
	}
	for _, key := range sortedKeys(l.Sysctl) {
		path, value := join("sysctl", member(key)), l.Sysctl[key]
		name := dotted(key)
		owner, ok := SysctlNamespace(key)
		switch {
		case len(key) > 4000: // PATH_MAX, less what is before it
			c.refuse(path, "a name of at most 4000 bytes", strconv.Itoa(len(key))+" bytes", "see sysctl.d(5)")
			continue
		case !isSysctlName(name):
			c.refuse(path, "a name with dots, such as net.ipv4.ip_forward", quote(key), "see sysctl.d(5)")
		case !ok:
			c.refuse(path, "a setting that belongs to a namespace", quote(value),
				"it is the whole machine's: set it there; containers have net.*, fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm*, kernel.domainname and user.*")
		case name == "kernel.hostname": // in the words of runc
			c.refuse(path, "no setting that a field of config.json is for", quote(value),
				"sysctl "+quote(name)+` is not allowed as it conflicts with the OCI "hostname" field: say it there`)
		case !c.has(owner):
			c.refuse(path, "a namespace of type "+owner.String()+" to set it in", "none",
				`add {"type": "`+owner.String()+`"} to linux.namespaces, or remove it`)
		}
		c.oneLine(at(path), value)
	}
}

// dotted gives a key with dots between its parts, and slashes for dots in them.
func dotted(key string) string {
	at := strings.IndexAny(key, "./")
	if at < 0 || key[at] == '.' {
		return key
	}
	return strings.NewReplacer("/", ".", ".", "/").Replace(key)
}

// isSysctlName checks a key as dotted returns it. A part of slashes alone would be "."
// or ".." below /proc/sys.
func isSysctlName(key string) bool {
	for part := range strings.SplitSeq(key, ".") {
		if part == "" || part == "/" || part == "//" {
			return false
		}
	}
	for i := range len(key) {
		if b := key[i]; b <= ' ' || b == '\\' || b >= 0x7f {
			return false
		}
	}
	return true
}

// SysctlNamespace returns the type of namespace to which a key of linux.sysctl belongs, and false for one of the whole machine; see
// proc_sys(5), ipc_namespaces(7), uts_namespaces(7), network_namespaces(7).
func SysctlNamespace(key string) (abi.Namespace, bool) {
	key = dotted(key)
	switch key {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced":
		return abi.NSIPC, true
	case "kernel.hostname", "kernel.domainname":
		return abi.NSUTS, true
	}
	switch {
	case strings.HasPrefix(key, "fs.mqueue."):
		return abi.NSIPC, true
	case strings.HasPrefix(key, "net."):
		return abi.NSNetwork, true
	case strings.HasPrefix(key, "user."):
		return abi.NSUser, true
	}
	return 0, false
}

func (c *checker) netDevices(devices map[string]specs.LinuxNetDevice) {
	if len(devices) == 0 {
		return
	}
	if !c.has(abi.NSNetwork) {
		c.refuse("netDevices", "a network namespace to move them to", "none", `add {"type": "network"} to linux.namespaces, or remove netDevices`)
	}
	taken := make(map[string]bool, len(devices))
	for _, host := range sortedKeys(devices) {
		path, inside := join("netDevices", member(host)), devices[host].Name
		if !isInterfaceName(host) {
			c.refuse(path, "the name of a network interface", quote(host), "see ip-link(8)")
		}
		if inside == "" {
			inside = host
		}
		template := strings.Contains(inside, "%")
		switch {
		case !isInterfaceName(inside) || template && (strings.Count(inside, "%") != 1 || !strings.Contains(inside, "%d")):
			c.refuse(join(path, "name"), "the name of a network interface, or one with %d once", quote(inside), "see ip-link(8)")
		case taken[inside]:
			c.refuse(join(path, "name"), "a name that no other device gets", quote(inside), "rename one of them")
		}
		taken[inside] = !template
	}
}

// isInterfaceName follows the kernel's dev_valid_name.
func isInterfaceName(s string) bool {
	const most = 15 // IFNAMSIZ has a byte more, for the NUL
	if s == "" || len(s) > most || s == "." || s == ".." {
		return false
	}
	for i := range len(s) {
		switch s[i] {
		case '/', ':', 0, ' ', '\t', '\n', '\v', '\f', '\r', 0xa0: // the last is a space in the kernel's eyes
			return false
		}
	}
	return true
}

// maxTimeOffset is how many seconds 64 bits of nanoseconds have.
const maxTimeOffset = (1<<63 - 1) / 1_000_000_000

// timeOffsets wants clocks that a time namespace has. Only a new one can be set:
// the clocks stand still for good once a process is in it, see time_namespaces(7).
func (c *checker) timeOffsets(offsets map[string]specs.LinuxTimeOffset) {
	if len(offsets) == 0 {
		return
	}
	switch c.ns[abi.NSTime] {
	case inherited:
		c.refuse("timeOffsets", "a time namespace to set them in", "none", `add {"type": "time"} to linux.namespaces, or remove timeOffsets`)
	case joined:
		c.refuse("timeOffsets", "a new time namespace", "one with a path", "remove the path, or timeOffsets: an existing namespace keeps its offsets")
	}
	for _, clock := range sortedKeys(offsets) {
		path, o := join("timeOffsets", member(clock)), offsets[clock]
		c.word(at(path), clock, clock == "monotonic" || clock == "boottime", "the clock monotonic or boottime", "see time_namespaces(7)")
		if o.Nanosecs >= 1_000_000_000 {
			c.refuse(join(path, "nanosecs"), "an integer from 0 to 999999999", natural(o.Nanosecs), "carry it over to secs")
		}
		if o.Secs < -maxTimeOffset || o.Secs > maxTimeOffset {
			c.refuse(join(path, "secs"), "an integer from -"+strconv.Itoa(maxTimeOffset)+" to "+strconv.Itoa(maxTimeOffset), decimal(o.Secs), "this is 292 years")
		}
	}
}
