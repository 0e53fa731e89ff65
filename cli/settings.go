package cli

import (
	"slices"
	"strings"

	"github.com/kakuri/kakuri/image"
)

// dockerSettings are those of the caller's config.json. One that cannot be read is told of and left out, as with Docker.
func dockerSettings(io IO) image.DockerSettings {
	s, err := image.ReadDockerSettings("")
	if err != nil {
		io.warn(err.Error())
	}
	return s
}

// orSetting is a value of the command line, or where that is empty one of Docker's settings.
func orSetting(io IO, given string, of func(image.DockerSettings) string) string {
	if given == "" {
		given = of(dockerSettings(io))
	}
	return given
}

func detachKeys(s image.DockerSettings) string { return s.DetachKeys }

// proxies gives a container the variables of the caller's proxies, behind which there is no other way out. Those of the command line win.
func (f *runFlags) proxies(s image.DockerSettings) {
	for _, v := range s.Proxies["default"].Env() {
		name, _, _ := strings.Cut(v, "=")
		if !slices.ContainsFunc(f.run.Env, func(e string) bool { given, _, _ := strings.Cut(e, "="); return given == name }) {
			f.run.Env = append(f.run.Env, v)
		}
	}
}
