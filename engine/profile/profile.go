package profile

import (
	"encoding/json"
	"fmt"

	"github.com/kakuri/kakuri/abi"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Names are the profiles that a user may ask for.
func Names() []string { return []string{builtin, docker, debug, i386} }

// The names of profiles.
const (
	builtin = "builtin" // the default
	debug   = "debug"   // with what debuggers and tracers need in addition
	docker  = "docker"  // Docker's
	i386    = "i386"    // with the calls of 32-bit programs
	strict  = "strict"  // without what a server can do without; a level's, and not to be asked for by itself
)

// Named is the profile of that name, for a container that may have these capabilities.
func Named(name string, caps abi.CapSet) (*specs.LinuxSeccomp, error) {
	p, err := seccomp.GetDefaultProfile(holding(caps))
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	if name != docker {
		p = narrow(p, caps, name)
	}
	return p, nil
}

// NativeOnly reports whether the profile of that name kills for calls of another architecture than the machine's, as 32-bit programs make them.
func NativeOnly(name string) bool { return name == builtin || name == debug || name == strict }

// Parse reads a profile in Docker's form or runtime-spec's, for a container that may have these capabilities.
func Parse(text string, caps abi.CapSet) (*specs.LinuxSeccomp, error) {
	profile, err := seccomp.LoadProfile(text, holding(caps))
	if err == nil {
		return profile, nil
	}
	// A runtime-spec profile has no conditions; Docker's form is a superset of it.
	var plain specs.LinuxSeccomp
	if json.Unmarshal([]byte(text), &plain) != nil {
		return nil, err
	}
	return &plain, nil
}

// holding is what the conditions of a profile are asked of: a container with these capabilities.
func holding(caps abi.CapSet) *specs.Spec {
	var names []string
	for _, c := range caps.List() {
		names = append(names, c.String())
	}
	return &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: names}}}
}
