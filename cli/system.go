package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/ui"
	"github.com/spf13/cobra"
)

func newDF(io IO) *cobra.Command {
	var layout string
	var verbose bool
	c := &cobra.Command{Use: "df [OPTIONS]", Short: "Show what is on the disk, and what of it nobody uses", Args: arguments(0, 0), ValidArgsFunction: cobra.NoFileCompletions}
	formatFlag(c.Flags(), &layout)
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "show each image, container and volume")
	c.RunE = func(c *cobra.Command, _ []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		u, err := e.DF(c.Context())
		if err != nil {
			return err
		}
		if verbose {
			if layout != "" && layout != "table" {
				return format.Object(io.shown(), format.Unescape(layout), dfPage(u, false))
			}
			return printDF(io, u)
		}
		type row struct{ Active, Reclaimable, Size, TotalCount, Type string }
		line := func(kind string, total, active int, size, free int64) row {
			r := row{strconv.Itoa(active), format.Size(float64(free)), format.Size(float64(size)), strconv.Itoa(total), kind}
			if size > 0 {
				r.Reclaimable += fmt.Sprintf(" (%d%%)", free*100/size)
			}
			return r
		}
		return format.Rows(io.Out, format.Spec{
			Table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
			Raw:   "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n",
			Heads: map[string]string{"Active": "ACTIVE", "Reclaimable": "RECLAIMABLE", "Size": "SIZE", "TotalCount": "TOTAL", "Type": "TYPE"},
		}, format.Options{Format: layout, Terminal: io.onTerminal()}, []row{
			line("Images", u.ImagesTotal, u.ImagesInUse, u.LayersSize, u.LayersUnused),
			line("Containers", len(u.Containers), u.ContainersAlive, u.ContainersSize, u.ContainersIdle),
			line("Local Volumes", len(u.Volumes), u.VolumesInUse, u.VolumesSize, u.VolumesUnused),
			line("Build Cache", 0, 0, 0, 0),
		})
	}
	return c
}

// A dfRows is what df -v shows.
type dfRows struct {
	Images     []imageRow
	Containers []containerRow
	Volumes    []volumeRow
	BuildCache []struct{}
}

func dfPage(u engine.DiskUsage, cut bool) (p dfRows) {
	for _, i := range u.Images {
		r := imageRows(i.Summary, false, cut)[0]
		r.Containers = strconv.Itoa(i.Containers)
		p.Images = append(p.Images, r)
	}
	for i := range u.Containers {
		u.Containers[i].SizeRootFs = 0 // it is its image's
	}
	p.Containers, p.Volumes, p.BuildCache = containerRows(u.Containers, cut), volumeRows(u.Volumes), []struct{}{}
	return p
}

func printDF(io IO, u engine.DiskUsage) error {
	p := dfPage(u, true)
	images, containers, volumes := imageSpec(), containerSpec(), volumeSpec()
	images.Table = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}"
	containers.Table = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}"
	volumes.Table = "{{.Name}}\t{{.Links}}\t{{.Size}}"
	fmt.Fprint(io.Out, "Images space usage:\n\n")
	if err := format.Rows(io.Out, images, format.Options{}, p.Images); err != nil {
		return err
	}
	fmt.Fprint(io.Out, "\nContainers space usage:\n\n")
	if err := format.Rows(io.Out, containers, format.Options{}, p.Containers); err != nil {
		return err
	}
	fmt.Fprint(io.Out, "\nLocal Volumes space usage:\n\n")
	if err := format.Rows(io.Out, volumes, format.Options{}, p.Volumes); err != nil {
		return err
	}
	// Nothing is built here; who reads Docker's page looks for its end.
	_, err := fmt.Fprint(io.Out, "\nBuild cache usage: 0B\n\nCACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED\n")
	return err
}

