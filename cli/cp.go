package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/cobra"
)

func newCP(io IO) *cobra.Command {
	var o engine.CopyOptions
	var quiet bool
	c := &cobra.Command{
		Use: "cp [OPTIONS] SRC_PATH|- DEST_PATH|-", Short: "Copy files between a container and this machine", Args: arguments(2, 2),
		Long: `Copy files between a container, running or not, and this machine: one of the two
paths is CONTAINER:PATH. Paths of a container begin at its root, and reach what is
mounted there. "-" is a tar: on
stdout of what a container has, or on stdin, to be unpacked in a directory of a
container. SRC_PATH/. is what is in a directory.`,
		Example: "  kakuri cp web:/var/log/nginx ./logs\n  kakuri cp index.html web:/usr/share/nginx/html/\n  kakuri cp web:/etc - | tar -t",
		ValidArgsFunction: func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			if strings.ContainsAny(begun, ":/") {
				return nil, cobra.ShellCompDirectiveDefault
			}
			list, _ := names(containerNames(anyState), 2)(c, nil, begun)
			for i := range list {
				list[i] += ":"
			}
			return list, cobra.ShellCompDirectiveNoSpace
		},
	}
	s := c.Flags()
	s.BoolVarP(&o.Archive, "archive", "a", false, "keep the files' owners out of a container, too")
	s.BoolVarP(&o.Follow, "follow-link", "L", false, "copy what the link SRC_PATH leads to")
	s.BoolVarP(&quiet, "quiet", "q", false, "do not say what was copied, where that is a terminal")
	c.RunE = func(c *cobra.Command, args []string) error {
		from, src := containerPath(args[0])
		to, dst := containerPath(args[1])
		if src == "" || dst == "" {
			return errors.New("neither the source nor the destination of a copy may be empty")
		}
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		switch {
		case from != "" && to != "":
			return errors.New("copying between containers is not supported")
		case from == "" && to == "":
			return errors.New("must specify at least one container source")
		case from != "" && dst == "-":
			if _, err := e.StatPath(c.Context(), from, src); err != nil {
				return err
			}
			return writeOutput(io, "", "copy", func(w writer) error { return e.CopyFrom(c.Context(), from, src, w, o.Follow) })
		case from != "":
			err = e.CopyOut(c.Context(), from, src, dst, o)
		case src == "-":
			err = e.CopyTo(c.Context(), to, dst, io.In, engine.CopyToOptions{Archive: o.Archive})
		default:
			err = e.CopyIn(c.Context(), to, src, dst, o)
		}
		if err == nil && !quiet && src != "-" && width(io.Err) > 0 {
			fmt.Fprintf(io.Err, "Successfully copied %s to %s\n", args[0], args[1])
		}
		return err
	}
	return c
}

// containerPath takes CONTAINER:PATH apart. A path that begins with / or . is one of this
// machine, whatever is in it.
func containerPath(arg string) (container, path string) {
	if strings.HasPrefix(arg, "/") || strings.HasPrefix(arg, ".") {
		return "", arg
	}
	container, path, ok := strings.Cut(arg, ":")
	if !ok {
		return "", arg
	}
	return container, path
}
