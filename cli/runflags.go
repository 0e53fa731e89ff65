package cli

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// runFlags are the flags of run and create, as far as they are not in the Config yet.
type runFlags struct {
	run engine.Config

	entrypoint         string
	env, envFiles      []string
	labels, labelFiles []string
	volumes, mounts    []string
	tmpfs              []string
	devices            []string
	health             engine.Health
	net                netFlags
	healthCmd          string
	noHealth           bool
	swappiness         int64
	pidsLimit          int64
	stopTimeout        int
	cidfile            string
	quiet              bool

	// of run alone
	detach   bool
	sigProxy bool
	timings  bool
}

// register makes the flags that run and create have both.
func (f *runFlags) register(s *pflag.FlagSet) {
	s.SetInterspersed(false)
	s.SortFlags = true
	s.Bool("help", false, "print this help") // -h is the host name, as in Docker
	f.life(s)
	f.process(s)
	f.files(s)
	f.namespaces(s)
	f.networks(s)
	f.rights(s)
	limitFlags(s, &f.run.Resources, &f.pidsLimit)
	f.moreLimits(s)
	hidden(s)
}

// registerRun makes those that run has alone.
func (f *runFlags) registerRun(s *pflag.FlagSet) {
	s.BoolVarP(&f.detach, "detach", "d", false, "do not wait: print the id, and leave the container to itself")
	s.StringVar(&f.run.DetachKeys, "detach-keys", "", "keys that leave the container to itself (default ctrl-p,ctrl-q)")
	s.BoolVar(&f.sigProxy, "sig-proxy", true, "pass on the signals that this command gets (default: yes, =false does not)")
	s.BoolVar(&f.timings, "timings", false, "print how long each step took, on stderr")
}

func (f *runFlags) life(s *pflag.FlagSet) {
	r := &f.run
	s.BoolVarP(&r.Interactive, "interactive", "i", false, "keep stdin open")
	s.BoolVarP(&r.TTY, "tty", "t", false, "give the container a terminal")
	s.FuncP("attach", "a", "attach to `STREAM`: stdin, stdout or stderr (default: the last two, and stdin with -i)", f.attach)
	s.BoolVar(&r.AutoRemove, "rm", false, "remove the container, and its volumes without a name, when it ends")
	s.StringVar(&r.Name, "name", "", "name of the container (default: two words)")
	s.StringVar(&f.cidfile, "cidfile", "", "write the container's id to `FILE`")
	s.BoolVar(&r.Init, "init", false, "run an init as pid 1 that passes signals on and reaps")
	s.StringVar(&r.StopSignal, "stop-signal", "", "signal that asks the command to end (default: the image's, else TERM)")
	s.IntVar(&f.stopTimeout, "stop-timeout", 0, "`SECONDS` from that signal to a KILL, -1 is without end (default 10)")
	s.Func("restart", "start again when it ends: `POLICY`, one of no (default), always, unless-stopped, on-failure[:N]", func(v string) (err error) {
		r.Restart, err = parseRestart(v)
		return err
	})
	s.StringVar(&r.Pull, "pull", "missing", "pull the image: `WHEN`, one of missing (default), always, never")
	s.BoolVarP(&f.quiet, "quiet", "q", false, "do not print how pulling goes on")
	platformFlag(s, &r.Platform, "take the image for `OS/ARCH[/VARIANT]` (default: this machine's)")
	s.StringArrayVarP(&f.labels, "label", "l", nil, "set a label: `NAME[=VALUE]`")
	s.StringArrayVar(&f.labelFiles, "label-file", nil, "set the labels in `FILE`")
	s.Func("annotation", "pass an annotation to the runtime: `NAME=VALUE`", func(v string) error {
		name, value, _ := strings.Cut(v, "=")
		if name == "" {
			return fmt.Errorf("want NAME=VALUE")
		}
		put(&r.Annotations, name, value)
		return nil
	})
	s.StringVar(&r.Log.Driver, "log-driver", "", "where output is kept: `DRIVER`, one of json-file (default), local, journald, syslog, none")
	s.Func("log-opt", "set an option of the log driver: `NAME=VALUE`", pairs(&r.Log.Options))
	s.StringVar(&f.healthCmd, "health-cmd", "", "shell `COMMAND` that finds out whether the container is well")
	s.DurationVar(&f.health.Interval, "health-interval", 0, "`DURATION` between two checks (default 30s)")
	s.IntVar(&f.health.Retries, "health-retries", 0, "checks in a row that fail until it is unhealthy (default 3)")
	s.DurationVar(&f.health.StartInterval, "health-start-interval", 0, "`DURATION` between two checks of the start period (default 5s)")
	s.DurationVar(&f.health.StartPeriod, "health-start-period", 0, "`DURATION` from the start during which failed checks do not count")
	s.DurationVar(&f.health.Timeout, "health-timeout", 0, "`DURATION` that a check may take (default 30s)")
	s.BoolVar(&f.noHealth, "no-healthcheck", false, "make none of the image's health checks")
	s.StringVar(&r.Runtime, "runtime", "", "runtime to use: kakuri-runtime is the only one")
}

