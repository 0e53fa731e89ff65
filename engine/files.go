package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/engine/content"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// files gives f the files of a container. Where the container does not run, a process stands in for its own: it is made as at a
// start, with all mounts, up to its execve, and ends when f returns; a start waits for that, also one by the container's policy.
func (e *Engine) files(ctx context.Context, ref string, f func(*content.View) error) error {
	for range 100 {
		c, err := e.Find(ref)
		if err != nil {
			return err
		}
		if v, err := e.openView(&c); err == nil {
			defer v.Close()
			return f(v)
		} else if c.Active() && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("files of container %s: %w", c.Name, err)
		}
		c, lock, err := e.lock(c.ID)
		if err != nil {
			return err
		}
		if !c.Active() {
			defer lock.Close()
			defer e.release(&c, false)
			return e.standIn(ctx, &c, f)
		}
		m, err := e.postpone(&c)
		if m != nil {
			defer lock.Close()
			defer m.Close()
			return e.standIn(ctx, &c, f)
		}
		lock.Close()
		if err != nil {
			return err
		}
		select { // it is just being started
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return ErrConflict{fmt.Sprintf("container %s starts and ends all the time: stop it", ref)}
}

// postpone has a container's monitor wait with the start that is next by the container's policy, until the client is closed. It is nil where no start is waited for.
func (e *Engine) postpone(c *Container) (*monitor.Client, error) {
	m, err := e.dial(*c)
	if errors.As(err, new(ErrNotRunning)) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	waits, err := m.Postpone()
	if waits {
		return m, nil
	}
	m.Close()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, ErrConflict{fmt.Sprintf("container %s is restarting: wait until it runs, or stop it", c.Name)}
	}
	return nil, nil // it has ended meanwhile, where there is an error
}

// openView opens the root directory that a container's first process has. It is ErrNotExist where it has no process.
func (e *Engine) openView(c *Container) (*content.View, error) {
	w := c.Witness()
	if w.PID == 0 || !w.Alive() {
		return nil, os.ErrNotExist
	}
	v, err := content.Open(w.PID, c.Name, e.host)
	if err != nil {
		return nil, err
	}
	if !w.Alive() { // the pid may have been another's by then
		v.Close()
		return nil, os.ErrNotExist
	}
	if childIsCalled {
		v.Running() // another program would begin anew in the place of a child
	}
	return v, nil
}

// deleteState takes away what the runtime keeps of a container, or of a stand-in; it need not keep anything.
func (e *Engine) deleteState(ctx context.Context, id string) error {
	if err := e.runtime().Delete(ctx, id, true); err != nil && !errors.Is(err, oci.ErrNotExist) {
		return err
	}
	return nil
}

// offline is the record of a container for what runs nothing in it: without its networks, which may be gone, and what takes some. Its files in /etc are those of its last run.
func (c *Container) offline() Record {
	rec := c.Record
	o := &rec.Config
	o.Network, o.Networks, o.Publish, o.PublishAll, o.Egress = "none", nil, nil, false, nil
	o.ExtraHosts = slices.DeleteFunc(slices.Clone(o.ExtraHosts), wantsGateway)
	return rec
}

// standIn gives f the files of a container that does not run, and whose lock is held.
func (e *Engine) standIn(ctx context.Context, c *Container, f func(*content.View) error) error {
	if err := e.awaitRoot(ctx, c); err != nil {
		return err
	}
	b, err := e.build(ctx, c.offline(), false)
	if err != nil {
		return err
	}
	for name := range b.etc {
		if exists(c.dir + "/" + name) {
			delete(b.etc, name)
		}
	}
	if err := b.place(c.dir); err != nil {
		return err
	}
	if err := e.lighten(b); err != nil {
		return err
	}
	if err := e.mkdirs(); err != nil {
		return err
	}
	id := monitor.StandIn(c.ID)
	if err := e.deleteState(ctx, id); err != nil { // a killed one's
		return err
	}
	do := f
	f = func(v *content.View) error {
		v.Passing(b.passing())
		return do(v)
	}
	l := oci.Launch{Plan: b.opts, TimeOnExec: e.host.TimeOnExec}
	var server *launch.Process
	l.Serve = func(_ string, start func(*os.File) (*launch.Process, error)) (err error) {
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer null.Close()
		server, err = start(null)
		return err
	}
	defer func() {
		if server != nil { // it ends with the process, when all is written
			late := time.AfterFunc(launch.ServePatience, func() { server.Signal(unix.SIGKILL) })
			server.Wait()
			late.Stop()
		}
	}()
	bundle := &oci.Bundle{Dir: c.dir, Spec: &b.spec}
	if !e.host.Privileged() {
		return e.standInHeld(ctx, c, id, bundle, l, f)
	}
	ended := errors.New("what the process stood in for is done")
	var done error
	l.Started = func(w oci.Witness) error {
		done = e.withView(w.PID, c.Name, f)
		return ended
	}
	_, _, err = e.runtime().Launch(ctx, id, bundle, l)
	if errors.Is(err, ended) {
		return done
	}
	return fmt.Errorf("files of container %s: %w", c.Name, err)
}

