package engine

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/kakuri/kakuri/cgroup"
	"github.com/kakuri/kakuri/cgroup/limits"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// cgroup gives the container a control group of its own, kakuri/ID, and its limits there. An ordinary user's is where the caller's is,
// as far as that may be divided, and has the limits that were asked for by name; so is root's where root can make none and none is needed.
func (b *builder) cgroup() error {
	l := b.spec.Linux
	privileged := b.host.Privileged()
	if privileged && !b.needsCgroup() {
		if why := noCgroups(); why != nil {
			b.notes = append(b.notes, fmt.Sprintf("the container has no control group, so no limit of processes, and no rules for devices: %v", why))
			return nil
		}
	}
	if parent := b.run.CgroupParent; privileged || parent != "" {
		if parent == "" {
			parent = "/kakuri"
			b.because("linux.cgroupsPath", "default: a control group of its own")
		} else {
			b.because("linux.cgroupsPath", "--cgroup-parent %s", parent)
		}
		l.CgroupsPath = path.Join("/", parent, b.id)
	}
	r := b.run.Resources
	limited := r.asked()
	if !privileged && !limited {
		return nil
	}
	res, causes, err := r.spec(r.Memory > 0 && limitsSwap())
	if err != nil {
		return err
	}
	if r.PidsLimit == nil && !privileged || (r.PidsLimit == nil || *r.PidsLimit <= 0) && !limitsProcesses() {
		res.Pids = nil // nobody has asked for a limit
	}
	for _, c := range causes {
		b.because(c.field, "%s", c.flag)
	}
	if l.Resources != nil { // of devices of CDI
		b.access = append(b.access, l.Resources.Devices...)
	}
	b.deviceRules(res)
	if privileged && unifiedMemory() {
		why := ""
		res.Unified, why = unifiedDefaults(b.security.cgroups && !b.run.Privileged)
		b.because("linux.resources.unified", "%s", why)
	}
	l.Resources = res
	return nil
}

// maxCgroups are the control groups that a container may make which has its own to write, by --security-opt writable-cgroups: the kernel has 65,535 ids for all that count memory,
// and who takes them keeps every other container from a start. systemd with a hundred units needs some hundreds.
const maxCgroups = 4096

// unifiedDefaults are files of version 2 that root's containers have beside what was asked for, and why.
func unifiedDefaults(makes bool) (files map[string]string, why string) {
	files = map[string]string{"memory.oom.group": "1"}
	if !makes {
		return files, "default: who runs out of memory ends as a whole"
	}
	files["cgroup.max.descendants"] = strconv.Itoa(maxCgroups)
	return files, "default: who runs out of memory ends as a whole, and makes no more than a share of the control groups that there can be"
}

// needsCgroup reports whether root's container is not to be without a control group: limits were asked for, or its rules keep
// from devices what nothing else does, as the machine's root from those below a volume, and from what an exec with CAP_MKNOD made.
func (b *builder) needsCgroup() bool {
	return b.run.CgroupParent != "" || b.run.Resources.asked() || b.spec.Linux.Resources != nil || b.hostRoot() && !b.run.Privileged ||
		slices.ContainsFunc(b.access, func(a specs.LinuxDeviceCgroup) bool { return len(a.Access) < 3 })
}

// noCgroups says why root can make no control groups here; nil is that it can. In a container they may be read-only, or not there at all.
func noCgroups() error {
	for _, file := range []string{"/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/pids/cgroup.procs"} {
		if unix.Access(file, unix.W_OK) == nil {
			return nil // without a look at all mounts
		}
	}
	h, err := cgroup.Detect()
	if err != nil {
		return err
	}
	refuses, err := h.Refuses(cgroup.Options{Path: "/kakuri/any"})
	if refuses {
		err = errors.New("root may write nothing to /sys/fs/cgroup, as in a container without --privileged")
	}
	return err
}

// asked reports whether any limit was asked for.
func (r Resources) asked() bool {
	return r.BlkioWeight != 0 || len(r.BlkioWeightDevice)+len(r.DeviceReadBps)+len(r.DeviceWriteBps)+len(r.DeviceReadIOps)+len(r.DeviceWriteIOps)+len(r.DeviceRules) > 0 ||
		r.NanoCPUs != 0 || r.CPUShares != 0 || r.CPUPeriod != 0 || r.CPUQuota != 0 || r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0 || r.CpusetCpus+r.CpusetMems != "" ||
		r.Memory != 0 || r.MemoryReservation != 0 || r.MemorySwap != 0 || r.MemorySwappiness != nil || r.KernelMemory != 0 || r.OOMKillDisable || r.PidsLimit != nil
}

// deviceRules allows the container its own devices, and no others; --privileged allows all. The rules of --device-cgroup-rule
// come last.
func (b *builder) deviceRules(r *specs.LinuxResources) {
	if b.run.Privileged {
		r.Devices = append([]specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}, r.Devices...)
		b.because("linux.resources.devices", "--privileged")
		return
	}
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	rules = append(rules, b.access...)
	r.Devices = append(rules, r.Devices...)
	b.because("linux.resources.devices", "default: its own devices")
}

// allow lets the container use a device that it is given.
func (b *builder) allow(d specs.LinuxDevice, access string) {
	if access == "" {
		access = "rwm"
	}
	b.access = append(b.access, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: access})
}

// unifiedMemory reports whether memory is limited by version 2 of control groups.
var unifiedMemory = sync.OnceValue(func() bool { return unified("memory") })

// unified reports whether a controller is one of version 2, mounted at its usual place.
func unified(controller string) bool {
	data, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	return err == nil && slices.Contains(strings.Fields(string(data)), controller)
}

// limitsProcesses reports whether the host can limit how many processes there are. A version 2 that was given to a container or a machine's part need not.
func limitsProcesses() bool {
	if exists("/sys/fs/cgroup/pids/cgroup.procs") || unified("pids") {
		return true // without a look at all mounts
	}
	h, err := cgroup.Detect()
	return err == nil && h.Controllers()["pids"] != limits.Absent
}

// limitsSwap reports whether the host can limit swap.
func limitsSwap() bool {
	if exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes") {
		return true
	}
	data, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(data)) {
		if own, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok && exists("/sys/fs/cgroup"+own+"/memory.swap.max") {
			return true
		}
	}
	below, _ := filepath.Glob("/sys/fs/cgroup/*/memory.swap.max")
	return len(below) > 0
}
