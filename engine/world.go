package engine

import (
	"context"
	"fmt"
	"os"

	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/network/world"
	"github.com/kakuri/kakuri/oci"
)

// An ordinary user's containers are connected in the user's network world: see package world. Their monitors run there, so that all that is done to
// networks is done as for root; everything else does not know of it.

// rootless reports whether networks are in a network world.
func (e *Engine) rootless() bool { return !e.host.Privileged() }

// needsWorld reports whether a container's monitor is to be in the network world.
func (e *Engine) needsWorld(c *Config) bool { return e.rootless() && len(c.attachments()) > 0 }

// takeWorld returns the user's world, made where there is none, with its lock.
func (e *Engine) takeWorld(ctx context.Context) (*world.World, error) {
	ids, err := e.storageIDs()
	if err != nil {
		return nil, err
	}
	return world.Take(ctx, e.dir, world.Maker{UIDs: ids.UIDs, GIDs: ids.GIDs, Facts: e.host, Hands: oci.Hands{}})
}

// spawnFor starts a monitor for a container that is there.
func (e *Engine) spawnFor(ctx context.Context, ref string) (*monitor.Client, error) {
	var cfg Config
	if e.rootless() {
		c, err := e.Find(ref)
		if err != nil {
			return nil, err
		}
		cfg = c.Config
	}
	return e.spawn(ctx, monitor.Spawn, &cfg)
}

// spawnInWorld starts a monitor in the world. The lock is held until the monitor is there, and keeps it.
func (e *Engine) spawnInWorld(ctx context.Context, how func(program string, env []string, by monitor.Starter) (*monitor.Client, error), program string, env []string) (*monitor.Client, error) {
	w, err := e.takeWorld(ctx)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	return how(program, env, func(file string, args, env []string, socket *os.File) (func(), error) {
		p, err := w.Start(context.WithoutCancel(ctx), world.Program{File: file, Args: args, Env: env, Stdio: [3]*os.File{socket, null, null}, Stays: true})
		if err != nil {
			return nil, err
		}
		return func() { p.Wait() }, nil
	})
}

// fitsWorld refuses what cannot be had in a world: who joins another's namespaces is what that one is.
func (b *builder) fitsWorld() error {
	if !b.engine.rootless() {
		return nil
	}
	if _, joins := b.shared[b.userMode()]; joins || !b.hasUserNS() {
		return fmt.Errorf("--network %s: an ordinary user's container on a network has a user namespace of its own: leave out --userns %s", b.run.networkMode(), b.userMode())
	}
	return nil
}
