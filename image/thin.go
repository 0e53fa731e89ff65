//go:build thin

package image

// network of a program that speaks to no registry.
type network struct{ o *Options }
