package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/volume"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// chooseVolumes decides what a container has mounted: it adds what --volumes-from asks for, and makes the volumes that are not
// there. Afterwards each volume of r.Config.Mounts has a name, and r.Volumes tells all mounts. Until the record can
// be read by others, the caller holds the lock of the volumes, and by what is returned the images that are mounted.
func (e *Engine) chooseVolumes(ctx context.Context, r *Record) (release func(), err error) {
	var held []func()
	release = func() {
		for _, f := range held {
			f()
		}
	}
	if err := checkPlaces(r.Config.Mounts); err != nil {
		return release, err
	}
	mounts, err := e.allMounts(&r.Config)
	if err != nil {
		return release, err
	}
	if err := e.fewVolumes(&r.Config, mounts); err != nil {
		return release, err
	}
	r.Volumes = nil
	for i := range mounts {
		p, err := e.mountPoint(r, &mounts[i])
		if m := mounts[i]; err == nil && m.Type == "image" {
			var let func()
			if p.Chain, let, err = e.imageMounted(ctx, m, r.Config.Pull); err == nil {
				held = append(held, let)
			}
		}
		if err != nil {
			return release, err
		}
		r.Volumes = append(r.Volumes, p)
	}
	r.Config.Mounts = mounts
	return release, nil
}

// allMounts are the mounts of a container and those of the containers that it has volumes from: one at each place.
func (e *Engine) allMounts(c *Config) (mounts []Mount, err error) {
	has := map[string]bool{}
	add := func(list []Mount, want func(Mount) bool) {
		for _, m := range list {
			if at := path.Clean(m.Dest); want(m) && !has[at] {
				has[at], mounts = true, append(mounts, m)
			}
		}
	}
	// What only asks that there is a volume comes last.
	add(c.Mounts, func(m Mount) bool { return !m.anyVolume() })
	for _, from := range c.VolumesFrom {
		list, err := e.mountsOf(from)
		if err != nil {
			return nil, err
		}
		add(list, func(Mount) bool { return true })
	}
	add(c.Mounts, Mount.anyVolume)
	return mounts, nil
}

// fewVolumes refuses more volumes than a container with a user namespace of its own can have, before one is made for each. That of a container which shares one
// is found out later.
func (e *Engine) fewVolumes(c *Config, mounts []Mount) error {
	b := &builder{engine: e, run: *c, host: e.host}
	for _, mode := range []string{c.PID, c.IPC, c.UTS, c.networkMode()} {
		if strings.HasPrefix(mode, "container:") {
			return nil
		}
	}
	if !b.hasUserNS() {
		return nil
	}
	n := 0
	for _, m := range mounts {
		if m.Type != "volume" {
			continue
		}
		if n++; n > plan.MaxSources {
			return fmt.Errorf("%s: a container with a user namespace of its own can have at most %d volumes, those of its image's VOLUMEs among them: --userns host has no such limit", m.Flag, plan.MaxSources)
		}
	}
	return nil
}

// imageMounted looks up the image of a mount.
func (e *Engine) imageMounted(ctx context.Context, m Mount, pull string) (chain []string, release func(), err error) {
	img, release, err := e.image(ctx, &Config{Image: m.Source, Pull: pull})
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", m.Flag, err)
	}
	return digestStrings(img.Chain()), release, nil
}

// imageMount adds an image to the spec, as a read-only mount.
func (b *builder) imageMount(m Mount) error {
	i := slices.IndexFunc(b.rec.Volumes, func(p MountPoint) bool { return p.Destination == path.Clean(m.Dest) && p.Type == "image" })
	var chain []string
	if i >= 0 {
		chain = b.rec.Volumes[i].Chain
	} else { // a plan that is only looked at
		var release func()
		var err error
		if chain, release, err = b.engine.imageMounted(b.ctx, m, b.run.Pull); err != nil {
			return err
		}
		release()
	}
	s, err := b.engine.Storage()
	if err != nil {
		return err
	}
	user := b.rec.ID
	if b.look {
		user = ""
	}
	view, err := s.View(b.ctx, digests(chain), user)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Flag, err)
	}
	b.storage.Steps = append(b.storage.Steps, view.Plan().Steps...)
	l := view.Layers("", false)
	source := l.Lower
	switch len(l.Names) {
	case 0:
	case 1:
		source = filepath.Join(l.Lower, l.Names[0])
	default:
		return fmt.Errorf("%s: an image of several layers, which are directories here: it can be mounted where images are indexed (see kakuri info), or be the root of a container", m.Flag)
	}
	options := append(slices.Clone(m.Options), "rbind", "rro")
	return b.bind(specs.Mount{Destination: m.Dest, Type: "bind", Source: source, Options: options}, m)
}

// ofImage reports whether the image asked for a mount, as a line VOLUME of its Dockerfile.
func (m Mount) ofImage() bool { return strings.HasPrefix(m.Flag, "VOLUME ") }

