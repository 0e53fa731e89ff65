package uplink

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/network/netip"
	"github.com/kakuri/kakuri/plan"
)

// Dir is where the uplink of a user's network world is found, by the user's runtime directory.
func Dir(run string) string { return run + "/uplink" }

func checkOwner(owner string) error {
	ok := owner != "" && owner[0] != '.' && len(owner) < 200
	for _, c := range owner {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("_.-", c))
	}
	if !ok {
		return fmt.Errorf("uplink: %q is no name of an owner of ports", owner)
	}
	return nil
}

// Owners are those that have ports in the directory of an uplink, whether one runs or not.
func Owners(run string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(run, portsDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var list []string
	for _, e := range entries {
		if checkOwner(e.Name()) == nil {
			list = append(list, e.Name())
		}
	}
	return list, nil
}

// ReadPorts gives an owner's ports.
func ReadPorts(run, owner string) ([]plan.Publish, error) {
	name := filepath.Join(run, portsDir, owner)
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var list []plan.Publish
	for line := range strings.Lines(string(data)) {
		p, err := parsePort(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		list = append(list, p)
	}
	return list, nil
}

// A line of a file has six words: tcp 0.0.0.0 8080 172.17.0.2 80 kakuri0. The device may be missing.
func parsePort(line string) (p plan.Publish, err error) {
	f := strings.Split(line, " ")
	if len(f) != 6 || !slices.Contains([]string{"tcp", "udp", "sctp"}, f[0]) {
		return p, fmt.Errorf("%q is no port", line)
	}
	p.Proto, p.Bridge = f[0], f[5]
	p.HostAddr, err = netip.ParseAddr(f[1])
	if err == nil {
		p.Addr, err = netip.ParseAddr(f[3])
	}
	for i, to := range map[int]*uint16{2: &p.HostPort, 4: &p.Port} {
		n, e := strconv.ParseUint(f[i], 10, 16)
		if *to = uint16(n); err == nil {
			err = e
		}
	}
	return p, err
}

func writePorts(run, owner string, ports []plan.Publish) error {
	var b []byte
	for _, p := range ports {
		if !p.HostAddr.IsValid() || !p.Addr.IsValid() || strings.ContainsAny(p.Proto+p.Bridge, " \n") {
			return fmt.Errorf("uplink: port %d of %s has no address", p.HostPort, owner)
		}
		b = fmt.Appendf(b, "%s %v %d %v %d %s\n", p.Proto, p.HostAddr, p.HostPort, p.Addr, p.Port, p.Bridge)
	}
	dir := filepath.Join(run, portsDir)
	f, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, owner))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func removePorts(run, owner string) error {
	err := os.Remove(filepath.Join(run, portsDir, owner))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
