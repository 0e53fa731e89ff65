package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/storage"
)

// isHostImage reports whether a name means the view of this machine, and no image of a registry.
func isHostImage(name string) bool {
	return name == "host" || name == "host:latest" || name == "host:all"
}

// fromImage reports whether the container's root is an image of the store.
func (c *Config) fromImage() bool { return c.Rootfs == "" && !isHostImage(c.Image) }

// image looks an image up, and fetches it where its policy says so. The release that it returns lets go of
// the layers: the container's record names them by then.
func (e *Engine) image(ctx context.Context, c *Config) (img image.Image, release func(), err error) {
	s, err := e.Images()
	if err != nil {
		return img, nil, err
	}
	var p image.Platform
	if c.Platform != "" {
		if p, err = image.ParsePlatform(c.Platform); err != nil {
			return img, nil, fmt.Errorf("--platform %s: %w", c.Platform, err)
		}
	}
	hold, err := s.Hold(ctx)
	if err != nil {
		return img, nil, err
	}
	defer func() {
		if err != nil {
			hold()
		}
	}()
	release = hold
	switch c.Pull {
	case "", "missing", "never":
		img, err = s.Get(c.Image, p)
		if !errors.As(err, new(*image.NotFoundError)) || c.Pull == "never" {
			return img, release, err
		}
		if e.look {
			return img, nil, fmt.Errorf("%w: kakuri pull %s fetches it", err, c.Image)
		}
	case "always":
	default:
		return img, nil, fmt.Errorf("--pull %s: it is missing, always or never", c.Pull)
	}
	if _, err := image.ParseReference(c.Image); err != nil {
		return img, nil, err // before it is told that it is not here
	}
	var told image.Progress
	if e.pulling != nil {
		told = e.pulling(c.Image, c.Pull != "always")
	}
	img, err = s.Pull(ctx, c.Image, image.PullOptions{Platform: p, Progress: told})
	return img, release, err
}

// runs refuses an image of another system, and says so of one for another processor that nobody asked for by name: its programs need an emulator,
// and without one the kernel knows only that they are of no format.
func (e *Engine) runs(img image.Image, asked string) error {
	foreign, err := image.Runs(img.Platform)
	if err != nil {
		return err
	}
	if foreign != "" && asked == "" && e.warn != nil {
		e.warn(foreign + " and no specific platform was requested")
	}
	return nil
}

// Pull fetches an image, and has it ready to be run.
func (e *Engine) Pull(ctx context.Context, name string, o image.PullOptions) (image.Image, error) {
	s, err := e.Images()
	if err != nil {
		return image.Image{}, err
	}
	return s.Pull(ctx, name, o)
}

// applyImage completes what was asked for by what the image says, as Docker does. What an image says that means nothing is left out, and given back: who runs
// it can hardly mend it. Lists, maps and the health check that c came with stay as they are: whoever called may use them for the next container.
func (c *Config) applyImage(img image.Image) (left []string) {
	from := img.Config.Config
	c.User, c.Workdir = cmp.Or(c.User, from.User), cmp.Or(c.Workdir, from.WorkingDir)
	if _, ok := abi.ParseSignal(from.StopSignal); !ok && from.StopSignal != "" {
		left = append(left, "STOPSIGNAL "+from.StopSignal+" is no signal")
	} else {
		c.StopSignal = cmp.Or(c.StopSignal, from.StopSignal)
	}
	if len(c.Entrypoint) == 0 {
		if len(c.Command) == 0 {
			c.Command = slices.Clone(from.Cmd)
		}
		c.Entrypoint = slices.Clone(from.Entrypoint)
	}
	c.applyEnv(from.Env)
	if len(from.Labels) > 0 {
		labels := maps.Clone(from.Labels)
		maps.Copy(labels, c.Labels)
		c.Labels = labels
	}
	left = append(left, c.applyPorts(from.ExposedPorts)...)
	c.applyVolumes(from.Volumes)
	left = append(left, c.applyHealth(img)...)
	slices.Sort(left)
	return left
}

