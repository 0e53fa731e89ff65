package engine

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink"
)

// Options of drivers: Docker's.
const (
	optName      = "com.docker.network.bridge.name"
	optICC       = "com.docker.network.bridge.enable_icc"
	optMasq      = "com.docker.network.bridge.enable_ip_masquerade"
	optBinding   = "com.docker.network.bridge.host_binding_ipv4"
	optMode4     = "com.docker.network.bridge.gateway_mode_ipv4"
	optMode6     = "com.docker.network.bridge.gateway_mode_ipv6"
	optInhibit4  = "com.docker.network.bridge.inhibit_ipv4"
	optTrusted   = "com.docker.network.bridge.trusted_host_interfaces" // none of these three is here
	optHost4     = "com.docker.network.host_ipv4"
	optHost6     = "com.docker.network.host_ipv6"
	optMTU       = "com.docker.network.driver.mtu"
	optDefault   = "com.docker.network.bridge.default_bridge"
	optPrefix    = "com.docker.network.container_iface_prefix"
	optIfname    = "com.docker.network.endpoint.ifname"
	optSysctls   = "com.docker.network.endpoint.sysctls"
	modeNAT      = "nat"
	modeRouted   = "routed"
	modeOpen     = "nat-unprotected"
	modeIsolated = "isolated"
)

// driverOptions checks the options of a network, and takes from them its device and whether it has gateways.
func driverOptions(n *netdb.Network) error {
	for key, value := range n.Options {
		if err := checkOption(n, key, value); err != nil {
			return fmt.Errorf("option %s=%s: %w", key, value, err)
		}
	}
	switch n.Driver {
	case plan.DriverBridge:
		n.Device = n.Options[optName]
		n.Gateless4, n.Gateless6 = gatewayMode(n, netip.IPv4) == modeIsolated || truth(n, optInhibit4, false) && n.Internal, gatewayMode(n, netip.IPv6) == modeIsolated
	case plan.DriverMacvlan, plan.DriverIPvlan:
		n.Device = n.Options["parent"]
		n.Gateless4, n.Gateless6 = n.Internal, n.Internal
		if n.Device == "lo" {
			return errors.New("loopback interface is not a valid " + n.Driver + " parent link")
		}
		if mode := driverMode(n); !slices.Contains(plan.Modes(n.Driver), mode) && mode != "" {
			return fmt.Errorf("unknown %s mode: %s: there are %s", n.Driver, mode, strings.Join(plan.Modes(n.Driver), " "))
		}
	}
	if n.Device == "" {
		return nil
	}
	return plan.CheckDeviceName("device", n.Device)
}

// checkOption refuses values that an option has not. One that is nobody's may have any.
func checkOption(n *netdb.Network, key, value string) error {
	switch key {
	case optICC, optMasq, optDefault, optInhibit4:
		_, err := strconv.ParseBool(value)
		return err
	case optMTU:
		mtu, err := strconv.Atoi(value)
		if err == nil && (mtu < 68 || mtu > 65535) {
			err = errors.New("it is 68 to 65535 bytes")
		}
		return err
	case optBinding:
		_, err := netip.ParseAddr(value)
		return err
	case optHost4, optHost6, optTrusted:
		return errors.New("kakuri has no such option, and would do otherwise without a word: what leaves has the address that the machine's routes choose; -o com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected lets all in that has a route")
	case optMode4, optMode6:
		if !slices.Contains([]string{modeNAT, modeOpen, modeRouted, modeIsolated}, value) {
			return errors.New("there are the modes nat, nat-unprotected, routed and isolated")
		}
		if value == modeIsolated && !n.Internal {
			return errors.New("gateway mode 'isolated' can only be used for an internal network")
		}
	}
	return nil
}

// truth is an option that is true or false.
func truth(n *netdb.Network, option string, otherwise bool) bool {
	v, err := strconv.ParseBool(n.Options[option])
	if err != nil {
		return otherwise
	}
	return v
}

