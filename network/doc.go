// Package network connects network namespaces of containers: it does the operations of
// plan.Network, by rtnetlink(7), nftables(8) and files of /proc/sys.
//
//	var d network.Doer
//	defer d.Close()
//	handled, err := d.Do(ctx, &plan.MakeBridge{…}, 0)
//
// A [Doer] does what a plan says, before a container is there and for one by the pid of its first process, and keeps one socket and
// one thread in its namespace meanwhile. [Doer.Connect] and [Doer.Disconnect] do the same for a container
// that runs. What a veth has on the host goes with the container's namespace: the kernel removes it, and nothing here
// waits for that.
//
// What it may not do: choose names or addresses, know of networks by their names, keep records but those that its rules are made again of, touch rules
// or devices of others. It is linked into kakuri-runtime: no net, no os/exec, nothing before main.
package network
