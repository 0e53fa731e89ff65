package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/image"
	"github.com/spf13/cobra"
)

// A completer lists the names that may stand at a place of a command line.
type completer func(context.Context) []string

// names completes the first most arguments by names, none of them twice; all of them
// where most is negative.
func names(list completer, most int) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var fit []string
		for _, n := range list(c.Context()) {
			if strings.HasPrefix(n, begun) && !slices.Contains(args, n) {
				fit = append(fit, n)
			}
		}
		return fit, cobra.ShellCompDirectiveNoFileComp
	}
}

// imageNames are the images that a container can be made of.
func imageNames(ctx context.Context) []string { return append(storedNames(ctx), "host", "host:all") }

// storedNames are the names of the images that are here.
func storedNames(ctx context.Context) (list []string) {
	e, err := lookEngine()
	if err != nil {
		return nil
	}
	store, err := e.Images()
	if err != nil {
		return nil
	}
	images, err := store.List(ctx, image.ListOptions{})
	if err != nil {
		return nil
	}
	for _, i := range images {
		list = append(list, i.RepoTags()...)
	}
	return list
}

// volumeNames are the volumes that there are.
func volumeNames(ctx context.Context) (list []string) {
	e, err := lookEngine()
	if err != nil {
		return nil
	}
	volumes, err := e.VolumeList(ctx, nil, false)
	if err != nil {
		return nil
	}
	for _, v := range volumes {
		list = append(list, v.Name)
	}
	return list
}

// networkNames are the networks that there are.
func networkNames(ctx context.Context) (list []string) {
	e, err := lookEngine()
	if err != nil {
		return nil
	}
	networks, err := e.NetworkList(ctx, nil)
	if err != nil {
		return nil
	}
	for _, n := range networks {
		list = append(list, n.Name)
	}
	return list
}

// networkModes are what --network takes.
func networkModes(c *cobra.Command, _ []string, begun string) (fit []string, _ cobra.ShellCompDirective) {
	list := networkNames(c.Context())
	for _, name := range containerNames(up)(c.Context()) {
		list = append(list, "container:"+name)
	}
	for _, n := range list {
		if strings.HasPrefix(n, begun) {
			fit = append(fit, n)
		}
	}
	return fit, cobra.ShellCompDirectiveNoFileComp
}

// A state is which containers a verb is for.
type state int

const (
	anyState state = iota
	up
	down
)

func containerNames(which state) completer {
	return func(context.Context) (list []string) {
		e, err := lookEngine()
		if err != nil {
			return nil
		}
		containers, err := e.List(engine.ListOptions{All: which != up})
		if err != nil {
			return nil
		}
		for _, c := range containers {
			if which != down || !c.Active() {
				list = append(list, c.Name)
			}
		}
		return list
	}
}
