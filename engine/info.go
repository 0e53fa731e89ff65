package engine

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/kakuri/kakuri/cgroup"
	"github.com/kakuri/kakuri/cgroup/limits"
	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink"
	"golang.org/x/sys/unix"
)

// Info is what there is to know of an engine and its machine, in Docker's shape.
type Info struct {
	Containers        int
	ContainersRunning int
	ContainersPaused  int
	ContainersStopped int
	Images            int
	Driver            string
	DriverStatus      [][2]string
	DockerRootDir     string
	LoggingDriver     string
	CgroupDriver      string
	CgroupVersion     string
	DefaultRuntime    string
	DefaultNetwork    string // of a container that asks for none, and what is missing for another one
	Uplink            string `json:",omitempty"` // of an ordinary user's networks: what carries packets out of them, and why it is that
	SecurityOptions   []string
	KernelVersion     string
	OperatingSystem   string
	OSVersion         string
	OSType            string
	Architecture      string
	NCPU              int
	MemTotal          int64 // bytes
	Name              string
	ServerVersion     string
	Rootless          bool
	Warnings          []string
	// What follows is asked by scripts made for Docker. The answers are those of an engine without a daemon, a registry list of its own, and swarms.
	MemoryLimit        bool
	SwapLimit          bool
	CPUCfsPeriod       bool `json:"CpuCfsPeriod"`
	CPUCfsQuota        bool `json:"CpuCfsQuota"`
	CPUShares          bool
	CPUSet             bool
	PidsLimit          bool
	OomKillDisable     bool
	IPv4Forwarding     bool
	Debug              bool
	ExperimentalBuild  bool
	LiveRestoreEnabled bool // containers need nothing but their monitors
	SystemTime         string
	IndexServerAddress string
	Labels             []string
	HTTPProxy          string `json:"HttpProxy"`
	HTTPSProxy         string `json:"HttpsProxy"`
	NoProxy            string
	Runtimes           map[string]InfoRuntime
	Plugins            InfoPlugins
	Swarm              InfoSwarm
	CDISpecDirs        []string
	InitBinary         string // of --init, which is built in
	Isolation          string // of Windows
	GenericResources   []string
	KernelMemoryTCP    bool
	ClientInfo         InfoClient
	ID                 string // of this engine: see engineID
	// A daemon's own: nothing.
	NFd              int
	NGoroutines      int
	NEventsListener  int
	ContainerdCommit InfoCommit
	RuncCommit       InfoCommit
	InitCommit       InfoCommit
	ServerErrors     []string `json:",omitempty"`
	ClientErrors     []string `json:",omitempty"`
	ProductLicense   string   `json:",omitempty"`
}

// InfoClient is the command, which is the engine, too.
type InfoClient struct {
	Debug    bool
	Context  string
	Plugins  []string
	Warnings []string
}

// InfoCommit would be that of a program of Docker's.
type InfoCommit struct{ ID string }

// An InfoRuntime is a runtime that containers can have.
type InfoRuntime struct {
	Path string `json:"path"`
}

// InfoPlugins are the drivers that there are.
type InfoPlugins struct {
	Volume        []string
	Network       []string
	Authorization []string
	Log           []string
}

// InfoSwarm says that this is no member of a swarm.
type InfoSwarm struct {
	NodeID           string
	NodeAddr         string
	LocalNodeState   string
	ControlAvailable bool
	Error            string
}

// Info tells of the engine and its machine. ServerVersion is who calls's to fill in.
func (e *Engine) Info(ctx context.Context) (Info, error) {
	i := Info{DockerRootDir: e.data, LoggingDriver: "json-file", DefaultRuntime: "kakuri-runtime", Rootless: !e.host.Privileged()}
	facts, err := host.Read(host.Needs{Cgroup: true, Labels: true}) // which the engine's own are without
	if err != nil {
		return i, err
	}
	if err := i.machine(facts); err != nil {
		return i, err
	}
	if err := i.store(e); err != nil {
		return i, err
	}
	if err := i.count(e); err != nil {
		return i, err
	}
	mode, missing := e.DefaultNetwork()
	i.DefaultNetwork = mode
	if missing != nil {
		i.DefaultNetwork += " (" + missing.Error() + ")"
		i.Warnings = append(i.Warnings, "containers have no network: "+missing.Error())
	}
	i.asDocker(e)
	i.userNamespaces(func(key string) string {
		data, _ := os.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
		return strings.TrimSpace(string(data))
	})
	i.limits()
	if i.Rootless {
		i.Uplink = e.uplinkText()
		if !e.host.MapsOthers() {
			i.Warnings = append(i.Warnings, "newuidmap is not installed (package uidmap): a container has one id")
		}
	}
	return i, ctx.Err()
}

