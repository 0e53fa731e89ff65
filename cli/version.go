package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/spf13/cobra"
)

// A versionPart is the client's or the engine's version: here both are one program.
type versionPart struct {
	Version   string
	GoVersion string
	GitCommit string
	BuildTime string
	Os, Arch  string
}

func newVersion(io IO) *cobra.Command {
	var layout string
	c := &cobra.Command{Use: "version [OPTIONS]", Short: "Print the version", Args: arguments(0, 0), ValidArgsFunction: cobra.NoFileCompletions}
	c.Flags().StringVarP(&layout, "format", "f", "", "json, or a Go `TEMPLATE` of Client and Server, which are the same here")
	c.RunE = func(*cobra.Command, []string) error {
		v := versionPart{Version: Version, GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH}
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
		if layout != "" {
			return format.Objects(io.Out, layout, []any{struct{ Client, Server versionPart }{v, v}})
		}
		fmt.Fprintf(io.Out, "kakuri:\n Version:    %s\n Go version: %s\n", v.Version, v.GoVersion)
		if v.GitCommit != "" {
			fmt.Fprintf(io.Out, " Git commit: %s\n Built:      %s\n", v.GitCommit, v.BuildTime)
		}
		fmt.Fprintf(io.Out, " OS/Arch:    %s/%s\n", v.Os, v.Arch)
		return nil
	}
	return c
}