// applyEnv adds the variables that the caller has not named, after its own.
func (c *Config) applyEnv(env []string) {
	all, given := slices.Clone(c.Env), map[string]bool{"": true}
	for _, have := range c.Env {
		name, _, _ := strings.Cut(have, "=")
		given[name] = true
	}
	for _, have := range env {
		if name, _, _ := strings.Cut(have, "="); !given[name] {
			given[name], all = true, append(all, have)
		}
	}
	c.Env = all
}

// applyPorts adds an image's ports, in their order.
func (c *Config) applyPorts(ports map[string]struct{}) (left []string) {
	n, all := 0, slices.Clone(c.Expose)
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		list, err := parseExposed(port)
		if err != nil {
			left = append(left, "EXPOSE "+port+" is no port")
			continue
		}
		if n += len(list); n > maxExposed {
			left = append(left, fmt.Sprintf("EXPOSE %s and what comes after it: the image has more than %d ports", port, maxExposed))
			break
		}
		all = append(all, port)
	}
	slices.Sort(all)
	c.Expose = all
	return left
}

// applyVolumes adds a volume of no name at each place of the image's where nothing is to be mounted.
func (c *Config) applyVolumes(volumes map[string]struct{}) {
	has := make(map[string]bool)
	for _, m := range c.Mounts {
		has[path.Clean(m.Dest)] = true
	}
	c.Mounts = slices.Clip(c.Mounts) // the caller's list stays as it is
	for _, dest := range slices.Sorted(maps.Keys(volumes)) {
		at := path.Join("/", dest) // builders take a relative one, and it is below the root
		if !has[at] {
			has[at] = true
			c.Mounts = append(c.Mounts, Mount{Type: "volume", Dest: at, Flag: "VOLUME " + dest})
		}
	}
}

// applyHealth completes a health check, each field by itself.
func (c *Config) applyHealth(img image.Image) (left []string) {
	if img.Config.Config.Healthcheck == nil || len(img.Config.Config.Healthcheck.Test) == 0 {
		return nil
	}
	from := *img.Config.Config.Healthcheck
	if err := checkHealth(&Health{Test: from.Test}); err != nil {
		return []string{err.Error()}
	}
	for _, d := range []*time.Duration{&from.Interval, &from.Timeout, &from.StartPeriod, &from.StartInterval} {
		if *d != 0 && *d < time.Millisecond { // such as 30, for seconds, of a builder that did not know of nanoseconds
			left = append(left, fmt.Sprintf("a duration of %v in Healthcheck is less than 1ms", *d))
			*d = 0
		}
	}
	if from.Retries < 0 {
		left = append(left, fmt.Sprintf("Retries %d in Healthcheck is negative", from.Retries))
		from.Retries = 0
	}
	var h Health
	if c.Health != nil {
		h = *c.Health
	}
	c.Health = &h
	if len(h.Test) == 0 {
		h.Test = slices.Clone(from.Test)
	}
	for to, v := range map[*time.Duration]time.Duration{
		&h.Interval: from.Interval, &h.Timeout: from.Timeout, &h.StartPeriod: from.StartPeriod, &h.StartInterval: from.StartInterval,
	} {
		if *to == 0 {
			*to = v
		}
	}
	if h.Retries == 0 {
		h.Retries = from.Retries
	}
	return left
}

