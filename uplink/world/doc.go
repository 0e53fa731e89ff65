// Package world keeps an ordinary user's network world: a user namespace with the user's ids that owns a network namespace, which is
// for the user's containers what the host's network namespace is for root's.
//
// There is one at a time in a runtime directory. [Take] finds it, or makes it, and holds the lock until [World.Close]; [World.Start]
// starts a program in it. It lives as long as a process is in it: nothing is mounted, and nothing is left by a kill.
//
//	w, err := world.Take(ctx, run, world.Maker{UIDs: uids, GIDs: gids, Facts: facts, Hands: hands})
//	if err != nil {
//		return err
//	}
//	defer w.Close()
//	p, err := w.Start(ctx, world.Program{File: "/usr/libexec/x", Args: []string{"x"}, Stays: true})
//
// It makes no bridge and no rule, and knows of no container.
package world
