package plan

import "fmt"

// MakeCgroup makes the container's cgroup in every hierarchy of the host: cgroups(7).
type MakeCgroup struct {
	hands
	Path string // below the mount point of each hierarchy
}

// Name implements [Op].
func (*MakeCgroup) Name() string { return "make cgroup" }

// String implements [Op].
func (m *MakeCgroup) String() string { return "mkdir cgroup " + m.Path }

// JoinCgroup moves the container's first process into the cgroup.
type JoinCgroup struct {
	hands
	Path string
}

// Name implements [Op].
func (*JoinCgroup) Name() string { return "join cgroup" }

// String implements [Op].
func (j *JoinCgroup) String() string { return fmt.Sprintf("write cgroup.procs of %s", j.Path) }

// RemoveCgroup removes the cgroup, once nothing is left in it.
type RemoveCgroup struct {
	hands
	Path string
}

// Name implements [Op].
func (*RemoveCgroup) Name() string { return "remove cgroup" }

// String implements [Op].
func (r *RemoveCgroup) String() string { return "rmdir cgroup " + r.Path }