// gatewayMode is how the machine and others are reached from a bridge by a family, and it from there.
func gatewayMode(n *netdb.Network, f netip.Family) string {
	if f == netip.IPv6 {
		return cmp.Or(n.Options[optMode6], modeNAT)
	}
	return cmp.Or(n.Options[optMode4], modeNAT)
}

// driverMode is a macvlan's or an ipvlan's, as room plan has it.
func driverMode(n *netdb.Network) string {
	mode := n.Options[n.Driver+"_mode"]
	if flag := n.Options["ipvlan_flag"]; n.Driver == plan.DriverIPvlan && flag != "" && flag != "bridge" {
		mode = cmp.Or(mode, "l2") + "," + flag
	}
	return mode
}

// bridgeOf is the bridge of a network as room plan has it.
func bridgeOf(n *netdb.Network) plan.Bridge {
	out := plan.Bridge{Device: n.Device, Network: n.Name, Alias: network.BridgeAlias(n.Name, n.ID), Internal: n.Internal, ICC: truth(n, optICC, true)}
	out.MTU, _ = strconv.Atoi(n.Options[optMTU])
	ways := func(f netip.Family) (masquerade, routed, unprotected bool) {
		if n.Internal {
			return false, false, false
		}
		mode := gatewayMode(n, f)
		return truth(n, optMasq, true) && (mode == modeNAT || mode == modeOpen), mode == modeRouted, mode == modeOpen
	}
	if n.IPv4 {
		out.Masquerade4, out.Routed4, out.Unprotected4 = ways(netip.IPv4)
	}
	if n.IPv6 {
		out.Masquerade6, out.Routed6, out.Unprotected6 = ways(netip.IPv6)
	}
	for _, p := range n.Pools {
		f := p.Subnet.Addr().Family()
		if p.Gateway.IsValid() && gatewayMode(n, f) != modeIsolated && (f == netip.IPv6 || !truth(n, optInhibit4, false)) {
			out.Addrs = append(out.Addrs, netip.PrefixFrom(p.Gateway, p.Subnet.Bits()))
		}
	}
	return out
}

// bridgeOptions are those of the default network, which nobody gave, with Docker's names: programs look for the bridge there.
func bridgeOptions(n *netdb.Network, rootless bool) map[string]string {
	mtu := "1500"
	if rootless {
		mtu = strconv.Itoa(uplink.MTU)
	}
	all := map[string]string{optMTU: mtu, optDefault: "true", optICC: "true", optMasq: "true", optBinding: "0.0.0.0", optName: n.Device}
	maps.Copy(all, n.Options)
	return all
}

// parentOf is the device that a network's macvlans or ipvlans are on, where the machine need not have it: one of the type dummy for who names none, and a VLAN by the name of
// its device and its number, eth0.50, as Docker makes them.
func parentOf(n *netdb.Network) (p plan.Parent, ours bool) {
	p = plan.Parent{Device: n.Device, Network: n.Name, Alias: network.BridgeAlias(n.Name, n.ID)}
	if n.Driver == plan.DriverBridge || n.Options["parent"] == "" {
		return p, n.Driver == plan.DriverMacvlan || n.Driver == plan.DriverIPvlan
	}
	link, number, ok := strings.Cut(n.Device, ".")
	id, err := strconv.Atoi(number)
	p.Link, p.VLAN = link, id
	return p, ok && link != "" && err == nil && id >= 1 && id <= 4094
}

// endpointSysctls reads KEY=VALUE,KEY=VALUE; a comma in a value is none of theirs.
func endpointSysctls(text string) (map[string]string, error) {
	if text == "" {
		return nil, nil
	}
	out := map[string]string{}
	for s := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(s, "=")
		if !ok || !strings.HasPrefix(key, "net.") || !strings.Contains(key, ".IFNAME.") {
			return nil, fmt.Errorf("option %s: %q is to be as in net.ipv4.conf.IFNAME.log_martians=1", optSysctls, s)
		}
		out[key] = value
	}
	return out, nil
}
