package cli

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/engine"
)

func absolute(p string) (string, error) {
	if p == "" {
		return "", fmt.Errorf("the path is empty")
	}
	return filepath.Abs(p)
}

// fileSystems parses -v, --mount, --tmpfs and --device, in Docker's order.
func (f *runFlags) fileSystems() error {
	for _, group := range []struct {
		flag  string
		list  []string
		parse func(string) (engine.Mount, error)
	}{{"-v", f.volumes, parseVolume}, {"--mount", f.mounts, parseMount}, {"--tmpfs", f.tmpfs, parseTmpfs}} {
		for _, s := range group.list {
			m, err := group.parse(s)
			if err != nil {
				return fmt.Errorf("%s %s: %w", group.flag, s, err)
			}
			m.Flag = group.flag + " " + s
			f.run.Mounts = append(f.run.Mounts, m)
		}
	}
	for _, s := range f.devices {
		d, err := parseDevice(s)
		if err != nil {
			return fmt.Errorf("--device %s: %w", s, err)
		}
		f.run.Devices = append(f.run.Devices, d)
	}
	return nil
}

// parseVolume parses SOURCE:DEST[:OPTION,...].
func parseVolume(s string) (engine.Mount, error) {
	part := strings.Split(s, ":")
	if len(part) == 1 {
		return engine.Mount{}, fmt.Errorf("anonymous volumes come with a later version: name a source, as in /srv/data:/data")
	}
	if len(part) > 3 || part[0] == "" || part[1] == "" {
		return engine.Mount{}, fmt.Errorf("want SOURCE:DEST or SOURCE:DEST:OPTIONS")
	}
	m := engine.Mount{Type: "bind", Source: part[0], Dest: part[1], Options: []string{"rprivate", "rbind"}}
	if strings.HasPrefix(m.Source, ".") || strings.HasPrefix(m.Source, "~") {
		abs, err := absolute(m.Source)
		if err != nil {
			return m, err
		}
		m.Source = abs
	}
	if len(part) == 3 {
		for _, o := range strings.Split(part[2], ",") {
			if err := volumeOption(&m, o); err != nil {
				return m, err
			}
		}
	}
	return m, nil
}

func volumeOption(m *engine.Mount, o string) error {
	switch o {
	case "ro", "readonly":
		// As Docker since version 25: read-only all the way down.
		m.Options = append(m.Options, "rro")
	case "rw", "z", "Z", "cached", "delegated", "consistent", "nocopy", "":
	case "private", "rprivate", "shared", "rshared", "slave", "rslave":
		m.Options[0] = o
	default:
		return fmt.Errorf("unknown option %q", o)
	}
	return nil
}

// parseMount parses type=...,source=...,target=....
func parseMount(s string) (engine.Mount, error) {
	m := engine.Mount{Type: "volume", MustHave: true}
	readonly, bind, how := false, "rbind", "rro"
	mode := "rprivate"
	only := map[string]string{} // fields that one type alone has, by that
	for _, field := range strings.Split(s, ",") {
		key, value, has := strings.Cut(field, "=")
		key = strings.ToLower(key)
		if kind, _, ok := strings.Cut(key, "-"); ok {
			only[kind] = key
		}
		switch key {
		case "type":
			m.Type = value
		case "source", "src":
			m.Source = value
		case "target", "dst", "destination":
			m.Dest = value
		case "readonly", "ro":
			v := true
			if has {
				var err error
				if v, err = strconv.ParseBool(value); err != nil {
					return m, fmt.Errorf("%s=%s: want true or false", key, value)
				}
			}
			readonly = v
		case "bind-propagation":
			switch value {
			case "private", "rprivate", "shared", "rshared", "slave", "rslave":
				mode = value
			default:
				return m, fmt.Errorf("bind-propagation=%s: there are private, shared, slave, rprivate, rshared and rslave", value)
			}
		case "bind-recursive":
			switch value {
			case "enabled", "readonly":
				bind, how = "rbind", "rro"
			case "disabled":
				bind, how = "bind", "ro"
			case "writable": // what is mounted below stays so
				bind, how = "rbind", "ro"
			default:
				return m, fmt.Errorf("bind-recursive=%s: there are enabled, disabled, writable, readonly", value)
			}
		case "tmpfs-size":
			n, err := parseSize(value)
			if err != nil {
				return m, fmt.Errorf("tmpfs-size=%s: %w", value, err)
			}
			m.Options = append(m.Options, "size="+strconv.FormatInt(n, 10))
		case "tmpfs-mode":
			if _, err := strconv.ParseUint(value, 8, 32); err != nil {
				return m, fmt.Errorf("tmpfs-mode=%s: want an octal mode", value)
			}
			m.Options = append(m.Options, "mode="+value)
		default:
			return m, fmt.Errorf("unknown field %q", field)
		}
	}
	if m.Dest == "" {
		return m, fmt.Errorf("the field target is missing")
	}
	for _, kind := range []string{"bind", "tmpfs"} {
		if field := only[kind]; field != "" && m.Type != kind {
			return m, fmt.Errorf("%s: not with type=%s", field, m.Type)
		}
	}
	switch m.Type {
	case "bind":
		if m.Source == "" {
			return m, fmt.Errorf("the field source is missing")
		}
		m.Options = []string{mode, bind}
		if readonly {
			m.Options = append(m.Options, how)
		}
	case "tmpfs":
		m.Options = append(m.Options, "nosuid", "nodev", "noexec")
		if readonly {
			m.Options = append(m.Options, "ro")
		}
	}
	return m, nil
}

