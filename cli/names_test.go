package cli

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/image"
	"github.com/opencontainers/go-digest"
)

// The names that templates of Docker 28's lists and answers can have are there. Those of info that are missing are in docs/flags.md.
func TestDockerNames(t *testing.T) {
	for what, test := range map[string]struct {
		of    any
		names string
	}{
		"ps":         {containerRow{}, "Command CreatedAt HealthStatus ID Image Labels LocalVolumes Mounts Names Networks Platform Ports RunningFor Size State Status"},
		"images":     {imageRow{}, "Containers CreatedAt CreatedSince Digest ID Repository SharedSize Size Tag UniqueSize VirtualSize"},
		"volume ls":  {volumeRow{}, "Availability Driver Group Labels Links Mountpoint Name Scope Size Status"},
		"network ls": {networkRow{}, "CreatedAt Driver ID IPv4 IPv6 Internal Labels Name Scope"},
		"network": {engine.Network{IPAM: engine.IPAM{Config: []engine.IPAMPool{{}}}}, "Attachable ConfigFrom.Network ConfigOnly Containers Created Driver EnableIPv4 EnableIPv6 ID IPAM.Config IPAM.Driver IPAM.Options Ingress Internal Labels Name " +
			"Options Peers Scope Services"},
		"its subnets": {engine.IPAMPool{}, "AuxAddress Gateway IPRange Subnet"},
		"its members": {engine.NetworkContainer{}, "EndpointID IPv4Address IPv6Address MacAddress Name"},
		"stats":       {statsRow{}, "BlockIO CPUPerc Container ID MemPerc MemUsage Name NetIO PIDs"},
		"search":      {searchRow{}, "Description IsAutomated IsOfficial Name StarCount"},
		"df -v":       {dfRows{}, "BuildCache Containers Images Volumes"},
		"events":      {engine.Event{}, "Action Actor.Attributes Actor.ID From ID Scope Status Time TimeNano Type"},
		"version": {struct{ Client, Server versionPart }{}, "Client.APIVersion Client.Arch Client.BuildTime Client.Context Client.DefaultAPIVersion Client.GitCommit Client.GoVersion Client.Os Client.Platform.Name Client.Version " +
			"Server.APIVersion Server.Arch Server.BuildTime Server.Components Server.Experimental Server.GitCommit Server.GoVersion Server.KernelVersion Server.MinAPIVersion Server.Os Server.Platform.Name Server.Version"},
		"info": {engine.Info{}, "Architecture CDISpecDirs CPUShares CPUSet CgroupDriver CgroupVersion ClientInfo.Context ClientInfo.Debug ClientInfo.Plugins ClientInfo.Warnings ContainerdCommit.ID Containers ContainersPaused " +
			"ContainersRunning ContainersStopped CpuCfsPeriod CpuCfsQuota Debug DefaultRuntime DockerRootDir Driver DriverStatus ExperimentalBuild GenericResources HttpProxy HttpsProxy ID IPv4Forwarding Images IndexServerAddress " +
			"InitBinary InitCommit.ID Isolation KernelMemoryTCP KernelVersion Labels LiveRestoreEnabled LoggingDriver MemTotal MemoryLimit NCPU NEventsListener NFd NGoroutines Name NoProxy OSType OSVersion OomKillDisable " +
			"OperatingSystem PidsLimit Plugins.Authorization Plugins.Log Plugins.Network Plugins.Volume RuncCommit.ID Runtimes SecurityOptions ServerVersion SwapLimit Swarm.ControlAvailable Swarm.Error Swarm.LocalNodeState " +
			"Swarm.NodeAddr Swarm.NodeID SystemTime Warnings"},
	} {
		for _, name := range strings.Fields(test.names) {
			var out bytes.Buffer
			if err := format.Object(&out, "{{."+name+"}}", test.of); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

// A platform is OS/ARCH as text and an object in JSON, and nil where it is not known, as in Docker's list.
func TestPlatformCell(t *testing.T) {
	p := platformCell{}
	p.OS, p.Architecture = "linux", "amd64"
	rows := []containerRow{{Names: "a", Platform: &p}, {Names: "b"}}
	for layout, want := range map[string]string{
		"table {{.Names}}\t{{.Platform}}": "NAMES     PLATFORM\na         linux/amd64\nb         <nil>\n",
		"{{json .Platform}}":              "{\"architecture\":\"amd64\",\"os\":\"linux\"}\nnull\n",
	} {
		var out bytes.Buffer
		if err := format.Rows(&out, containerSpec(), format.Options{Format: layout}, rows); err != nil || out.String() != want {
			t.Errorf("%q: %v: %q", layout, err, &out)
		}
	}
	p.Variant = "v8"
	if p.String() != "linux/amd64/v8" {
		t.Error(p)
	}
}

// TestImageRows: an image that was pulled by tag and by digest has one row, as with Docker.
func TestImageRows(t *testing.T) {
	d := digest.FromString("m")
	tag, byDigest, other := image.Reference{Domain: "r.example", Path: "a", Tag: "1"}, image.Reference{Domain: "r.example", Path: "a", Digest: d}, image.Reference{Domain: "r.example", Path: "b", Digest: d}
	for _, test := range []struct {
		names []image.Reference
		want  []string
	}{
		{[]image.Reference{tag, byDigest}, []string{"r.example/a:1"}},
		{[]image.Reference{tag, other}, []string{"r.example/a:1", "r.example/b:<none>"}},
		{[]image.Reference{byDigest}, []string{"r.example/a:<none>"}},
		{nil, []string{"<none>:<none>"}},
	} {
		var got []string
		for _, r := range imageRows(image.Summary{Image: image.Image{ID: d, Names: test.names}}, true, true) {
			got = append(got, r.Repository+":"+r.Tag)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%v: rows are %q, want %q", test.names, got, test.want)
		}
	}
}