// anyVolume reports whether any volume will do, as for the image's, and for -v with a place alone: one of --volumes-from that is
// there already is it, as for Docker. A --mount without source wants one of its own.
func (m Mount) anyVolume() bool {
	return m.ofImage() || m.Type == "volume" && m.Source == "" && strings.HasPrefix(m.Flag, "-v")
}

// checkPlaces refuses mounts at no place, and two at one: before a volume is made for them.
func checkPlaces(mounts []Mount) error {
	seen := map[string]bool{}
	for _, m := range mounts {
		if err := m.checkPlace(); err != nil {
			return err
		}
		if dest := path.Clean(m.Dest); seen[dest] {
			return fmt.Errorf("%s: Duplicate mount point: %s", m.Flag, dest)
		} else {
			seen[dest] = true
		}
	}
	return nil
}

func (m Mount) checkPlace() error {
	if !path.IsAbs(m.Dest) || path.Clean(m.Dest) == "/" {
		return fmt.Errorf("%s: the destination must be an absolute path, and not /", m.Flag)
	}
	if m.Type == "volume" && m.Source == "" && m.Subpath != "" {
		return fmt.Errorf("%s: must not set Subpath when using anonymous volumes: a new one is empty", m.Flag)
	}
	return nil
}

// mountsOf gives the volumes and bind mounts of a container, for CONTAINER[:ro|rw] of --volumes-from.
func (e *Engine) mountsOf(from string) ([]Mount, error) {
	ref, mode, _ := strings.Cut(from, ":")
	if mode != "" && mode != "ro" && mode != "rw" && mode != "z" && mode != "Z" {
		return nil, fmt.Errorf("--volumes-from %s: invalid mode: %s: it is ro or rw", from, mode)
	}
	c, err := e.Find(ref)
	if err != nil {
		return nil, fmt.Errorf("--volumes-from %s: %w", from, err)
	}
	var list []Mount
	for _, m := range c.Config.Mounts {
		if m.Type != "volume" && m.Type != "bind" {
			continue
		}
		m.Flag, m.NoCopy, m.Lent = "--volumes-from "+from, true, c.unnamed(m.Dest)
		if mode == "ro" && !isReadOnly(m.Options) {
			m.Options = append(slices.Clone(m.Options), "ro")
		}
		list = append(list, m)
	}
	return list, nil
}

// unnamed reports whether a volume is mounted at a place that nobody asked for by a name, the container's own or lent.
func (c *Container) unnamed(dest string) bool {
	return slices.ContainsFunc(c.Volumes, func(p MountPoint) bool { return (p.Anonymous || p.Lent) && p.Destination == path.Clean(dest) })
}

func isReadOnly(options []string) bool {
	ro := false
	for _, o := range options {
		switch o {
		case "ro", "rro":
			ro = true
		case "rw", "rrw":
			ro = false
		}
	}
	return ro
}

func isPropagation(option string) bool {
	return slices.Contains([]string{"private", "rprivate", "shared", "rshared", "slave", "rslave"}, option)
}

// mountPoint makes the volume of a mount, where it is one, and tells the mount in the words of inspect.
func (e *Engine) mountPoint(r *Record, m *Mount) (MountPoint, error) {
	p := MountPoint{Type: m.Type, Source: m.Source, Destination: path.Clean(m.Dest), RW: !isReadOnly(m.Options), Mode: m.mode()}
	for _, o := range m.Options {
		if isPropagation(o) {
			p.Propagation = o
		}
	}
	switch m.Type {
	case "image":
		p.RW = false
	case "bind":
		p.Source, p.Propagation = path.Clean(p.Source), cmp.Or(p.Propagation, "rprivate")
	case "volume":
		if p.Mode == "" && (m.Source != "" || strings.HasPrefix(m.Flag, "--mount")) {
			p.Mode = "z" // as Docker says of each that was asked for by name or by --mount
		}
		named := m.Source != "" // by the volume's id, too: it was there before
		v, err := e.volumeFor(r, m)
		if err != nil {
			return p, err
		}
		p.Name, p.Driver, p.Source, m.Source = v.Name, v.Driver, v.Dir(), v.Name
		p.Lent = m.Lent
		p.Anonymous = v.Anonymous && !named
	}
	return p, nil
}

// volumeFor makes the volume of a mount, or takes the one that is there.
func (e *Engine) volumeFor(r *Record, m *Mount) (volume.Volume, error) {
	c := VolumeConfig{Name: m.Source, Driver: cmp.Or(m.Driver, r.Config.VolumeDriver), Labels: m.Labels, Options: m.DrvOpts}
	v, err := e.makeVolume(c)
	if err != nil {
		return v, fmt.Errorf("%s: %w", m.Flag, err)
	}
	if (m.Source == "" || m.Lent) && r.Config.AutoRemove {
		err = e.ownVolume(v.Name, r.ID)
	}
	return v, err
}

