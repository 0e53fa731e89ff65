package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/image"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newImages(io IO) *cobra.Command {
	var all, noTrunc, quiet, tree bool
	var f imageColumns
	c := &cobra.Command{
		Use: "images [OPTIONS] [REPOSITORY[:TAG]]", Short: "List images",
		Long: `List images. With a name, only those that have it; it may be a pattern, as
in 'debian:*'.`,
		Args: arguments(0, 1), ValidArgsFunction: names(storedNames, 1),
	}
	s := c.Flags()
	s.BoolVarP(&all, "all", "a", false, "show those without a name, too")
	s.BoolVar(&f.digests, "digests", false, "show digests")
	s.BoolVar(&noTrunc, "no-trunc", false, "do not cut ids")
	s.BoolVarP(&quiet, "quiet", "q", false, "print ids alone")
	s.BoolVar(&tree, "tree", false, "show the platforms of each image below it, with a U where a container has the image")
	filters := filterFlag(s, "f", "before, dangling, label, reference, since, until")
	formatFlag(s, &f.layout)
	c.RunE = func(c *cobra.Command, args []string) error {
		if tree && (quiet || noTrunc || f.digests || f.layout != "") {
			return errors.New("--tree does not go with --quiet, --no-trunc, --digests and --format")
		}
		if !quiet && !tree {
			f.layout = orSetting(io, f.layout, func(s image.DockerSettings) string { return s.ImagesFormat })
		}
		if len(args) > 0 && args[0] != "" {
			filters["reference"] = append(filters["reference"], args[0])
		}
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		store, err := e.Images()
		if err != nil {
			return err
		}
		shared := format.Uses(f.layout, "SharedSize") || format.Uses(f.layout, "UniqueSize")
		list, err := store.List(c.Context(), image.ListOptions{All: all, Filters: filters, Shared: shared})
		if err != nil {
			return err
		}
		if _, asked := filters["dangling"]; !all && !asked {
			list = named(list)
		}
		if tree {
			users, err := e.ImageUsers()
			if err != nil {
				return err
			}
			return imageTree(io, list, func(i image.Summary) bool { return len(users[i.ID]) > 0 })
		}
		rows, err := f.rows(e, list, !noTrunc)
		if err != nil {
			return err
		}
		return format.Rows(io.Out, f.spec(), format.Options{Format: f.layout, Quiet: quiet, Terminal: io.onTerminal()}, rows)
	}
	return c
}

// imageColumns are what a list of images is to show of each.
type imageColumns struct {
	digests bool
	layout  string
}

func (f imageColumns) spec() format.Spec {
	spec := imageSpec()
	if f.digests {
		spec.Table = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
		spec.Raw = strings.Replace(spec.Raw, "image_id", "digest: {{.Digest}}\nimage_id", 1)
	}
	return spec
}

// rows are those of the images. Their containers are counted only for who asks.
func (f imageColumns) rows(e *engine.Engine, list []image.Summary, cut bool) (rows []imageRow, err error) {
	digests := f.digests || strings.Contains(f.layout, ".Digest") || f.layout == "json"
	var users map[digest.Digest][]engine.Container
	counted := format.Uses(f.layout, "Containers")
	if counted {
		if users, err = e.ImageUsers(); err != nil {
			return nil, err
		}
	}
	for _, i := range list {
		those := imageRows(i, digests, cut)
		for n := range those {
			if counted {
				those[n].Containers = strconv.Itoa(len(users[i.ID]))
			}
		}
		rows = append(rows, those...)
	}
	return rows, nil
}

// named leaves the images without a name out.
func named(list []image.Summary) (kept []image.Summary) {
	for _, i := range list {
		if len(i.Names) > 0 {
			kept = append(kept, i)
		}
	}
	return kept
}

// An imageRow is one name of an image, as a list shows it.
type imageRow struct {
	Containers, CreatedAt, CreatedSince, Digest, ID, Repository, SharedSize, Size, Tag, UniqueSize, VirtualSize string
}

func imageSpec() format.Spec {
	return format.Spec{
		Table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
		Raw:   "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n",
		Heads: map[string]string{
			"Containers": "CONTAINERS", "CreatedAt": "CREATED AT", "CreatedSince": "CREATED", "Digest": "DIGEST", "ID": "IMAGE ID", "Repository": "REPOSITORY",
			"SharedSize": "SHARED SIZE", "Size": "SIZE", "Tag": "TAG", "UniqueSize": "UNIQUE SIZE", "VirtualSize": "SIZE",
		},
	}
}

