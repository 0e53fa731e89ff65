package engine

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/plan"
)

// A ContainerInspect is all that is known of a container: as JSON, what Docker's inspect prints, key for key, and below it what Docker has
// no words for. Keys of other systems than Linux, and of networks, have the values that they have where nobody set them.
type ContainerInspect struct {
	ID              string `json:"Id"`
	Created         string // RFC 3339
	Path            string
	Args            []string
	State           *InspectState
	Image           string // digest of its config
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	LogPath         string
	Name            string // with a "/" before it
	RestartCount    int
	Driver          string
	Platform        string
	MountLabel      string
	ProcessLabel    string
	AppArmorProfile string
	ExecIDs         []string
	HostConfig      *HostConfig
	GraphDriver     GraphDriver
	SizeRw          *int64 `json:",omitempty"`
	SizeRootFs      *int64 `json:",omitempty"`
	Mounts          []InspectMount
	Config          *InspectConfig
	NetworkSettings *NetworkSettings

	Death *monitor.Death `json:",omitempty"` // how it ended last
	Plan  *plan.Plan     `json:",omitempty"` // by which it was made, while it runs
}

// InspectState is how a container is.
type InspectState struct {
	Status     string // created, running, paused, restarting, removing, exited, dead
	Running    bool
	Paused     bool
	Restarting bool
	OOMKilled  bool
	Dead       bool
	Pid        int
	ExitCode   int
	Error      string
	StartedAt  string
	FinishedAt string
	Health     *InspectHealth `json:",omitempty"`
}

// InspectHealth is what the last health checks said.
type InspectHealth struct {
	Status        string
	FailingStreak int
	Log           []monitor.HealthResult
}

// GraphDriver says how the root file system is kept.
type GraphDriver struct {
	Data map[string]string
	Name string
}

// An InspectMount is a volume, directory or tmpfs in the container.
type InspectMount struct {
	Type        string
	Name        string `json:",omitempty"`
	Source      string
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string
}

// InspectConfig is what of the container's configuration has nothing to do with the host.
type InspectConfig struct {
	Hostname     string
	Domainname   string
	User         string
	AttachStdin  bool
	AttachStdout bool
	AttachStderr bool
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Tty          bool
	OpenStdin    bool
	StdinOnce    bool
	Env          []string
	Cmd          []string
	Healthcheck  *InspectHealthcheck `json:",omitempty"`
	Image        string
	Volumes      map[string]struct{}
	WorkingDir   string
	Entrypoint   []string
	MacAddress   string `json:",omitempty"` // that was asked for, of the first network
	OnBuild      []string
	Labels       map[string]string
	StopSignal   string `json:",omitempty"`
	StopTimeout  *int   `json:",omitempty"`

	// Of Windows and of old Dockerfiles: nothing sets them, and templates find the names, as with Docker.
	ArgsEscaped     bool     `json:",omitempty"`
	NetworkDisabled bool     `json:",omitempty"`
	Shell           []string `json:",omitempty"`
}

