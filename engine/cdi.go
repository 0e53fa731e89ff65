package engine

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"
)

// Devices that more than a node belongs to, GPUs first of all, are described by files of
// their vendors in /etc/cdi and /var/run/cdi: the Container Device Interface. A device is
// named vendor/class=name there, and may have nodes, mounts, variables and hooks.

// named reports whether a --device is one of CDI's, and not a path.
func (d Device) named() bool { return d.Inside == "" && parser.IsQualifiedName(d.Host) }

// A wish is a device of CDI, and the flag that asks for it.
type wish struct{ name, flag string }

// cdi adds what the files of CDI say about the devices that are asked for by name.
func (b *builder) cdi() error {
	var wishes []wish
	for _, d := range b.run.Devices {
		if d.named() {
			wishes = append(wishes, wish{d.Host, "--device " + d.Flag})
		}
	}
	if len(wishes)+len(b.run.GPUs) == 0 {
		return nil
	}
	dirs := b.cdiDirs
	if dirs == nil {
		dirs = cdi.DefaultSpecDirs
	}
	cache, err := cdi.NewCache(cdi.WithAutoRefresh(false), cdi.WithSpecDirs(dirs...))
	if err != nil {
		return fmt.Errorf("devices of CDI: %w", err)
	}
	for _, arg := range b.run.GPUs {
		names, err := gpuNames(arg, cache.ListDevices())
		if err != nil {
			return fmt.Errorf("--gpus %s: %w", arg, err)
		}
		for _, n := range names {
			wishes = append(wishes, wish{n, "--gpus " + arg})
		}
	}
	for _, w := range wishes {
		if err := b.inject(cache, w, dirs); err != nil {
			return err
		}
	}
	return nil
}

// inject adds one device to the spec, and notes where the new parts come from.
func (b *builder) inject(cache *cdi.Cache, w wish, dirs []string) error {
	device := cache.GetDevice(w.name)
	if device == nil {
		err := fmt.Errorf("%s: there is no device %s in %s", w.flag, w.name, strings.Join(dirs, ", "))
		for file, faults := range cache.GetErrors() {
			err = fmt.Errorf("%w; %s: %s", err, file, plan.OneLine(errors.Join(faults...).Error()))
		}
		return err
	}
	s := &b.spec
	nodes, mounts, variables := len(s.Linux.Devices), len(s.Mounts), len(s.Process.Env)
	if _, err := cache.InjectDevices(s, w.name); err != nil {
		return fmt.Errorf("%s: %s: %w", w.flag, w.name, err)
	}
	for i := variables; i < len(s.Process.Env); i++ {
		b.because(fmt.Sprintf("process.env[%d]", i), "%s", w.flag)
	}
	if !b.host.Privileged() || b.hasUserNS() {
		// A node that cannot be made in a user namespace is the host's, bound.
		keep := s.Linux.Devices[:nodes]
		for _, d := range s.Linux.Devices[nodes:] {
			if b.host.Privileged() && strings.HasPrefix(path.Clean(d.Path), "/dev/") {
				keep = append(keep, d)
				continue
			}
			s.Mounts = append(s.Mounts, specs.Mount{Destination: d.Path, Type: "bind", Source: hostNode(device, d.Path), Options: []string{"bind", "nosuid", "noexec"}})
		}
		s.Linux.Devices = keep
	}
	for i := nodes; i < len(s.Linux.Devices); i++ {
		b.because(fmt.Sprintf("linux.devices[%d]", i), "%s", w.flag)
	}
	for i := mounts; i < len(s.Mounts); i++ {
		b.because(fmt.Sprintf("mounts[%d]", i), "%s", w.flag)
	}
	if s.Hooks != nil {
		b.because("hooks", "%s", w.flag)
	}
	return nil
}

// hostNode is where the host has a node that a device of CDI has at a path of the container.
func hostNode(device *cdi.Device, p string) string {
	for _, n := range slices.Concat(device.ContainerEdits.DeviceNodes, device.GetSpec().ContainerEdits.DeviceNodes) {
		if n.Path == p {
			return cmp.Or(n.HostPath, p)
		}
	}
	return p
}

// A gpuKind is a class of CDI, and the driver's name that stands for it.
type gpuKind struct{ driver, class string }

// gpuKinds are those there are, in the order in which they are looked for.
var gpuKinds = [...]gpuKind{{"nvidia", "nvidia.com/gpu"}, {"amd", "amd.com/gpu"}, {"intel", "intel.com/gpu"}}

// A gpuRequest is what one --gpus asks for.
type gpuRequest struct {
	class string // of CDI; empty where no driver is named
	count string // "all", or a number
	ids   []string
}

// gpuNames gives the names of CDI for one --gpus. Without a driver it is the vendor that this machine has devices of.
func gpuNames(arg string, known []string) ([]string, error) {
	r, err := parseGPUs(arg)
	if err != nil {
		return nil, err
	}
	for _, k := range gpuKinds {
		if r.class == "" && slices.ContainsFunc(known, func(n string) bool { return strings.HasPrefix(n, k.class+"=") }) {
			r.class = k.class
		}
	}
	if r.class == "" {
		return nil, errors.New("no file in /etc/cdi or /var/run/cdi describes a GPU of this machine to containers (CDI): the tool of its vendor writes one, as in nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml")
	}
	ids, err := r.devices()
	for i, id := range ids {
		ids[i] = r.class + "=" + id
	}
	return ids, err
}

// parseGPUs reads "all", a number, or comma-separated parts as in "driver=nvidia,count=2" and "device=0,1".
func parseGPUs(arg string) (r gpuRequest, err error) {
	key := ""
	for part := range strings.SplitSeq(strings.Trim(arg, `"`), ",") {
		name, value, ok := strings.Cut(strings.Trim(part, `"`), "=")
		switch {
		case !ok && key == "device":
			r.ids = append(r.ids, name) // device=0,1
			continue
		case !ok:
			name, value = "count", name
		}
		key = name
		switch name {
		case "driver":
			i := slices.IndexFunc(gpuKinds[:], func(k gpuKind) bool { return k.driver == value })
			if i < 0 {
				return r, fmt.Errorf("there is no driver %q: it is nvidia, amd or intel, or a device by --device vendor/class=name", value)
			}
			r.class = gpuKinds[i].class
		case "count":
			r.count = value
		case "device":
			r.ids = append(r.ids, value)
		case "capabilities", "options": // of other ways to hand in a GPU: CDI's device has what it needs
		default:
			return r, fmt.Errorf("%q is none of driver, count, device, capabilities and options", name)
		}
	}
	return r, nil
}

// devices are the names of a request's devices within their class.
func (r *gpuRequest) devices() (ids []string, err error) {
	switch {
	case len(r.ids) > 0 && r.count != "":
		return nil, errors.New("count and device are two ways to say which: take one")
	case len(r.ids) == 0 && (r.count == "" || r.count == "all" || r.count == "-1"):
		return []string{"all"}, nil
	case len(r.ids) == 0:
		n, err := strconv.ParseUint(r.count, 10, 10)
		if err != nil {
			return nil, fmt.Errorf("count=%s: want a number, or all", r.count)
		}
		for i := range n {
			ids = append(ids, strconv.FormatUint(i, 10))
		}
		return ids, nil
	}
	for _, id := range r.ids {
		if parser.ValidateDeviceName(id) != nil {
			return nil, fmt.Errorf("device=%s: a device has a name of letters, digits, _, -, . and : alone", id)
		}
	}
	return r.ids, nil
}