// userNamespaces tells where hardening has left none, by the values of the kernel's parameters.
func (i *Info) userNamespaces(value func(key string) string) {
	off := ""
	switch {
	case value("user.max_user_namespaces") == "0":
		off = "sysctl user.max_user_namespaces is 0"
	case i.Rootless && value("kernel.unprivileged_userns_clone") == "0":
		off = "sysctl kernel.unprivileged_userns_clone is 0"
	default:
		return
	}
	i.SecurityOptions = slices.DeleteFunc(i.SecurityOptions, func(o string) bool { return o == "name=userns" })
	if i.Rootless {
		i.Warnings = append(i.Warnings, "no container can be started: an ordinary user's always has a user namespace, and "+off)
	} else {
		i.Warnings = append(i.Warnings, "containers have no user namespace of their own, so they start with --userns host alone: "+off)
	}
}

// limits warns of what no control group of the machine can limit, or none of an ordinary user's.
func (i *Info) limits() {
	switch {
	case i.CgroupVersion == "":
		i.Warnings = append(i.Warnings, "no control groups are mounted: containers with limits are refused, and none is limited in its processes")
		return
	case i.Rootless && i.CgroupVersion == "1":
		i.Warnings = append(i.Warnings, "control groups of version 1 are root's: containers with limits are refused")
		return
	}
	for _, c := range []struct {
		has               bool
		controller, flags string
	}{
		{i.MemoryLimit, "memory", "--memory is refused"}, {i.CPUShares, "cpu", "--cpus and --cpu-shares are refused"}, {i.CPUSet, "cpuset", "--cpuset-cpus is refused"},
		{i.PidsLimit, "pids", "--pids-limit is refused, and no container is limited in its processes"},
	} {
		if !c.has {
			i.Warnings = append(i.Warnings, fmt.Sprintf("the control groups have no controller %s: %s (cgroup_disable=%[1]s on the kernel's command line takes it away)", c.controller, c.flags))
		}
	}
}

// machine tells of the kernel and what it can do, and of the system on it.
func (i *Info) machine(f plan.Facts) error {
	i.OSType, i.Architecture, i.NCPU, i.KernelVersion = "linux", machine(), runtime.NumCPU(), f.Kernel
	i.OperatingSystem, i.OSVersion = osRelease()
	i.Name, _ = os.Hostname()
	i.CgroupDriver, i.CgroupVersion = "cgroupfs", "1"
	if f.Cgroup.Unified {
		i.CgroupVersion = "2"
	}
	i.SecurityOptions = []string{"name=seccomp,profile=builtin", "name=userns", "name=cgroupns", "name=timens"}
	for _, o := range []struct {
		name string
		has  bool
	}{{"rootless", i.Rootless}, {"apparmor", f.AppArmor}, {"selinux", f.SELinux}} {
		if o.has {
			i.SecurityOptions = append(i.SecurityOptions, "name="+o.name)
		}
	}
	total, err := totalMemory()
	i.MemTotal = int64(total)
	return err
}

// store tells of the images, and how their layers are kept.
func (i *Info) store(e *Engine) error {
	images, err := e.Images()
	if err != nil {
		return err
	}
	if i.Images, err = images.Count(); err != nil {
		return err
	}
	layers, err := e.Storage()
	if err != nil {
		return err
	}
	var why string
	i.Driver, why = layers.Driver()
	i.DriverStatus = [][2]string{{"Chosen because", why}}
	return nil
}