func (f *runFlags) process(s *pflag.FlagSet) {
	r := &f.run
	s.StringArrayVarP(&f.env, "env", "e", nil, "set a variable: `NAME=VALUE`, or NAME to pass the caller's on")
	s.StringArrayVar(&f.envFiles, "env-file", nil, "set the variables in `FILE`")
	s.StringVarP(&r.Workdir, "workdir", "w", "", "working directory inside")
	s.StringVarP(&r.User, "user", "u", "", "user inside: `NAME|UID[:GROUP|GID]`")
	s.StringArrayVar(&r.GroupAdd, "group-add", nil, "add a supplementary group: NAME or GID")
	s.StringVar(&f.entrypoint, "entrypoint", "", "run this program in place of the image's")
	s.Func("ulimit", "set a limit: `NAME=SOFT[:HARD]`", func(v string) error {
		u, err := parseUlimit(v)
		r.Ulimits = slices.DeleteFunc(r.Ulimits, func(former engine.Ulimit) bool { return former.Name == u.Name }) // the last one counts
		r.Ulimits = append(r.Ulimits, u)
		return err
	})
	s.IntVar(&r.OOMScoreAdj, "oom-score-adj", 0, "how soon the kernel picks it when memory is short: -1000 to 1000")
}

func (f *runFlags) files(s *pflag.FlagSet) {
	r := &f.run
	s.StringVar(&r.Rootfs, "rootfs", "", "run on the root file system in `DIR`; there is no IMAGE then")
	s.StringArrayVarP(&f.volumes, "volume", "v", nil, "mount a directory, a file or a volume: `[SOURCE:]DEST[:ro]`")
	s.StringArrayVar(&f.mounts, "mount", nil, "add a mount: `type=bind|volume|tmpfs|image,source=..,target=..`")
	s.StringArrayVar(&f.tmpfs, "tmpfs", nil, "mount a tmpfs: `DEST[:OPTIONS]`")
	s.StringArrayVar(&r.VolumesFrom, "volumes-from", nil, "mount the volumes of `CONTAINER[:ro]`, too")
	s.StringVar(&r.VolumeDriver, "volume-driver", "", "driver of the volumes that are made: local is the only one")
	s.Func("storage-opt", "option of the writable layer: `size=BYTES`", pairs(&r.StorageOpt))
	s.BoolVar(&r.ReadOnly, "read-only", false, "make the root file system read-only")
	s.StringArrayVar(&f.devices, "device", nil, "give a device of the host: `HOST[:INSIDE[:rwm]]`, or a name of CDI")
	s.StringArrayVar(&r.GPUs, "gpus", nil, "give GPUs: all, a number, or `device=..,driver=..`")
	s.Func("shm-size", "size of /dev/shm (default 64m)", func(v string) error {
		n, err := parseSize(v)
		r.ShmSize = n // 0 is the default
		return err
	})
}

