package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"math/big"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/volume"
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
		for i, s := range group.list {
			switch again := func(o string) bool { return o == s || group.flag == "--tmpfs" && tmpfsPlace(o) == tmpfsPlace(s) }; {
			case group.flag == "-v" && slices.ContainsFunc(group.list[:i], again):
				continue // the same words twice are one volume, as for Docker
			case group.flag == "--tmpfs" && slices.ContainsFunc(group.list[i+1:], again):
				continue // the last one at a place counts
			}
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

// parseVolume parses [SOURCE:]DEST[:OPTION,...]. A source that is no path is a volume's
// name; without one it is a volume that nobody names.
func parseVolume(s string) (engine.Mount, error) {
	part := strings.Split(s, ":")
	const want = "want DEST, SOURCE:DEST or SOURCE:DEST:OPTIONS"
	switch {
	case s == "":
		return engine.Mount{}, errors.New("invalid empty volume spec: " + want)
	case len(part) > 3:
		return engine.Mount{}, errors.New(want)
	case slices.Contains(part[:min(2, len(part))], ""):
		return engine.Mount{}, errors.New("empty section between colons: " + want)
	}
	if len(part) == 1 {
		if !path.IsAbs(s) {
			s = path.Join("/", s) // Docker takes one without a slash at its beginning, too, if it is alone
		}
		return engine.Mount{Type: "volume", Dest: s}, nil
	}
	m := engine.Mount{Type: "volume", Source: part[0], Dest: part[1]}
	if s[0] == '/' || s[0] == '.' { // "~" is the shell's, which leaves it as it is in --volume=~/x: a directory of that name is not what was meant
		m.Type, m.Options = "bind", []string{"rprivate", "rbind"}
	} else if err := volume.CheckName(m.Source); err != nil {
		return m, err
	}
	if m.Type == "bind" && s[0] != '/' {
		abs, err := absolute(m.Source)
		if err != nil {
			return m, err
		}
		m.Source = abs
	}
	if len(part) == 3 {
		if err := volumeMode(part[2], m.Type); err != nil {
			return m, err
		}
		for _, o := range strings.Split(part[2], ",") {
			if err := volumeOption(&m, o); err != nil {
				return m, err
			}
		}
	}
	return m, nil
}

// volumeMode refuses a mode whose options contradict each other, or are for another kind: of two, one would be without effect, and which of them nobody could tell.
func volumeMode(mode, kind string) error {
	if mode == "" {
		return fmt.Errorf("empty section between colons")
	}
	given := map[string]bool{}
	for o := range strings.SplitSeq(mode, ",") {
		switch o {
		case "ro", "readonly", "rw":
			o = "access"
		case "z", "Z":
			o = "label"
		case "cached", "delegated", "consistent":
			o = "consistency"
		case "private", "rprivate", "shared", "rshared", "slave", "rslave":
			o = "propagation"
		case "nocopy":
			if kind == "bind" {
				return fmt.Errorf("invalid mode: %s: nocopy is of volumes, and this is a directory", mode)
			}
		}
		if given[o] {
			return fmt.Errorf("invalid mode: %s", mode)
		}
		given[o] = true
	}
	return nil
}

func volumeOption(m *engine.Mount, o string) error {
	switch o {
	case "ro", "readonly":
		if m.Type == "volume" {
			m.Options = append(m.Options, "ro")
			break
		}
		// As Docker since version 25: read-only all the way down.
		m.Options = append(m.Options, "rro")
	case "nocopy":
		m.NoCopy = true
	case "rw", "z", "Z", "cached", "delegated", "consistent", "":
	case "private", "rprivate", "shared", "rshared", "slave", "rslave":
		if m.Type == "volume" {
			return fmt.Errorf("invalid mount config for type \"volume\": option %q is of directories, and %s is a volume", o, m.Source)
		}
		m.Options[0] = o
	default:
		return fmt.Errorf("unknown option %q", o)
	}
	return nil
}

// parseMount parses type=...,source=...,target=..., which are fields of CSV: one with a
// comma is quoted.
func parseMount(s string) (engine.Mount, error) {
	p := mountParser{Mount: engine.Mount{Type: "volume", MustHave: true}, only: map[string]bool{}, propagation: "rprivate", bind: "rbind", ro: "rro"}
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return p.Mount, fmt.Errorf("want type=TYPE,source=SOURCE,target=DEST: %w", err)
	}
	for _, f := range fields {
		if err := p.field(f); err != nil {
			return p.Mount, err
		}
	}
	return p.Mount, p.finish()
}

