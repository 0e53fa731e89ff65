package specjson

import (
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Errors are all faults found in one document, in an order that is the same each
// time. They print on one line; errors.As finds the first.
type Errors []*Error

// Error returns one line with all of them.
func (e Errors) Error() string {
	if len(e) == 1 {
		return e[0].Error()
	}
	var s strings.Builder
	for i, fault := range e {
		if i == 0 {
			s.WriteString(fault.File + ": " + strconv.Itoa(len(e)) + " faults: ")
		} else {
			s.WriteString("; ")
		}
		s.WriteString(fault.text())
		if fault.Hint != "" {
			s.WriteString(": " + fault.Hint)
		}
	}
	return s.String()
}

// Unwrap lets errors.As and errors.Is look at each.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, fault := range e {
		all[i] = fault
	}
	return all
}

// Validate tells whether a Linux runtime can make a container of spec, as far as the
// file alone can show it: the rules of runtime-spec's config.md and config-linux.md,
// and what every kernel refuses. It returns nil or [Errors] with all that is wrong.
//
// The warnings are what the specification wants a runtime to go on with, such
// as an unknown capability; they are worth a line in the log each.
//
// Not judged here: options of mounts, which the plan knows; anything that depends on
// the host; and whether a namespace with a path is the runtime's own. Whoever joins
// one must see to that before it writes linux.sysctl, hostname or domainname there.
func Validate(spec *specs.Spec) (warnings Errors, err error) {
	c := &checker{file: "config.json"}
	c.namespaces(spec.Linux)
	c.version(spec.Version)
	if spec.Process == nil {
		c.warn("process", "an object", "none", "the container can be created, but not started")
	} else {
		c.prefix = "process"
		c.process(spec.Process)
		if spec.Linux != nil {
			c.mappedUser(&spec.Process.User, spec.Linux)
		}
		c.prefix = ""
	}
	c.root(spec.Root)
	c.uts(spec)
	for i := range spec.Mounts {
		c.mount(i, &spec.Mounts[i])
	}
	c.hooks(spec.Hooks)
	if _, empty := spec.Annotations[""]; empty {
		c.refuse("annotations", "a name for each annotation", `""`, "give it one, or remove it")
	}
	if v, ok := spec.Annotations["run.oci.mount_context_type"]; ok && !slices.Contains([]string{"context", "fscontext", "defcontext", "rootcontext"}, v) {
		c.refuse("annotations.run.oci.mount_context_type", "context, fscontext, defcontext or rootcontext", strconv.Quote(v), "name one of them, or remove it")
	}
	if spec.Linux != nil {
		c.prefix = "linux"
		c.linux(spec.Linux)
	}
	return c.result()
}

// ValidateProcess is [Validate] for a process alone, as [DecodeProcess] returns it.
func ValidateProcess(p *specs.Process) (warnings Errors, err error) {
	c := &checker{file: "process.json"}
	if p == nil {
		c.refuse("", "an object", "none", "describe the process")
		return c.result()
	}
	c.process(p)
	return c.result()
}

// ValidateResources is [Validate] for resources alone, as [DecodeResources] returns them.
func ValidateResources(r *specs.LinuxResources) (warnings Errors, err error) {
	c := &checker{file: "resources.json"}
	if r != nil {
		c.resources(r)
	}
	return c.result()
}

// A checker gathers what is wrong with one document.
type checker struct {
	file     string
	prefix   string // of the paths in the part being checked: "process"
	faults   Errors
	warnings Errors
	ns       [8]namespaceUse // by abi.Namespace
}

func (c *checker) result() (Errors, error) {
	if len(c.faults) == 0 {
		return c.warnings, nil
	}
	return c.warnings, c.faults
}

// refuse notes a fault at path; hint is what to do about it.
func (c *checker) refuse(path, want, got, hint string) {
	c.faults = append(c.faults, &Error{File: c.file, Path: join(c.prefix, path), Want: want, Got: got, Hint: hint})
}

// warn notes what is no reason to refuse the document.
func (c *checker) warn(path, want, got, hint string) {
	c.warnings = append(c.warnings, &Error{File: c.file, Path: join(c.prefix, path), Want: want, Got: got, Hint: hint})
}