func (f *runFlags) namespaces(s *pflag.FlagSet) {
	r := &f.run
	s.StringVarP(&r.Hostname, "hostname", "h", "", "host name inside (default: the id)")
	s.StringVar(&r.Domainname, "domainname", "", "NIS domain name inside")
	s.StringVar(&r.PID, "pid", "", "pid namespace: host or container:NAME (default: its own)")
	s.StringVar(&r.IPC, "ipc", "", "ipc namespace: host, none, private, shareable or container:NAME (default: private)")
	s.StringVar(&r.UTS, "uts", "", "uts namespace: host or container:NAME (default: its own)")
	s.StringVar(&r.UserNS, "userns", "", "user namespace: auto[:size=N], host, keep-id[:uid=U,gid=G,size=N] or container:NAME (default auto)")
	s.StringVar(&r.CgroupNS, "cgroupns", "", "cgroup namespace: private or host (default private)")
	s.StringVar(&r.CgroupParent, "cgroup-parent", "", "control group that the container's is made below")
	s.Func("time-offset", "shift a clock inside: `boottime=DURATION` or monotonic=DURATION, as in 24h or -90s", f.timeOffset)
	s.Func("sysctl", "set a kernel parameter of the container's namespaces: `KEY=VALUE`", func(v string) error {
		key, value, ok := strings.Cut(v, "=")
		if !ok || key == "" {
			return fmt.Errorf("want KEY=VALUE")
		}
		put(&r.Sysctls, key, value)
		return nil
	})
}

func (f *runFlags) rights(s *pflag.FlagSet) {
	r := &f.run
	s.StringArrayVar(&r.CapAdd, "cap-add", nil, "add a capability")
	s.StringArrayVar(&r.CapDrop, "cap-drop", nil, "drop a capability, or all")
	s.BoolVar(&r.Privileged, "privileged", false, "all capabilities and devices, no seccomp, no masks; as root no user namespace")
	s.StringArrayVar(&r.SecurityOpt, "security-opt", nil, "level=default|docker|strict, no-new-privileges, apparmor=PROFILE|unconfined, label=disable|type:TYPE|level:LEVEL|user:USER|role:ROLE|filetype:TYPE, seccomp=FILE|builtin|docker|debug|i386|unconfined|explain, systempaths=unconfined, writable-cgroups")
	s.Func("device-cgroup-rule", "allow devices: `TYPE MAJOR:MINOR rwm`, as in 'c 42:* rmw'", func(v string) error {
		if err := checkDeviceRule(v); err != nil {
			return err
		}
		r.Resources.DeviceRules = append(r.Resources.DeviceRules, v)
		return nil
	})
}

// limitFlags are the resources of run, create and update.
func limitFlags(s *pflag.FlagSet, r *engine.Resources, pids *int64) {
	s.Uint16Var(&r.BlkioWeight, "blkio-weight", 0, "`SHARE` of block I/O: 10 to 1000")
	s.Int64Var(&r.CPUPeriod, "cpu-period", 0, "period of --cpu-quota, in `MICROSECONDS`")
	s.Int64Var(&r.CPUQuota, "cpu-quota", 0, "processor time in each period, in `MICROSECONDS`")
	s.Int64Var(&r.CPURealtimePeriod, "cpu-rt-period", 0, "period of --cpu-rt-runtime, in `MICROSECONDS`")
	s.Int64Var(&r.CPURealtimeRuntime, "cpu-rt-runtime", 0, "real-time processor time in each period, in `MICROSECONDS`")
	s.Int64VarP(&r.CPUShares, "cpu-shares", "c", 0, "`SHARE` of processor time, beside 1024 of others")
	s.Func("cpus", "`NUMBER` of processors, as in 1.5", func(v string) (err error) {
		r.NanoCPUs, err = parseCPUs(v)
		return err
	})
	s.StringVar(&r.CpusetCpus, "cpuset-cpus", "", "processors to run on: `LIST`, as in 0-3 or 0,1")
	s.StringVar(&r.CpusetMems, "cpuset-mems", "", "memory nodes to use: `LIST`, as in 0-3 or 0,1")
	s.FuncP("memory", "m", "limit of memory, in `BYTES`, as in 512m", sizeInto(&r.Memory))
	s.Func("memory-reservation", "memory to come down to when it is short, in `BYTES`", sizeInto(&r.MemoryReservation))
	s.Func("memory-swap", "limit of memory and swap together, in `BYTES`; -1 is without", func(v string) error {
		if v == "-1" {
			r.MemorySwap = -1
			return nil
		}
		return sizeInto(&r.MemorySwap)(v)
	})
	s.Int64Var(pids, "pids-limit", 0, "`NUMBER` of processes and threads, at most; -1 is without limit (default 2048, as root)")
	s.Func("kernel-memory", "limit of the kernel's memory, in `BYTES`", sizeInto(&r.KernelMemory))
	s.MarkHidden("kernel-memory")
}