// InspectHealthcheck is how a container's health is found out, in nanoseconds.
type InspectHealthcheck struct {
	Test          []string      `json:",omitempty"`
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

// HostConfig is what of the configuration depends on the host.
type HostConfig struct {
	Binds                []string
	ContainerIDFile      string
	LogConfig            InspectLog
	NetworkMode          string
	PortBindings         map[string][]PortBinding
	RestartPolicy        InspectRestart
	AutoRemove           bool
	VolumeDriver         string
	VolumesFrom          []string
	ConsoleSize          [2]uint
	Annotations          map[string]string `json:",omitempty"`
	CapAdd               []string
	CapDrop              []string
	CgroupnsMode         string
	DNS                  []string `json:"Dns"`
	Egress               []string `json:",omitempty"` // kakuri's own
	DNSOptions           []string `json:"DnsOptions"`
	DNSSearch            []string `json:"DnsSearch"`
	ExtraHosts           []string
	GroupAdd             []string
	IpcMode              string
	Cgroup               string
	Links                []string
	OomScoreAdj          int
	PidMode              string
	Privileged           bool
	PublishAllPorts      bool
	ReadonlyRootfs       bool
	SecurityOpt          []string
	StorageOpt           map[string]string `json:",omitempty"`
	Tmpfs                map[string]string `json:",omitempty"`
	UTSMode              string
	UsernsMode           string
	ShmSize              int64
	Sysctls              map[string]string `json:",omitempty"`
	Runtime              string
	Isolation            string
	CPUShares            int64 `json:"CpuShares"`
	Memory               int64
	NanoCPUs             int64 `json:"NanoCpus"`
	CgroupParent         string
	BlkioWeight          uint16
	BlkioWeightDevice    []DeviceWeight
	BlkioDeviceReadBps   []DeviceRate
	BlkioDeviceWriteBps  []DeviceRate
	BlkioDeviceReadIOps  []DeviceRate
	BlkioDeviceWriteIOps []DeviceRate
	CPUPeriod            int64 `json:"CpuPeriod"`
	CPUQuota             int64 `json:"CpuQuota"`
	CPURealtimePeriod    int64 `json:"CpuRealtimePeriod"`
	CPURealtimeRuntime   int64 `json:"CpuRealtimeRuntime"`
	CpusetCpus           string
	CpusetMems           string
	Devices              []InspectDevice
	DeviceCgroupRules    []string
	DeviceRequests       []DeviceRequest
	MemoryReservation    int64
	MemorySwap           int64
	MemorySwappiness     *int64
	OomKillDisable       *bool
	PidsLimit            *int64
	Ulimits              []Ulimit
	CPUCount             int64 `json:"CpuCount"`
	CPUPercent           int64 `json:"CpuPercent"`
	IOMaximumIOps        uint64
	IOMaximumBandwidth   uint64
	KernelMemory         int64       `json:",omitempty"` // without effect, as with Docker
	KernelMemoryTCP      int64       `json:",omitempty"`
	Mounts               []HostMount `json:",omitempty"`
	MaskedPaths          []string
	ReadonlyPaths        []string
	Init                 *bool `json:",omitempty"`
}

// InspectLog is where the output goes.
type InspectLog struct {
	Type   string
	Config map[string]string
}

// InspectRestart is the restart policy.
type InspectRestart struct {
	Name              string
	MaximumRetryCount int
}

// A PortBinding is where on the host a port of the container is.
type PortBinding struct{ HostIp, HostPort string }

// An InspectDevice is a device of the host in the container.
type InspectDevice struct {
	PathOnHost, PathInContainer, CgroupPermissions string
}

// A DeviceRequest is what --gpus asks for.
type DeviceRequest struct {
	Driver       string
	Count        int
	DeviceIDs    []string
	Capabilities [][]string
	Options      map[string]string
}

// A HostMount is a --mount.
type HostMount struct {
	Type          string
	Source        string `json:",omitempty"`
	Target        string
	ReadOnly      bool                `json:",omitempty"`
	Consistency   string              `json:",omitempty"` // as it was given: on Linux it does nothing
	BindOptions   *HostBindOptions    `json:",omitempty"`
	VolumeOptions *HostVolumeOptions  `json:",omitempty"`
	ImageOptions  *HostSubpathOptions `json:",omitempty"`
	TmpfsOptions  *HostTmpfsOptions   `json:",omitempty"`
}

// HostBindOptions are those of a bind mount.
type HostBindOptions struct {
	Propagation            string `json:",omitempty"`
	NonRecursive           bool   `json:",omitempty"`
	CreateMountpoint       bool   `json:",omitempty"`
	ReadOnlyNonRecursive   bool   `json:",omitempty"`
	ReadOnlyForceRecursive bool   `json:",omitempty"`
}

// HostVolumeOptions are those of a volume.
type HostVolumeOptions struct {
	NoCopy       bool              `json:",omitempty"`
	Labels       map[string]string `json:",omitempty"`
	Subpath      string            `json:",omitempty"`
	DriverConfig *HostVolumeDriver `json:",omitempty"`
}

// A HostVolumeDriver makes a volume.
type HostVolumeDriver struct {
	Name    string            `json:",omitempty"`
	Options map[string]string `json:",omitempty"`
}

// HostSubpathOptions are those of an image that is mounted.
type HostSubpathOptions struct{ Subpath string }

// HostTmpfsOptions are those of a tmpfs.
type HostTmpfsOptions struct {
	SizeBytes int64  `json:",omitempty"`
	Mode      uint32 `json:",omitempty"`
}

// NetworkSettings are those of a container's networks.
type NetworkSettings struct {
	Bridge                 string
	SandboxID              string
	SandboxKey             string
	Ports                  map[string][]PortBinding
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []string
	SecondaryIPv6Addresses []string
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
	Networks               map[string]*Endpoint
}

// An Endpoint is a container's part of a network.
type Endpoint struct {
	IPAMConfig          *EndpointIPAM
	Links               []string
	Aliases             []string
	MacAddress          string
	DriverOpts          map[string]string
	GwPriority          int
	NetworkID           string
	EndpointID          string
	Gateway             string
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	DNSNames            []string
}

// EndpointIPAM are the addresses that were asked for.
type EndpointIPAM struct {
	IPv4Address  string   `json:",omitempty"`
	IPv6Address  string   `json:",omitempty"`
	LinkLocalIPs []string `json:",omitempty"`
}

// Inspect tells all that is known of a container.
func (e *Engine) Inspect(ref string) (*ContainerInspect, error) {
	c, err := e.Find(ref)
	if err != nil {
		return nil, err
	}
	i := &ContainerInspect{
		ID: c.ID, Created: stamp(c.Created), Args: []string{}, State: e.inspectState(&c), Image: c.ImageID,
		ResolvConfPath: c.fileOf("resolv.conf"), HostnamePath: c.fileOf("hostname"), HostsPath: c.fileOf("hosts"),
		Name: "/" + c.Name, RestartCount: c.Restarts, Driver: "overlay", Platform: "linux", MountLabel: c.MountLabel, ProcessLabel: c.ProcessLabel, AppArmorProfile: c.Config.appArmor(),
		HostConfig: c.hostConfig(), GraphDriver: GraphDriver{Name: "overlay"}, Mounts: c.inspectMounts(), Config: c.inspectConfig(), NetworkSettings: c.networkSettings(),
		Death: c.Death,
	}
	switch i.HostConfig.LogConfig.Type {
	case "json-file", "local", "syslog":
		i.LogPath = c.fileOf("container.log")
	}
	if len(c.Command) > 0 {
		i.Path, i.Args = c.Command[0], append(i.Args, c.Command[1:]...)
	}
	if c.Status == monitor.Running {
		i.ExecIDs = e.execIDs(c.ID)
		if _, p, err := e.Plan(c.ID); err == nil { // it may have ended meanwhile
			i.Plan = &p
		}
	}
	return i, nil
}

// InspectSize is [Engine.Inspect] with what the container has written, which takes a walk over it, and what its root has in all: SizeRw and SizeRootFs.
func (e *Engine) InspectSize(ref string) (*ContainerInspect, error) {
	i, err := e.Inspect(ref)
	if err != nil {
		return nil, err
	}
	c, err := e.Find(i.ID)
	if err != nil {
		return nil, err
	}
	own, all, err := e.size(&c)
	if err != nil {
		return nil, err
	}
	i.SizeRw, i.SizeRootFs = &own, &all
	return i, nil
}

// stamp is a time as Docker prints it: that of the year 1 for none.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// fileOf is the path of a file of the container's directory, empty where there is none.
func (c *Container) fileOf(name string) string {
	if p := c.dir + "/" + name; exists(p) {
		return p
	}
	return ""
}

func (e *Engine) inspectState(c *Container) *InspectState {
	s := &InspectState{
		Status: c.Status, Running: c.Active(), Restarting: c.Status == monitor.Restarting, OOMKilled: c.OOMKilled, Dead: c.Status == monitor.Dead,
		Pid: c.PID, ExitCode: c.ExitCode, Error: c.Error, StartedAt: stamp(c.Started), FinishedAt: stamp(c.Finished),
	}
	if c.Status == monitor.Running && e.paused(c.ID) {
		s.Status, s.Paused = paused, true
	}
	if h := c.Health; h != nil {
		s.Health = &InspectHealth{Status: c.health(), FailingStreak: h.Failing, Log: append([]monitor.HealthResult{}, h.Log...)}
	}
	return s
}

func (c *Container) inspectConfig() *InspectConfig {
	cfg := &c.Config
	out := &InspectConfig{
		Hostname: cfg.hostname(c.ID), Domainname: cfg.Domainname, User: cfg.User, Tty: cfg.TTY, OpenStdin: cfg.Interactive, StdinOnce: cfg.StdinOnce,
		Env: cfg.Env, Cmd: cfg.Command, Image: c.Image, WorkingDir: cfg.Workdir, Labels: cfg.Labels, StopSignal: cfg.StopSignal, StopTimeout: cfg.StopTimeout,
		MacAddress: cfg.MACAddress,
	}
	if out.Env == nil {
		out.Env = []string{}
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	if e := cfg.Entrypoint; len(e) > 0 && e[0] != "" {
		out.Entrypoint = e
	}
	if all, err := cfg.exposedPorts(); err == nil && len(all) > 0 {
		out.ExposedPorts = map[string]struct{}{}
		for _, x := range all {
			out.ExposedPorts[x.String()] = struct{}{}
		}
	}
	for _, p := range c.Volumes {
		if p.Anonymous {
			if out.Volumes == nil {
				out.Volumes = map[string]struct{}{}
			}
			out.Volumes[p.Destination] = struct{}{}
		}
	}
	for _, s := range cfg.Attach {
		switch strings.ToLower(s) {
		case "stdin":
			out.AttachStdin = true
		case "stdout":
			out.AttachStdout = true
		case "stderr":
			out.AttachStderr = true
		}
	}
	if h := cfg.Health; h != nil {
		out.Healthcheck = &InspectHealthcheck{h.Test, h.Interval, h.Timeout, h.StartPeriod, h.StartInterval, h.Retries}
	}
	return out
}

// linkPaths are links as Docker tells of them, /CONTAINER:/NAME/ALIAS.
func (c *Config) linkPaths(name string) (list []string) {
	if c.networkMode() != netdb.DefaultName { // the network's own record has them
		return nil
	}
	for _, l := range c.Links {
		to, alias := splitLink(l)
		list = append(list, "/"+to+":/"+name+"/"+alias)
	}
	return list
}

func (c *Container) hostConfig() *HostConfig {
	cfg, r := &c.Config, &c.Config.Resources
	h := &HostConfig{
		LogConfig: InspectLog{cmp.Or(cfg.Log.Driver, "json-file"), cfg.Log.Options}, NetworkMode: c.networkAsked(), PortBindings: cfg.askedBindings(), PublishAllPorts: cfg.PublishAll, ExtraHosts: cfg.ExtraHosts, Links: cfg.linkPaths(c.Name),
		RestartPolicy: InspectRestart{cmp.Or(cfg.Restart.Policy, "no"), cfg.Restart.Retries}, AutoRemove: cfg.AutoRemove, VolumeDriver: cfg.VolumeDriver, VolumesFrom: cfg.VolumesFrom,
		ConsoleSize: [2]uint{uint(cfg.Rows), uint(cfg.Columns)}, Annotations: cfg.Annotations, CapAdd: wholeCapNames(cfg.CapAdd), CapDrop: wholeCapNames(cfg.CapDrop), CgroupnsMode: cmp.Or(cfg.CgroupNS, "private"),
		DNS: append([]string{}, cfg.DNS...), DNSOptions: append([]string{}, cfg.DNSOptions...), DNSSearch: append([]string{}, cfg.DNSSearch...), Egress: cfg.Egress, GroupAdd: cfg.GroupAdd, IpcMode: cmp.Or(cfg.IPC, "private"), OomScoreAdj: cfg.OOMScoreAdj, PidMode: cfg.PID,
		Privileged: cfg.Privileged, ReadonlyRootfs: cfg.ReadOnly, SecurityOpt: cfg.SecurityOpt, StorageOpt: cfg.StorageOpt, UTSMode: cfg.UTS, UsernsMode: cfg.UserNS,
		ShmSize: cmp.Or(cfg.ShmSize, 64<<20), Sysctls: cfg.Sysctls, Runtime: cmp.Or(cfg.Runtime, "kakuri"),
		CPUShares: r.CPUShares, Memory: r.Memory, NanoCPUs: r.NanoCPUs, CgroupParent: cfg.CgroupParent,
		BlkioWeight: r.BlkioWeight, BlkioWeightDevice: append([]DeviceWeight{}, r.BlkioWeightDevice...), BlkioDeviceReadBps: append([]DeviceRate{}, r.DeviceReadBps...),
		BlkioDeviceWriteBps: append([]DeviceRate{}, r.DeviceWriteBps...), BlkioDeviceReadIOps: append([]DeviceRate{}, r.DeviceReadIOps...), BlkioDeviceWriteIOps: append([]DeviceRate{}, r.DeviceWriteIOps...),
		CPUPeriod: r.CPUPeriod, CPUQuota: r.CPUQuota, CPURealtimePeriod: r.CPURealtimePeriod, CPURealtimeRuntime: r.CPURealtimeRuntime, CpusetCpus: r.CpusetCpus, CpusetMems: r.CpusetMems,
		Devices: []InspectDevice{}, DeviceCgroupRules: r.DeviceRules, MemoryReservation: r.MemoryReservation, MemorySwap: r.MemorySwap, MemorySwappiness: r.MemorySwappiness,
		KernelMemory: r.KernelMemory, OomKillDisable: &r.OOMKillDisable, PidsLimit: r.PidsLimit, Ulimits: append([]Ulimit{}, cfg.Ulimits...),
	}
	if h.PidsLimit != nil && *h.PidsLimit < 0 {
		h.PidsLimit = new(int64) // as Docker shows what has no limit
	}
	if h.MemorySwap == 0 && h.Memory > 0 {
		h.MemorySwap = 2 * h.Memory
	}
	if h.LogConfig.Config == nil {
		h.LogConfig.Config = map[string]string{}
	}
	if !cfg.Privileged {
		h.MaskedPaths, h.ReadonlyPaths = maskedPaths(), readonlyPaths()
	}
	if cfg.Init {
		h.Init = &cfg.Init
	}
	for _, d := range cfg.Devices {
		h.Devices = append(h.Devices, InspectDevice{d.Host, d.Inside, cmp.Or(d.Access, "rwm")})
	}
	for _, g := range cfg.GPUs {
		h.DeviceRequests = append(h.DeviceRequests, DeviceRequest{Driver: "cdi", DeviceIDs: []string{g}})
	}
	c.hostMounts(h)
	return h
}

// wholeCapNames are capabilities with their whole names.
func wholeCapNames(list []string) (names []string) {
	for _, name := range list {
		if name = strings.ToUpper(name); name != "ALL" && !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		names = append(names, name)
	}
	return names
}

// hostMounts tells of mounts in the words of the flag that asked for each.
func (c *Container) hostMounts(h *HostConfig) {
	for _, m := range c.Config.Mounts {
		options := strings.Join(m.Options, ",")
		switch {
		case m.Type == "tmpfs" && !strings.HasPrefix(m.Flag, "--mount"):
			if h.Tmpfs == nil {
				h.Tmpfs = map[string]string{}
			}
			h.Tmpfs[m.Dest] = options
		case m.byVolumeFlag():
			if !c.anonymous(m.Dest) { // which Config.Volumes has
				h.Binds = append(h.Binds, strings.TrimSuffix(m.Source+":"+m.Dest+":"+m.mode(), ":"))
			}
		case !strings.HasPrefix(m.Flag, "VOLUME ") && !strings.HasPrefix(m.Flag, "--volumes-from"):
			h.Mounts = append(h.Mounts, c.hostMount(m))
		}
	}
}

// hostMount tells of a --mount.
func (c *Container) hostMount(m Mount) HostMount {
	h := HostMount{Type: m.Type, Source: m.Source, Target: m.Dest, ReadOnly: isReadOnly(m.Options)}
	has := func(o string) bool { return slices.Contains(m.Options, o) }
	for field := range strings.SplitSeq(strings.ToLower(m.Flag), ",") {
		if value, ok := strings.CutPrefix(field, "consistency="); ok {
			h.Consistency = value
		}
	}
	switch m.Type {
	case "bind":
		o := HostBindOptions{NonRecursive: has("bind"), CreateMountpoint: !m.MustHave, ReadOnlyNonRecursive: has("rbind") && has("ro")}
		o.ReadOnlyForceRecursive = strings.Contains(m.Flag, "bind-recursive=readonly")
		if i := slices.IndexFunc(m.Options, isPropagation); i >= 0 && strings.Contains(m.Flag, "bind-propagation=") {
			o.Propagation = m.Options[i]
		}
		if o != (HostBindOptions{}) {
			h.BindOptions = &o
		}
	case "volume":
		if c.anonymous(m.Dest) {
			h.Source = ""
		}
		o := HostVolumeOptions{NoCopy: m.NoCopy, Labels: m.Labels, Subpath: m.Subpath}
		if m.Driver != "" || len(m.DrvOpts) > 0 {
			o.DriverConfig = &HostVolumeDriver{m.Driver, m.DrvOpts}
		}
		if o.NoCopy || len(o.Labels) > 0 || o.Subpath != "" || o.DriverConfig != nil {
			h.VolumeOptions = &o
		}
	case "image":
		if m.Subpath != "" {
			h.ImageOptions = &HostSubpathOptions{m.Subpath}
		}
	case "tmpfs":
		h.TmpfsOptions = tmpfsOptions(m.Options)
	}
	return h
}

func tmpfsOptions(options []string) *HostTmpfsOptions {
	var t HostTmpfsOptions
	for _, o := range options {
		switch key, value, _ := strings.Cut(o, "="); key {
		case "size":
			t.SizeBytes, _ = strconv.ParseInt(value, 10, 64)
		case "mode":
			mode, _ := strconv.ParseUint(value, 8, 32)
			t.Mode = uint32(mode)
		}
	}
	if t == (HostTmpfsOptions{}) {
		return nil
	}
	return &t
}

// byVolumeFlag reports whether -v asked for a mount.
func (m *Mount) byVolumeFlag() bool {
	return strings.HasPrefix(m.Flag, "-v ") || strings.HasPrefix(m.Flag, "--volume ")
}

// mode is what -v has behind the second colon, as it was written.
func (m *Mount) mode() string {
	if !m.byVolumeFlag() {
		return ""
	}
	_, spec, _ := strings.Cut(m.Flag, " ")
	if parts := strings.SplitN(spec, ":", 3); len(parts) == 3 {
		return parts[2]
	}
	return ""
}

// anonymous reports whether a volume without a name, the container's own, is mounted at a place.
func (c *Container) anonymous(dest string) bool {
	return slices.ContainsFunc(c.Volumes, func(p MountPoint) bool { return p.Anonymous && p.Destination == path.Clean(dest) })
}

// mountPoints are what a container has mounted, but for what --tmpfs did: HostConfig.Tmpfs has that, as Docker has it.
func (c *Container) mountPoints() []MountPoint {
	list := make([]MountPoint, 0, len(c.Volumes))
	for _, p := range c.Volumes {
		byTmpfs := func(m Mount) bool {
			return m.Type == "tmpfs" && path.Clean(m.Dest) == p.Destination && !strings.HasPrefix(m.Flag, "--mount")
		}
		if p.Type != "tmpfs" || !slices.ContainsFunc(c.Config.Mounts, byTmpfs) {
			list = append(list, p)
		}
	}
	return list
}

func (c *Container) inspectMounts() []InspectMount {
	list := []InspectMount{}
	for _, m := range c.mountPoints() {
		list = append(list, InspectMount{m.Type, m.Name, m.Source, m.Destination, m.Driver, m.Mode, m.RW, m.Propagation})
	}
	return list
}

func (c *Container) networkSettings() *NetworkSettings {
	n := &NetworkSettings{Ports: map[string][]PortBinding{}, Networks: map[string]*Endpoint{}}
	mode := c.Config.networkMode()
	if c.Config.Network == "none" || mode == "host" { // who was taken out of none has nothing here
		n.Networks[mode] = &Endpoint{}
	}
	for i, a := range c.Config.attachments() {
		has := Connection{Network: a.Network}
		switch {
		case i >= len(c.Connections):
		case c.Active():
			has = c.Connections[i]
		case c.Connections[i].Network == a.Network && !c.Started.IsZero():
			has.NetworkID = c.Connections[i].NetworkID // which one it was on, as Docker keeps it; the rest ended with it
		}
		if !c.Active() && !c.Started.IsZero() && a.Network != netdb.DefaultName {
			has.Names = c.Config.namesOn(&a, c.Name, c.ID)
		}
		n.Networks[has.Network] = endpointOf(&a, &has)
		if has.Network == netdb.DefaultName && c.Active() {
			e := n.Networks[has.Network]
			n.EndpointID, n.Gateway, n.IPAddress, n.IPPrefixLen, n.MacAddress = e.EndpointID, e.Gateway, e.IPAddress, e.IPPrefixLen, e.MacAddress
			n.IPv6Gateway, n.GlobalIPv6Address, n.GlobalIPv6PrefixLen = e.IPv6Gateway, e.GlobalIPv6Address, e.GlobalIPv6PrefixLen
		}
	}
	if c.Active() {
		n.Ports = bindings(c.Ports)
		if c.Config.ownNetwork() {
			n.SandboxID, n.SandboxKey = c.ID, fmt.Sprintf("/proc/%d/ns/net", c.PID)
		}
		for _, x := range c.Config.ownPorts() {
			if _, ok := n.Ports[x.String()]; !ok {
				n.Ports[x.String()] = nil // it is only said to be there
			}
		}
	}
	return n
}

// endpointOf is a connection as inspect has it.
func endpointOf(a *Attachment, has *Connection) *Endpoint {
	e := &Endpoint{
		Links: a.Links, Aliases: a.Aliases, DriverOpts: a.Options, GwPriority: a.GatewayPriority, NetworkID: has.NetworkID, EndpointID: has.Endpoint, DNSNames: has.Names,
	}
	if a.Network == netdb.DefaultName {
		e.Links = nil // HostConfig has them
	}
	if a.IPv4 != "" || a.IPv6 != "" || len(a.LinkLocal) > 0 {
		e.IPAMConfig = &EndpointIPAM{a.IPv4, a.IPv6, a.LinkLocal}
	}
	if e.MacAddress = a.MAC; has.MAC != (plan.MAC{}) {
		e.MacAddress = has.MAC.String()
	}
	for _, p := range has.Addrs {
		gateway := map[bool]netip.Addr{false: has.Gateway4, true: has.Gateway6}[p.Addr().Is6()]
		text := ""
		if gateway.IsValid() && !has.Internal {
			text = gateway.String()
		}
		if p.Addr().Is6() {
			e.GlobalIPv6Address, e.GlobalIPv6PrefixLen, e.IPv6Gateway = p.Addr().String(), p.Bits(), text
		} else {
			e.IPAddress, e.IPPrefixLen, e.Gateway = p.Addr().String(), p.Bits(), text
		}
	}
	return e
}