func newSystemPrune(io IO) *cobra.Command {
	var all, volumes bool
	c := &cobra.Command{Use: "prune [OPTIONS]", Short: "Remove what nobody uses: containers, networks, images, volumes", Args: arguments(0, 0), ValidArgsFunction: cobra.NoFileCompletions}
	s := c.Flags()
	s.BoolVarP(&all, "all", "a", false, "remove all images that no container uses, and not only those without a name")
	p := newPruning(s, "system prune", "label, until")
	s.BoolVar(&volumes, "volumes", false, "remove volumes without a name, too")
	c.RunE = func(c *cobra.Command, _ []string) error {
		p.withSettings(io)
		if volumes && len(p.filters["until"]) > 0 {
			return errors.New(`ERROR: The "until" filter is not supported with "--volumes"`)
		}
		keep, err := engine.Filters(p.filters).PruneMatch()
		if err != nil {
			return err
		}
		if err := p.confirm(io, systemPruned(all, volumes, p.filters)); err != nil {
			return err
		}
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		removed, freed, err := e.PruneContainers(c.Context(), keep)
		printPruned(io, "Deleted Containers:", removed)
		if err != nil {
			return err
		}
		networks, err := e.NetworkPrune(c.Context(), p.filters)
		printPruned(io, "Deleted Networks:", networks)
		if err != nil {
			return err
		}
		if volumes {
			list, bytes, err := e.VolumePrune(c.Context(), p.filters)
			printPruned(io, "Deleted Volumes:", list)
			if freed += bytes; err != nil {
				return err
			}
		}
		images, err := e.PruneImages(c.Context(), all, p.filters)
		printImages(io, images.Removed)
		if err != nil {
			return err
		}
		printReclaimed(io, freed+images.SpaceReclaimed)
		return nil
	}
	return c
}

// systemPruned lists what goes with all that nobody uses.
func systemPruned(all, volumes bool, filters map[string][]string) string {
	list := []string{"all stopped containers", "all networks not used by at least one container"}
	if volumes {
		list = append(list, "all anonymous volumes not used by at least one container")
	}
	if all {
		list = append(list, "all images without at least one container associated to them")
	} else {
		list = append(list, "all dangling images")
	}
	text := "remove:\n  - " + strings.Join(list, "\n  - ") + "\n"
	if only := filterLines(filters); len(only) > 0 {
		text += "\n  Items to be pruned will be filtered with:\n  - " + strings.Join(only, "\n  - ") + "\n"
	}
	return text
}

// filterLines are the filters as they were given, in order.
func filterLines(filters map[string][]string) (lines []string) {
	for key, values := range filters {
		for _, v := range values {
			lines = append(lines, key+"="+v)
		}
	}
	slices.Sort(lines)
	return lines
}

func newSystemBoot(io IO) *cobra.Command {
	return &cobra.Command{
		Use: "boot", Short: "Start the containers that come back with the machine", Args: arguments(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Start the containers whose restart policy has them come back when the machine was
started, and give back the names and ranges of ids of those with --rm that ended with it: it is for
the service manager, once a boot. kakuri.service does it, for
root and in the directory of users' units for others.`,
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := openEngine(io)
			if err != nil {
				return err
			}
			started, err := e.Boot(c.Context())
			for _, name := range started {
				fmt.Fprintln(io.Out, name)
			}
			return err
		},
	}
}

