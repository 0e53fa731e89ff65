package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/volume"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// inspectFormat makes --format of a command that prints whole objects.
func inspectFormat(s *pflag.FlagSet, to *string) {
	s.StringVarP(to, "format", "f", "", "json, or a Go `TEMPLATE` (default: JSON with indents)")
}

// templateStatus gives a template that is none Docker's exit code, where objects are printed by it and not rows.
func templateStatus(err error) error {
	if errors.As(err, new(*format.ParseError)) {
		return &engine.ExitError{Code: 64, Err: err}
	}
	return err
}

// inspectEach prints the objects of all names, and tells of those that there are not.
func inspectEach(io IO, layout string, names []string, look func(name string) (any, error)) error {
	var list []any
	var errs []error
	for _, name := range names {
		o, err := look(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, o)
	}
	err := format.Objects(io.shown(), layout, list)
	if errors.As(err, new(*format.ParseError)) {
		return templateStatus(err)
	}
	failed := false
	for _, err := range append(errs, err) { // after what was found
		if err != nil {
			io.report(err)
			failed = true
		}
	}
	if failed {
		return exitCode(1)
	}
	return nil
}

func newContainerInspect(io IO) *cobra.Command {
	var layout string
	var size bool
	c := &cobra.Command{Use: "inspect [OPTIONS] CONTAINER [CONTAINER...]", Short: "Show all that is known of containers", Args: arguments(1, -1), ValidArgsFunction: names(containerNames(anyState), -1)}
	inspectFormat(c.Flags(), &layout)
	c.Flags().BoolVarP(&size, "size", "s", false, "show what each has written, too")
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		return inspectEach(io, layout, args, containerLook(e, size))
	}
	return c
}

// containerLook gives what inspect finds of a container, with its sizes where they are asked for.
func containerLook(e *engine.Engine, size bool) func(name string) (any, error) {
	return func(name string) (any, error) {
		if size {
			return e.InspectSize(name)
		}
		return e.Inspect(name)
	}
}

// A kind is one of the kinds of object that inspect looks for a name among.
type kind struct {
	name string
	look func(name string) (any, error)
	none func(error) bool // the error is that there is none of that name
}

func newInspect(io IO) *cobra.Command {
	var layout, only string
	var size bool
	c := &cobra.Command{
		Use: "inspect [OPTIONS] NAME|ID [NAME|ID...]", Short: "Show all that is known of containers, images, networks and volumes", Args: arguments(1, -1), ValidArgsFunction: names(anyNames, -1),
		Long: `Show all that is known of containers, images, networks and volumes: as JSON, with
the keys that Docker has. A container has, besides, the plan by which it was made, and how
it ended.`,
		Example: "  kakuri inspect -f '{{.State.Pid}}' web\n  kakuri inspect --type image debian",
	}
	inspectFormat(c.Flags(), &layout)
	c.Flags().BoolVarP(&size, "size", "s", false, "show what a container has written, too")
	c.Flags().StringVar(&only, "type", "", "look among one `KIND` only: container, image, network or volume")
	c.RunE = func(c *cobra.Command, args []string) error {
		if only == "" && c.Flags().Changed("type") { // a variable that is not set, say
			return errors.New("--type is empty: there are container, image, network and volume")
		}
		list, err := kinds(io, only, size)
		if err != nil {
			return err
		}
		return inspectEach(io, layout, args, func(name string) (any, error) {
			for _, k := range list {
				o, err := k.look(name)
				if err == nil || only != "" || !k.none(err) {
					return o, err // of one kind it is that kind's own answer
				}
			}
			return nil, noObject(name)
		})
	}
	return c
}

// A noObject is a name that nothing has. Scripts look for these words of Docker's.
type noObject string

func (n noObject) Error() string {
	if n == "" {
		return engine.ErrNoSuchContainer{}.Error() // as with Docker, which looks among containers first
	}
	return "Error: No such object: " + string(n)
}

// kinds are the kinds of objects that there are, in the order in which a name is looked
// for, or one of them alone.
func kinds(io IO, only string, size bool) ([]kind, error) {
	e, err := openEngine(io)
	if err != nil {
		return nil, err
	}
	list := []kind{
		{"container", containerLook(e, size), func(err error) bool { return errors.As(err, new(engine.ErrNoSuchContainer)) }},
		{"image", func(name string) (any, error) {
			store, err := e.Images()
			if err != nil {
				return nil, err
			}
			return store.Inspect(name, image.Platform{})
		}, func(err error) bool { return errors.As(err, new(*image.NotFoundError)) }},
		{"network", func(name string) (any, error) { return e.NetworkInspect(name) }, engine.IsNoNetwork},
		{"volume", func(name string) (any, error) { return e.VolumeInspect(context.Background(), name, false) }, func(err error) bool { return errors.As(err, new(*volume.NoVolumeError)) }},
	}
	if only == "" {
		return list, nil
	}
	for _, k := range list {
		if k.name == only {
			return []kind{k}, nil
		}
	}
	return nil, fmt.Errorf("%q is not a valid value for --type: there are container, image, network and volume", only)
}

// anyNames are the names of whatever has one.
func anyNames(ctx context.Context) (list []string) {
	for _, kind := range []completer{containerNames(anyState), storedNames, networkNames, volumeNames} {
		list = append(list, kind(ctx)...)
	}
	return list
}
