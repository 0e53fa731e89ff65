package engine

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/selinux"
)

// labelsFor are the labels of SELinux of a new container: those that --security-opt label= asks for, else those of the container whose processes it shares, which it
// could not signal under others. Without either there are none, as with a Docker that was not told to give any.
func (e *Engine) labelsFor(cfg *Config) (selinux.Labels, error) {
	asked, disabled := cfg.labels()
	if disabled {
		return selinux.Labels{}, nil
	}
	plain := !cfg.fromImage() && cfg.Rootfs == ""
	if len(asked) == 0 {
		if cfg.Privileged || plain { // who looks after a container, or does not want to be confined
			return selinux.Labels{}, nil
		}
		return e.sharedLabels(cfg), nil
	}
	const flag = "--security-opt "
	if !host.SELinux() {
		return selinux.Labels{}, fmt.Errorf("%slabel=%s: SELinux is not enabled in this kernel: leave the label out", flag, asked[0])
	}
	if plain {
		return selinux.Labels{}, fmt.Errorf("%slabel=%s: the image host shows the machine's own files, which keep their labels: take another image", flag, asked[0])
	}
	if e.rootless() {
		return selinux.Labels{}, fmt.Errorf("%slabel=%s: images of an ordinary user have files of other ids, which he may not label: run it as root", flag, asked[0])
	}
	list, err := e.listed(ListOptions{All: true})
	if err != nil {
		return selinux.Labels{}, err
	}
	l, err := selinux.Here().Choose(asked, func(level string) bool {
		return slices.ContainsFunc(list, func(c Container) bool { return strings.HasSuffix(c.ProcessLabel, ":"+level) })
	})
	if err != nil {
		return l, errors.New(flag + err.Error())
	}
	return l, nil
}

// sharedLabels are those of the container whose processes, or whose objects of IPC, a container shares. One that is not there is found out when the container is built.
func (e *Engine) sharedLabels(cfg *Config) selinux.Labels {
	for _, mode := range []string{cfg.PID, cfg.IPC} {
		ref, ok := strings.CutPrefix(mode, "container:")
		if !ok {
			continue
		}
		if c, err := e.Find(ref); err == nil && c.ProcessLabel != "" {
			return selinux.Labels{Process: c.ProcessLabel, File: c.MountLabel}
		}
	}
	return selinux.Labels{}
}

// label asks for the container's labels.
func (b *builder) label() error {
	if b.rec.ProcessLabel == "" {
		return nil
	}
	if i := slices.IndexFunc(b.run.Mounts, func(m Mount) bool { return m.Type == "image" }); i >= 0 {
		return fmt.Errorf("%s: the files of an image that is mounted have no label that the container may read: --security-opt label=disable gives the container none", b.run.Mounts[i].Flag)
	}
	if !b.host.SELinux && !host.SELinux() { // facts have it where they were asked for
		return fmt.Errorf("it was made with the label %s, and SELinux is not enabled in this kernel: boot with it, or make a container without", b.rec.ProcessLabel)
	}
	b.spec.Process.SelinuxLabel, b.spec.Linux.MountLabel = b.rec.ProcessLabel, b.rec.MountLabel
	why := "as the container that it shares processes or IPC with"
	if opts, _ := b.run.labels(); len(opts) > 0 {
		why = "--security-opt label=" + strings.Join(opts, " --security-opt label=")
	}
	b.because("process.selinuxLabel", "%s", why)
	b.because("linux.mountLabel", "%s", why)
	return nil
}

// relabel gives the container's files labels that it may touch: what lies below its root, since the kernel asks for the files themselves when a program is mapped, volumes, and
// directories that were mounted with z or Z.
func (b *builder) relabel() error {
	if b.rec.MountLabel == "" {
		return nil
	}
	own := selinux.Labels{File: b.rec.MountLabel}
	var errs []error
	if layer := selinux.Here().Layer(); b.view != nil && layer != "" {
		for _, name := range b.view.Sources() {
			errs = append(errs, selinux.RelabelOnce(name, layer))
		}
	}
	if r := b.opts.Root; r != nil && r.Layers != nil && r.Layers.Upper != "" {
		errs = append(errs, files.Label(path.Join(r.Layers.Upper, "upper"), own.File)) // what is written has it from there
	}
	for _, p := range b.rec.Volumes {
		mode := strings.Split(p.Mode, ",")
		label := own.Shared()
		if slices.Contains(mode, "Z") {
			label = own.File
		}
		switch {
		case p.Type == "volume":
			errs = append(errs, b.relabelVolume(p.Name, label))
		case p.Type == "bind" && (slices.Contains(mode, "z") || slices.Contains(mode, "Z")):
			errs = append(errs, selinux.Relabel(path.Clean(p.Source), label))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("--security-opt label=: %w", err)
	}
	return nil
}

// relabelVolume labels what is mounted of a volume, which may be somebody else's directory.
func (b *builder) relabelVolume(name, label string) error {
	v, err := b.volumes.Get(name)
	if err != nil {
		return err
	}
	s, err := v.Source()
	if err != nil {
		return err
	}
	return selinux.Relabel(s.Path, label)
}

// labelFile gives a file that the container has mounted its label.
func (b *builder) labelFile(name string) error {
	if b.rec.MountLabel == "" {
		return nil
	}
	return files.Label(name, b.rec.MountLabel)
}