// A mountParser gathers what the fields of one --mount say.
type mountParser struct {
	engine.Mount
	readonly              bool
	propagation, bind, ro string
	recursive             string          // of bind-recursive
	only                  map[string]bool // kinds whose own fields there are
}

// splitField takes a field of --mount apart; on is the value of one that is true or false, and may stand alone.
func splitField(field string) (key, value string, on bool, err error) {
	key, value, has := strings.Cut(field, "=")
	key = strings.ToLower(key)
	switch key {
	case "readonly", "ro", "volume-nocopy", "bind-create-src", "bind-nonrecursive":
		on = true
		if has {
			if on, err = strconv.ParseBool(value); err != nil {
				err = fmt.Errorf("%s=%s: want true or false", key, value)
			}
		}
	default:
		if !has {
			err = fmt.Errorf("invalid field '%s' must be a key=value pair", field)
		} else if value == "" {
			err = fmt.Errorf("invalid value for '%s': value is empty", key)
		}
	}
	return key, value, on, err
}

func (p *mountParser) field(field string) error {
	key, value, on, err := splitField(field)
	if err != nil {
		return err
	}
	if kind, _, ok := strings.Cut(key, "-"); ok {
		p.only[kind] = true
	}
	switch key {
	case "type":
		p.Type = strings.ToLower(value)
	case "source", "src":
		p.Source = value
	case "target", "dst", "destination":
		p.Dest = value
	case "readonly", "ro":
		p.readonly = on
	case "consistency": // of Docker Desktop
	case "bind-propagation":
		p.propagation = strings.ToLower(value)
		if !slices.Contains([]string{"private", "shared", "slave", "rprivate", "rshared", "rslave"}, p.propagation) {
			return fmt.Errorf("bind-propagation=%s: there are private, shared, slave, rprivate, rshared and rslave", value)
		}
	case "bind-nonrecursive":
		if on { // the older form, of which Docker 28 warns
			return p.recurse("disabled")
		}
	case "bind-recursive":
		return p.recurse(value)
	case "bind-create-src":
		p.MustHave = !on
	case "volume-nocopy":
		p.NoCopy = on
	case "volume-subpath", "image-subpath":
		p.Subpath = value
	case "volume-driver":
		p.Driver = value
	case "volume-label":
		name, v, _ := strings.Cut(value, "=")
		put(&p.Labels, name, v)
	case "volume-opt":
		name, v, _ := strings.Cut(value, "=")
		put(&p.DrvOpts, name, v)
	case "tmpfs-size":
		n, err := parseSize(value)
		if err != nil {
			return fmt.Errorf("tmpfs-size=%s: %w", value, err)
		}
		p.Options = append(p.Options, "size="+strconv.FormatInt(n, 10))
	case "tmpfs-mode":
		if _, err := strconv.ParseUint(value, 8, 32); err != nil {
			return fmt.Errorf("tmpfs-mode=%s: want an octal mode", value)
		}
		p.Options = append(p.Options, "mode="+value)
	default:
		return fmt.Errorf("unknown option '%s' in '%s'", key, field)
	}
	return nil
}

// recurse says what happens to the mounts below a bound directory.
func (p *mountParser) recurse(value string) error {
	switch p.recursive = value; value {
	case "enabled", "readonly":
		p.bind, p.ro = "rbind", "rro"
	case "disabled":
		p.bind, p.ro = "bind", "ro"
	case "writable": // what is mounted below stays so
		p.bind, p.ro = "rbind", "ro"
	default:
		return fmt.Errorf(`invalid value for bind-recursive: %s (must be "enabled", "disabled", "writable", or "readonly")`, value)
	}
	return nil
}

