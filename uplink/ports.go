package uplink

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/network"
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
	if err := checkOwner(owner); err != nil {
		return nil, err
	}
	name := filepath.Join(run, portsDir, owner)
	data, err := files.Read(name)
	if err != nil {
		return nil, err
	}
	list, err := network.ParsePortRecord(string(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return list, nil
}

// WritePorts records an owner's ports, in the place of others that it had.
func WritePorts(run, owner string, ports []plan.Publish) error {
	if err := checkOwner(owner); err != nil {
		return err
	}
	for _, p := range ports {
		if !p.HostAddr.IsValid() || !p.Addr.IsValid() || strings.ContainsAny(p.Proto+p.Bridge, " \n") {
			return fmt.Errorf("uplink: port %d of %s has no address", p.HostPort, owner)
		}
	}
	dir := filepath.Join(run, portsDir)
	f, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return err
	}
	_, err = f.WriteString(network.PortRecord(ports))
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, owner))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// removePorts takes an owner's record away, and reports whether there was one.
func removePorts(run, owner string) (had bool, err error) {
	err = os.Remove(filepath.Join(run, portsDir, owner))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