// count counts the containers.
func (i *Info) count(e *Engine) error {
	list, err := e.List(ListOptions{All: true})
	if err != nil {
		return err
	}
	r := e.runtime()
	for n := range list {
		switch i.Containers++; statusOf(r, &list[n]) {
		case paused:
			i.ContainersPaused++
		case monitor.Running, monitor.Restarting:
			i.ContainersRunning++
		default:
			i.ContainersStopped++
		}
	}
	return nil
}

// asDocker fills in what scripts made for Docker ask.
func (i *Info) asDocker(e *Engine) {
	h, err := cgroup.Detect()
	if err != nil {
		i.CgroupDriver, i.CgroupVersion = "none", ""
	}
	if err == nil && (!i.Rootless || i.CgroupVersion == "2") {
		has := func(name string) bool { return h.Controllers()[name] != limits.Absent }
		i.MemoryLimit, i.CPUCfsPeriod, i.CPUCfsQuota, i.CPUShares, i.CPUSet, i.PidsLimit = has("memory"), has("cpu"), has("cpu"), has("cpu"), has("cpuset"), has("pids")
		i.SwapLimit, i.OomKillDisable = i.MemoryLimit && limitsSwap(), h.Controllers()["memory"] == limits.V1
	}
	i.ID = e.engineID()
	forwards, _ := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	i.IPv4Forwarding = strings.TrimSpace(string(forwards)) == "1"
	i.LiveRestoreEnabled, i.SystemTime, i.IndexServerAddress = true, time.Now().Format(time.RFC3339Nano), image.DockerHub
	i.HTTPProxy, i.HTTPSProxy, i.NoProxy = proxyOf("HTTP_PROXY"), proxyOf("HTTPS_PROXY"), proxyOf("NO_PROXY")
	program, _ := e.runtimeProgram()
	i.ClientInfo = InfoClient{Context: "default", Plugins: []string{}}
	i.Labels, i.Runtimes, i.Swarm = []string{}, map[string]InfoRuntime{i.DefaultRuntime: {program}}, InfoSwarm{LocalNodeState: "inactive"}
	i.CDISpecDirs = []string{"/etc/cdi", "/var/run/cdi"}
	i.Plugins = InfoPlugins{Volume: []string{"local"}, Network: []string{"bridge", "host", "ipvlan", "macvlan", "null"}, Log: []string{"journald", "json-file", "local", "none", "syslog"}}
}

// engineID is what tells this engine's data from any other's, for who collects what many machines say: made up by the first who asks, and kept in one step, so
// that all who ask have the same. It is empty where nothing can be kept.
func (e *Engine) engineID() string {
	link := e.data + "/engine-id"
	if !e.look {
		_ = files.Reserve(files.NewID(), link) // that there is one, or that none can be, shows in what follows
	}
	id, _ := files.ReservedFor(link)
	return id
}

// proxyOf is what registries are reached by, without a password: net/http reads the same variables.
func proxyOf(name string) string {
	text := cmp.Or(os.Getenv(name), os.Getenv(strings.ToLower(name)))
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return text
	}
	scheme, _, ok := strings.Cut(text, "://")
	if !ok {
		return "xxxxx" + text[at:]
	}
	return scheme + "://xxxxx" + text[at:]
}

// uplinkText tells of the uplink that runs, else of the one that would.
func (e *Engine) uplinkText() string {
	mode, why := uplink.Choice()
	if u, err := uplink.Open(uplink.Dir(e.dir), e.warn); err == nil {
		defer u.Close()
		if s, err := u.Status(); err == nil {
			mode, why = s.Mode, s.Why
			if s.Ping != "" {
				why += "; no ping: " + s.Ping
			}
			if s.Refused > 0 {
				why += fmt.Sprintf("; %d requests for a connection left unanswered, the last one from %v, which had as many as were free", s.Refused, s.RefusedLast)
			}
		}
	}
	return mode + " (" + why + ")"
}

// osRelease is the name and version of this machine's system: os-release(5).
func osRelease() (name, version string) {
	name = "Linux"
	for _, file := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			key, value, _ := strings.Cut(lines.Text(), "=")
			value = strings.Trim(value, `"'`)
			switch key {
			case "PRETTY_NAME":
				name = value
			case "VERSION_ID":
				version = value
			}
		}
		break
	}
	return name, version
}

// machine is what the kernel calls this architecture: uname(2).
func machine() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Machine[:])
}
