// Package uplink is the way out of a network namespace that a user owns, and of ports of the machine the way in: for one that has no
// rights over the machine's own network. It starts the program kakuri-uplink and speaks to it.
//
// What goes out of the namespace is carried by a TCP/IP stack in the program itself, or by pasta(1) where [ModeVariable] asks for that. Either
// makes ordinary sockets of the user in the machine's namespace. What comes in to a published port the program takes at a socket of the machine,
// and passes it on by one inside that has the sender's address.
//
//	u, err := uplink.Start(ctx, uplink.Config{Run: dir, UserNS: user, NetNS: net})
//	ports, err := u.Publish(container, []plan.Publish{{Proto: "tcp", HostAddr: any, HostPort: 8080, Addr: addr, Port: 80}})
//	u.Close()                      // the program goes on
//	u, err = uplink.Open(dir)      // another process finds it again
//	err = u.End()
//
// It has both namespaces open as long as it runs, so they live on without a process ([Uplink.Namespaces]). What is published is in files of the
// directory, which are written before anything is done: a program that was killed is started again by [Start], and takes up the ports.
//
// What the program does is in uplink/serve, and its stack in uplink/stack: nobody else links them. What both sides say to each other is [Answer]
// and the words of a question, such as [AskPublish].
//
// Whom the machine asks for names is here as well, since monitors and the program have to agree on it: its resolv.conf(5) ([ParseResolv]), and behind systemd-resolved the servers of
// its links ([ResolvedLinks]), as root's monitors ask them, too.
//
// What it may not do: know what a container is, or what the program does.
package uplink
