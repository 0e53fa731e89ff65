// Package log keeps what a container writes, in the forms that Docker has.
//
// [Open] makes a [Sink] of a [Config]; the monitor writes to it what it reads from the container's streams, piece by piece. The
// sink finds the lines, has the driver keep them, and counts those that could not be kept: a full disk or a dead
// server costs lines, which a line in the log says afterwards, and never stops the container.
//
//	s, err := log.Open(log.Config{Driver: "json-file", File: dir + "/container.log"})
//	s.Write(log.Stdout, buf[:n], time.Now())
//	s.Close()
//
// The package is part of each container's monitor. So it stands on system calls alone: no package net, no compression (gzip(1) does
// that), no reflection. Package logread reads back what this one wrote.
package log
