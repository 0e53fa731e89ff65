package experiments

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
)

// mapped is the host's id of a bundle's root, as root runs it.
const mapped = 1879048192

// writeConfig makes dir a bundle with the lab's root file system and all eight namespaces.
func (l *lab) writeConfig(t *testing.T, dir string, a asked) {
	t.Helper()
	type m = map[string]any
	caps := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_NET_BIND_SERVICE"}
	masked, readonly := []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"}, []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"}
	if a.admin {
		caps, masked, readonly = append(caps, "CAP_SYS_ADMIN"), nil, nil
	}
	var namespaces []m
	for name := range strings.FieldsSeq("pid user network mount ipc uts cgroup time") {
		if name != "pid" || !a.sharedPID {
			namespaces = append(namespaces, m{"type": name})
		}
	}
	mounts := []m{
		{"destination": "/proc", "type": "proc", "source": "proc", "options": []string{"nosuid", "noexec", "nodev"}},
		{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
		{"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": []string{"nosuid", "noexec", "nodev"}},
		{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": []string{"nosuid", "noexec", "nodev", "ro"}},
		{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": []string{"mode=1777"}},
	}
	if a.sharedPID {
		// A user namespace may not mount the procfs of a pid namespace that it does not own.
		mounts[0] = m{"destination": "/proc", "type": "bind", "source": "/proc", "options": []string{"rbind", "nosuid", "noexec", "nodev"}}
		masked, readonly = nil, nil
	}
	if a.kakuri {
		mounts = append(mounts, m{"destination": "/kakuri", "type": "bind", "source": nstest.Binary(t, "kakuri"), "options": []string{"bind", "ro"}})
	}
	hostname := a.hostname
	if hostname == "" {
		hostname = "bundle"
	}
	linux := m{"namespaces": namespaces, "maskedPaths": masked, "readonlyPaths": readonly}
	linux["uidMappings"], linux["gidMappings"] = l.idMap(t, "/etc/subuid"), l.idMap(t, "/etc/subgid")
	if a.day {
		linux["timeOffsets"] = m{"boottime": m{"secs": 86400}}
	}
	config := m{
		"ociVersion": "1.2.0", "root": m{"path": l.root}, "hostname": hostname, "mounts": mounts, "linux": linux,
		"process": m{
			"user": m{"uid": 0, "gid": 0}, "args": []string{"sh"}, "cwd": "/", "env": []string{"PATH=/bin"},
			"capabilities": m{"bounding": caps, "effective": caps, "permitted": caps},
		},
	}
	data, err := json.MarshalIndent(config, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// idMap maps root to a range of its own, or for an ordinary user to that user, and the ids
// above it to the user's range.
func (l *lab) idMap(t *testing.T, file string) []map[string]any {
	t.Helper()
	if l.user == nil {
		return []map[string]any{{"containerID": 0, "hostID": mapped, "size": 65536}}
	}
	own := l.user.UID
	if file == "/etc/subgid" {
		own = l.user.GID
	}
	list := []map[string]any{{"containerID": 0, "hostID": own, "size": 1}}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || f[0] != l.user.Name {
			continue
		}
		start, err1 := strconv.Atoi(f[1])
		size, err2 := strconv.Atoi(f[2])
		if err1 == nil && err2 == nil {
			return append(list, map[string]any{"containerID": 1, "hostID": start, "size": size})
		}
	}
	return list
}