// fillVolumes copies what the container's image has at the place of a volume into the volume, where that is new. The view of
// this machine is no image: it has nothing to give away.
func (e *Engine) fillVolumes(ctx context.Context, r *Record) error {
	for _, m := range r.Config.Mounts {
		if m.Type != "volume" || m.NoCopy || m.Subpath != "" || !r.Config.fromImage() && r.Config.Rootfs == "" {
			continue
		}
		v, err := e.volumes().Get(m.Source)
		if err == nil {
			err = e.attachVolume(v, r.ID)
		}
		if err == nil {
			err = e.volumeFiles().Fill(ctx, v, e.imageContent(r, m.Dest))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.Flag, err)
		}
	}
	return nil
}

// imageContent is what a container's image, or the directory that is its root, has at a place.
func (e *Engine) imageContent(r *Record, dest string) volume.Content {
	return func(ctx context.Context, w io.Writer) error {
		if r.Config.Rootfs != "" {
			root, err := os.Open(r.Config.Rootfs)
			if err != nil {
				return err
			}
			defer root.Close()
			return volume.Dir(root, dest)(ctx, w)
		}
		s, err := e.Storage()
		if err != nil {
			return err
		}
		view, err := s.View(ctx, r.chain(), "")
		if err != nil {
			return err
		}
		img, err := view.Image()
		if err != nil {
			return err
		}
		defer img.Close()
		if f, err := img.Lookup(dest); err != nil || !f.IsDir() {
			return fmt.Errorf("%s: %w", dest, cmp.Or(err, fs.ErrNotExist))
		}
		return img.Tar(ctx, dest, w)
	}
}

// volumeMount adds a volume to the spec.
func (b *builder) volumeMount(m Mount) error {
	v, err := b.volumes.Get(m.Source)
	if len(b.rec.Volumes) == 0 && errors.As(err, new(*volume.NoVolumeError)) {
		v, err = b.volumes.Would(m.Source), nil // nothing is made for a plan that is only looked at
	}
	if err != nil {
		return fmt.Errorf("%s: %w", m.Flag, err)
	}
	s, err := v.Source()
	if err != nil {
		return fmt.Errorf("%s: %w", m.Flag, err)
	}
	if v.Mounts() {
		b.attach = append(b.attach, v)
	}
	options := append(slices.Clone(s.Options), m.Options...)
	if !slices.Contains(options, "bind") && !slices.Contains(options, "rbind") {
		options = append(options, "rbind")
	}
	return b.bind(specs.Mount{Destination: m.Dest, Type: "bind", Source: s.Path, Options: options}, m)
}

// attachVolumes mounts the file systems that volumes of the container have.
func (b *builder) attachVolumes() error {
	var errs []error
	for _, v := range b.attach {
		errs = append(errs, b.engine.attachVolume(v, b.rec.ID))
	}
	return errors.Join(errs...)
}

// A volume's own file system is mounted as long as a container needs it. Run/attached has a file VOLUME.CONTAINER for each that does, which is
// there before the mount is.
func (e *Engine) attached() string { return e.dir + "/attached" }

func (e *Engine) attachVolume(v volume.Volume, id string) error {
	if !v.Mounts() {
		return nil
	}
	if err := os.MkdirAll(e.attached(), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(e.attached()+"/"+v.Name+"."+id, nil, 0o600); err != nil {
		return err
	}
	return v.Attach()
}

// sweepAttached unmounts the file systems of volumes whose containers have all ended.
func (e *Engine) sweepAttached() error {
	list, err := files.ListOwn(e.attached())
	if err != nil {
		return ignoreMissing(err)
	}
	var errs []error
	for _, name := range list {
		dot := strings.LastIndexByte(name, '.')
		if dot < 0 || !files.IsID(name[dot+1:]) || e.needsVolumes(name[dot+1:]) {
			continue
		}
		mark := name[:dot]
		if v, err := e.volumes().Get(mark); err == nil {
			errs = append(errs, v.DetachUnused(func() bool {
				if e.needsVolumes(name[dot+1:]) {
					return false // it was started meanwhile
				}
				now, err := files.ListOwn(e.attached())
				errs = append(errs, err, removeIfThere(e.attached()+"/"+name))
				return err == nil && !slices.ContainsFunc(now, func(o string) bool { return o != name && o[:max(0, strings.LastIndexByte(o, '.'))] == mark })
			}))
		} else if errors.As(err, new(*volume.NoVolumeError)) {
			errs = append(errs, removeIfThere(e.attached()+"/"+name))
		}
	}
	return errors.Join(errs...)
}

// needsVolumes reports whether a container runs, is about to, or has not run yet: what its image has was copied into its volumes.
func (e *Engine) needsVolumes(id string) bool {
	if exists(e.creating()+"/"+id) || monitor.Attended(e.dir, id) {
		return true
	}
	dir := e.find(id)
	if dir == "" {
		return false
	}
	if !free(dir) {
		return true
	}
	c, err := e.read(dir)
	return err == nil && (c.Active() || c.Status == monitor.Created)
}
