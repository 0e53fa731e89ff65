package seccomp

import "fmt"

// Kind names a call by what filters of containers know it by: a socket by its family and, of netlink, its protocol, an execution domain by its number,
// other calls by their name.
func Kind(call string, args [6]uint64) string {
	const netlink = 16
	switch family := uint32(args[0]); {
	case call == "socket" && family == netlink:
		return fmt.Sprintf("socket %d %d", family, uint32(args[2]))
	case call == "socket":
		return fmt.Sprintf("socket %d", family)
	case call == "personality":
		return fmt.Sprintf("personality %#x", uint32(args[0]))
	}
	return call
}
