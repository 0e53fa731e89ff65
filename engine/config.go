package engine

import (
	"slices"
	"time"
)

// A Config is what a container is asked to be. Fields have Docker's names and
// meanings; the zero value of each is Docker's default, or kakuri's own where
// it isolates more (user namespace, time namespace, no network). It is kept in the
// container's record as it is here, so a field, once there, keeps its name and meaning.
type Config struct {
	Name     string
	Image    string // a reference or an id; "host" or "host:all"; empty with Rootfs
	Platform string // os/arch[/variant]; empty is this machine's
	Pull     string // missing (default), always, never
	Rootfs   string // a directory that is the root file system
	Command  []string

	Entrypoint []string // overrides the image's; one empty string clears it
	Env        []string // NAME=VALUE; NAME alone takes away what the image or the engine would set
	Workdir    string
	User       string // name|uid[:name|gid]
	GroupAdd   []string
	Hostname   string
	Domainname string

	Labels      map[string]string
	Annotations map[string]string

	TTY         bool
	Rows        uint16 // of the terminal at first; 0 leaves the kernel's
	Columns     uint16
	Interactive bool     // stdin stays open
	StdinOnce   bool     // and closes when the first one who was attached to it goes
	Attach      []string // of stdin, stdout, stderr: what inspect tells that the creator wanted
	DetachKeys  string   // as in "ctrl-p,ctrl-q"
	Init        bool

	StopSignal  string
	StopTimeout *int // seconds; nil is 10, negative waits for ever
	AutoRemove  bool
	Restart     Restart
	Health      *Health // nil leaves the image's

	Mounts       []Mount
	VolumesFrom  []string // CONTAINER[:ro|rw]
	VolumeDriver string
	StorageOpt   map[string]string // size
	ReadOnly     bool
	Devices      []Device
	GPUs         []string // --gpus, as written
	ShmSize      int64    // bytes; 0 is 64 MiB

	CapAdd, CapDrop []string
	Privileged      bool
	SecurityOpt     []string
	Ulimits         []Ulimit
	Sysctls         map[string]string

	Resources    Resources
	CgroupParent string
	OOMScoreAdj  int

	Log     LogConfig
	Runtime string // of Docker's flag: kakuri's own is the only one, and runc another name of it

	// Modes of namespaces: empty is its own. "host" shares the caller's,
	// "container:NAME" that of a running container.
	PID, IPC, UTS, UserNS, CgroupNS string

	// Network is the mode of the network namespace: none, host, container:NAME, ns:PATH, or the name or id of the network that a
	// namespace of its own is connected to, of which there may be more in Networks. Empty is the first of Networks, else
	// [Engine.DefaultNetwork].
	Network    string
	Networks   []Attachment
	Publish    []PortSpec
	PublishAll bool     // the ports that are exposed, by host's ports that the kernel chooses
	Expose     []string // PORT[-PORT][/PROTOCOL], with those of the image
	ExtraHosts []string // NAME:ADDRESS; the address may be host-gateway
	DNS        []string // addresses of servers for names
	DNSOptions []string // of resolv.conf
	DNSSearch  []string // domains; "." is none
	Links      []string // CONTAINER[:ALIAS], on the network bridge
	MACAddress string   // of the first network
	Egress     []string // what it may begin to speak to, as plan.ParseEgress reads it; empty is everything

	// Offsets of the clocks of the container's time namespace.
	Boottime, Monotonic time.Duration
}

// An Attachment is how a container is connected to one network: a --network with its options.
type Attachment struct {
	Network         string            // name or id
	Aliases         []string          // names it has there beside its own
	Links           []string          // CONTAINER:ALIAS: names that it has for others there
	LinkLocal       []string          // further addresses, link-local ones
	IPv4, IPv6      string            // addresses that it is to have; empty is what is free
	MAC             string            // empty is one made of the address
	Device          string            // name of the device inside; empty is eth0, eth1, …
	Options         map[string]string // of the driver: com.docker.network.endpoint.sysctls, …
	GatewayPriority int               // the network with the highest one has the default route
}