// imageRoot makes the root of a container from an image of the store. Who only looks gets the same plan, and nothing is mounted.
func (b *builder) imageRoot() error {
	if len(b.rec.Chain) == 0 {
		return fmt.Errorf("image %s has no layers: there is nothing to run in it", b.rec.Image)
	}
	s, err := b.engine.Storage()
	if err != nil {
		return err
	}
	user := b.rec.ID
	if b.look {
		user = ""
	}
	view, err := s.View(b.ctx, b.rec.chain(), user)
	// A tar was read to its end when it was stored: one that is shorter now was cut.
	if errors.As(err, new(*storage.NoLayerError)) || errors.As(err, new(*storage.CutLayerError)) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("image %s: %w: kakuri image check --repair %[1]s fetches it from where the image came from", b.rec.Image, err)
	}
	if err != nil {
		return err
	}
	if moved, err := b.movesRoot(); err != nil {
		return err
	} else if moved {
		if err := view.KeepOwners(b.rec.ID); err != nil && b.engine.warn != nil {
			b.engine.warn(fmt.Sprintf("files of the image's root are the user's inside: %v", err))
		}
	}
	b.view = view
	b.storage = view.Plan()
	upper := ""
	if !b.run.ReadOnly || view.NeedsUpper() {
		if upper, err = b.upper(s, view); err != nil {
			return err
		}
	}
	// What a container with --rm writes is of no use to anybody after a crash: it need not be on the disk at once.
	b.spec.Root.Path = "rootfs" // where hooks find it, and nobody else looks
	layers := view.Layers(upper, b.run.AutoRemove)
	layers.Usual = true
	b.opts.Root = &plan.Root{Layers: layers, Reason: "image " + b.rec.Image}
	return nil
}

// upper is the directory that takes the container's writes.
func (b *builder) upper(s *storage.Store, view *storage.View) (string, error) {
	u := storage.Upper{ID: b.rec.ID, Ephemeral: b.run.AutoRemove}
	if text, ok := b.run.StorageOpt["size"]; ok {
		n, err := ParseSize(text)
		if err != nil {
			return "", fmt.Errorf("--storage-opt size=%s: %w", text, err)
		}
		u.Size = n
	}
	if b.look {
		return s.UpperPath(u), nil
	}
	return view.NewUpper(u)
}

// release lets go of what the storage room keeps for a container: its view, and what it has written unless it stays.
func (e *Engine) release(c *Container, written bool) error {
	chains := [][]string{}
	if len(c.Chain) > 0 {
		chains = append(chains, c.Chain)
	}
	for _, m := range c.Volumes {
		if len(m.Chain) > 0 {
			chains = append(chains, m.Chain)
		}
	}
	if len(chains) == 0 {
		return nil
	}
	s, err := e.Storage()
	if err != nil {
		return err
	}
	for _, chain := range chains {
		err = errors.Join(err, s.Release(digests(chain), c.ID))
	}
	if written {
		err = errors.Join(err, e.removeWritten(c))
	}
	return err
}

// removeWritten takes away what a container has written.
func (e *Engine) removeWritten(c *Container) error {
	if len(c.Chain) == 0 {
		return nil
	}
	s, err := e.Storage()
	if err != nil {
		return err
	}
	return s.RemoveUpper(c.ID)
}

// sweepStorage lets go of views, and takes away writes, of containers that were killed together with all who knew them.
func (e *Engine) sweepStorage() error {
	if !exists(e.dir+"/users") && !exists(e.data+"/ephemeral") {
		return nil
	}
	s, err := e.Storage()
	if err != nil {
		return err
	}
	placed, err := e.placed()
	if err != nil {
		return err
	}
	return errors.Join(
		// One that is active has a place, and so has one whose monitor is about to end: the next command looks again. One that is being started has none yet, and is locked.
		s.SweepUsers(func(id string) bool {
			return !files.IsID(id) || placed.has(id) || e.begunOrLocked(id) || exists(e.creating()+"/"+id)
		}),
		s.SweepUppers(func(id string) bool { return !files.IsID(id) || e.find(id) != "" }),
	)
}

// readFile reads a small file that the container will see: what it wrote itself, else its image's.
func (b *builder) readFile(name string) ([]byte, error) {
	if b.view == nil {
		return readInRoot(etcOf(b.run), name)
	}
	if l := b.opts.Root.Layers; l.Upper != "" {
		if data, err := readInRoot(l.Upper+"/upper", name); err == nil {
			return data, nil
		}
	}
	if b.files == nil {
		img, err := b.view.Image()
		if err != nil {
			return nil, err
		}
		b.files = img
	}
	return b.files.ReadFile(name, maxEtc)
}
