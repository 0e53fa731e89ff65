package main

import (
	"encoding/json"
	"os"

	"github.com/kakuri/kakuri/oci"
)

var specVerb = verb{"spec", "", "write a config.json to begin with", func(c *command) ([]flag, func([]string) (int, error)) {
	dir := "."
	var rootless bool
	flags := []flag{
		text("bundle b", &dir, "DIR", "the bundle, default the working directory"),
		yes("rootless", &rootless, "one for a user without privileges"),
	}
	return flags, func(args []string) (int, error) {
		if err := none("spec", args); err != nil {
			return 1, err
		}
		s, err := oci.Example()
		if err != nil {
			return 1, err
		}
		if rootless {
			oci.Rootless(s)
		}
		if err := oci.WriteExample(dir, s); err != nil {
			return 1, err
		}
		return 0, nil
	}
}}

var featuresVerb = verb{"features", "", "print what this runtime can do as JSON", func(c *command) ([]flag, func([]string) (int, error)) {
	return nil, func(args []string) (int, error) {
		if err := none("features", args); err != nil {
			return 1, err
		}
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "    ")
		return 0, out.Encode(oci.Features(version))
	}
}}