// A place is a path in parts, put together only for a message.
type place struct {
	base  string // "mounts"
	index int    // in the array base, or none
	field string // of that element, or empty
}

const none = -1

func at(path string) place { return place{path, none, ""} }

func (p place) String() string {
	if p.index == none {
		return join(p.base, p.field)
	}
	return join(p.base+element(p.index), p.field)
}

// plain refuses a text with a NUL byte, which JSON can hold and no system call can:
// the kernel would see another path or name than whoever checked it.
func (c *checker) plain(p place, s string) {
	if strings.IndexByte(s, 0) >= 0 {
		c.refuse(p.String(), "no NUL character", quote(s), `remove the \u0000`)
	}
}

func (c *checker) plains(p place, list []string) {
	for i, s := range list {
		if strings.IndexByte(s, 0) >= 0 {
			c.plain(place{p.String(), i, ""}, s)
		}
	}
}

// absolute refuses a path that does not begin with a slash.
func (c *checker) absolute(p place, s string) {
	if !strings.HasPrefix(s, "/") {
		c.refuse(p.String(), "an absolute path", quote(s), "begin it with /")
	}
	c.plain(p, s)
}

// word refuses a text that is not one of those known.
func (c *checker) word(p place, s string, known bool, want, hint string) {
	if !known {
		c.refuse(p.String(), want, quote(s), hint)
	}
}

func decimal[N ~int | ~int32 | ~int64](n N) string { return strconv.FormatInt(int64(n), 10) }

func natural[N ~uint | ~uint16 | ~uint32 | ~uint64](n N) string {
	return strconv.FormatUint(uint64(n), 10)
}

// sortedKeys gives the names of an object in an order that is the same each time.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// version wants SemVer 2.0.0 with the major version of this runtime-spec. A newer minor
// version only adds properties, and a runtime must ignore those it does not know.
func (c *checker) version(v string) {
	const hint = `write the version of runtime-spec that the file follows, such as "1.3.0"`
	major, minor, ok := semver(v)
	switch {
	case !ok:
		c.refuse("ociVersion", "a semantic version", quote(v), hint)
	case major != strconv.Itoa(specs.VersionMajor):
		c.refuse("ociVersion", "version "+strconv.Itoa(specs.VersionMajor)+" of runtime-spec", quote(v), hint)
	default:
		n, err := strconv.Atoi(minor)
		if err != nil || n > specs.VersionMinor {
			c.warn("ociVersion", "at most "+strconv.Itoa(specs.VersionMajor)+"."+strconv.Itoa(specs.VersionMinor), quote(v),
				"what later versions added is ignored")
		}
	}
}

// semver takes a semantic version apart (semver.org, 2.0.0, the grammar at its end).
func semver(v string) (major, minor string, ok bool) {
	v, build, hasBuild := strings.Cut(v, "+")
	core, pre, hasPre := strings.Cut(v, "-")
	major, rest, _ := strings.Cut(core, ".")
	minor, patch, _ := strings.Cut(rest, ".")
	ok = isNumericID(major) && isNumericID(minor) && isNumericID(patch) &&
		(!hasPre || areIDs(pre, true)) && (!hasBuild || areIDs(build, false))
	return major, minor, ok
}

func isNumericID(s string) bool {
	return s != "" && isDigits(s) && (s == "0" || s[0] != '0')
}

func isDigits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return true
}

// areIDs tells whether s is identifiers with dots between them; in a
// pre-release those of digits alone are numbers, without zeros in front.
func areIDs(s string, numbers bool) bool {
	for id := range strings.SplitSeq(s, ".") {
		if id == "" || numbers && isDigits(id) && !isNumericID(id) {
			return false
		}
		for i := range len(id) {
			if id[i] != '-' && (id[i] == '_' || !isWordByte(id[i])) {
				return false
			}
		}
	}
	return true
}

func (c *checker) root(r *specs.Root) {
	switch {
	case r == nil:
		c.refuse("root", "an object", "none", `add "root": {"path": "rootfs"}`)
	case r.Path == "":
		c.refuse("root.path", "a path", `""`, "name the directory of the root file system, absolute or from the bundle")
	default:
		c.plain(at("root.path"), r.Path)
	}
}

// maxUTSName is __NEW_UTS_LEN, see sethostname(2).
const maxUTSName = 64

