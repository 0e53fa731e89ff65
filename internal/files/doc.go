// Package files is what kakuri does with files and directories of its own, by plain system calls.
//
// [Read] and [Replace] take a file as a whole, so that nobody meets half of one: records are kept so. [Head] reads what
// others may make as large as they like, [List] a directory. [Rest] and [Merge] read what processes write, until its end or to what is there at a time. [LockDir] and [Flock] are the locks of who changes a
// directory, and [Same] says whether it is still that of its name. [RemoveAll] takes a tree away, however deep a
// container has made it. [NewID] and [IsName] are what records are named by, and [Reserve] is how a name gets an owner in
// one step.
//
// It is a room of its own, below those that keep records and those that start containers, since package os prepares for
// the network at its first open file: that would be paid for at every start.
//
// What it may not do: know what is in a file.
package files
