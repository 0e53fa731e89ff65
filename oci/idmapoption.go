package oci

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/oci/specjson"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// idmapOptions has mounts with crun's option "idmap=uids=0-1000-10#10-2000-5;gids=0-1000-10" have these as their mappings: the first id in the file
// system, the one that it is here, and how many. Podman hands on what its users say. The id behind @ is one of the container's.
func idmapOptions(s *specs.Spec) error {
	for i := range s.Mounts {
		m := &s.Mounts[i]
		for k, option := range m.Options {
			if !strings.HasPrefix(option, "idmap=") && !strings.HasPrefix(option, "ridmap=") {
				continue
			}
			word, text, _ := strings.Cut(option, "=")
			why := "the mount has mappings besides"
			if len(m.UIDMappings)+len(m.GIDMappings) == 0 {
				why = idmapOption(s.Linux, m, text)
			}
			if why != "" {
				return &specjson.Error{File: "config.json", Path: fmt.Sprintf("mounts[%d].options[%d]", i, k), Want: word + "=uids=FIRST-HERE-COUNT;gids=FIRST-HERE-COUNT",
					Got: strconv.Quote(option), Hint: why}
			}
			m.Options[k] = word
		}
	}
	return nil
}

// idmapOption reads the mappings of one option into m, or says why not.
func idmapOption(l *specs.Linux, m *specs.Mount, text string) string {
	var uids, gids []specs.LinuxIDMapping
	if l != nil {
		uids, gids = l.UIDMappings, l.GIDMappings
	}
	for part := range strings.SplitSeq(text, ";") {
		list, own, to := "", uids, &m.UIDMappings
		switch {
		case strings.HasPrefix(part, "uids="):
			list = part[len("uids="):]
		case strings.HasPrefix(part, "gids="):
			list, own, to = part[len("gids="):], gids, &m.GIDMappings
		default:
			return "name uids= and gids=, with ; between them"
		}
		for one := range strings.SplitSeq(list, "#") {
			mapping, why := idmapTriple(one, own)
			if why != "" {
				return why
			}
			*to = append(*to, mapping)
		}
	}
	return ""
}

// idmapTriple reads one mapping.
func idmapTriple(text string, own []specs.LinuxIDMapping) (m specs.LinuxIDMapping, why string) {
	inside := strings.HasPrefix(text, "@")
	words := strings.Split(strings.TrimPrefix(text, "@"), "-")
	to := [...]*uint32{&m.ContainerID, &m.HostID, &m.Size}
	if len(words) != len(to) {
		return m, strconv.Quote(text) + " is not three numbers with - between them"
	}
	for i, w := range words {
		n, err := strconv.ParseUint(w, 10, 32)
		if err != nil {
			return m, strconv.Quote(w) + " is not a number from 0 to 4294967295"
		}
		*to[i] = uint32(n)
	}
	if inside {
		known := false
		if m.HostID, known = outside(own, m.HostID); !known {
			return m, strconv.Quote(text) + " is relative to the container's user namespace, which does not have the id " + words[1]
		}
	}
	return m, ""
}
