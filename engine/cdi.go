package engine

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/parser"
)

// Devices that more than a node belongs to, GPUs first of all, are described by files of
// their vendors in /etc/cdi and /var/run/cdi: the Container Device Interface. A device is
// named vendor/class=name there, and may have nodes, mounts, variables and hooks.

// named reports whether a --device is one of CDI's, and not a path.
func (d Device) named() bool { return d.Inside == "" && parser.IsQualifiedName(d.Host) }

// A wish is a device of CDI, and the flag that asks for it.
type wish struct{ Name, Flag string }

// A cdiJob is what the files of CDI are asked for.
type cdiJob struct {
	Dirs   []string // nil is CDI's own
	Wishes []wish
	GPUs   []string // of --gpus
	Bind   bool     // nodes are the host's, bound: a user namespace can make none
	Make   bool     // but for those in /dev, which the runtime makes
	Spec   specs.Spec
}

// A cdiCause is a field of the spec and the flag that it comes from.
type cdiCause struct{ Field, Flag string }

// cdi adds what the files of CDI say about the devices that are asked for by name.
func (b *builder) cdi() error {
	j := cdiJob{Dirs: b.cdiDirs, GPUs: b.run.GPUs, Bind: !b.host.Privileged() || b.hasUserNS(), Make: b.host.Privileged()}
	for _, d := range b.run.Devices {
		if d.named() {
			j.Wishes = append(j.Wishes, wish{d.Host, "--device " + d.Flag})
		}
	}
	if len(j.Wishes)+len(j.GPUs) == 0 {
		return nil
	}
	j.Spec = b.spec
	spec, causes, err := j.run()
	if err != nil {
		return err
	}
	b.spec = spec
	for _, c := range causes {
		b.because(c.Field, "%s", c.Flag)
	}
	return nil
}

// gpuNames reads one --gpus: "all", a number, or comma-separated parts as in
// "driver=nvidia,count=2" and "device=0,1", and gives names of CDI. Without a driver it is
// the vendor that this machine has devices of.
func gpuNames(arg string, known []string) ([]string, error) {
	kinds := map[string]string{"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "intel": "intel.com/gpu"}
	kind, count := "", ""
	var ids []string
	key := ""
	for part := range strings.SplitSeq(strings.Trim(arg, `"`), ",") {
		name, value, ok := strings.Cut(strings.Trim(part, `"`), "=")
		switch {
		case !ok && key == "device":
			ids = append(ids, name) // device=0,1
			continue
		case !ok:
			name, value = "count", name
		}
		key = name
		switch name {
		case "driver":
			if kind = kinds[value]; kind == "" {
				return nil, fmt.Errorf("there is no driver %q: it is nvidia, amd or intel, or a device by --device vendor/class=name", value)
			}
		case "count":
			count = value
		case "device":
			ids = append(ids, value)
		case "capabilities", "options": // of other ways to hand in a GPU: CDI's device has what it needs
		default:
			return nil, fmt.Errorf("%q is none of driver, count, device, capabilities and options", name)
		}
	}
	if kind == "" {
		for _, vendor := range []string{"nvidia", "amd", "intel"} {
			if slices.ContainsFunc(known, func(n string) bool { return strings.HasPrefix(n, kinds[vendor]+"=") }) {
				kind = kinds[vendor]
				break
			}
		}
		if kind == "" {
			return nil, errors.New("no vendor's files describe a GPU of this machine: nvidia-ctk cdi generate, or the like of another vendor, writes them to /etc/cdi")
		}
	}
	if len(ids) == 0 {
		if count == "" || count == "all" || count == "-1" {
			return []string{kind + "=all"}, nil
		}
		n, err := strconv.ParseUint(count, 10, 10)
		if err != nil {
			return nil, fmt.Errorf("count=%s: want a number, or all", count)
		}
		for i := range n {
			ids = append(ids, strconv.FormatUint(i, 10))
		}
	} else if count != "" {
		return nil, errors.New("count and device are two ways to say which: take one")
	}
	var names []string
	for _, id := range ids {
		if parser.ValidateDeviceName(id) != nil {
			return nil, fmt.Errorf("device=%s: a device has a name of letters, digits, _, -, . and : alone", id)
		}
		names = append(names, kind+"="+id)
	}
	return names, nil
}
