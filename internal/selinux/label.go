package selinux

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
)

// A Machine is where SELinux is found.
type Machine struct {
	Config string // the directory of its configuration: selinux_config(5)
	FS     string // its file system, by which the kernel is asked
}

// Here is this machine.
func Here() Machine { return Machine{Config: "/etc/selinux", FS: "/sys/fs/selinux"} }

// Labels are what a container has: each is USER:ROLE:TYPE:LEVEL, and empty where it has none.
type Labels struct {
	Process string
	File    string
	Layer   string // of the files of images, which containers read and run; it is not in every policy
}

// Shared is the label of files that all containers may touch: that of the container's own, without its categories.
func (l Labels) Shared() string {
	if l.File == "" {
		return ""
	}
	c := parse(l.File)
	c.level, _, _ = strings.Cut(c.level, ":")
	return c.String()
}

// A context is a label in its parts. Of a policy without levels the last one is empty.
type context struct{ user, role, kind, level string }

func parse(label string) (c context) {
	for i, part := range strings.SplitN(label, ":", 4) {
		*[]*string{&c.user, &c.role, &c.kind, &c.level}[i] = part
	}
	return c
}

func (c context) String() string {
	s := c.user + ":" + c.role + ":" + c.kind
	if c.level != "" {
		s += ":" + c.level
	}
	return s
}

// Choose makes the labels of a new container: those that the machine's policy has for containers, with what options say, each KEY:VALUE, user, role, type or level of its
// processes, or filetype, the type of its files; an option that comes later wins. Two categories keep it from other containers where no level is asked for; used tells of
// a level that another one has.
func (m Machine) Choose(options []string, used func(level string) bool) (Labels, error) {
	base, err := m.policy()
	if err != nil {
		return Labels{}, err
	}
	process, file := parse(base.Process), parse(base.File)
	asked := false
	for _, o := range options {
		if !ValidOption(o) {
			return Labels{}, fmt.Errorf("label=%s: no part of a label", o)
		}
		switch key, value, _ := strings.Cut(o, ":"); key {
		case "user":
			process.user, file.user = value, value
		case "role":
			process.role = value
		case "type":
			process.kind = value
		case "level":
			process.level, file.level, asked = value, value, true
		case "filetype":
			file.kind = value
		}
	}
	if !asked && process.level != "" {
		process.level = unused(process.level, used)
		file.level = process.level
	}
	l := Labels{process.String(), file.String(), base.Layer}
	for _, label := range []string{l.Process, l.File} {
		if !m.knows(label) {
			return Labels{}, fmt.Errorf("label=: the machine's policy of SELinux knows no label %s: distributions have those of containers in a package container-selinux", label)
		}
	}
	if !m.knows(l.Layer) {
		l.Layer = ""
	}
	return l, nil
}

// ValidOption reports whether a text is one of Choose's options.
func ValidOption(o string) bool {
	key, value, _ := strings.Cut(o, ":")
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r == 0x7f }) || key != "level" && strings.Contains(value, ":") {
		return false
	}
	return slices.Contains([]string{"user", "role", "type", "level", "filetype"}, key)
}

// categories is how many the policies of distributions have, c0 and on.
const categories = 1024

// unused is a level with two categories of its own.
func unused(level string, used func(string) bool) string {
	level, _, _ = strings.Cut(level, ":")
	for {
		a, b := rand.IntN(categories), rand.IntN(categories-1)
		if b >= a {
			b++
		}
		own := fmt.Sprintf("%s:c%d,c%d", level, min(a, b), max(a, b))
		if !used(own) {
			return own
		}
	}
}

// Layer is the label that the machine's policy has for files of images, empty for none.
func (m Machine) Layer() string {
	l, err := m.policy()
	if err != nil || !m.knows(l.Layer) {
		return ""
	}
	return l.Layer
}

// knows asks the kernel whether a label is one of its policy's: security_check_context(3). Who may not ask finds out when it is used.
func (m Machine) knows(label string) bool {
	f, err := os.OpenFile(filepath.Join(m.FS, "context"), os.O_WRONLY, 0)
	if err == nil {
		defer f.Close()
		_, err = f.WriteString(label)
	}
	return label != "" && (err == nil || errors.Is(err, fs.ErrPermission))
}

// policy reads what the machine's policy has for containers, in the form of lxc_contexts: `process = "LABEL"`, `file = "LABEL"` and `ro_file = "LABEL"`.
func (m Machine) policy() (l Labels, err error) {
	config, err := files.Read(filepath.Join(m.Config, "config"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	kind := settings(string(config))["SELINUXTYPE"]
	if kind == "" {
		kind = "targeted" // as libselinux has it
	}
	name := filepath.Join(m.Config, kind, "contexts", "lxc_contexts")
	text, err := files.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return l, fmt.Errorf("the machine's policy of SELinux says nothing of containers: %w: distributions have that in a package container-selinux", err)
	}
	if err != nil {
		return l, err
	}
	set := settings(string(text))
	l = Labels{set["process"], set["file"], set["ro_file"]}
	for _, label := range []string{l.Process, l.File} {
		if strings.Count(label, ":") < 2 {
			return l, fmt.Errorf("%s: want the lines process = \"LABEL\" and file = \"LABEL\"", name)
		}
	}
	return l, nil
}

// settings reads lines KEY = VALUE, the value in quotes or not.
func settings(text string) map[string]string {
	set := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			set[strings.TrimSpace(key)] = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return set
}
