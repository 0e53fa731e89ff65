package oci

import (
	"slices"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"
)

// AnnotationVersion names the version of kakuri-runtime in what it tells of itself.
const AnnotationVersion = "io.github.kakuri.version"

// annotationCheckpoint is how runc says that it has checkpoint and restore; others look for it.
const annotationCheckpoint = "org.opencontainers.runc.checkpoint.enabled"

// Features is what a runtime of this version can do: runtime-spec, features.md. The lists are
// those by which plans are compiled.
func Features(version string) *features.Features {
	w := plan.Known()
	yes := true
	for _, list := range [][]string{w.Capabilities, w.Namespaces, w.SeccompArchs} {
		slices.Sort(list)
	}
	return &features.Features{
		OCIVersionMin: "1.0.0", OCIVersionMax: specs.Version,
		Hooks: w.Hooks, MountOptions: w.MountOptions,
		Linux: &features.Linux{
			Namespaces: w.Namespaces, Capabilities: w.Capabilities, Cgroup: cgroupFeatures(),
			Seccomp: &features.Seccomp{
				Enabled: &yes, Actions: w.SeccompActions, Operators: w.SeccompOperators, Archs: w.SeccompArchs,
				KnownFlags: w.SeccompFlags, SupportedFlags: supportedFlags(w.SeccompFlags),
			},
			Apparmor: &features.Apparmor{Enabled: &yes}, Selinux: &features.Selinux{Enabled: &yes},
			IntelRdt:        &features.IntelRdt{Enabled: &yes, Schemata: &yes, Monitoring: &yes},
			MemoryPolicy:    &features.MemoryPolicy{Modes: w.MemoryModes, Flags: w.MemoryFlags},
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}},
			NetDevices:      &features.NetDevices{Enabled: &yes},
		},
		Annotations:                        map[string]string{AnnotationVersion: version, annotationCheckpoint: "true"},
		PotentiallyUnsafeConfigAnnotations: unsafeAnnotations(),
	}
}

// cgroupFeatures is what can be done with control groups: see newGroup.
func cgroupFeatures() *features.Cgroup {
	yes := true
	return &features.Cgroup{V1: &yes, V2: &yes, Systemd: &yes, SystemdUser: &yes, Rdma: &yes}
}

// unsafeAnnotations are those of config.json that this runtime reads, and that let who writes them
// do more than the rest of config.json does: a file of CRIU's may name programs to run, a property of a unit as well, and groups
// that a caller has are not asked for in process.user.
func unsafeAnnotations() []string {
	return []string{configAnnotation, "org.systemd.property.", "run.oci.keep_original_groups"}
}

// supportedFlags are the flags of filters that the running kernel knows, too.
func supportedFlags(known []string) []string {
	var list []string
	for _, word := range known {
		flag := map[string]uintptr{
			"SECCOMP_FILTER_FLAG_TSYNC": abi.SeccompFlagTsync, "SECCOMP_FILTER_FLAG_LOG": abi.SeccompFlagLog,
			"SECCOMP_FILTER_FLAG_SPEC_ALLOW":         abi.SeccompFlagSpecAllow,
			"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": abi.SeccompFlagWaitKillableRecv | abi.SeccompFlagNewListener,
		}[word]
		// A flag that it does not know is EINVAL, before it looks for the filter, which is none.
		if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, abi.SeccompSetModeFilter, flag, 0); errno == unix.EFAULT {
			list = append(list, word)
		}
	}
	return list
}