// moreLimits are those that update cannot change.
func (f *runFlags) moreLimits(s *pflag.FlagSet) {
	r := &f.run.Resources
	s.Func("blkio-weight-device", "share of a device's I/O: `DEVICE:WEIGHT`", func(v string) error {
		d, err := parseDeviceWeight(v)
		r.BlkioWeightDevice = append(r.BlkioWeightDevice, d)
		return err
	})
	for _, rate := range []struct {
		name, what string
		bytes      bool
		to         *[]engine.DeviceRate
	}{
		{"device-read-bps", "bytes a second read from a device: `DEVICE:RATE`, as in /dev/sda:1mb", true, &r.DeviceReadBps},
		{"device-read-iops", "reads a second from a device: `DEVICE:RATE`", false, &r.DeviceReadIOps},
		{"device-write-bps", "bytes a second written to a device: `DEVICE:RATE`, as in /dev/sda:1mb", true, &r.DeviceWriteBps},
		{"device-write-iops", "writes a second to a device: `DEVICE:RATE`", false, &r.DeviceWriteIOps},
	} {
		s.Func(rate.name, rate.what, func(v string) error {
			d, err := parseDeviceRate(v, rate.bytes)
			*rate.to = append(*rate.to, d)
			return err
		})
	}
	s.Int64Var(&f.swappiness, "memory-swappiness", -1, "how readily its memory is swapped out: 0 to 100 (default: as the host)")
	s.BoolVar(&r.OOMKillDisable, "oom-kill-disable", false, "stop it, and do not kill, when memory runs out (control groups of version 1)")
}

// hidden makes the other names that Docker takes.
func hidden(s *pflag.FlagSet) {
	s.SetNormalizeFunc(otherNames)
	s.Bool("disable-content-trust", true, "taken, and without effect")
	s.MarkHidden("disable-content-trust")
	s.BoolFunc("use-api-socket", "taken as false", func(v string) error {
		if on, err := strconv.ParseBool(v); err != nil || on {
			return cmp.Or(err, errors.New("there is no daemon, and so no socket to give to a container"))
		}
		return nil
	})
	s.MarkHidden("use-api-socket")
	s.Func("isolation", "of Windows: `default` is taken", func(v string) error {
		if v != "" && !strings.EqualFold(v, "default") {
			return errors.New("it is for Windows, but for default")
		}
		return nil
	})
}

func put(m *map[string]string, key, value string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[key] = value
}

// pairs takes NAME=VALUE into a map.
func pairs(m *map[string]string) func(string) error {
	return func(v string) error {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return fmt.Errorf("want NAME=VALUE")
		}
		put(m, name, value)
		return nil
	}
}

// options takes options of a driver, where Docker lets one without a value be.
func options(m *map[string]string) func(string) error {
	return func(v string) error {
		if v != "" && !strings.Contains(v, "=") {
			v += "="
		}
		return pairs(m)(v)
	}
}

// sizeInto takes a number of bytes.
func sizeInto(n *int64) func(string) error {
	return func(v string) (err error) {
		*n, err = parseSize(v)
		return err
	}
}

func (f *runFlags) attach(v string) error {
	v = strings.ToLower(v)
	if v != "stdin" && v != "stdout" && v != "stderr" {
		return fmt.Errorf("valid streams are STDIN, STDOUT and STDERR")
	}
	f.run.Attach = append(f.run.Attach, v)
	return nil
}

