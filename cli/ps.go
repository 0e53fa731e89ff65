package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/image"
	"github.com/spf13/cobra"
)

func newPS(io IO) *cobra.Command {
	var all, latest, noTrunc, quiet, size bool
	last := -1
	var layout string
	c := &cobra.Command{
		Use: "ps [OPTIONS]", Short: "List containers", Args: arguments(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `List containers that run, the newest first; with -a all there are. The status of
one that ended has what ended it, where that was not its program.`,
		Example: "  kakuri ps -a --filter status=exited\n  kakuri ps --format 'table {{.Names}}\\t{{.Status}}'",
	}
	s := c.Flags()
	s.BoolVarP(&all, "all", "a", false, "list those that do not run, too")
	filters := filterFlag(s, "f", "ancestor, before, exited, expose, health, id, label, name, network, publish, since, status, until, volume")
	formatFlag(s, &layout)
	s.IntVarP(&last, "last", "n", -1, "list the `NUMBER` newest, in whatever state")
	s.BoolVarP(&latest, "latest", "l", false, "list the newest, in whatever state")
	s.BoolVar(&noTrunc, "no-trunc", false, "do not cut ids and commands")
	s.BoolVarP(&quiet, "quiet", "q", false, "print ids alone")
	s.BoolVarP(&size, "size", "s", false, "list what each has written, too")
	s.Lookup("last").DefValue = ""
	c.RunE = func(c *cobra.Command, _ []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		if !quiet {
			layout = orSetting(io, layout, func(s image.DockerSettings) string { return s.PsFormat })
		}
		if latest && last < 0 { // as with Docker, --last is the one that counts
			last = 1
		}
		if last == 0 {
			last = -1
		}
		if !c.Flags().Changed("size") {
			size = layout != "json" && format.Uses(layout, "Size")
		}
		list, err := e.Summaries(c.Context(), engine.SummaryOptions{All: all, Last: last, Filters: filters, Size: size && !quiet, Platform: !quiet && format.Uses(layout, "Platform")})
		if err != nil {
			return err
		}
		spec := containerSpec()
		if size {
			spec.Table += "\t{{.Size}}"
			spec.Raw += "\nsize: {{.Size}}"
		}
		spec.Raw += "\n"
		if quiet {
			if layout != "" {
				fmt.Fprintln(io.Err, "WARNING: Ignoring custom format, because both --format and --quiet are set.")
			}
			layout = ""
		}
		return format.Rows(io.Out, spec, format.Options{Format: layout, Quiet: quiet, Terminal: io.onTerminal()}, containerRows(list, !noTrunc))
	}
	return c
}

// A containerRow is a container, as a list shows it.
type containerRow struct {
	Command, CreatedAt, HealthStatus, ID, Image, Labels, LocalVolumes, Mounts, Names, Networks, PID, Ports, RunningFor, Size, State, Status string

	Platform *platformCell
	All      format.Labels `json:"-"`
}

// A platformCell is a platform in a list: OS/ARCH[/VARIANT] as text, its parts in JSON.
type platformCell struct{ image.Platform }

func (p platformCell) String() string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// Label is the value of one label, empty if it is not there.
func (r containerRow) Label(name string) string { return r.All[name] }

func containerSpec() format.Spec {
	return format.Spec{
		Table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
		Raw: "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\nstatus: {{.Status}}\n" +
			"names: {{.Names}}\nlabels: {{.Labels}}\nports: {{.Ports}}",
		Heads: map[string]string{
			"Command": "COMMAND", "CreatedAt": "CREATED AT", "HealthStatus": "HEALTH STATUS", "ID": "CONTAINER ID", "Image": "IMAGE", "Labels": "LABELS", "LocalVolumes": "LOCAL VOLUMES",
			"Mounts": "MOUNTS", "Names": "NAMES", "Networks": "NETWORKS", "PID": "PID", "Platform": "PLATFORM", "Ports": "PORTS", "RunningFor": "CREATED", "Size": "SIZE", "State": "STATE", "Status": "STATUS",
		},
	}
}

func containerRows(list []engine.Summary, cut bool) []containerRow {
	rows := make([]containerRow, len(list))
	for i, c := range list {
		created := time.Unix(c.Created, 0)
		r := containerRow{
			Command: c.Command, CreatedAt: created.Format("2006-01-02 15:04:05 -0700 MST"), HealthStatus: c.Health, ID: shortened(c.ID, cut), Image: c.Image, Labels: pairText(c.Labels),
			Names: nameText(c.Names, cut), Networks: networkText(c), Ports: portText(c.Ports), RunningFor: engine.Age(time.Since(created)) + " ago",
			Size: format.Short(float64(c.SizeRw)), State: c.State, Status: c.Status, All: c.Labels,
		}
		if c.PID != 0 {
			r.PID = strconv.Itoa(c.PID)
		}
		if c.Platform != nil {
			r.Platform = &platformCell{*c.Platform}
		}
		if c.SizeRootFs > 0 {
			r.Size += " (virtual " + format.Short(float64(c.SizeRootFs)) + ")"
		}
		r.Mounts, r.LocalVolumes = mountNames(c.Mounts, cut)
		if cut {
			r.Command = format.Ellipsis(r.Command, 20)
			if r.Image == c.ImageID {
				r.Image = format.ID(c.ImageID) // the name leads elsewhere
			} else if name, _, ok := strings.Cut(r.Image, "@sha256:"); ok {
				r.Image = name
			}
		}
		r.Command = strconv.Quote(r.Command)
		rows[i] = r
	}
	return rows
}

// mountNames are the volumes and directories of the host that a container has, and how many of them are volumes.
func mountNames(mounts []engine.MountPoint, cut bool) (text, volumes string) {
	var list []string
	n := 0
	for _, m := range mounts {
		name := m.Name
		if name == "" {
			name = m.Source
		} else {
			n++
		}
		if name == "" {
			continue // a tmpfs
		}
		if cut {
			name = format.Ellipsis(name, 15)
		}
		list = append(list, name)
	}
	return strings.Join(list, ","), strconv.Itoa(n)
}

// nameText are the names of a container; those that it has by links of others are not in a list that is cut.
func nameText(names []string, cut bool) string {
	var shown []string
	for _, n := range names {
		if n = strings.TrimPrefix(n, "/"); !cut || !strings.Contains(n, "/") {
			shown = append(shown, n)
		}
	}
	return strings.Join(shown, ",")
}

func shortened(id string, cut bool) string {
	if cut {
		return format.ID(id)
	}
	return id
}

// pairText is a map as K=V,K=V, sorted.
func pairText(m map[string]string) string {
	list := make([]string, 0, len(m))
	for k, v := range m {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}