// finish checks the fields together, and makes the mount's options of them.
func (p *mountParser) finish() error {
	if !slices.Contains([]string{"bind", "volume", "tmpfs", "image"}, p.Type) {
		return fmt.Errorf("type=%s: there are bind, volume, tmpfs and image", p.Type)
	}
	if p.Dest == "" {
		return fmt.Errorf("the field target is missing")
	}
	for _, kind := range []string{"bind", "volume", "tmpfs", "image"} {
		if p.only[kind] && p.Type != kind {
			return fmt.Errorf("cannot mix '%s-*' options with mount type '%s'", kind, p.Type)
		}
	}
	if p.Source == "" && (p.Type == "bind" || p.Type == "image") {
		return fmt.Errorf("the field source is missing")
	}
	switch p.Type {
	case "bind":
		if (p.recursive == "writable" || p.recursive == "readonly") && !p.readonly {
			return fmt.Errorf("option 'bind-recursive=%s' requires 'readonly' to be specified in conjunction", p.recursive)
		}
		if strings.HasPrefix(p.Source, ".") {
			abs, err := absolute(p.Source)
			if err != nil {
				return err
			}
			p.Source = abs
		}
		p.Options = []string{p.propagation, p.bind}
		if p.readonly {
			p.Options = append(p.Options, p.ro)
		}
		return nil
	case "tmpfs":
		if p.Source != "" {
			return fmt.Errorf(`invalid mount config for type "tmpfs": field Source must not be specified`)
		}
		p.Options = append(p.Options, "nosuid", "nodev", "noexec")
	}
	if p.readonly && p.Type == "volume" && p.Source == "" {
		return fmt.Errorf(`invalid mount config for type "volume": must not set ReadOnly mode when using anonymous volumes`) // nobody could ever write to it
	}
	if p.readonly {
		p.Options = append(p.Options, "ro")
	}
	return nil
}

// tmpfsPlace is where a --tmpfs is mounted.
func tmpfsPlace(s string) string {
	dest, _, _ := strings.Cut(s, ":")
	return dest
}

// parseTmpfs parses DEST[:OPTION,...].
func parseTmpfs(s string) (engine.Mount, error) {
	dest, options, _ := strings.Cut(s, ":")
	m := engine.Mount{Type: "tmpfs", Dest: dest, Options: []string{"nosuid", "nodev", "noexec"}}
	for _, o := range strings.Split(options, ",") {
		switch key, value, _ := strings.Cut(o, "="); key {
		case "":
		case "size":
			if share, ok := strings.CutSuffix(value, "%"); ok && share != "" && strings.Trim(share, "0123456789") == "" { // of the machine's memory: tmpfs(5)
				m.Options = append(m.Options, o)
				break
			}
			n, err := parseSize(value)
			if err != nil {
				return m, fmt.Errorf("size=%s: %w", value, err)
			}
			m.Options = append(m.Options, "size="+strconv.FormatInt(n, 10))
		case "private", "rprivate", "shared", "rshared", "slave", "rslave", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "noatime", "relatime":
			m.Options = append(m.Options, o)
		default:
			return m, fmt.Errorf("unknown option %q", o)
		}
	}
	return m, nil
}

// parseDevice parses HOST[:INSIDE[:rwm]], or a name of CDI: vendor/class=name.
func parseDevice(s string) (engine.Device, error) {
	if class, name, ok := strings.Cut(s, "="); ok && s[0] != '/' && name != "" && strings.Count(class, "/") == 1 {
		return engine.Device{Host: s, Access: "rwm", Flag: s}, nil
	}
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
		return d, fmt.Errorf("want HOST, HOST:INSIDE or HOST:INSIDE:rwm, with absolute paths, or a name of CDI as in vendor.com/class=name")
	}
	return d, nil
}

// checkDeviceRule checks TYPE MAJOR:MINOR ACCESS, where a number may be *.
func checkDeviceRule(s string) error {
	bad := fmt.Errorf("invalid device cgroup format '%s'", s)
	part := strings.Split(s, " ")
	if len(part) != 3 || len(part[0]) != 1 || !strings.Contains("acb", part[0]) || part[2] == "" || len(part[2]) > 3 || strings.Trim(part[2], "rwm") != "" {
		return bad
	}
	major, minor, _ := strings.Cut(part[1], ":")
	for _, n := range []string{major, minor} {
		if _, err := strconv.ParseUint(n, 10, 32); n != "*" && (err != nil || n[0] == '+') {
			return bad
		}
	}
	return nil
}

