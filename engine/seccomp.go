package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/engine/profile"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/seccomp"
)

// profiles are the names that --security-opt seccomp= knows beside files.
func profiles() []string { return append(profile.Names(), "unconfined") }

// readProfile gives the text of a profile that is no name. A file that has the name
// of a profile is told from it by a slash, as in ./docker.
func readProfile(value string) (string, error) {
	if strings.HasPrefix(value, "{") {
		return value, nil // the text itself, as a client sends it
	}
	data, err := os.ReadFile(value)
	if err != nil && !strings.Contains(value, "/") {
		return "", fmt.Errorf("%w; it is no name of a profile either: %s", err, strings.Join(profiles(), ", "))
	}
	return string(data), err
}

// profile is the name of the profile that is asked for; empty where it is a file, or none.
func (o *securityOpts) profile(privileged bool) string {
	switch {
	case o.seccomp == "unconfined", o.file != "", privileged && o.seccomp == "":
		return ""
	}
	return cmp.Or(o.seccomp, o.level.seccomp)
}

func (b *builder) seccomp() (err error) {
	o, filter := b.security, &b.spec.Linux.Seccomp
	name := o.profile(b.run.Privileged)
	switch {
	case o.file != "":
		if *filter, err = profile.Parse(o.text, b.capSet()); err != nil {
			return fmt.Errorf("--security-opt seccomp=%s: %w", o.file, err)
		}
		b.because("linux.seccomp", "--security-opt seccomp=%s", o.file)
		return nil
	case name == "":
		return nil
	case o.seccomp != "":
		b.because("linux.seccomp", "--security-opt seccomp=%s", o.seccomp)
	case o.level.name != levelDefault:
		b.because("linux.seccomp", "--security-opt level=%s", o.level.name)
	default:
		b.because("linux.seccomp", "default: seccomp profile")
	}
	*filter, err = profile.Named(name, b.capSet())
	return err
}

// capSet are the capabilities that the container may have.
func (b *builder) capSet() abi.CapSet {
	var set abi.CapSet
	for _, name := range b.spec.Process.Capabilities.Bounding {
		if c, ok := abi.ParseCapability(name); ok {
			set = set.With(c)
		}
	}
	return set
}

// explainDenials has the container's filter ask its monitor about what it refuses, and says what the monitor needs
// to know to answer, and to tell a way out. It is for --security-opt seccomp=explain; without a filter there is nothing to explain.
func (b *builder) explainDenials(run string) (*monitor.Denials, error) {
	plain := b.spec.Linux.Seccomp
	if !b.security.explain || plain == nil {
		return nil, nil
	}
	text, err := json.Marshal(plain)
	if err != nil {
		return nil, err
	}
	ways, err := profile.Ways(plain, b.capSet(), b.host.Arch)
	if err != nil {
		return nil, err
	}
	b.spec.Linux.Seccomp = seccomp.Notifying(plain, b.host.Arch, monitor.DenialSocket(run, b.id))
	b.because("linux.seccomp.listenerPath", "--security-opt seccomp=explain")
	return &monitor.Denials{Profile: text, Ways: ways}, nil
}

// killedByFilter tells of who ended by SIGSYS, or of a shell whose command did, by the exit code: what the filter most probably killed it for, and the way out; none for any other end.
// The kernel says this to nobody but its own log.
func (c *Config) killedByFilter(code int) (warnings []string) {
	if code != abi.SIGSYS.ExitCode() {
		return nil
	}
	if o, err := parseSecurityOpt(c.SecurityOpt); err == nil && profile.NativeOnly(o.profile(c.Privileged)) {
		return []string{"it ended by SIGSYS: the filter kills for calls of 32-bit programs, which --security-opt seccomp=i386 lets through"}
	}
	return nil
}