func newSystemCheck(io IO) *cobra.Command {
	var repair, deep bool
	c := &cobra.Command{
		Use: "check [OPTIONS]", Short: "Look for what killed processes, full disks and power failures left", Args: arguments(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Look for what killed processes, full disks and power failures left among containers
and images: a line for each, and exit code 1 if there is one that is not mended.
Where there is none, the errors' stream says so, and what was looked at. Ordinary
commands mend most of it by themselves.`,
	}
	c.Flags().BoolVar(&repair, "repair", false, "mend it")
	c.Flags().BoolVar(&deep, "layers", false, "compare all layers with their digests, too, which reads all of them")
	c.RunE = func(c *cobra.Command, _ []string) error {
		e, err := engine.Open(engine.Options{Look: !repair})
		if err != nil {
			return err
		}
		// Images first: a layer that was cut is fetched again by its image, and nothing else mends it.
		damaged, err := checkImages(c, io, e, repair, deep)
		left, mended, err2 := checkContainers(c, io, e, repair)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if left || damaged {
			return exitCode(1)
		}
		audited, rest := append(e.Audited(), "images"), " (digests of layers: --layers)"
		if deep {
			audited, rest = append(audited, "digests of layers"), ""
		}
		if !mended {
			fmt.Fprintln(io.Err, allWell(audited, rest, columns(io.Err)))
		}
		return nil
	}
	return c
}

// checkContainers tells what is left of containers, and whether any of it is so still, or was mended.
func checkContainers(c *cobra.Command, io IO, e *engine.Engine, repair bool) (left, mended bool, err error) {
	found, err := e.Check(c.Context(), repair)
	if err != nil {
		return false, false, err
	}
	for _, f := range found {
		text := f.Object + ": " + f.Text
		switch {
		case f.Mended:
			text += " (mended)"
		case f.Error != "":
			text += ": " + f.Error
		}
		left, mended = left || !f.Mended, mended || f.Mended
		fmt.Fprintln(io.Out, format.Lines(text))
	}
	return left, mended, nil
}

// checkImages tells what of images is damaged, and with repair what is so still.
func checkImages(c *cobra.Command, io IO, e *engine.Engine, repair, deep bool) (damaged bool, err error) {
	store, err := e.Images()
	if err != nil {
		return false, err
	}
	found, err := store.Check(c.Context(), deep)
	if err != nil {
		return false, err
	}
	if repair && len(found) > 0 {
		repairImages(c, io, store, found)
		err = store.Rebuild(c.Context())
	}
	if repair {
		// Also where nothing was found: of a layer that no image has nobody can tell whether a killed command left it, or a container that its image went before.
		if err := errors.Join(err, sweepImages(c, store)); err != nil {
			return false, err
		}
	}
	if repair && len(found) > 0 {
		if found, err = store.Check(c.Context(), deep); err != nil {
			return false, err
		}
	}
	for _, f := range found {
		fmt.Fprintln(io.Out, format.Lines(f.String()))
	}
	return len(found) > 0, nil
}

// allWell says that nothing was found, and where.
func allWell(audited []string, rest string, columns int) string {
	return "all is well\n" + strings.Join(ui.Wrap("nothing found in "+strings.Join(audited, ", ")+rest, columns), "\n")
}

// repairImages fetches what is damaged again. What cannot be fetched is told of, and found again afterwards.
func repairImages(c *cobra.Command, io IO, s *image.Store, found []image.Finding) {
	done := map[string]bool{}
	for _, f := range found {
		if f.Image == "" || f.Err == nil || done[f.Image] {
			continue
		}
		done[f.Image] = true
		list, err := s.Repair(c.Context(), f.Image, image.PullOptions{})
		if err != nil {
			io.report(err)
			continue
		}
		for _, f := range list {
			fmt.Fprintln(io.Out, format.Lines(f.String()), "(fetched again)")
		}
	}
}

func sweepImages(c *cobra.Command, s *image.Store) error {
	_, err := s.Sweep(c.Context())
	return err
}

func newImageCheck(io IO) *cobra.Command {
	var repair bool
	c := &cobra.Command{
		Use: "check [OPTIONS] IMAGE [IMAGE...]", Short: "Prove images: compare each manifest, config and layer with its digest", Args: arguments(1, -1), ValidArgsFunction: names(storedNames, -1),
		Long: `Prove images: compare each manifest, config and layer with its digest. A damaged one
is named; with --repair it is fetched again, by its digest, from the registries of
the image's names.`,
	}
	c.Flags().BoolVar(&repair, "repair", false, "fetch what is damaged again")
	c.RunE = func(c *cobra.Command, args []string) error {
		store, err := openImages(io)
		if err != nil {
			return err
		}
		return inTurn(io, args, func(i int) error {
			if repair {
				found, err := store.Repair(c.Context(), args[i], image.PullOptions{})
				for _, f := range found {
					fmt.Fprintln(io.Err, format.Lines(f.String()))
				}
				return err
			}
			found, err := store.CheckImage(c.Context(), args[i])
			var list []error
			for _, f := range found {
				list = append(list, errors.New(f.String()))
			}
			return errors.Join(append(list, err)...)
		})
	}
	return c
}
