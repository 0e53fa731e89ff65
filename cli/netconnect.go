package cli

import (
	"net/netip"

	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/cobra"
)

// networkThen completes a network, and then a container.
func networkThen(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return names(containerNames(anyState), 2)(c, args, begun)
	}
	return names(networkNames, 1)(c, args, begun)
}

func newNetworkConnect(io IO) *cobra.Command {
	var a engine.Attachment
	c := &cobra.Command{
		Use: "connect [OPTIONS] NETWORK CONTAINER", Short: "Connect a container to a network, while it runs or not", Args: arguments(2, 2), ValidArgsFunction: networkThen,
	}
	s := c.Flags()
	s.StringSliceVar(&a.Aliases, "alias", nil, "further `NAME` of the container in it")
	s.Func("driver-opt", "option of the driver: `NAME=VALUE`", pairs(&a.Options))
	s.IntVar(&a.GatewayPriority, "gw-priority", 0, "`NUMBER`: the network with the highest has the default route")
	s.Func("ip", "IPv4 `ADDRESS` in it", addressInto(&a.IPv4, netip.Addr.Is4))
	s.Func("ip6", "IPv6 `ADDRESS` in it", addressInto(&a.IPv6, netip.Addr.Is6))
	s.Func("link", "have another container's name known inside: `NAME[:ALIAS]`", func(v string) error {
		l, err := parseLink(v)
		a.Links = append(a.Links, l)
		return err
	})
	s.Func("link-local-ip", "further link-local `ADDRESS` in it", linkLocalInto(&a.LinkLocal))
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		return e.NetworkConnect(c.Context(), args[0], args[1], a)
	}
	return c
}

func newNetworkDisconnect(io IO) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "disconnect [OPTIONS] NETWORK CONTAINER", Short: "Disconnect a container from a network, while it runs or not", Args: arguments(2, 2), ValidArgsFunction: networkThen,
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "also where the container does not answer")
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		return e.NetworkDisconnect(c.Context(), args[0], args[1], force)
	}
	return c
}
