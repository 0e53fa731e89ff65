// Package oci runs containers as runtime-spec has them: bundles, which are directories with a
// config.json and what that names, and their life from create to delete, or through an image of CRIU's.
//
//	b, err := oci.Load("/run/bundle")
//	r := oci.Runtime{Root: "/run/kakuri-runtime"}
//	c, err := r.Create(ctx, "one", b, oci.ProcessOptions{})
//	err = c.Start(ctx)
//	err = c.Kill(ctx, syscall.SIGTERM, false)
//	err = c.Delete(ctx, false)
//
// Beside these are [Runtime.Run], for a container in the foreground, [Container.Exec], [Container.Pause],
// [Container.Update], [Container.Events], [Container.Checkpoint] and [Runtime.Restore]. [Runtime.Plan] says what
// a create would do, and [Container.Plan] what a container's did: package verify reads that back.
//
// A [Runtime] keeps containers in a directory, so that one process can create and another
// start: see there for the files. A [Container]'s first process is known by its pid and by when it
// began, and is spoken to by a pidfd.
//
// What it may not do: pull, log, restart. Its imports are counted: they are the
// start-up time of kakuri-runtime.
package oci
