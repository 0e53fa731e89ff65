package engine

import (
	"fmt"
	"slices"
	"strings"
)

// conflict refuses what has no meaning beside another option: in a namespace that is not the container's own, for the most part. It is found here and by no front, as with
// Docker by its daemon: each front's words and codes are those of an engine's refusal.
func (c *Config) conflict() error {
	isMode := isNetworkMode(c.Network)
	shared := isMode && c.Network != "none" && c.Network != "host"
	var first Attachment
	if len(c.Networks) > 0 {
		first = c.Networks[0]
	}
	addressed := first.IPv4+first.IPv6 != "" || len(first.LinkLocal) > 0
	named := len(first.Aliases) > 0
	optional := len(first.Links)+len(first.Options) > 0 || first.MAC+first.Device != "" || first.GatewayPriority != 0
	for _, x := range []struct {
		is   bool
		what string
	}{
		{shared && c.Hostname != "", "hostname and the network mode"},
		{shared && len(c.Links) > 0, "container type network can't be used with links. This would result in undefined behavior"},
		{c.Network == "host" && len(c.Links) > 0, "host type networking can't be used with links. This would result in undefined behavior"},
		{shared && len(c.DNS) > 0, "dns and the network mode"},
		{shared && len(c.ExtraHosts) > 0, "custom host-to-IP mapping and the network mode"},
		{(shared || c.Network == "host") && c.MACAddress != "", "mac-address and the network mode"},
		{shared && (len(c.Publish) > 0 || c.PublishAll), "port publishing and the container type network mode"},
		{shared && len(c.Expose) > 0, "port exposing and the container type network mode"},
		{isMode && addressed, "an address needs a network: --ip, --ip6 and --link-local-ip are for user-defined ones"},
		{(isMode || slices.Contains([]string{"", "bridge", "default"}, c.Network)) && named, "network-scoped aliases are only supported for user-defined networks"},
		{isMode && optional, "--network " + c.Network + " takes no options"},
		{
			(c.UTS == "host" || strings.HasPrefix(c.UTS, "container:")) && c.Hostname+c.Domainname != "",
			"hostname and the UTS mode: host and domain name belong to the uts namespace, which the container shares by --uts " + c.UTS + ": leave --hostname and --domainname away",
		},
	} {
		if x.is {
			return fmt.Errorf("conflicting options: %s", x.what)
		}
	}
	return nil
}
