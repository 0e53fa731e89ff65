package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// busybox is the static program that the container runs; Debian's package is busybox-static.
const busybox = "/bin/busybox"

// writeBundle makes dir an OCI bundle: config.json and the directory rootfs. With
// stay its /bin/true is a script that runs this command.
func writeBundle(dir string, cgroup2, seccomp bool, stay ...string) error {
	if err := makeRootfs(filepath.Join(dir, "rootfs"), stay); err != nil {
		return err
	}
	data, err := json.MarshalIndent(config(cgroup2, seccomp), "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), data, 0o644)
}

func makeRootfs(dir string, stay []string) error {
	for _, name := range []string{"bin", "dev", "etc", "proc", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		return fmt.Errorf("%w: install busybox-static", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin", "busybox"), program, 0o755); err != nil {
		return err
	}
	links := []string{"sh", "sleep", "true"}
	if len(stay) > 0 {
		links = links[:2]
		script := "#!/bin/sh\nexec " + strings.Join(stay, " ") + "\n"
		if err := os.WriteFile(filepath.Join(dir, "bin", "true"), []byte(script), 0o755); err != nil {
			return err
		}
	}
	for _, name := range links {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			return err
		}
	}
	return nil
}

// config has the values of runc spec (1.1), with /bin/true and without a terminal.
// On a cgroup v2 host runc adds a cgroup namespace, and so does this. The seccomp
// profile is ours: runc spec has none.
func config(cgroup2, seccomp bool) map[string]any {
	type m = map[string]any
	capabilities := []string{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	mount := func(destination, kind, source string, options ...string) m {
		if len(options) == 0 {
			return m{"destination": destination, "type": kind, "source": source}
		}
		return m{"destination": destination, "type": kind, "source": source, "options": options}
	}
	namespaces := []m{{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}}
	if cgroup2 {
		namespaces = append(namespaces, m{"type": "cgroup"})
	}
	linux := m{
		"resources":  m{"devices": []m{{"allow": false, "access": "rwm"}}},
		"namespaces": namespaces,
		"maskedPaths": []string{
			"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
			"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
		},
		"readonlyPaths": []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
	}
	if seccomp {
		linux["seccomp"] = profile()
	}
	return m{
		"ociVersion": "1.0.2",
		"process": m{
			"terminal": false,
			"user":     m{"uid": 0, "gid": 0},
			"args":     []string{"/bin/true"},
			"env":      []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"},
			"cwd":      "/",
			"capabilities": m{
				"bounding": capabilities, "effective": capabilities, "permitted": capabilities, "ambient": capabilities,
			},
			"rlimits":         []m{{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}},
			"noNewPrivileges": true,
		},
		"root":     m{"path": "rootfs", "readonly": true},
		"hostname": "runc",
		"mounts": []m{
			mount("/proc", "proc", "proc"),
			mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
			mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
			mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
			mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
			mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
			mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"),
		},
		"linux": linux,
	}
}
