// Package criu speaks to CRIU, which checkpoints and restores trees of processes: criu(8), the RPC of "criu swrk".
//
//	s, err := criu.Start(criu.Options{})
//	defer s.Close()
//	answer, err := s.Do(criu.Request{Type: criu.Version, KeepOpen: true}, nil)
//	answer, err = s.Do(criu.Request{Type: criu.Dump, Opts: &criu.Opts{...}}, func(n criu.Notice) error { ... })
//
// A [Session] is one criu process, at the other end of a socket pair of SOCK_SEQPACKET. A [Request] and an [Answer] are one
// message each, in the wire format of protocol buffers, encoded by hand: the usual library would be paid for at
// every start of a container. The numbers of fields are those of CRIU's images/rpc.proto.
//
// Of what is in an image's files it knows one wish of a process, and takes it out: [ForgetParentDeath]. [Threads] reads what they may do.
// [Replace] writes such a file.
//
// What it may not do: know what a container is.
package criu