// parseDeviceWeight parses DEVICE:WEIGHT.
func parseDeviceWeight(s string) (engine.DeviceWeight, error) {
	path, weight, ok := strings.Cut(s, ":")
	if !ok || !strings.HasPrefix(path, "/dev/") {
		return engine.DeviceWeight{}, fmt.Errorf("bad format for device path: %s", s)
	}
	n, err := strconv.ParseUint(weight, 10, 16)
	if err != nil || n > 0 && (n < 10 || n > 1000) {
		return engine.DeviceWeight{}, fmt.Errorf("invalid weight for device: %s", s)
	}
	return engine.DeviceWeight{Path: path, Weight: uint16(n)}, nil
}

// parseDeviceRate parses DEVICE:RATE; rates in bytes may have a size's suffix.
func parseDeviceRate(s string, bytes bool) (engine.DeviceRate, error) {
	path, text, ok := strings.Cut(s, ":")
	if !ok || !strings.HasPrefix(path, "/dev/") {
		return engine.DeviceRate{}, fmt.Errorf("bad format for device path: %s", s)
	}
	rate, err := strconv.ParseUint(text, 10, 64)
	if bytes {
		var n int64
		n, err = parseSize(text)
		rate = uint64(n)
	}
	if err != nil {
		return engine.DeviceRate{}, fmt.Errorf("invalid rate for device: %s: want a whole number%s", s, map[bool]string{true: ", as in 1mb"}[bytes])
	}
	return engine.DeviceRate{Path: path, Rate: rate}, nil
}

// parseCPUs parses a number of processors, in billionths: 1.5, as well as 3/2 and 15e-1.
func parseCPUs(s string) (int64, error) {
	n, ok := new(big.Rat).SetString(s)
	if !ok || n.Sign() < 0 {
		return 0, fmt.Errorf("want a number of processors, as in 1.5")
	}
	if n.Mul(n, big.NewRat(1e9, 1)); !n.IsInt() {
		return 0, fmt.Errorf("value is too precise")
	}
	if !n.Num().IsInt64() {
		return 0, fmt.Errorf("want fewer processors")
	}
	return n.Num().Int64(), nil
}

// parseRestart parses POLICY[:N].
func parseRestart(s string) (engine.Restart, error) {
	name, count, has := strings.Cut(s, ":")
	r := engine.Restart{Policy: name}
	switch name {
	case "no", "always", "unless-stopped", "on-failure":
	case "":
		if !has {
			return r, nil
		}
		return r, fmt.Errorf("invalid restart policy format: no policy provided before colon")
	default:
		return r, fmt.Errorf("invalid restart policy: unknown policy '%s'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'", name)
	}
	if count == "" {
		return r, nil
	}
	n, err := strconv.Atoi(count)
	switch {
	case err != nil:
		return r, fmt.Errorf("invalid restart policy format: maximum retry count must be an integer")
	case n != 0 && name != "on-failure":
		return r, fmt.Errorf("invalid restart policy: maximum retry count can only be used with 'on-failure'")
	case n < 0:
		return r, fmt.Errorf("invalid restart policy: maximum retry count cannot be negative")
	}
	r.Retries = n
	return r, nil
}

func parseSize(s string) (int64, error) { return engine.ParseSize(s) }

func parseUlimit(s string) (engine.Ulimit, error) {
	name, value, ok := strings.Cut(s, "=")
	soft, hard, both := strings.Cut(value, ":")
	if !both {
		hard = soft
	}
	u := engine.Ulimit{Name: strings.ToLower(name)}
	if !ok {
		return u, fmt.Errorf("want NAME=SOFT or NAME=SOFT:HARD")
	}
	if _, ok := abi.ParseRlimit("RLIMIT_" + strings.ToUpper(name)); !ok {
		return u, fmt.Errorf("invalid ulimit type: %s", name)
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