// uts checks the names that go into the uts namespace.
func (c *checker) uts(spec *specs.Spec) {
	for _, name := range [2]struct{ field, value string }{{"hostname", spec.Hostname}, {"domainname", spec.Domainname}} {
		if name.value == "" {
			continue
		}
		if !c.has(abi.NSUTS) {
			c.refuse(name.field, "a uts namespace to set it in", quote(name.value)+" without one",
				`add {"type": "uts"} to linux.namespaces, or remove it`)
		}
		if len(name.value) > maxUTSName {
			c.refuse(name.field, "at most "+strconv.Itoa(maxUTSName)+" bytes", quote(name.value), "shorten it")
		}
		c.plain(at(name.field), name.value)
	}
	if spec.Domainname == "" || spec.Linux == nil {
		return
	}
	for _, key := range [...]string{"kernel.domainname", "kernel/domainname"} {
		if other, both := spec.Linux.Sysctl[key]; both && other != spec.Domainname {
			c.refuse(join("linux.sysctl", member(key)), "the same as domainname, "+quote(spec.Domainname), quote(other), "remove one of them")
		}
	}
}

func (c *checker) mount(i int, m *specs.Mount) {
	switch {
	case m.Destination == "":
		c.refuse(place{"mounts", i, "destination"}.String(), "an absolute path", `""`, "name the place inside the container")
	case m.Destination[0] != '/':
		// config.md: deprecated, but it MUST be interpreted as relative to "/".
		c.warn(place{"mounts", i, "destination"}.String(), "an absolute path", quote(m.Destination), "it is taken from the container's root")
	}
	c.plain(place{"mounts", i, "destination"}, m.Destination)
	c.plain(place{"mounts", i, "type"}, m.Type)
	c.plain(place{"mounts", i, "source"}, m.Source)
	c.plains(place{"mounts", i, "options"}, m.Options)
	c.idMappedMount(i, m)
}

// idMappedMount checks what can be mapped, and to what.
func (c *checker) idMappedMount(i int, m *specs.Mount) {
	asked := slices.Contains(m.Options, "idmap") || slices.Contains(m.Options, "ridmap")
	uids, gids := len(m.UIDMappings), len(m.GIDMappings)
	switch {
	case (uids == 0) != (gids == 0):
		c.refuse(place{"mounts", i, ""}.String(), "both uidMappings and gidMappings, or neither", decimal(uids)+" and "+decimal(gids)+" mappings",
			"add the other")
	case uids == 0 && asked && !c.has(abi.NSUser):
		c.refuse(place{"mounts", i, "options"}.String(), "mappings for idmap", "none, and no user namespace to take them from",
			`add uidMappings and gidMappings to the mount, or {"type": "user"} to linux.namespaces`)
	case uids > 0 && !asked:
		// config.md: SHOULD, so that an older runtime does not ignore the mappings.
		c.warn(place{"mounts", i, "options"}.String(), "idmap or ridmap beside uidMappings", "neither", "the mappings are applied to this one mount")
	}
	if uids+gids > 0 {
		c.mappings(place{"mounts", i, "uidMappings"}.String(), m.UIDMappings)
		c.mappings(place{"mounts", i, "gidMappings"}.String(), m.GIDMappings)
	}
}

func (c *checker) hooks(h *specs.Hooks) {
	if h == nil {
		return
	}
	//lint:ignore SA1019 deprecated, and still what dockerd writes
	c.hookList("hooks.prestart", h.Prestart)
	c.hookList("hooks.createRuntime", h.CreateRuntime)
	c.hookList("hooks.createContainer", h.CreateContainer)
	c.hookList("hooks.startContainer", h.StartContainer)
	c.hookList("hooks.poststart", h.Poststart)
	c.hookList("hooks.poststop", h.Poststop)
}

func (c *checker) hookList(base string, hooks []specs.Hook) {
	for i := range hooks {
		h := &hooks[i]
		c.absolute(place{base, i, "path"}, h.Path)
		c.plains(place{base, i, "args"}, h.Args)
		c.plains(place{base, i, "env"}, h.Env)
		if h.Timeout != nil && *h.Timeout <= 0 {
			c.refuse(place{base, i, "timeout"}.String(), "more than 0 seconds", decimal(*h.Timeout), "remove it to wait without end")
		}
	}
}
