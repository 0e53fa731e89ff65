package cli

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/image"
	"github.com/spf13/cobra"
)

func newNetworkCreate(io IO) *cobra.Command {
	n := engine.NetworkConfig{}
	var labels, subnets, ranges, gateways, aux []string
	var four, six bool
	var from, scope string
	var only, ingress bool
	c := &cobra.Command{
		Use: "create [OPTIONS] NETWORK", Short: "Make a network", Args: arguments(1, 1), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Make a network: a bridge of this machine to which containers are connected, by
default, with addresses of IPv4 and IPv6 that nothing else here has. Containers of
one network reach each other by their names; those of two networks do not reach each
other. What it prints is the id.`,
		Example: "  kakuri network create front\n  kakuri network create --subnet 10.7.0.0/24 --gateway 10.7.0.1 --internal back\n  kakuri network create -d macvlan --subnet 192.168.1.0/24 -o parent=eth0 lan",
	}
	s := c.Flags()
	s.StringVarP(&n.Driver, "driver", "d", "bridge", "`DRIVER`, one of bridge, macvlan, ipvlan")
	s.BoolVar(&n.Internal, "internal", false, "let nothing in from other networks and machines, and nothing out: this machine still reaches its containers")
	s.BoolVar(&n.Attachable, "attachable", false, "kept, and without effect: each network is")
	s.BoolVar(&four, "ipv4", true, "give addresses of IPv4")
	s.BoolVar(&six, "ipv6", false, "give addresses of IPv6 (default: where the kernel has it)")
	s.StringSliceVar(&subnets, "subnet", nil, "addresses of the network: `CIDR`, once for IPv4 and once for IPv6")
	s.StringSliceVar(&ranges, "ip-range", nil, "those of a subnet that containers get: `CIDR`")
	s.StringSliceVar(&gateways, "gateway", nil, "`ADDRESS` of this machine in a subnet")
	s.StringArrayVar(&aux, "aux-address", nil, "address of a subnet that somebody else has: `NAME=ADDRESS`")
	s.StringVar(&n.IPAM.Driver, "ipam-driver", "default", "who gives addresses: default is the only one")
	s.Func("ipam-opt", "option of that driver: `NAME=VALUE`", options(&n.IPAM.Options))
	s.FuncP("opt", "o", "option of the driver: `NAME=VALUE`, as in com.docker.network.driver.mtu=1400", options(&n.Options))
	s.StringArrayVar(&labels, "label", nil, "set a label: `NAME[=VALUE]`")
	s.StringVar(&scope, "scope", "local", "how far it reaches: local is the only one")
	s.StringVar(&from, "config-from", "", "of swarms: refused")
	s.BoolVar(&only, "config-only", false, "of swarms: refused")
	s.BoolVar(&ingress, "ingress", false, "of swarms: refused")
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		n.Name = args[0]
		if from != "" || only || ingress || scope != "local" {
			return usageError{fmt.Errorf("--config-from, --config-only, --ingress and other scopes than local are for swarms of machines, which kakuri has not")}
		}
		for _, l := range labels {
			if err := putLabel(&n.Labels, l); err != nil {
				return usageError{err}
			}
		}
		if c.Flags().Changed("ipv4") {
			n.EnableIPv4 = &four
		}
		if c.Flags().Changed("ipv6") {
			n.EnableIPv6 = &six
		}
		if n.IPAM.Config, err = pools(subnets, ranges, gateways, aux); err != nil {
			return err // with 1, since Docker's daemon is who finds it
		}
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		made, err := e.NetworkCreate(c.Context(), n)
		if err != nil {
			return err
		}
		fmt.Fprintln(io.Out, made.ID)
		return nil
	}
	return c
}

// pools puts subnets and what belongs to each together: a range, a gateway or an auxiliary
// address is of the subnet that it is in.
func pools(subnets, ranges, gateways, aux []string) ([]engine.IPAMPool, error) {
	var l poolList
	if err := l.subnets(subnets); err != nil {
		return nil, err
	}
	for _, r := range ranges {
		if err := l.ipRange(r); err != nil {
			return nil, err
		}
	}
	for _, g := range gateways {
		if err := l.gateway(g); err != nil {
			return nil, err
		}
	}
	for _, x := range aux {
		if err := l.auxAddress(x); err != nil {
			return nil, err
		}
	}
	return l.pools, nil
}

// A poolList is subnets, with what has been found to be of each.
type poolList struct {
	pools []engine.IPAMPool
	nets  []netip.Prefix // theirs
}

func (l *poolList) subnets(subnets []string) error {
	for _, s := range subnets {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("invalid subnet %s: want a CIDR, as in 10.7.0.0/24", s)
		}
		for i, other := range l.nets {
			if p.Overlaps(other) {
				return fmt.Errorf("multiple overlapping subnet configuration is not supported: %s and %s", subnets[i], s)
			}
		}
		l.nets = append(l.nets, p.Masked())
		l.pools = append(l.pools, engine.IPAMPool{Subnet: s})
	}
	return nil
}

// of is the pool that an address is in.
func (l *poolList) of(what, text string, a netip.Addr) (*engine.IPAMPool, error) {
	for i := range l.nets {
		if l.nets[i].Contains(a) {
			return &l.pools[i], nil
		}
	}
	return nil, fmt.Errorf("no matching subnet for %s %s", what, text)
}

func (l *poolList) ipRange(r string) error {
	p, err := netip.ParsePrefix(r)
	if err != nil {
		return fmt.Errorf("invalid ip-range %s: want a CIDR", r)
	}
	pool, err := l.of("range", r, p.Addr())
	if err != nil {
		return err
	}
	if pool.IPRange != "" {
		return fmt.Errorf("cannot configure multiple ranges (%s, %s) on the same subnet (%s)", r, pool.IPRange, pool.Subnet)
	}
	pool.IPRange = r
	return nil
}

func (l *poolList) gateway(g string) error {
	a, err := netip.ParseAddr(g)
	if err != nil {
		return fmt.Errorf("invalid gateway %s: want an address", g)
	}
	pool, err := l.of("gateway", g, a)
	if err != nil {
		return err
	}
	if pool.Gateway != "" {
		return fmt.Errorf("cannot configure multiple gateways (%s, %s) for the same subnet (%s)", g, pool.Gateway, pool.Subnet)
	}
	pool.Gateway = g
	return nil
}

func (l *poolList) auxAddress(x string) error {
	name, text, _ := strings.Cut(x, "=")
	a, err := netip.ParseAddr(text)
	if err != nil || name == "" {
		return fmt.Errorf("invalid aux-address %s: want NAME=ADDRESS", x)
	}
	pool, err := l.of("aux-address", text, a)
	if err != nil {
		return err
	}
	put(&pool.AuxAddress, name, text)
	return nil
}

// A networkRow is a network, as a list shows it.
type networkRow struct {
	CreatedAt, Driver, ID, IPv4, IPv6, Internal, Labels, Name, Scope string

	All format.Labels `json:"-"`
}

// Label is the value of one label, empty if it is not there.
func (r networkRow) Label(name string) string { return r.All[name] }

func networkSpec() format.Spec {
	return format.Spec{
		Table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}", Quiet: "{{.ID}}", Raw: "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
		Heads: map[string]string{
			"CreatedAt": "CREATED AT", "Driver": "DRIVER", "ID": "NETWORK ID", "IPv4": "IPV4", "IPv6": "IPV6", "Internal": "INTERNAL", "Labels": "LABELS", "Name": "NAME", "Scope": "SCOPE",
		},
	}
}

func networkRows(list []engine.Network, cut bool) []networkRow {
	rows := make([]networkRow, len(list))
	for i, n := range list {
		rows[i] = networkRow{
			CreatedAt: n.Created.String(), Driver: n.Driver, ID: shortened(n.ID, cut), IPv4: strconv.FormatBool(n.EnableIPv4), IPv6: strconv.FormatBool(n.EnableIPv6),
			Internal: strconv.FormatBool(n.Internal), Labels: pairText(n.Labels), Name: n.Name, Scope: n.Scope, All: n.Labels,
		}
	}
	return rows
}

func newNetworkLS(io IO) *cobra.Command {
	var layout string
	var quiet, noTrunc bool
	c := &cobra.Command{Use: "ls [OPTIONS]", Short: "List networks", Args: arguments(0, 0), ValidArgsFunction: cobra.NoFileCompletions}
	filters := filterFlag(c.Flags(), "f", "dangling, driver, id, label, name, scope, type")
	formatFlag(c.Flags(), &layout)
	c.Flags().BoolVar(&noTrunc, "no-trunc", false, "do not cut ids")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print ids alone")
	c.RunE = func(c *cobra.Command, _ []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		if !quiet {
			layout = orSetting(io, layout, func(s image.DockerSettings) string { return s.NetworksFormat })
		}
		list, err := e.NetworkList(c.Context(), filters)
		if err != nil {
			return err
		}
		return format.Rows(io.Out, networkSpec(), format.Options{Format: layout, Quiet: quiet, Terminal: io.onTerminal()}, networkRows(list, !noTrunc))
	}
	return c
}

func newNetworkInspect(io IO) *cobra.Command {
	var layout string
	var verbose bool
	c := &cobra.Command{
		Use: "inspect [OPTIONS] NETWORK [NETWORK...]", Short: "Show all that is known of networks", Args: arguments(1, -1), ValidArgsFunction: names(networkNames, -1),
	}
	inspectFormat(c.Flags(), &layout)
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "of swarms: without effect")
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		return inspectEach(io, layout, args, func(name string) (any, error) { return e.NetworkInspect(name) })
	}
	return c
}

func newNetworkRM(io IO) *cobra.Command {
	var force bool
	c := &cobra.Command{Use: "rm [OPTIONS] NETWORK [NETWORK...]", Short: "Remove networks", Args: arguments(1, -1), ValidArgsFunction: names(networkNames, -1)}
	c.Flags().BoolVarP(&force, "force", "f", false, "no error for one that is not there, and remove one whose record cannot be read")
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		return inTurn(io, args, func(i int) error {
			err := e.NetworkRemove(c.Context(), args[i], force)
			if force && engine.IsNoNetwork(err) {
				return skipped{}
			}
			return err
		})
	}
	return c
}

func newNetworkPrune(io IO) *cobra.Command {
	c := &cobra.Command{Use: "prune [OPTIONS]", Short: "Remove networks that no container is in", Args: arguments(0, 0), ValidArgsFunction: cobra.NoFileCompletions}
	p := newPruning(c.Flags(), "network prune", "label, until")
	c.RunE = func(c *cobra.Command, _ []string) error {
		p.withSettings(io)
		if err := p.confirm(io, "remove all custom networks not used by at least one container."); err != nil {
			return err
		}
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		removed, err := e.NetworkPrune(c.Context(), p.filters)
		printPruned(io, "Deleted Networks:", removed)
		return err
	}
	return c
}
