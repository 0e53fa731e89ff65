//go:build !thin

package engine

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// run reads the files, and gives the spec with what they add to it.
func (j *cdiJob) run() (specs.Spec, []cdiCause, error) {
	dirs := j.Dirs
	if dirs == nil {
		dirs = cdi.DefaultSpecDirs
	}
	cache, err := cdi.NewCache(cdi.WithAutoRefresh(false), cdi.WithSpecDirs(dirs...))
	if err != nil {
		return j.Spec, nil, fmt.Errorf("devices of CDI: %w", err)
	}
	wishes := j.Wishes
	for _, arg := range j.GPUs {
		names, err := gpuNames(arg, cache.ListDevices())
		if err != nil {
			return j.Spec, nil, fmt.Errorf("--gpus %s: %w", arg, err)
		}
		for _, n := range names {
			wishes = append(wishes, wish{n, "--gpus " + arg})
		}
	}
	var causes []cdiCause
	for _, w := range wishes {
		more, err := j.inject(cache, w, dirs)
		if err != nil {
			return j.Spec, nil, err
		}
		causes = append(causes, more...)
	}
	return j.Spec, causes, nil
}

// inject adds one device to the spec, and says where the new parts come from.
func (j *cdiJob) inject(cache *cdi.Cache, w wish, dirs []string) (causes []cdiCause, err error) {
	if cache.GetDevice(w.Name) == nil {
		err := fmt.Errorf("%s: there is no device %s in %s", w.Flag, w.Name, strings.Join(dirs, ", "))
		for file, faults := range cache.GetErrors() {
			err = fmt.Errorf("%w; %s: %s", err, file, plan.OneLine(errors.Join(faults...).Error()))
		}
		return nil, err
	}
	s := &j.Spec
	nodes, mounts, variables := len(s.Linux.Devices), len(s.Mounts), len(s.Process.Env)
	if _, err := cache.InjectDevices(s, w.Name); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", w.Flag, w.Name, err)
	}
	if j.Bind {
		// A node that cannot be made in a user namespace is the host's, bound.
		keep := s.Linux.Devices[:nodes]
		for _, d := range s.Linux.Devices[nodes:] {
			if j.Make && strings.HasPrefix(path.Clean(d.Path), "/dev/") {
				keep = append(keep, d)
				continue
			}
			s.Mounts = append(s.Mounts, specs.Mount{Destination: d.Path, Type: "bind", Source: d.Path, Options: []string{"bind", "nosuid", "noexec"}})
		}
		s.Linux.Devices = keep
	}
	for _, part := range []struct {
		field    string
		from, to int
	}{{"process.env", variables, len(s.Process.Env)}, {"linux.devices", nodes, len(s.Linux.Devices)}, {"mounts", mounts, len(s.Mounts)}} {
		for i := part.from; i < part.to; i++ {
			causes = append(causes, cdiCause{fmt.Sprintf("%s[%d]", part.field, i), w.Flag})
		}
	}
	if s.Hooks != nil {
		causes = append(causes, cdiCause{"hooks", w.Flag})
	}
	return causes, nil
}
