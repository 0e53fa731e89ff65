// Package oci runs OCI bundles: a directory with a config.json and what it names.
//
//	b, err := oci.Load("/run/bundle")
//	p, err := b.Plan(facts)
//	code, err := b.Run(ctx, facts, func(warning string) {})
//
// What it may not do: pull, log, restart. Its imports are counted: they are the
// start-up time of kakuri-runtime.
package oci
