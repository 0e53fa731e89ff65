// Package stack is the TCP/IP stack by which an uplink carries packets: gVisor's, at a device tun(4). What
// comes from the device is answered as if all addresses were here, and goes on by ordinary sockets of this process: TCP, UDP, and ICMP's echo by the sockets
// of icmp(7).
//
// What is on its way is bounded: [maxConns] connections and [maxFlows] flows of UDP and ICMP, and of each one address inside has at most as many as are
// free, so that it cannot have all. A silent connection has no buffer, and each of those that nobody reads from has at most 0.6 MiB, or 96 KiB when there are many.
//
// What it may not do: reach the machine's loopback; listen.
package stack