// standInHeld is standIn for an ordinary user, who may not look into a process that is still a copy of this one: it waits
// as one that was created.
func (e *Engine) standInHeld(ctx context.Context, c *Container, id string, b *oci.Bundle, l oci.Launch, f func(*content.View) error) error {
	l.Hold = true
	x, proc, err := e.runtime().Launch(ctx, id, b, l)
	if err != nil {
		return fmt.Errorf("files of container %s: %w", c.Name, err)
	}
	err = e.withView(proc.PID, c.Name, f)
	proc.Signal(unix.SIGKILL)
	_, waited := proc.Wait()
	return errors.Join(err, waited, x.Delete(context.WithoutCancel(ctx), true))
}

func (e *Engine) withView(pid int, name string, f func(*content.View) error) error {
	v, err := content.Open(pid, name, e.host)
	if err != nil {
		return err
	}
	defer v.Close()
	return f(v)
}

// passing lists the places of file systems that are in memory: a tmpfs, and what is written to the view of this machine.
func (b *builder) passing() (places []string) {
	for _, m := range b.spec.Mounts {
		if m.Type == "tmpfs" {
			places = append(places, m.Destination)
		}
	}
	if b.run.Rootfs == "" && isHostImage(b.run.Image) {
		places = append(places, "/")
	}
	return places
}

// lighten leaves of a container's spec what its files need: it runs nothing, and joins no namespace but that of users.
func (e *Engine) lighten(b *builder) error {
	s := &b.spec
	s.Hooks, s.Process.Rlimits, s.Process.Terminal = nil, nil, false
	s.Linux.Seccomp, s.Linux.Sysctl, s.Linux.Resources = nil, nil, nil
	var borrowed []string
	for _, j := range b.joins {
		if j.Borrowed {
			borrowed = append(borrowed, b.opts.Borrowed[j.Index].Dest)
			continue
		}
		ns := &s.Linux.Namespaces[j.Index]
		ns.Path = ""
		if ns.Type == specs.UserNamespace {
			var err error
			if ns.Path, err = monitor.NamespaceOf(e.runtime(), j, ns.Type); err != nil {
				return err
			}
		}
	}
	if len(borrowed) > 0 {
		b.opts.Borrowed = slices.DeleteFunc(b.opts.Borrowed, func(m plan.Borrowed) bool { return slices.Contains(borrowed, m.Dest) })
		s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return slices.Contains(borrowed, m.Destination) })
	}
	return nil
}

// What is at a path of a container, and how it is copied: see [content.View].
type (
	PathStat      = content.PathStat
	CopyOptions   = content.CopyOptions
	CopyToOptions = content.CopyToOptions
	ErrNoSuchPath = content.ErrNoSuchPath
)

// StatPath looks at a path of a container, which need not run.
func (e *Engine) StatPath(ctx context.Context, ref, path string) (s PathStat, err error) {
	err = e.files(ctx, ref, func(v *content.View) error {
		s, err = v.Stat(ctx, path)
		return err
	})
	return s, err
}

// CopyFrom writes a tar of what a container has at a path: see [content.View.CopyFrom].
func (e *Engine) CopyFrom(ctx context.Context, ref, path string, w io.Writer, follow bool) error {
	return e.files(ctx, ref, func(v *content.View) error { return v.CopyFrom(ctx, path, w, follow) })
}

// CopyTo unpacks a tar, which may be compressed, into a directory of a container.
func (e *Engine) CopyTo(ctx context.Context, ref, path string, r io.Reader, o CopyToOptions) error {
	in, _, err := archive.Decompress(r, archive.Limits{})
	if err != nil {
		return err
	}
	defer in.Close()
	return e.copyInto(ctx, ref, func(v *content.View) error { return v.CopyTo(ctx, path, in, o) })
}

// CopyOut copies a path of a container to one of the host, by the rules of cp: see [content.View.CopyOut].
func (e *Engine) CopyOut(ctx context.Context, ref, src, dst string, o CopyOptions) error {
	return e.files(ctx, ref, func(v *content.View) error { return v.CopyOut(ctx, src, dst, o) })
}

// CopyIn copies a path of the host to one of a container, by the rules of cp.
func (e *Engine) CopyIn(ctx context.Context, ref, src, dst string, o CopyOptions) error {
	return e.copyInto(ctx, ref, func(v *content.View) error { return v.CopyIn(ctx, src, dst, o) })
}

// copyInto is files of who writes there.
func (e *Engine) copyInto(ctx context.Context, ref string, f func(*content.View) error) error {
	err := e.files(ctx, ref, f)
	if errors.As(err, new(content.ErrInMemory)) {
		return ErrConflict{err.Error()}
	}
	return err
}

// Export writes a tar of a container's root file system, without what is mounted in it.
func (e *Engine) Export(ctx context.Context, ref string, w io.Writer) error {
	return e.files(ctx, ref, func(v *content.View) error { return v.Export(ctx, w) })
}