// parseTmpfs parses DEST[:OPTION,...].
func parseTmpfs(s string) (engine.Mount, error) {
	dest, options, _ := strings.Cut(s, ":")
	m := engine.Mount{Type: "tmpfs", Dest: dest, Options: []string{"nosuid", "nodev", "noexec"}}
	for _, o := range strings.Split(options, ",") {
		switch key, value, _ := strings.Cut(o, "="); key {
		case "":
		case "size":
			n, err := parseSize(value)
			if err != nil {
				return m, fmt.Errorf("size=%s: %w", value, err)
			}
			m.Options = append(m.Options, "size="+strconv.FormatInt(n, 10))
		case "mode", "uid", "gid", "nr_inodes", "nr_blocks", "ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "noatime", "relatime":
			m.Options = append(m.Options, o)
		default:
			return m, fmt.Errorf("unknown option %q", o)
		}
	}
	return m, nil
}

func parseDevice(s string) (engine.Device, error) {
	part := strings.Split(s, ":")
	d := engine.Device{Host: part[0], Inside: part[0], Access: "rwm", Flag: s}
	switch {
	case len(part) == 2 && !strings.HasPrefix(part[1], "/"):
		d.Access = part[1]
	case len(part) >= 2:
		d.Inside = part[1]
	}
	if len(part) == 3 {
		d.Access = part[2]
	}
	if len(part) > 3 || !strings.HasPrefix(d.Host, "/") || !strings.HasPrefix(d.Inside, "/") || strings.Trim(d.Access, "rwm") != "" || d.Access == "" {
		return d, fmt.Errorf("want HOST, HOST:INSIDE or HOST:INSIDE:rwm, with absolute paths")
	}
	return d, nil
}

// parseSize parses a number of bytes with Docker's suffixes: b, k, m, g, t.
func parseSize(s string) (int64, error) {
	bad := fmt.Errorf("want a size, as in 64m")
	text := strings.TrimSuffix(strings.ToLower(s), "b")
	if i := strings.TrimSuffix(text, "i"); i != text {
		text = i
	}
	shift := 0
	if n := len(text); n > 0 {
		if k := strings.IndexByte("kmgt", text[n-1]); k >= 0 {
			shift, text = 10*(k+1), text[:n-1]
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > (1<<62)>>shift {
		return 0, bad
	}
	return n << shift, nil
}

// limits parses --ulimit, --sysctl and --shm-size.
func (f *runFlags) limits() error {
	for _, s := range f.ulimits {
		u, err := parseUlimit(s)
		if err != nil {
			return fmt.Errorf("--ulimit %s: %w", s, err)
		}
		f.run.Ulimits = append(f.run.Ulimits, u)
	}
	for _, s := range f.sysctls {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return fmt.Errorf("--sysctl %s: want KEY=VALUE", s)
		}
		if f.run.Sysctls == nil {
			f.run.Sysctls = map[string]string{}
		}
		f.run.Sysctls[key] = value
	}
	if f.shmSize != "" {
		n, err := parseSize(f.shmSize)
		if err != nil || n == 0 {
			return fmt.Errorf("--shm-size %s: want a size, as in 64m", f.shmSize)
		}
		f.run.ShmSize = n
	}
	return nil
}

func parseUlimit(s string) (engine.Ulimit, error) {
	name, value, ok := strings.Cut(s, "=")
	soft, hard, both := strings.Cut(value, ":")
	if !both {
		hard = soft
	}
	u := engine.Ulimit{Name: name}
	if !ok {
		return u, fmt.Errorf("want NAME=SOFT or NAME=SOFT:HARD")
	}
	for _, p := range []struct {
		text string
		to   *int64
	}{{soft, &u.Soft}, {hard, &u.Hard}} {
		if p.text == "unlimited" {
			p.text = "-1"
		}
		n, err := strconv.ParseInt(p.text, 10, 64)
		if err != nil || n < -1 {
			return u, fmt.Errorf("%q is no limit: want a number, or -1 for unlimited", p.text)
		}
		*p.to = n
	}
	if uint64(u.Soft) > uint64(u.Hard) {
		return u, fmt.Errorf("the soft limit is above the hard one")
	}
	return u, nil
}