// A PortSpec is a port, or a range of them, that a container has on the host, too: one -p.
type PortSpec struct {
	HostIP                string // empty is all addresses
	HostPort, HostPortEnd uint16 // 0 is any that is free; a range for a single Port is one of them that is free
	Port, PortEnd         uint16 // of the container; PortEnd 0 is Port alone
	Proto                 string // tcp (also empty), udp, sctp
	AnyPort               bool   // HostPort is 0 as it was written: inspect says so, as Docker does
	Strict                bool   // delivered by a socket of the host, whose own input rules hold for it
}

// Resources are the limits of a container's control group: those that [Engine.Update]
// can change. Zero is no limit of the container's own.
type Resources struct {
	BlkioWeight       uint16 // 10 to 1000
	BlkioWeightDevice []DeviceWeight
	DeviceReadBps     []DeviceRate // bytes a second
	DeviceWriteBps    []DeviceRate
	DeviceReadIOps    []DeviceRate
	DeviceWriteIOps   []DeviceRate

	NanoCPUs           int64 // --cpus, in billionths of a processor
	CPUShares          int64
	CPUPeriod          int64 // microseconds
	CPUQuota           int64 // microseconds a period; negative is none
	CPURealtimePeriod  int64 // microseconds
	CPURealtimeRuntime int64
	CpusetCpus         string
	CpusetMems         string

	Memory            int64 // bytes
	MemoryReservation int64 // bytes
	MemorySwap        int64 // bytes, memory included; negative is without limit
	MemorySwappiness  *int64
	KernelMemory      int64
	OOMKillDisable    bool

	PidsLimit   *int64 // nil is the default of 2048; 0 and negative are without limit
	DeviceRules []string
}

// A DeviceWeight is one --blkio-weight-device.
type DeviceWeight struct {
	Path   string
	Weight uint16
}

// A DeviceRate is one limit of a device's throughput.
type DeviceRate struct {
	Path string
	Rate uint64
}

// A Restart is --restart.
type Restart struct {
	Policy  string // no (default), always, unless-stopped, on-failure
	Retries int    // of on-failure; 0 is without end
}

// Never reports whether a container stays ended that has ended.
func (r Restart) Never() bool { return r.Policy == "" || r.Policy == "no" }

// Health says how a container tells whether it is well: Docker's HEALTHCHECK. A zero
// field leaves what the image says.
type Health struct {
	Test          []string // "NONE", or "CMD" with its arguments, or "CMD-SHELL" and a line
	Interval      time.Duration
	Timeout       time.Duration
	StartPeriod   time.Duration
	StartInterval time.Duration
	Retries       int
}

// A LogConfig says where a container's output is kept.
type LogConfig struct {
	Driver  string // json-file (default), local, journald, syslog, none
	Options map[string]string
}

// A Mount is one of -v, --mount and --tmpfs.
type Mount struct {
	Type     string // bind, tmpfs, volume, image
	Source   string // absolute; a volume's name, empty for one without a name; an image's reference
	Dest     string
	Options  []string // as runtime-spec has them
	MustHave bool     // a missing source is an error; otherwise it is made a directory
	Flag     string   // as the caller wrote it, for explain

	Subpath string            // below the volume's or the image's root
	NoCopy  bool              // a new volume does not get the image's content
	Lent    bool              `json:",omitempty"` // a volume that another container has without a name
	Driver  string            // of a volume that is made
	Labels  map[string]string // of a volume that is made
	DrvOpts map[string]string
}

// A Device is a --device.
type Device struct {
	Host, Inside string // a CDI name (vendor/class=name) has no Inside
	Access       string // of rwm
	Flag         string
}

// A Ulimit is a --ulimit.
type Ulimit struct {
	Name       string // nofile
	Soft, Hard int64  // -1 is unlimited
}

// argv is what runs, as it is known when a container is made: the entry point, and the command behind it.
func (c *Config) argv() []string {
	if e := c.Entrypoint; len(e) > 0 && e[0] != "" {
		return append(slices.Clone(e), c.Command...)
	}
	return c.Command
}
