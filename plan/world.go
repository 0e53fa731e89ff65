package plan

import (
	"github.com/kakuri/kakuri/abi"
)

// An ordinary user's network world is a user namespace that owns a network namespace, which is for the user's containers what
// the host's is for root's: bridges, rules and leases are there. A veth between two network namespaces takes CAP_NET_ADMIN over
// both of their owners, so containers that are to be connected are made by a process in the world, and their user namespaces are its children.

// World is the first step of a plan for a container that an ordinary user connects: whoever carries the plan out has to be in
// the user's network world. It makes nothing, and fails where that is not so.
type World struct{ hands }

// Name implements [Op].
func (*World) Name() string { return "world" }

// String implements [Op].
func (*World) String() string {
	return "by a process in the user's network world: setns user net, kakuri-runtime monitor"
}

// InWorld gives the facts of a process that the caller has in a network world: root of a user namespace.
func (f Facts) InWorld() Facts {
	f.NoSetgroups = f.NoSetgroups || !f.MapsOthers() || len(f.SubGIDs) == 0 // of the caller, who makes the world
	f.AllIDs, f.Caps = false, abi.CapSet(1)<<(f.LastCap+1)-1
	return f
}

// CompileWorld gives the plan by which a network world is made: a process in it that never comes to its execve, whose namespaces
// the caller opens before it ends it. The maps are of the world's ids, 0 the caller's own.
func CompileWorld(uids, gids []IDMapping, host Facts) (Plan, error) {
	c := &compiler{host: host}
	why := because("a network world for this user's containers")
	c.outside(&Clone{New: []abi.Namespace{abi.NSUser, abi.NSNetwork}}, why, nil)
	own := ownID(gids, host.GID)
	if own && !host.MapsIDs() {
		c.outside(&DenySetgroups{}, because("the kernel's rule for maps written without privileges"), nil)
	}
	if err := c.idMap(false, uids, host.MapsIDs() || ownID(uids, host.UID), host.NewUIDMap); err != nil {
		return Plan{}, err
	}
	if err := c.idMap(true, gids, host.MapsIDs() || own, host.NewGIDMap); err != nil {
		return Plan{}, err
	}
	c.outside(&Sync{From: Runtime, What: "id maps written"}, because("the container's side waits until then"), nil)
	c.inside(&LoopbackUp{}, why, nil)
	c.outside(&Sync{From: Runtime, What: StartWord}, because("its namespaces are opened now"), nil)
	c.inside(&Exec{Args: []string{"/none"}}, because("it ends here"), nil)
	return c.plan, nil
}

// CompileWorldAgain gives the plan by which a world gets another network namespace, whose own has ended while containers are left in its user
// namespace.
func CompileWorldAgain(user string) Plan {
	c := &compiler{}
	why := because("containers are left of a network world, whose network namespace has ended")
	c.outside(&OpenNamespace{NS: abi.NSUser, Path: user, Out: regFree}, why, nil)
	c.outside(&Clone{}, because("a process of its own"), nil)
	c.inside(&Setns{NS: abi.NSUser, FD: regFree}, why, nil)
	c.inside(&Unshare{New: []abi.Namespace{abi.NSNetwork}}, why, nil)
	c.inside(&LoopbackUp{}, why, nil)
	c.outside(&Sync{From: Runtime, What: StartWord}, because("its namespaces are opened now"), nil)
	c.inside(&Exec{Args: []string{"/none"}}, because("it ends here"), nil)
	return c.plan
}

// A WorldProgram is a program that is to run in a network world.
type WorldProgram struct {
	User, Net string // the world's namespaces, by path
	File      string // the program, where Args[0] is another name
	Args, Env []string
	Stays     bool // when its parent ends
}

// CompileInWorld gives the plan by which a program is started in a network world.
func CompileInWorld(o WorldProgram) Plan {
	c := &compiler{}
	why := because("it works on the user's own networks")
	user, net := regFree, regFree+1
	c.outside(&OpenNamespace{NS: abi.NSUser, Path: o.User, Out: user}, why, nil)
	c.outside(&OpenNamespace{NS: abi.NSNetwork, Path: o.Net, Out: net}, why, nil)
	c.outside(&Clone{}, because("a process of its own"), nil)
	c.inside(&Setns{NS: abi.NSUser, FD: user}, why, nil)
	c.inside(&Setns{NS: abi.NSNetwork, FD: net}, why, nil)
	if o.Stays {
		c.inside(&Setsid{}, because("it stays when its parent ends"), nil)
		c.inside(&PlainChdir{Path: "/"}, because("it stays when its parent ends"), nil)
	} else {
		c.inside(&DieWithParent{}, because("it is a part of this command"), nil)
		c.outside(&Sync{From: Runtime, What: StartWord}, because("a parent that has ended before is missed here"), nil)
	}
	c.inside(&Sigmask{}, why, nil)
	c.inside(&Exec{File: o.File, Args: o.Args, Env: o.Env}, why, nil)
	return c.plan
}