// finish parses what the flags hold as text, and checks what they are together.
func (f *runFlags) finish(c *cobra.Command, io IO, args []string) error {
	r := &f.run
	if r.Rootfs == "" {
		r.Image, args = args[0], args[1:]
	} else {
		abs, err := absolute(r.Rootfs)
		if err != nil {
			return fmt.Errorf("--rootfs %s: %w", r.Rootfs, err)
		}
		r.Rootfs = abs
	}
	r.Command = args
	if in := file(io.In); r.TTY && in != nil {
		// Its program may ask for the size as the first thing it does.
		if columns, rows, err := term.GetSize(int(in.Fd())); err == nil {
			r.Columns, r.Rows = uint16(columns), uint16(rows)
		}
	}
	if c.Flags().Changed("entrypoint") {
		r.Entrypoint = []string{f.entrypoint}
	}
	if c.Flags().Changed("stop-timeout") {
		r.StopTimeout = &f.stopTimeout
	}
	if c.Flags().Changed("pids-limit") {
		r.Resources.PidsLimit = &f.pidsLimit
	}
	for _, part := range []func() error{f.streams, f.environment, f.marks, f.fileSystems, f.checks, f.modes, f.connect} {
		if err := part(); err != nil {
			return err
		}
	}
	for _, a := range r.DNS {
		if a, err := netip.ParseAddr(a); err == nil && a.IsLoopback() && r.Network != "host" {
			io.warn("Localhost DNS setting (--dns=" + a.String() + ") may fail in containers: it is the container's own loopback")
		}
	}
	s := dockerSettings(io)
	f.proxies(s)
	r.DetachKeys = cmp.Or(r.DetachKeys, s.DetachKeys)
	return nil
}

// streams says what is attached: by default output, and input with -i.
func (f *runFlags) streams() error {
	r := &f.run
	if f.detach {
		return nil
	}
	if len(r.Attach) == 0 {
		r.Attach = []string{"stdout", "stderr"}
	}
	if r.Interactive {
		if !f.attached("stdin") {
			r.Attach = append([]string{"stdin"}, r.Attach...)
		}
		r.StdinOnce = true
	}
	return nil
}

func (f *runFlags) attached(stream string) bool {
	for _, a := range f.run.Attach {
		if a == stream {
			return true
		}
	}
	return false
}

func (f *runFlags) environment() error {
	for _, name := range f.envFiles {
		list, err := readEnvFile(name, os.LookupEnv)
		if err != nil {
			return fmt.Errorf("--env-file %s: %w", name, err)
		}
		f.run.Env = append(f.run.Env, list...)
	}
	for _, e := range f.env {
		name, _, has := strings.Cut(e, "=")
		if name == "" {
			return usageError{fmt.Errorf("--env %s: invalid environment variable: %s", e, e)}
		}
		if !has {
			if value, ok := os.LookupEnv(e); ok { // else the name alone, which takes away what the image or the engine has
				e += "=" + value
			}
		}
		f.run.Env = append(f.run.Env, e)
	}
	return nil
}

// marks gathers the labels; those of the command line win.
func (f *runFlags) marks() error {
	for _, name := range f.labelFiles {
		list, err := readEnvFile(name, func(string) (string, bool) { return "", true })
		if err != nil {
			return fmt.Errorf("--label-file %s: %w", name, err)
		}
		for _, l := range list {
			key, value, _ := strings.Cut(l, "=")
			put(&f.run.Labels, key, value)
		}
	}
	for _, l := range f.labels {
		if err := putLabel(&f.run.Labels, l); err != nil {
			return err
		}
	}
	return nil
}

// putLabel takes NAME[=VALUE] of --label. A name with spaces is mostly a shell's quotes gone wrong.
func putLabel(m *map[string]string, l string) error {
	key, value, _ := strings.Cut(l, "=")
	switch bare := strings.TrimLeft(key, " \t"); {
	case bare == "":
		return fmt.Errorf("--label %s: invalid label '%s': empty name", l, l)
	case strings.ContainsAny(bare, " \t"):
		return fmt.Errorf("--label %s: label '%s' contains whitespaces", l, bare)
	}
	put(m, key, value)
	return nil
}

