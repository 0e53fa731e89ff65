package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// Records: one line a port, words between spaces.

const temporary = ".new"

func checkName(name string) error {
	if name == "" || name[0] == '.' || strings.ContainsRune(name, '/') || strings.HasSuffix(name, temporary) {
		return fmt.Errorf("record of rules for %q: %w", name, unix.EINVAL)
	}
	return nil
}

func (r *Rules) write(kind, name, text string) error {
	if err := checkName(name); err != nil {
		return err
	}
	path := filepath.Join(r.dir, kind, name)
	if have, err := files.Read(path); err == nil && string(have) == text {
		return nil
	}
	file := filepath.Join(r.dir, kind, "."+name+"."+strconv.Itoa(os.Getpid())+temporary)
	err := os.WriteFile(file, []byte(text), 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		err = os.WriteFile(file, []byte(text), 0o600)
	}
	if err == nil {
		err = os.Rename(file, path)
	}
	if err != nil {
		os.Remove(file)
	}
	return err
}

func (r *Rules) remove(kind, name string) error {
	return removed(os.Remove(filepath.Join(r.dir, kind, name)))
}

func removed(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// PortRecord is ports as a text that is kept, a line each: tcp 0.0.0.0 8080 172.17.0.2 80 rule kakuri0. The device may be missing.
func PortRecord(ports []plan.Publish) string {
	var b strings.Builder
	for _, p := range ports {
		how := "rule"
		if p.Strict {
			how = "strict"
		}
		if p.Routed {
			how = "routed"
		}
		fmt.Fprintln(&b, p.Proto, p.HostAddr, p.HostPort, p.Addr, p.Port, how, p.Bridge)
	}
	return b.String()
}

// ParsePortRecord is the reverse.
func ParsePortRecord(text string) ([]plan.Publish, error) {
	ports := []plan.Publish{}
	for line := range strings.Lines(text) {
		p, err := parsePort(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, err
		}
		ports = append(ports, p)
	}
	return ports, nil
}

func parsePort(line string) (p plan.Publish, err error) {
	f := strings.Split(line, " ")
	if len(f) != 7 || !slices.Contains([]string{"tcp", "udp", "sctp"}, f[0]) || !slices.Contains([]string{"rule", "strict", "routed"}, f[5]) {
		return p, fmt.Errorf("%q is no port", line)
	}
	host, err1 := netip.ParseAddr(f[1])
	hostPort, err2 := strconv.ParseUint(f[2], 10, 16)
	addr, err3 := netip.ParseAddr(f[3])
	port, err4 := strconv.ParseUint(f[4], 10, 16)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return p, fmt.Errorf("%q is no port: %w", line, err)
	}
	return plan.Publish{Proto: f[0], HostAddr: host, HostPort: uint16(hostPort), Addr: addr, Port: uint16(port), Strict: f[5] == "strict", Routed: f[5] == "routed", Bridge: f[6]}, nil
}

// readPorts reads an owner's record; nil: there is none.
func (r *Rules) readPorts(owner string) ([]plan.Publish, error) {
	path := filepath.Join(r.dir, "ports", owner)
	data, err := files.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ports, err := ParsePortRecord(string(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ports, nil
}

func bridgeRecord(b plan.Bridge) string {
	var words []string
	for _, w := range []struct {
		is   bool
		word string
	}{{b.Internal, "internal"}, {b.ICC, "icc"}, {b.Masquerade4, "masquerade4"}, {b.Masquerade6, "masquerade6"}, {b.Routed4, "routed4"}, {b.Routed6, "routed6"},
		{b.Unprotected4, "unprotected4"}, {b.Unprotected6, "unprotected6"}} {
		if w.is {
			words = append(words, w.word)
		}
	}
	for _, a := range b.Addrs {
		words = append(words, a.String())
	}
	if id := networkOf(b.Alias); id != "" {
		words = append(words, recordOf+id)
	}
	return strings.Join(words, " ") + "\n"
}

// recordOf begins the word of a bridge's record that says which network it is of. Records of older versions have none, and those versions pass over it.
const recordOf = "of:"

// records gives the elements of all records, and the bridges' devices. Of a port that two have it is the newer one's. A bridge whose name another engine's has by now, since ours was
// removed by hand, is left out: what the table has of that name is not ours to say.
func (r *Rules) records() (elements []nftElement, devices []string, err error) {
	names, err := r.names("bridges")
	if err != nil {
		return nil, nil, err
	}
	for _, device := range names {
		data, err := files.Read(filepath.Join(r.dir, "bridges", device))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		b, id := plan.Bridge{Device: device}, ""
		for _, w := range strings.Fields(string(data)) {
			switch w {
			case "internal":
				b.Internal = true
			case "icc":
				b.ICC = true
			case "masquerade4":
				b.Masquerade4 = true
			case "masquerade6":
				b.Masquerade6 = true
			case "routed4":
				b.Routed4 = true
			case "routed6":
				b.Routed6 = true
			case "unprotected4":
				b.Unprotected4 = true
			case "unprotected6":
				b.Unprotected6 = true
			default:
				if a, err := netip.ParsePrefix(w); err == nil {
					b.Addrs = append(b.Addrs, a)
				} else if of, ok := strings.CutPrefix(w, recordOf); ok {
					id = of
				}
			}
		}
		theirs, err := isOthers(device, id)
		if err != nil {
			return nil, nil, err
		}
		if theirs {
			continue
		}
		have, _ := bridgeElements(b)
		elements, devices = append(elements, have...), append(devices, device)
	}
	if names, err = r.names("ports"); err != nil {
		return nil, nil, err
	}
	type name struct{ set, key string }
	at := map[name]int{}
	for _, owner := range names {
		ports, err := r.readPorts(owner)
		if err != nil {
			return nil, nil, err
		}
		for _, e := range portElements(owner, ports) {
			n := name{e.set, e.key}
			if i, twice := at[n]; twice {
				elements[i] = e
				continue
			}
			at[n] = len(elements)
			elements = append(elements, e)
		}
	}
	return elements, devices, nil
}

// names lists records, the oldest first.
func (r *Rules) names(kind string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(r.dir, kind))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	type record struct {
		name string
		time int64
	}
	var list []record
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if info, err := e.Info(); err == nil {
			list = append(list, record{e.Name(), info.ModTime().UnixNano()})
		}
	}
	slices.SortStableFunc(list, func(a, b record) int { return int(min(max(a.time-b.time, -1), 1)) })
	names := make([]string, len(list))
	for i, l := range list {
		names[i] = l.name
	}
	return names, nil
}
