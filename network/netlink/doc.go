// Package netlink speaks to the kernel about a network namespace: rtnetlink(7), and the other families of netlink(7) by the
// same socket. It has that, the form of the messages and their attributes, and readers of devices, addresses, routes,
// sockets and who has them for whoever shows or checks them; what changes something is in package network.
//
//	s, err := netlink.OpenIn("/proc/4711/ns/net")
//	if err != nil {
//		return err
//	}
//	defer s.Close()
//	links, err := s.Links()
//
// What it may not do: decide, know of a container, or change anything unless it is handed a message
// that does. It is linked into kakuri-runtime, and imports next to nothing.
package netlink
