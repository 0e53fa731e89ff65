package engine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Bounds that Docker has for limits, in bytes, microseconds and shares.
const (
	leastMemory = 6 << 20
	leastPeriod = 1000
	mostPeriod  = 1000000
	usualPeriod = 100000

	defaultPids = 2048 // processes, where nobody says how many
)

// Check tells what is wrong with limits in themselves, in Docker's words.
func (r Resources) Check() error {
	cpus := runtime.NumCPU()
	for _, rule := range []struct {
		broken bool
		text   string
	}{
		{r.Memory > 0 && r.Memory < leastMemory, "Minimum memory limit allowed is 6MB"},
		{r.Memory < 0, "invalid memory limit: it is a number of bytes, or 0 for none"},
		{r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory, "Minimum memoryswap limit should be larger than memory limit, see usage"},
		{r.Memory == 0 && r.MemorySwap > 0, "You should always set the Memory limit when using Memoryswap limit, see usage"},
		{r.MemorySwappiness != nil && (*r.MemorySwappiness < -1 || *r.MemorySwappiness > 100), "Invalid value: valid memory swappiness range is 0-100"},
		{r.MemoryReservation > 0 && r.MemoryReservation < leastMemory, "Minimum memory reservation allowed is 6MB"},
		{r.Memory > 0 && r.MemoryReservation > r.Memory, "Minimum memory limit can not be less than memory reservation limit, see usage"},
		{r.NanoCPUs != 0 && r.CPUPeriod != 0, "Conflicting options: Nano CPUs and CPU Period cannot both be set"},
		{r.NanoCPUs != 0 && r.CPUQuota != 0, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"},
		{r.NanoCPUs < 0 || r.NanoCPUs > int64(cpus)*1e9 || r.NanoCPUs > 0 && r.NanoCPUs < 1e7,
			fmt.Sprintf("range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", cpus, cpus)},
		{r.CPUShares < 0, fmt.Sprintf("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)},
		{r.CPUPeriod != 0 && (r.CPUPeriod < leastPeriod || r.CPUPeriod > mostPeriod), "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"},
		{r.CPUQuota > 0 && r.CPUQuota < leastPeriod, "CPU cfs quota can not be less than 1ms (i.e. 1000)"},
		{r.CPURealtimeRuntime != 0 && r.CPURealtimePeriod != 0 && r.CPURealtimeRuntime > r.CPURealtimePeriod, "cpu real-time runtime cannot be higher than cpu real-time period"},
		{r.BlkioWeight != 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000), "Range of blkio weight is from 10 to 1000"},
	} {
		if rule.broken {
			return errors.New(rule.text)
		}
	}
	for _, w := range r.BlkioWeightDevice {
		if w.Weight != 0 && (w.Weight < 10 || w.Weight > 1000) {
			return fmt.Errorf("%s: range of blkio weight is from 10 to 1000", w.Path)
		}
	}
	if err := checkSet("cpus", "Requested CPUs are not available", r.CpusetCpus, "/sys/devices/system/cpu/online"); err != nil {
		return err
	}
	return checkSet("mems", "Requested memory nodes are not available", r.CpusetMems, "/sys/devices/system/node/online")
}

// checkSet refuses a list of processors or memory nodes that the machine has not all, which absent says in Docker's words.
func checkSet(what, absent, list, file string) error {
	asked, ok := abi.ParseList(list)
	if !ok || strings.Contains(list, " ") || list != "" && slices.Contains(strings.Split(list, ","), "") {
		return fmt.Errorf("invalid value %s for cpuset %s", list, what)
	}
	if len(asked) == 0 {
		return nil // every start comes by here
	}
	text, err := os.ReadFile(file)
	online := strings.TrimSpace(string(text))
	if have, ok := abi.ParseList(online); err == nil && ok && len(have) > 0 && slices.ContainsFunc(asked, func(n abi.Range) bool { return !covers(have, n) }) {
		return fmt.Errorf("%s - requested %s, available: %s", absent, list, online)
	}
	return nil
}

// covers reports whether all numbers of a range are in others.
func covers(have []abi.Range, n abi.Range) bool {
	return slices.ContainsFunc(have, func(h abi.Range) bool { return h.First <= n.First && n.Last <= h.Last })
}

// A limit of runtime-spec, by its field, and the flag that asks for it.
type limitCause struct{ field, flag string }

// byField has the flags by their fields: of several that ask for the same one the last.
func byField(causes []limitCause) map[string]string {
	flags := map[string]string{}
	for _, c := range causes {
		flags[c.field] = c.flag
	}
	return flags
}

// spec is what a container's limits are in runtime-spec, and where each comes from. Of those that nobody
// asked for only that of processes is there, and with a limit of memory Docker's of swap, which is as much
// again, where swap says that the host can limit it.
func (r Resources) spec(swap bool) (*specs.LinuxResources, []limitCause, error) {
	if err := r.Check(); err != nil {
		return nil, nil, err
	}
	out := &specs.LinuxResources{}
	var causes []limitCause
	say := func(field, format string, args ...any) {
		causes = append(causes, limitCause{"linux.resources." + field, fmt.Sprintf(format, args...)})
	}
	r.memory(out, swap, say)
	r.cpu(out, say)
	if err := r.blockIO(out, say); err != nil {
		return nil, nil, err
	}
	pids := int64(defaultPids)
	say("pids.limit", "default: no more than %d processes", defaultPids)
	if r.PidsLimit != nil {
		if pids = *r.PidsLimit; pids <= 0 {
			pids = -1
		}
		say("pids.limit", "--pids-limit %d", *r.PidsLimit)
	}
	out.Pids = &specs.LinuxPids{Limit: &pids}
	for _, text := range r.DeviceRules {
		rule, err := parseDeviceRule(text)
		if err != nil {
			return nil, nil, err
		}
		say(fmt.Sprintf("devices[%d]", len(out.Devices)), "--device-cgroup-rule %s", text)
		out.Devices = append(out.Devices, rule)
	}
	return out, causes, nil
}

func (r Resources) memory(out *specs.LinuxResources, canSwap bool, say func(string, string, ...any)) {
	m := &specs.LinuxMemory{}
	set := func(to **int64, v int64, field, flag string) {
		if v != 0 {
			*to = &v
			say("memory."+field, "%s %d", flag, v)
		}
	}
	set(&m.Limit, r.Memory, "limit", "--memory")
	set(&m.Reservation, r.MemoryReservation, "reservation", "--memory-reservation")
	swap := r.MemorySwap
	if swap == 0 && r.Memory > 0 && canSwap {
		swap = 2 * r.Memory
	}
	set(&m.Swap, swap, "swap", "--memory-swap")
	if swap != r.MemorySwap {
		say("memory.swap", "default: as much swap as --memory")
	}
	if s := r.MemorySwappiness; s != nil && *s >= 0 {
		v := uint64(*s)
		m.Swappiness = &v
		say("memory.swappiness", "--memory-swappiness %d", v)
	}
	if r.OOMKillDisable {
		m.DisableOOMKiller = &r.OOMKillDisable
		say("memory.disableOOMKiller", "--oom-kill-disable")
	}
	if *m != (specs.LinuxMemory{}) {
		out.Memory = m
	}
}

func (r Resources) cpu(out *specs.LinuxResources, say func(string, string, ...any)) {
	c := &specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	unsigned := func(to **uint64, v int64, field, flag string) {
		if v > 0 {
			u := uint64(v)
			*to = &u
			say("cpu."+field, "%s %d", flag, v)
		}
	}
	signed := func(to **int64, v int64, field, flag string) {
		if v != 0 {
			*to = &v
			say("cpu."+field, "%s %d", flag, v)
		}
	}
	unsigned(&c.Shares, r.CPUShares, "shares", "--cpu-shares")
	unsigned(&c.Period, r.CPUPeriod, "period", "--cpu-period")
	signed(&c.Quota, r.CPUQuota, "quota", "--cpu-quota")
	unsigned(&c.RealtimePeriod, r.CPURealtimePeriod, "realtimePeriod", "--cpu-rt-period")
	signed(&c.RealtimeRuntime, r.CPURealtimeRuntime, "realtimeRuntime", "--cpu-rt-runtime")
	if r.NanoCPUs > 0 {
		period, quota := uint64(usualPeriod), r.NanoCPUs*usualPeriod/1e9
		c.Period, c.Quota = &period, &quota
		cpus := strconv.FormatFloat(float64(r.NanoCPUs)/1e9, 'f', -1, 64)
		say("cpu.period", "--cpus %s", cpus)
		say("cpu.quota", "--cpus %s", cpus)
	}
	if c.Cpus != "" {
		say("cpu.cpus", "--cpuset-cpus %s", c.Cpus)
	}
	if c.Mems != "" {
		say("cpu.mems", "--cpuset-mems %s", c.Mems)
	}
	if *c != (specs.LinuxCPU{}) {
		out.CPU = c
	}
}

func (r Resources) blockIO(out *specs.LinuxResources, say func(string, string, ...any)) error {
	b := &specs.LinuxBlockIO{}
	used := false
	if w := r.BlkioWeight; w != 0 {
		b.Weight, used = &w, true
		say("blockIO.weight", "--blkio-weight %d", w)
	}
	for i, w := range r.BlkioWeightDevice {
		major, minor, err := blockDevice(w.Path)
		if err != nil {
			return fmt.Errorf("--blkio-weight-device %s: %w", w.Path, err)
		}
		d := specs.LinuxWeightDevice{Weight: &w.Weight}
		d.Major, d.Minor, used = major, minor, true
		b.WeightDevice = append(b.WeightDevice, d)
		say(fmt.Sprintf("blockIO.weightDevice[%d]", i), "--blkio-weight-device %s:%d", w.Path, w.Weight)
	}
	for _, rate := range []struct {
		list  []DeviceRate
		to    *[]specs.LinuxThrottleDevice
		field string
		flag  string
	}{
		{r.DeviceReadBps, &b.ThrottleReadBpsDevice, "throttleReadBpsDevice", "--device-read-bps"},
		{r.DeviceWriteBps, &b.ThrottleWriteBpsDevice, "throttleWriteBpsDevice", "--device-write-bps"},
		{r.DeviceReadIOps, &b.ThrottleReadIOPSDevice, "throttleReadIOPSDevice", "--device-read-iops"},
		{r.DeviceWriteIOps, &b.ThrottleWriteIOPSDevice, "throttleWriteIOPSDevice", "--device-write-iops"},
	} {
		for i, d := range rate.list {
			major, minor, err := blockDevice(d.Path)
			if err != nil {
				return fmt.Errorf("%s %s: %w", rate.flag, d.Path, err)
			}
			t := specs.LinuxThrottleDevice{Rate: d.Rate}
			t.Major, t.Minor, used = major, minor, true
			*rate.to = append(*rate.to, t)
			say(fmt.Sprintf("blockIO.%s[%d]", rate.field, i), "%s %s:%d", rate.flag, d.Path, d.Rate)
		}
	}
	if used {
		out.BlockIO = b
	}
	return nil
}

// blockDevice is the number of a block device of the host.
func blockDevice(name string) (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return 0, 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, errors.New("it is no block device")
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}

// parseDeviceRule reads "c 42:* rmw", as --device-cgroup-rule has it.
func parseDeviceRule(text string) (specs.LinuxDeviceCgroup, error) {
	bad := func() (specs.LinuxDeviceCgroup, error) {
		return specs.LinuxDeviceCgroup{}, fmt.Errorf("invalid device cgroup rule format: '%s': it is TYPE MAJOR:MINOR ACCESS, as in 'c 42:* rwm'", text)
	}
	part := strings.Split(text, " ")
	if len(part) != 3 || len(part[0]) != 1 || !strings.Contains("acb", part[0]) {
		return bad()
	}
	d := specs.LinuxDeviceCgroup{Allow: true, Type: part[0], Access: part[2]}
	if len(d.Access) == 0 || len(d.Access) > 3 || strings.Trim(d.Access, "rwm") != "" {
		return bad()
	}
	major, minor, ok := strings.Cut(part[1], ":")
	if !ok {
		return bad()
	}
	for text, to := range map[*string]**int64{&major: &d.Major, &minor: &d.Minor} {
		n := int64(-1)
		if *text != "*" {
			u, err := strconv.ParseUint(*text, 10, 32)
			if err != nil {
				return bad()
			}
			n = int64(u)
		}
		*to = &n
	}
	return d, nil
}
