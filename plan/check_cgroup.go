package plan

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
)

// A CgroupDir is the container's cgroup in one hierarchy.
type CgroupDir struct {
	Controller string // one of the hierarchy's, by the kernel's name; empty is version 2
	Dir        string // "/sys/fs/cgroup/pids/c1"
}

// CgroupCheck asks that the process is in its cgroup, or in one below it, in every
// hierarchy.
type CgroupCheck struct {
	Path string // as the step shows it
	Dirs []CgroupDir
}

// Kind implements [Check].
func (*CgroupCheck) Kind() string { return "cgroup" }

// Property implements [Check].
func (*CgroupCheck) Property() string { return "control group" }

// Asked implements [Check].
func (c *CgroupCheck) Asked() string { return c.Path }

// LimitsCheck asks for values of files of the cgroup. [Plan.Checks] gives each of them
// as a check of its own.
type LimitsCheck struct{ Files []CgroupFileCheck }

// Kind implements [Check].
func (*LimitsCheck) Kind() string { return "cgroup limits" }

// Property implements [Check].
func (*LimitsCheck) Property() string { return "limits of the control group" }

// Asked implements [Check].
func (c *LimitsCheck) Asked() string {
	return OneLine(strings.Join(c.texts(), ", "))
}

// texts are the values as a plan shows them: "pids.max 100".
func (c *LimitsCheck) texts() []string {
	list := make([]string, len(c.Files))
	for i := range c.Files {
		list[i] = path.Base(c.Files[i].Path) + " " + c.Files[i].Value
	}
	return list
}

// parts are the values one by one, without those that a later one for the same thing
// replaced.
func (c *LimitsCheck) parts() []*CgroupFileCheck {
	var list []*CgroupFileCheck
	for i := range c.Files {
		last := true
		for j := i + 1; j < len(c.Files); j++ {
			last = last && c.Files[j].subject() != c.Files[i].subject()
		}
		if last {
			list = append(list, &c.Files[i])
		}
	}
	return list
}

// A CgroupFileCheck asks for the value of a file of a cgroup.
type CgroupFileCheck struct {
	Path, Value string
	// Optional says that a kernel without the file is no fault.
	Optional bool
	// ElsePath and ElseValue take their place where Path is missing.
	ElsePath, ElseValue string
	Field               string // of config.json: "linux.resources.pids.limit"
	Why                 string // how the value comes from it, empty where it is the same
	// Reason is the flag or default that the field is there for, where the caller said so.
	Reason string `json:",omitempty"`
}

// Kind implements [Check].
func (*CgroupFileCheck) Kind() string { return "cgroup file" }

// Property implements [Check].
func (c *CgroupFileCheck) Property() string { return OneLine(path.Base(c.Path)) }

// Asked implements [Check].
func (c *CgroupFileCheck) Asked() string { return OneLine(c.Value) }

// cause is the field of config.json, and how the value comes from it.
func (c *CgroupFileCheck) cause(of Cause) Cause {
	if c.Field == "" {
		return of
	}
	cause := Cause{Field: c.Field, Reason: cmp.Or(c.Reason, of.Reason)}
	if c.Why != "" && cause.Reason == "" {
		cause.Reason = "config.json " + c.Field + ": " + c.Why
	}
	return cause
}

// why is the cause of all writes together: what each of them is there for, once. Where one of them does not say, it is that of the whole.
func (c *LimitsCheck) why(whole Cause) Cause {
	var reasons []string
	for _, f := range c.Files {
		if f.Reason == "" {
			return whole
		}
		if !slices.Contains(reasons, f.Reason) {
			reasons = append(reasons, f.Reason)
		}
	}
	whole.Reason = strings.Join(reasons, ", ")
	return whole
}

// subject is what a value is for: the file or, where that has a line for each device, one
// parameter of a device.
func (c *CgroupFileCheck) subject() string {
	words := strings.Fields(c.Value)
	if len(words) < 2 || !strings.ContainsAny(c.Value, ":=") && path.Base(c.Path) != "net_prio.ifpriomap" {
		return c.Path
	}
	s := c.Path + " " + words[0]
	for _, w := range words[1:] {
		if name, _, ok := strings.Cut(w, "="); ok {
			s += " " + name
		}
	}
	return s
}

// DeviceRulesCheck asks for the policy for device nodes of a cgroup: its devices.list of
// version 1, its BPF programs of version 2.
type DeviceRulesCheck struct {
	Dir    string
	BPF    bool
	Policy string // "deny all but c 1:3 rwm"
}

// Kind implements [Check].
func (*DeviceRulesCheck) Kind() string { return "device rules" }

// Property implements [Check].
func (*DeviceRulesCheck) Property() string { return "device rules" }

// Asked implements [Check].
func (c *DeviceRulesCheck) Asked() string { return OneLine(c.Policy) }

// CgroupOwnerCheck asks that a cgroup of version 2 belongs to a user, so that it may divide it.
type CgroupOwnerCheck struct {
	Dir string
	UID uint32 // on the host
}

// Kind implements [Check].
func (*CgroupOwnerCheck) Kind() string { return "cgroup owner" }

// Property implements [Check].
func (*CgroupOwnerCheck) Property() string { return "owner of the control group" }

// Asked implements [Check].
func (c *CgroupOwnerCheck) Asked() string { return fmt.Sprintf("uid %d", c.UID) }

// ResctrlCheck asks that the process is in a group of the resctrl file system.
type ResctrlCheck struct{ Group, Monitor string }

// Kind implements [Check].
func (*ResctrlCheck) Kind() string { return "resctrl" }

// Property implements [Check].
func (*ResctrlCheck) Property() string { return "resctrl group" }

// Asked implements [Check].
func (c *ResctrlCheck) Asked() string {
	s := c.Group
	if c.Monitor != "" {
		s += ", monitored by " + c.Monitor
	}
	return OneLine(s)
}
