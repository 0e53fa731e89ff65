package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/plan"
)

// egress is what the container may begin to speak to, nil for everything.
func (b *builder) egress() (*plan.Egress, error) {
	if len(b.run.Egress) == 0 {
		return nil, nil
	}
	e, err := plan.ParseEgress(b.run.Egress)
	if err != nil {
		return nil, err
	}
	mode := b.run.networkMode()
	switch {
	case mode == "none" && len(e.Allow) > 0:
		return nil, errors.New("--egress: a container in no network reaches nothing: connect it to one, as by --network bridge")
	case mode != "none" && isNetworkMode(mode):
		return nil, fmt.Errorf("--egress: the rules are of a network namespace of the container's own, and --network %s has another's", mode)
	}
	for _, text := range b.run.DNS {
		if a, err := netip.ParseAddr(text); err == nil && (a.Unmap().IsLoopback() || a.Unmap().IsUnspecified()) {
			return nil, fmt.Errorf("--egress: --dns %s is the container itself, which would say where the names of the list lead to", text)
		}
	}
	for _, c := range b.shared {
		if !c.guarded() {
			return nil, fmt.Errorf("--egress: it shares namespaces with container %s, which may do what takes the rules away: run that one with --egress, too", c.Name)
		}
	}
	return e, nil
}

// namesNobody warns of names on the list that only a container can have, where the container is on the default network alone, on which none has one.
func (e *Engine) namesNobody(c *Config) {
	list, err := plan.ParseEgress(c.Egress)
	if err != nil || e.warn == nil || len(c.Links) > 0 {
		return // it is told of, or a link's
	}
	if at := c.attachments(); len(at) == 0 || slices.ContainsFunc(at, func(a Attachment) bool { return a.Network != netdb.DefaultName || len(a.Links) > 0 }) {
		return
	}
	for _, r := range list.Allow {
		if r.Name == "" || strings.Contains(r.Name, ".") || slices.ContainsFunc(c.ExtraHosts, func(h string) bool {
			name, _, _ := strings.Cut(h, ":")
			return strings.EqualFold(name, r.Name)
		}) {
			continue
		}
		e.warn(fmt.Sprintf("--egress %s: a name without a dot is a container's, and on the network bridge they have none: run it with --network, and one that kakuri network create has made", r))
	}
}

// guarded reports whether the container's network namespace, or one that it could get at, has rules for what may be reached.
func (c *Container) guarded() bool { return c.Guarded || len(c.Config.Egress) > 0 }

// guard takes from capabilities what would make the rules nothing, and refuses where that was asked for.
func (b *builder) guard(caps abi.CapSet) (abi.CapSet, error) {
	who := "--egress"
	for _, c := range b.shared {
		if c.guarded() {
			who = fmt.Sprintf("container:%s has --egress", c.Name)
		}
	}
	if b.run.Privileged {
		return 0, fmt.Errorf("%s: a container with --privileged could take the rules away", who)
	}
	if b.security.seccomp == "unconfined" {
		return 0, fmt.Errorf("%s: with --security-opt seccomp=unconfined a program has sockets of kinds that no rule sees, as AF_VSOCK", who)
	}
	if caps.Has(abi.CapNetAdmin) {
		return 0, fmt.Errorf("%s: a container with NET_ADMIN could take the rules away: leave --cap-add NET_ADMIN, or ALL, away", who)
	}
	if !caps.Has(abi.CapNetRaw) {
		return caps, nil
	}
	if slices.ContainsFunc(b.run.CapAdd, func(name string) bool {
		c, ok := abi.ParseCapability(name)
		return ok && c == abi.CapNetRaw
	}) {
		return 0, fmt.Errorf("%s: a packet socket, which --cap-add NET_RAW allows, passes by all rules; ping does without it", who)
	}
	b.because("process.capabilities", "%s, without NET_RAW: %s", b.opts.Causes["process.capabilities"], who)
	return caps.Without(abi.CapNetRaw), nil
}

