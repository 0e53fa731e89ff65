package cli

import (
	"fmt"
	"strings"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/cobra"
)

func newInfo(io IO) *cobra.Command {
	var layout string
	c := &cobra.Command{Use: "info [OPTIONS]", Short: "Tell of this machine, and of what kakuri has on it", Args: arguments(0, 0), ValidArgsFunction: cobra.NoFileCompletions}
	c.Flags().StringVarP(&layout, "format", "f", "", "json, or a Go `TEMPLATE`")
	c.RunE = func(c *cobra.Command, _ []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		i, err := e.Info(c.Context())
		if err != nil {
			return err
		}
		i.ServerVersion = Version
		if layout != "" {
			return templateStatus(format.Object(io.shown(), layout, i))
		}
		if _, err := fmt.Fprint(io.Out, infoText(i)); err != nil {
			return err
		}
		for _, w := range i.Warnings {
			fmt.Fprintln(io.Err, "WARNING:", w)
		}
		return nil
	}
	return c
}

// infoText has Docker's words, also for what is kakuri's: scripts look for such lines.
func infoText(i engine.Info) string {
	var b strings.Builder
	line := func(text string, args ...any) { fmt.Fprintf(&b, text+"\n", args...) }
	line("Containers: %d\n Running: %d\n Paused: %d\n Stopped: %d", i.Containers, i.ContainersRunning, i.ContainersPaused, i.ContainersStopped)
	line("Images: %d\nServer Version: %s", i.Images, i.ServerVersion)
	if i.Driver != "" {
		line("Storage Driver: %s", i.Driver)
	}
	for _, s := range i.DriverStatus {
		line(" %s: %s", s[0], s[1])
	}
	line("Default Network: %s", i.DefaultNetwork)
	if i.Uplink != "" {
		line("Uplink: %s", i.Uplink)
	}
	line("Logging Driver: %s\nCgroup Driver: %s", i.LoggingDriver, i.CgroupDriver)
	if i.CgroupVersion != "" {
		line("Cgroup Version: %s", i.CgroupVersion)
	}
	line("Swarm: %s\nDefault Runtime: %s\nSecurity Options:", i.Swarm.LocalNodeState, i.DefaultRuntime)
	for _, s := range i.SecurityOptions {
		line("  %s", strings.TrimPrefix(s, "name="))
	}
	line("Kernel Version: %s\nOperating System: %s\nOSType: %s\nArchitecture: %s\nCPUs: %d", i.KernelVersion, i.OperatingSystem, i.OSType, i.Architecture, i.NCPU)
	line("Total Memory: %s\nName: %s", format.Binary(float64(i.MemTotal)), format.Lines(i.Name))
	if i.ID != "" {
		line("ID: %s", i.ID)
	}
	line("Docker Root Dir: %s\nLive Restore Enabled: %v", i.DockerRootDir, i.LiveRestoreEnabled)
	return b.String()
}
