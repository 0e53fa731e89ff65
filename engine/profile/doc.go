// Package profile has the seccomp profiles that a container may ask for by name: Docker's, and those that take from it what kakuri's own leave out.
//
//	filter, err := profile.Named("builtin", caps)
//
// What a profile lets through depends on the capabilities that the container may have: who may trace others may make the calls for that. [Ways] is the
// reverse: the least option that lets a refused call through.
//
// What it may not do: know what a container is, or compile and load a filter but to compare two.
package profile
