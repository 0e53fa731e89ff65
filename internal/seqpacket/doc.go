// Package seqpacket is sockets of SOCK_SEQPACKET between processes of one user, see unix(7): a message comes whole, and may bring descriptors.
//
// Such a socket is an [os.File]: a goroutine that waits for it costs no thread, and deadlines hold. [Dial] and [Listen] find its name below a
// directory's descriptor, since the path of an address has but 108 bytes.
//
//	dir, _ := os.Open("/run/example")
//	l, _ := seqpacket.Listen(int(dir.Fd()), "control")
//	conn, _ := seqpacket.Accept(l)
//	n, fds, _ := seqpacket.Receive(conn, buf, 1)
//
// What it may not do: know what is in a message.
package seqpacket
