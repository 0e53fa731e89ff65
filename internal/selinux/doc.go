// Package selinux chooses the labels of SELinux that a container's processes and files have, by what the machine's policy says of containers, and gives
// trees of files theirs.
//
//	labels, err := selinux.Here().Choose([]string{"type:container_init_t"}, used)
//	err = selinux.Relabel("/srv/data", labels.Shared())
//
// What it may not do: know what a container is, or have a process enter a domain, which is launch's.
package selinux
