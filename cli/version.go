package cli

import (
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// spokenAPI is the version of Docker's API whose commands, fields and words these are: Docker 28.5's. Nothing here serves one. But callers of the command ask
// for it to know which of them they may use, and some, such as runners of continuous integration, end where there is none.
const spokenAPI = "1.51"

// spokenRelease is the release of Docker that has that API.
const spokenRelease = "28.5.0"

// versionLine is what --version says, with the word by which scripts find the number. Who has named the command docker is asked for Docker's line: kind looks
// for it, and takes what says anything else for Podman.
func versionLine(command string) string {
	if filepath.Base(command) == "docker" {
		return "Docker version " + spokenRelease + ", build kakuri-" + Version + "\n"
	}
	return "kakuri version " + Version + "\n"
}

// A versionPart is the client's or the engine's version: here both are one program. Its fields are those of both in Docker's answer.
type versionPart struct {
	Platform          versionName
	Version           string
	APIVersion        string `json:"ApiVersion"`
	DefaultAPIVersion string
	MinAPIVersion     string
	GitCommit         string
	GoVersion         string
	Os, Arch          string
	KernelVersion     string
	Experimental      bool
	BuildTime         string
	Context           string
	Components        []versionComponent
}

type versionName struct{ Name string }

type versionComponent struct {
	Name, Version string
	Details       map[string]string
}

// thisVersion is that of this program, on a kernel.
func thisVersion() versionPart {
	v := versionPart{Version: Version, GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH, Context: "default",
		APIVersion: spokenAPI, DefaultAPIVersion: spokenAPI, MinAPIVersion: spokenAPI}
	v.Platform.Name = "kakuri"
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		v.KernelVersion = unix.ByteSliceToString(u.Release[:])
	}
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, s := range b.Settings {
			switch s.Key {
			case "vcs.revision":
				v.GitCommit = s.Value
			case "vcs.time":
				v.BuildTime = s.Value
			}
		}
	}
	v.Components = []versionComponent{{"Engine", v.Version, map[string]string{
		"Arch": v.Arch, "BuildTime": v.BuildTime, "GitCommit": v.GitCommit, "GoVersion": v.GoVersion, "KernelVersion": v.KernelVersion, "Os": v.Os,
		"ApiVersion": v.APIVersion, "MinAPIVersion": v.MinAPIVersion, "Experimental": strconv.FormatBool(v.Experimental),
	}}}
	return v
}

func newVersion(io IO) *cobra.Command {
	var layout string
	c := &cobra.Command{Use: "version [OPTIONS]", Short: "Print the version", Args: arguments(0, 0), ValidArgsFunction: cobra.NoFileCompletions}
	c.Flags().StringVarP(&layout, "format", "f", "", "json, or a Go `TEMPLATE` of Client and Server, which are the same here")
	c.RunE = func(*cobra.Command, []string) error {
		v := thisVersion()
		if layout != "" {
			return templateStatus(format.Object(io.Out, layout, struct{ Client, Server versionPart }{v, v}))
		}
		text := fmt.Sprintf("kakuri:\n Version:    %s\n Go version: %s\n", v.Version, v.GoVersion)
		if v.GitCommit != "" {
			text += fmt.Sprintf(" Git commit: %s\n Built:      %s\n", v.GitCommit, v.BuildTime)
		}
		_, err := fmt.Fprintf(io.Out, "%s OS/Arch:    %s/%s\n", text, v.Os, v.Arch)
		return err
	}
	return c
}
