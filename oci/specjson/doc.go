// Package specjson reads a container's config.json into the types of
// runtime-spec, and says what is wrong with one.
//
// It stands in for encoding/json, whose first Unmarshal into specs.Spec prepares
// every type that is reachable from it, Windows and all, and costs about a
// fifth of a container's whole start. Here the reading code is written out
// (decode_gen.go, from the Go types of runtime-spec): no reflection, no tables, no
// work before the first call. It is stricter as well, since config.json is foreign
// input, where two readings of one file are an attack: see [Decode].
//
//	data, err := io.ReadAll(io.LimitReader(file, specjson.MaxSize+1))
//	…
//	spec, err := specjson.Decode(data)
//	// config.json: process.user.uid: want an integer from 0 to 4294967295, got -1 (line 12)
//	…
//	warnings, err := specjson.Validate(spec)
//	// config.json: hostname: want a uts namespace to set it in, got "web" without one:
//	// add {"type": "uts"} to linux.namespaces, or remove it
//
// [Decode] is about form, [Validate] about sense: the rules of config.md and
// config-linux.md that can be judged from the file alone. The main types are those
// of runtime-spec, [Error] and [Errors].
//
// The package computes and nothing else: it does not open files, look at the
// host, or log. What depends on the host (does a path exist, is a namespace to be
// joined the runtime's own, can this kernel do it) is for who compiles the plan.
package specjson