// imageRows are the rows of an image: one for each tag, and for each name by digest that
// has no tag.
func imageRows(i image.Summary, digests, cut bool) (rows []imageRow) {
	base := imageRow{
		Containers: "N/A", CreatedSince: "N/A", CreatedAt: "N/A", Digest: "<none>", ID: shortened(i.ID.String(), cut), Repository: "<none>", SharedSize: "N/A",
		Size: format.Short(float64(i.Size)), Tag: "<none>", UniqueSize: "N/A", VirtualSize: format.Size(float64(i.Size)),
	}
	if t := i.Config.Created; t != nil {
		base.CreatedSince, base.CreatedAt = engine.Age(time.Since(*t))+" ago", t.Local().Format("2006-01-02 15:04:05 -0700 MST")
	}
	if i.SharedSize >= 0 {
		base.SharedSize, base.UniqueSize = format.Size(float64(i.SharedSize)), format.Size(float64(i.Size-i.SharedSize))
	}
	byName := map[string]string{}
	for _, d := range i.RepoDigests() {
		if repository, digest, ok := strings.Cut(d, "@"); ok {
			byName[repository] = digest
		}
	}
	for _, n := range i.Names {
		tagged := func(other image.Reference) bool { return other.Tag != "" && other.Name() == n.Name() }
		if n.Tag == "" && slices.ContainsFunc(i.Names, tagged) {
			continue // the rows of those tags have the digest
		}
		r := base
		r.Repository = n.FamiliarName()
		if n.Tag != "" {
			r.Tag = n.Tag
		}
		if d := byName[r.Repository]; digests && d != "" {
			r.Digest = d
		}
		rows = append(rows, r)
	}
	if rows == nil {
		rows = append(rows, base)
	}
	return rows
}

// imageTree prints each image with its platforms below it. A platform whose layers are
// not here takes no place.
func imageTree(io IO, list []image.Summary, used func(image.Summary) bool) error {
	type row struct{ Image, ID, DiskUsage, ContentSize, Extra string }
	spec := format.Spec{
		Table: "{{.Image}}\t{{.ID}}\t{{.DiskUsage}}\t{{.ContentSize}}\t{{.Extra}}",
		Heads: map[string]string{"Image": "IMAGE", "ID": "ID", "DiskUsage": "DISK USAGE", "ContentSize": "CONTENT SIZE", "Extra": "EXTRA"},
	}
	var rows []row
	for _, i := range list {
		var content, disk int64
		for _, l := range i.Layers {
			content += l.Size
		}
		disk = i.Size
		if len(i.Variants) > 0 {
			disk = 0
			for _, v := range i.Variants {
				disk += v.Size
			}
		}
		name := strings.Join(i.RepoTags(), ", ")
		if name == "" {
			name = "<untagged>"
		}
		extra := ""
		if used(i) {
			extra = "U" // Docker's mark of one in use
		}
		rows = append(rows, row{name, format.ID(i.ID.String()), format.Short(float64(disk)), format.Short(float64(content)), extra})
		for n, v := range i.Variants {
			branch := "├─ "
			if n == len(i.Variants)-1 {
				branch = "└─ "
			}
			rows = append(rows, row{branch + platformText(v.Platform), format.ID(v.Descriptor.Digest.String()), format.Short(float64(v.Size)), "", ""})
		}
	}
	return format.Rows(io.Out, spec, format.Options{}, rows)
}

func platformText(p image.Platform) string {
	text := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		text += "/" + p.Variant
	}
	return text
}

