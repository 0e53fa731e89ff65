// Package sandbox shuts the process that it is called in: what unpacks archives of strangers should be able to do nothing else, should the
// code that reads them be wrong.
//
//	err := sandbox.Shut("/var/lib/kakuri/dirs/.tmp-1") // in a process of its own, with a mount namespace
//
// It may not decide what is unpacked, and knows no archive.
package sandbox