// hostsReached lets the addresses be reached that names have by /etc/hosts: nobody asks a server for them.
func (b *builder) hostsReached(hosts []byte) error {
	if b.opts.Network == nil || b.opts.Network.Egress == nil {
		return nil
	}
	e := b.opts.Network.Egress
	for _, r := range slices.Clone(e.Allow) {
		for line := range strings.Lines(string(hosts)) {
			f := strings.Fields(line)
			if len(f) < 2 || r.Name == "" || !slices.ContainsFunc(f[1:], func(name string) bool { return r.Matches(strings.ToLower(name)) }) {
				continue
			}
			a, err := netip.ParseAddr(f[0])
			if err != nil || a.IsLoopback() || r.To.IsValid() && !r.To.Contains(a) {
				continue
			}
			e.Allow = append(e.Allow, plan.Reach{To: netip.PrefixFrom(a, a.BitLen()), First: r.First, Last: r.Last, Proto: r.Proto})
		}
	}
	return e.Check()
}

// A Refusal is what a container with --egress was refused: see [monitor.Refusal].
type Refusal = monitor.Refusal

// Kinds of a [Refusal].
const (
	RefusedName   = monitor.RefusedName
	RefusedAnswer = monitor.RefusedAnswer
	RefusedPacket = monitor.RefusedPacket
)

// NetworkLog lists what a container with --egress was refused, the last one last, and how many refusals there were besides, which nobody told apart.
func (e *Engine) NetworkLog(ctx context.Context, ref string) (list []Refusal, others uint64, err error) {
	c, err := e.Find(ref)
	if err != nil {
		return nil, 0, err
	}
	if other, ok := strings.CutPrefix(c.Config.networkMode(), "container:"); ok && len(c.Config.Egress) == 0 {
		if c, err = e.Find(other); err != nil {
			return nil, 0, err
		}
	}
	if len(c.Config.Egress) == 0 {
		return nil, 0, fmt.Errorf("container %s has no --egress: it is refused nothing", c.Name)
	}
	if list, others, err = monitor.ReadRefusals(c.dir); err != nil {
		return nil, 0, err
	}
	now, more, err := e.refusedNow(ctx, &c)
	if err != nil {
		return nil, 0, err
	}
	for _, x := range now {
		i := slices.IndexFunc(list, func(y Refusal) bool {
			return x.Kind == y.Kind && x.Addr == y.Addr && x.Proto == y.Proto && x.Port == y.Port
		})
		if i < 0 {
			list = append(list, x)
			continue
		}
		list[i].Count, list[i].Last, list[i].Name = list[i].Count+x.Count, x.Last, cmp.Or(x.Name, list[i].Name)
	}
	allow, err := plan.ParseEgress(c.Config.Egress)
	if err != nil {
		return nil, 0, err
	}
	for i := range list {
		r := &list[i]
		r.Allowed = r.Kind == monitor.RefusedName && !strings.Contains(r.Name, ".") && slices.ContainsFunc(allow.Allow, func(x plan.Reach) bool { return x.Matches(r.Name) })
	}
	slices.SortStableFunc(list, func(a, b Refusal) int { return a.Last.Compare(b.Last) })
	return list, others + more, nil
}

// refusedNow is what the rules of a container that runs have counted.
func (e *Engine) refusedNow(ctx context.Context, c *Container) ([]Refusal, uint64, error) {
	if !c.Active() || c.PID == 0 {
		return nil, 0, nil
	}
	n, err := monitor.ReadNetworks(c.dir)
	if err != nil || n.Egress == nil {
		return nil, 0, ignoreMissing(err)
	}
	found, err := e.learnOfNetworks(ctx, netJob{Op: jobRefused, Process: c.Witness(), Network: plan.Network{Egress: n.Egress}})
	if err != nil || found == nil {
		return nil, 0, err
	}
	return found.List, found.Others, nil
}