// checks refuses what does not go together, and what has no meaning.
func (f *runFlags) checks() error {
	r, h := &f.run, f.health
	switch r.Pull {
	case "missing", "always", "never":
	case "":
		r.Pull = "missing"
	default:
		return fmt.Errorf(`--pull %s: invalid pull option: must be one of "always", "missing" or "never"`, r.Pull)
	}
	if f.swappiness != -1 {
		if f.swappiness < 0 || f.swappiness > 100 {
			return fmt.Errorf("--memory-swappiness: invalid value: %d. Valid memory swappiness range is 0-100", f.swappiness)
		}
		r.Resources.MemorySwappiness = &f.swappiness
	}
	if r.AutoRemove && !r.Restart.Never() {
		return errors.New("conflicting options: cannot specify both --restart and --rm")
	}
	if r.Log.Driver == "none" && len(r.Log.Options) > 0 {
		return errors.New("invalid logging opts for driver none")
	}
	for name, negative := range map[string]bool{
		"interval": h.Interval < 0, "timeout": h.Timeout < 0, "retries": h.Retries < 0, "start-period": h.StartPeriod < 0, "start-interval": h.StartInterval < 0,
	} {
		if negative {
			return fmt.Errorf("--health-%s cannot be negative", name)
		}
	}
	asked := f.healthCmd != "" || h.Interval+h.Timeout+h.StartPeriod+h.StartInterval != 0 || h.Retries != 0
	switch {
	case f.noHealth && asked:
		return errors.New("--no-healthcheck conflicts with --health-* options")
	case f.noHealth:
		r.Health = &engine.Health{Test: []string{"NONE"}}
	case asked:
		if f.healthCmd != "" {
			h.Test = []string{"CMD-SHELL", f.healthCmd}
		}
		r.Health = &h
	}
	return nil
}

// readEnvFile reads NAME=VALUE lines as Docker does: no quotes, no export, # begins
// a comment line, a bare NAME has the value that is looked up, if there is one.
func readEnvFile(name string, lookup func(string) (string, bool)) ([]string, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var list []string
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	n := 1
	for ; lines.Scan(); n++ {
		line := lines.Text()
		if !utf8.ValidString(line) { // a record has text alone, and would have others in the place of such bytes
			return nil, fmt.Errorf("line %d: invalid utf8 bytes: %q", n, line)
		}
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		key, _, has := strings.Cut(line, "=")
		if key == "" || strings.ContainsAny(key, " \t") {
			return nil, fmt.Errorf("line %d: %q is no NAME=VALUE", n, line)
		}
		if !has {
			value, ok := lookup(key)
			if !ok {
				continue
			}
			line = key + "=" + value
		}
		list = append(list, line)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n, err)
	}
	return list, nil
}

func (f *runFlags) modes() error {
	r := &f.run
	for _, m := range []struct {
		flag, value string
		container   bool
		words       []string
	}{
		{"--pid", r.PID, true, []string{"", "host", "private"}},
		{"--ipc", r.IPC, true, []string{"", "host", "private", "shareable", "none"}},
		{"--uts", r.UTS, true, []string{"", "host", "private"}},
		{"--cgroupns", r.CgroupNS, true, []string{"", "host", "private"}},
	} {
		ok := m.container && strings.HasPrefix(m.value, "container:")
		for _, w := range m.words {
			ok = ok || w == m.value
		}
		if !ok {
			return fmt.Errorf("%s %s: unknown mode; there are %s and container:NAME", m.flag, m.value, strings.Join(m.words[1:], ", "))
		}
	}
	return nil
}

func (f *runFlags) timeOffset(v string) error {
	clock, value, _ := strings.Cut(v, "=")
	d, err := time.ParseDuration(value)
	if err != nil {
		return fmt.Errorf("want CLOCK=DURATION, as in boottime=24h")
	}
	switch clock {
	case "boottime":
		f.run.Boottime = d
	case "monotonic":
		f.run.Monotonic = d
	default:
		return fmt.Errorf("the clocks that a namespace has are boottime and monotonic (the wall clock is the machine's)")
	}
	return nil
}
