// Package content copies what is in containers and volumes: in and out by the rules of cp, as tars, and from an image into a volume.
//
//	v, err := content.Open(pid, name, facts)
//	err = v.CopyOut(ctx, "/etc/os-release", ".", content.CopyOptions{})
//
// A [View] is of a container's root directory as one of its processes has it, [Volumes] of the directory of volumes. Both find out by themselves whether this
// process may do it, or a child in a user namespace with the ids that the files have: a program that uses them calls [Child] first of all.
//
// What it may not do: start a container, or know of its record.
package content
