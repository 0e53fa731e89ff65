package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/image"
	"github.com/spf13/cobra"
)

func newVolumeCreate(io IO) *cobra.Command {
	var v engine.VolumeConfig
	var labels []string
	c := &cobra.Command{
		Use: "create [OPTIONS] [VOLUME]", Short: "Make a volume", Args: arguments(0, 1), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Make a volume: a directory that outlives containers. Without a name it gets one that
nobody would choose. What it prints is the name.`,
		Example: "  kakuri volume create data\n  kakuri volume create -o type=tmpfs -o device=tmpfs -o o=size=64m scratch",
	}
	s := c.Flags()
	s.StringVarP(&v.Driver, "driver", "d", "local", "driver: local is the only one")
	s.StringVar(&v.Name, "name", "", "name of the volume, from before it was an argument")
	s.MarkHidden("name")
	s.StringArrayVar(&labels, "label", nil, "set a label: `NAME[=VALUE]`")
	s.FuncP("opt", "o", "set an option of the driver, type, device or o, which are those of mount(8): `NAME=VALUE`", options(&v.Options))
	c.RunE = func(c *cobra.Command, args []string) error {
		for _, l := range labels {
			if err := putLabel(&v.Labels, l); err != nil {
				return usageError{err}
			}
		}
		if v.Name != "" && len(args) > 0 {
			return usageError{errors.New("conflicting options: cannot specify a volume-name through both --name and as a positional arg")}
		}
		v.Name += strings.Join(args, "")
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		made, err := e.VolumeCreate(c.Context(), v)
		if err != nil {
			return err
		}
		fmt.Fprintln(io.Out, made.Name)
		return nil
	}
	return c
}

// A volumeRow is a volume, as a list shows it.
type volumeRow struct {
	Availability, Driver, Group, Labels, Links, Mountpoint, Name, Scope, Size, Status string

	All format.Labels `json:"-"`
}

// Label is the value of one label, empty if it is not there.
func (r volumeRow) Label(name string) string { return r.All[name] }

func volumeSpec() format.Spec {
	return format.Spec{
		Table: "{{.Driver}}\t{{.Name}}", Quiet: "{{.Name}}", Raw: "name: {{.Name}}\ndriver: {{.Driver}}\n",
		Heads: map[string]string{
			"Availability": "AVAILABILITY", "Driver": "DRIVER", "Group": "GROUP", "Labels": "LABELS", "Links": "LINKS", "Mountpoint": "MOUNTPOINT", "Name": "VOLUME NAME", "Scope": "SCOPE", "Size": "SIZE",
			"Status": "STATUS",
		},
	}
}

func volumeRows(list []engine.Volume) []volumeRow {
	rows := make([]volumeRow, len(list))
	for i, v := range list {
		r := volumeRow{
			Availability: "N/A", Driver: v.Driver, Group: "N/A", Labels: pairText(v.Labels), Links: "N/A", Mountpoint: v.Mountpoint, Name: v.Name, Scope: v.Scope, Size: "N/A", Status: "N/A", All: v.Labels,
		}
		if u := v.UsageData; u != nil {
			r.Links, r.Size = strconv.FormatInt(u.RefCount, 10), format.Size(float64(u.Size))
		}
		rows[i] = r
	}
	return rows
}

func newVolumeLS(io IO) *cobra.Command {
	var layout string
	var quiet bool
	c := &cobra.Command{Use: "ls [OPTIONS]", Short: "List volumes", Args: arguments(0, 0), ValidArgsFunction: cobra.NoFileCompletions}
	filters := filterFlag(c.Flags(), "f", "dangling, driver, label, name")
	formatFlag(c.Flags(), &layout)
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print names alone")
	c.RunE = func(c *cobra.Command, _ []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		if !quiet {
			layout = orSetting(io, layout, func(s image.DockerSettings) string { return s.VolumesFormat })
		}
		usage := layout != "json" && (strings.Contains(layout, ".Size") || strings.Contains(layout, ".Links"))
		list, err := e.VolumeList(c.Context(), filters, usage)
		if err != nil {
			return err
		}
		return format.Rows(io.Out, volumeSpec(), format.Options{Format: layout, Quiet: quiet, Terminal: io.onTerminal()}, volumeRows(list))
	}
	return c
}

func newVolumeInspect(io IO) *cobra.Command {
	var layout string
	c := &cobra.Command{Use: "inspect [OPTIONS] VOLUME [VOLUME...]", Short: "Show all that is known of volumes", Args: arguments(1, -1), ValidArgsFunction: names(volumeNames, -1)}
	inspectFormat(c.Flags(), &layout)
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		return inspectEach(io, layout, args, func(name string) (any, error) { return e.VolumeInspect(c.Context(), name, false) })
	}
	return c
}

func newVolumeRM(io IO) *cobra.Command {
	var force bool
	c := &cobra.Command{Use: "rm [OPTIONS] VOLUME [VOLUME...]", Short: "Remove volumes, and what is in them", Args: arguments(1, -1), ValidArgsFunction: names(volumeNames, -1)}
	c.Flags().BoolVarP(&force, "force", "f", false, "no error for one that is not there, and remove one whose record cannot be read, with its files")
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		return inTurn(io, args, func(i int) error { return e.VolumeRemove(c.Context(), args[i], force) })
	}
	return c
}

func newVolumePrune(io IO) *cobra.Command {
	var all bool
	c := &cobra.Command{Use: "prune [OPTIONS]", Short: "Remove volumes that no container has", Args: arguments(0, 0), ValidArgsFunction: cobra.NoFileCompletions}
	c.Flags().BoolVarP(&all, "all", "a", false, "remove those with a name, too")
	p := newPruning(c.Flags(), "volume prune", "all, label")
	c.RunE = func(c *cobra.Command, _ []string) error {
		p.withSettings(io)
		what := "remove anonymous local volumes not used by at least one container."
		if all {
			if len(p.filters["all"]) > 0 {
				return errors.New("conflicting options: cannot specify both --all and --filter all=1")
			}
			p.filters["all"] = []string{"true"}
			what = "remove all local volumes not used by at least one container."
		}
		if err := p.confirm(io, what); err != nil {
			return err
		}
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		removed, bytes, err := e.VolumePrune(c.Context(), p.filters)
		printPruned(io, "Deleted Volumes:", removed)
		if err == nil {
			printReclaimed(io, bytes)
		}
		return err
	}
	return c
}

func newVolumeExport(io IO) *cobra.Command {
	var output string
	c := &cobra.Command{Use: "export [OPTIONS] VOLUME", Short: "Write the files of a volume as a tar", Args: arguments(1, 1), ValidArgsFunction: names(volumeNames, 1)}
	c.Flags().StringVarP(&output, "output", "o", "", "write to `FILE` in place of stdout")
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		if _, err := e.VolumeInspect(c.Context(), args[0], false); err != nil {
			return err
		}
		return writeOutput(io, output, "export", func(w writer) error { return e.VolumeExport(c.Context(), args[0], w) })
	}
	return c
}

func newVolumeImport(io IO) *cobra.Command {
	c := &cobra.Command{
		Use: "import VOLUME [FILE]", Short: "Put the files of a tar into a volume", Args: arguments(1, 2),
		Long: `Put the files of a tar, compressed or not, into a volume, over what is there. Without
FILE, or with -, it is read from stdin.`,
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		stdin := len(args) == 1 || args[1] == "-"
		in, closeIn, err := openInput(io, stdin, args[len(args)-1], "stdin is a terminal: name a file, or redirect")
		if err != nil {
			return err
		}
		defer closeIn()
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		left, err := e.VolumeImport(c.Context(), args[0], in)
		for _, l := range left {
			io.warn(l)
		}
		return err
	}
	return c
}
