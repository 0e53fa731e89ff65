package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/oci/specjson"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// A Bundle is a directory with a valid config.json.
type Bundle struct {
	Dir      string // absolute
	JSON     []byte // config.json as it was read
	Spec     *specs.Spec
	Warnings specjson.Errors
}

// Load reads and validates dir/config.json. Errors name the JSON path at fault. What is to be changed of it is before it is
// validated; Bundle.JSON stays as it was read.
func Load(dir string, change ...func(*specs.Spec) error) (*Bundle, error) {
	return LoadConfig(dir, "", change...)
}

// LoadConfig is Load with another file in the place of dir/config.json: relative to the working directory, not to dir. No
// name is dir/config.json.
func LoadConfig(dir, config string, change ...func(*specs.Spec) error) (*Bundle, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	name := config
	if name == "" {
		name = filepath.Join(abs, "config.json")
	}
	data, err := files.Read(name)
	if config == "" && errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("bundle %s: there is no config.json; a bundle is a directory with a config.json and a root file system", abs)
	}
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", abs, err)
	}
	spec, err := specjson.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", abs, err)
	}
	for _, f := range change {
		if err := f(spec); err != nil {
			return nil, err
		}
	}
	alone := ownIDs(spec)
	if err := idmapOptions(spec); err != nil {
		return nil, fmt.Errorf("bundle %s: %w", abs, err)
	}
	warnings, err := specjson.Validate(spec)
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", abs, err)
	}
	if alone {
		warnings = append(warnings, &specjson.Error{File: "config.json", Path: "linux.uidMappings", Want: "mappings for the new user namespace", Got: "none", Hint: "root inside is the caller, and no other id is mapped"})
	}
	b := &Bundle{Dir: abs, JSON: data, Spec: spec, Warnings: warnings}
	return b, b.checkJoined()
}

// ownIDs gives a new user namespace for which there are no mappings the one that its maker may always give, as crun does: root inside is who
// makes it.
func ownIDs(s *specs.Spec) bool {
	l := s.Linux
	if l == nil || len(l.UIDMappings)+len(l.GIDMappings) > 0 || !makesOwn(s, specs.UserNamespace) {
		return false
	}
	l.UIDMappings = []specs.LinuxIDMapping{{HostID: uint32(os.Geteuid()), Size: 1}}
	l.GIDMappings = []specs.LinuxIDMapping{{HostID: uint32(os.Getegid()), Size: 1}}
	return true
}

// checkJoined refuses to set a host name or kernel parameters in a namespace that
// is joined by a path to this process's own: they would be the host's.
func (b *Bundle) checkJoined() error {
	if b.Spec.Linux == nil {
		return nil
	}
	for i, n := range b.Spec.Linux.Namespaces {
		if n.Path == "" {
			continue
		}
		kind, _ := abi.ParseNamespace(string(n.Type))
		set := b.setsIn(kind)
		if set == "" {
			continue
		}
		theirs, err := os.Stat(n.Path)
		if err != nil {
			return fmt.Errorf("config.json: linux.namespaces[%d].path: %w", i, err)
		}
		if ours, err := os.Stat("/proc/self/ns/" + kind.ProcName()); err == nil && os.SameFile(ours, theirs) {
			return fmt.Errorf("config.json: linux.namespaces[%d].path: %s is the host's own %s namespace, in which nothing may be set: take out %s, or the path", i, n.Path, n.Type, set)
		}
	}
	return nil
}

// setsIn names what the configuration sets in its namespace of a type, or nothing. Parameters of another type do not count: Podman has
// some of the network in every container, and --ipc=container:NAME joins the host's where that container has it.
func (b *Bundle) setsIn(kind abi.Namespace) string {
	switch {
	case kind != abi.NSUTS:
	case b.Spec.Hostname != "":
		return "hostname"
	case b.Spec.Domainname != "":
		return "domainname"
	}
	first := "" // in the order of the alphabet, so that the message is always the same
	for key := range b.Spec.Linux.Sysctl {
		if owner, ok := specjson.SysctlNamespace(key); ok && owner == kind && (first == "" || key < first) {
			first = key
		}
	}
	if first == "" {
		return ""
	}
	return "linux.sysctl." + first
}

// Dedicate prepares this process, its memory and its threads, for making one container; a command's main goroutine
// calls it first, and is locked to its thread from then on.
func Dedicate() {
	launch.Dedicate()
	launch.Prefault(512 << 10)
}

// Needs tells which facts of the host the bundle's plan depends on.
func (b *Bundle) Needs() host.Needs {
	n := needs(b.Spec)
	n.Trees, n.Chroot = plan.Trees(b.Spec, b.Dir), !plan.InPlace(b.Spec)
	return n
}

func needs(s *specs.Spec) host.Needs {
	n := host.Needs{Cgroup: slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return m.Type == "cgroup" })}
	n.ProcPIDNS = joins(s, specs.PIDNamespace) && slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return m.Type == "proc" })
	n.Labels = s.Process != nil && (s.Process.ApparmorProfile != "" || s.Process.SelinuxLabel != "") || s.Linux != nil && s.Linux.MountLabel != ""
	return n
}
