package monitor

import (
	"fmt"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// An ordinary user's container that is on networks has its monitor in the user's network world, as root of a user namespace there. Records
// have the host's ids, as everybody outside sees them; the maps of the container's user namespace are written in those of the world.

// uplinkPorts has ports of the machine lead to the container. Where nobody hears of it, an uplink that stands still is left to who waits for this one: see [uplink.Mind].
func (m *monitor) uplinkPorts(list []plan.Publish, warn func(text string)) error {
	u, err := uplink.Open(uplink.Dir(m.order.Run), warn)
	if err != nil {
		return err
	}
	defer u.Close()
	_, err = u.Publish(m.task.ID, list)
	return err
}

// intoWorld has the container's ids be those that this process's user namespace has for them.
func intoWorld(s *specs.Spec) error {
	if s.Linux == nil {
		return nil
	}
	for _, m := range []struct {
		file string
		list *[]specs.LinuxIDMapping
	}{{"uid_map", &s.Linux.UIDMappings}, {"gid_map", &s.Linux.GIDMappings}} {
		data, err := files.Read("/proc/self/" + m.file)
		if err != nil {
			return err
		}
		own, err := namespace.ParseIDMap(data)
		if err != nil {
			return fmt.Errorf("/proc/self/%s: %w", m.file, err)
		}
		if *m.list, err = translate(*m.list, own); err != nil {
			return err
		}
	}
	return nil
}

// translate gives a map to the host's ids as one to the ids of a user namespace, whose map to the host's is own. A line that lies in several of
// own's becomes several.
func translate(list []specs.LinuxIDMapping, own namespace.IDMap) ([]specs.LinuxIDMapping, error) {
	var out []specs.LinuxIDMapping
	for _, m := range list {
		for m.Size > 0 {
			n := uint32(0)
			for _, o := range own {
				if m.HostID >= o.Outside && m.HostID-o.Outside < o.Count {
					n = min(m.Size, o.Count-(m.HostID-o.Outside))
					out = append(out, specs.LinuxIDMapping{ContainerID: m.ContainerID, HostID: o.Inside + (m.HostID - o.Outside), Size: n})
					break
				}
			}
			if n == 0 {
				return nil, fmt.Errorf("id %d of the host is none of the network world's: /etc/subuid or /etc/subgid has changed since that was made: end this user's containers that are on networks, and start them again", m.HostID)
			}
			m.ContainerID, m.HostID, m.Size = m.ContainerID+n, m.HostID+n, m.Size-n
		}
	}
	return out, nil
}
