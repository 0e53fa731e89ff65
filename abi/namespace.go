package abi

// A Namespace is one of the eight kinds of namespace, see namespaces(7).
type Namespace uint8

// The kinds of namespace, in the order of [Namespaces].
const (
	NSPID Namespace = iota
	NSUser
	NSMount
	NSNetwork
	NSUTS
	NSIPC
	NSCgroup
	NSTime
)

// Namespaces returns all kinds in a stable order, which is also their numeric one.
func Namespaces() [8]Namespace {
	return [8]Namespace{NSPID, NSUser, NSMount, NSNetwork, NSUTS, NSIPC, NSCgroup, NSTime}
}

// A namespaceRow is what the specification, procfs and clone(2) call one kind.
type namespaceRow struct {
	spec, proc string
	flag       uint64
}

var namespaceRows = [8]namespaceRow{
	NSPID:     {"pid", "pid", CloneNewPID},
	NSUser:    {"user", "user", CloneNewUser},
	NSMount:   {"mount", "mnt", CloneNewNS},
	NSNetwork: {"network", "net", CloneNewNet},
	NSUTS:     {"uts", "uts", CloneNewUTS},
	NSIPC:     {"ipc", "ipc", CloneNewIPC},
	NSCgroup:  {"cgroup", "cgroup", CloneNewCgroup},
	NSTime:    {"time", "time", CloneNewTime},
}

// String returns the name in config.json (linux.namespaces[].type): "network", "mount".
func (n Namespace) String() string {
	if int(n) >= len(namespaceRows) {
		return "namespace " + decimal(int(n))
	}
	return namespaceRows[n].spec
}

// ProcName returns the name of the file in /proc/PID/ns: "net", "mnt". It is
// empty when n is none of the eight kinds.
func (n Namespace) ProcName() string {
	if int(n) >= len(namespaceRows) {
		return ""
	}
	return namespaceRows[n].proc
}

// CloneFlag returns the CLONE_NEW* bit which clone3(2), unshare(2), setns(2) and
// the nsfs ioctl NS_GET_NSTYPE use for this kind; 0 when n is none of the eight.
func (n Namespace) CloneFlag() uint64 {
	if int(n) >= len(namespaceRows) {
		return 0
	}
	return namespaceRows[n].flag
}

// ParseNamespace finds a kind by its name in config.json or its name in /proc/PID/ns.
func ParseNamespace(name string) (Namespace, bool) {
	for _, n := range Namespaces() {
		if row := namespaceRows[n]; name == row.spec || name == row.proc {
			return n, true
		}
	}
	return 0, false
}

// NamespaceOfFlag finds the kind whose clone flag is exactly flag.
func NamespaceOfFlag(flag uint64) (Namespace, bool) {
	for _, n := range Namespaces() {
		if namespaceRows[n].flag == flag {
			return n, true
		}
	}
	return 0, false
}
