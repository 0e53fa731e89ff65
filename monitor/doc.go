// Package monitor is the parent of one container: kakuri-runtime monitor. It launches the container by package
// oci, has its streams, keeps its log, tells who is attached what it writes, starts it again where its
// policy says so, and writes down how it ended. A container lives on when its monitor is killed, and a new
// one takes over.
//
// An engine in another process speaks to it through a [Client]:
//
//	s, err := monitor.Spawn(program, env, nil)  // as early as possible: it prepares itself meanwhile
//	s.Attach(monitor.Stdout | monitor.Stderr)
//	started, err := s.Launch(monitor.Order{Dir: dir, Run: run}, lock)
//	m, err := s.Next()                          // output, and the exit in the end
//
// [Dial] connects to the monitor of a container that runs. What a container is, is a [Task] in its directory, how it
// is, a [State]. The sockets are of SOCK_SEQPACKET: a message comes whole.
//
// What it may not do: know images or volumes, import anything heavy. It is the memory of each idle container.
package monitor