func newHistory(io IO) *cobra.Command {
	var layout, platform string
	var human, noTrunc, quiet bool
	c := &cobra.Command{Use: "history [OPTIONS] IMAGE", Short: "Show how an image came about", Args: arguments(1, 1), ValidArgsFunction: names(storedNames, 1)}
	s := c.Flags()
	formatFlag(s, &layout)
	s.BoolVarP(&human, "human", "H", true, "print sizes and dates for people")
	s.BoolVar(&noTrunc, "no-trunc", false, "do not cut ids and commands")
	s.BoolVarP(&quiet, "quiet", "q", false, "print ids alone")
	s.StringVar(&platform, "platform", "", "history of the image for `OS/ARCH[/VARIANT]`")
	c.RunE = func(c *cobra.Command, args []string) error {
		p, err := parsePlatform(platform)
		if err != nil {
			return err
		}
		store, err := openImages(io)
		if err != nil {
			return err
		}
		list, err := store.History(args[0], p)
		if err != nil {
			return err
		}
		rows := make([]historyRow, len(list))
		for i, h := range list {
			rows[i] = newHistoryRow(h, human, !noTrunc)
		}
		spec := format.Spec{
			Table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
			Heads: map[string]string{"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT"},
		}
		if !human {
			spec.Table = strings.Replace(spec.Table, "Since", "At", 1)
		}
		return format.Rows(io.Out, spec, format.Options{Format: layout, Quiet: quiet, Terminal: io.onTerminal()}, rows)
	}
	return c
}

// A historyRow is a step of how an image came about, as a list shows it.
type historyRow struct{ Comment, CreatedAt, CreatedBy, CreatedSince, ID, Size string }

func newHistoryRow(h image.HistoryLine, human, cut bool) historyRow {
	created := time.Unix(h.Created, 0)
	r := historyRow{h.Comment, created.Format(time.RFC3339), strings.ReplaceAll(h.CreatedBy, "\t", " "), engine.Age(time.Since(created)) + " ago", h.ID, format.Short(float64(h.Size))}
	if h.Created < 946684800 { // the year 2000: nobody's clock, but a build's that has none
		r.CreatedSince = "N/A"
	}
	if !human {
		r.CreatedSince, r.Size = r.CreatedAt, strconv.FormatInt(h.Size, 10)
	}
	if cut {
		r.CreatedBy = format.Ellipsis(r.CreatedBy, 45)
		if h.ID != "<missing>" {
			r.ID = format.ID(h.ID)
		}
	}
	return r
}

// platformFlag makes --platform where images are fetched or made, whose default is the caller's DOCKER_DEFAULT_PLATFORM, as with Docker.
func platformFlag(s *pflag.FlagSet, to *string, use string) {
	s.StringVar(to, "platform", os.Getenv("DOCKER_DEFAULT_PLATFORM"), use)
	s.Lookup("platform").DefValue = "" // for help: it is the same everywhere
}

// parsePlatform reads --platform; without one it is this machine's.
func parsePlatform(text string) (image.Platform, error) {
	if text == "" {
		return image.Platform{}, nil
	}
	p, err := image.ParsePlatform(text)
	if err != nil {
		return p, fmt.Errorf("--platform: %w", err)
	}
	return p, nil
}

// parsePlatforms reads a --platform that may have several, with commas between them.
func parsePlatforms(list []string) (all []image.Platform, err error) {
	for _, text := range list {
		p, err := image.ParsePlatform(text)
		if err != nil {
			return nil, fmt.Errorf("--platform: %w", err)
		}
		all = append(all, p)
	}
	return all, nil
}

func newTag(io IO) *cobra.Command {
	return &cobra.Command{
		Use: "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", Short: "Give an image one more name", Args: arguments(2, 2), ValidArgsFunction: names(storedNames, 2),
		RunE: func(c *cobra.Command, args []string) error {
			store, err := openImages(io)
			if err != nil {
				return err
			}
			return store.Tag(c.Context(), args[0], args[1])
		},
	}
}

func newImageInspect(io IO) *cobra.Command {
	var layout, platform string
	c := &cobra.Command{Use: "inspect [OPTIONS] IMAGE [IMAGE...]", Short: "Show all that is known of images", Args: arguments(1, -1), ValidArgsFunction: names(storedNames, -1)}
	inspectFormat(c.Flags(), &layout)
	c.Flags().StringVar(&platform, "platform", "", "the image for `OS/ARCH[/VARIANT]`")
	c.RunE = func(c *cobra.Command, args []string) error {
		p, err := parsePlatform(platform)
		if err != nil {
			return err
		}
		store, err := openImages(io)
		if err != nil {
			return err
		}
		return inspectEach(io, layout, args, func(name string) (any, error) { return store.Inspect(name, p) })
	}
	return c
}
