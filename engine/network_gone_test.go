package engine

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/network/netdb"
)

// connectedTo are the networks that inspect shows.
func connectedTo(t *testing.T, e *Engine, name string) (list []string) {
	t.Helper()
	i, err := e.Inspect(name)
	if err != nil {
		t.Fatal(err)
	}
	for n := range i.NetworkSettings.Networks {
		list = append(list, n)
	}
	slices.Sort(list)
	return list
}

// TestNetworkModeStays: HostConfig.NetworkMode is what a container was made with, whatever it was taken from and connected to since; what it is on is told beside it.
func TestNetworkModeStays(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := bridged(t)
	ctx := t.Context()
	for _, mode := range []string{"bridge", "none"} {
		c, err := e.Create(ctx, Config{Name: "stays", Image: "host", Network: mode, Command: []string{"sleep", "1000"}})
		if err != nil {
			t.Fatal(err)
		}
		is := func(networks ...string) {
			t.Helper()
			i, err := e.Inspect(c.ID)
			if err != nil {
				t.Fatal(err)
			}
			list, err := e.Summaries(ctx, SummaryOptions{All: true})
			if err != nil || len(list) != 1 {
				t.Fatal(list, err)
			}
			if got := slices.Collect(maps.Keys(i.NetworkSettings.Networks)); i.HostConfig.NetworkMode != mode || list[0].HostConfig.NetworkMode != mode || !slices.Equal(got, networks) {
				t.Errorf("made with %s: mode %s, in lists %s, on %q, want %q", mode, i.HostConfig.NetworkMode, list[0].HostConfig.NetworkMode, got, networks)
			}
		}
		is(mode)
		for range 2 {
			if err := e.NetworkDisconnect(ctx, mode, c.ID, false); err != nil {
				t.Fatal(err)
			}
			is()
			if mode != "none" {
				if err := e.NetworkConnect(ctx, mode, c.ID, Attachment{}); err != nil {
					t.Fatal(err)
				}
				is(mode)
				continue
			}
			if err := e.NetworkConnect(ctx, "bridge", c.ID, Attachment{}); err != nil {
				t.Fatal(err)
			}
			is("bridge")
			break
		}
		if err := e.Remove(ctx, c.ID, RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// A container that was to have no network is connected after it was taken out of that, while it runs and while it does not.
func TestNetworkOutOfNone(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := bridged(t)
	ctx := t.Context()
	zero := 0
	detached(t, e, Config{Name: "apart", Image: "host", Network: "none", Command: []string{"sleep", "1000"}})
	if n, err := e.NetworkInspect("none"); err != nil || len(n.Containers) != 1 || n.Containers[found(t, e, "apart").ID].Name != "apart" {
		t.Errorf("on network none are %+v, %v", n.Containers, err)
	}
	devices := func() string {
		var out bytes.Buffer
		if _, err := e.Exec(ctx, "apart", ExecConfig{Command: []string{"grep", "-c", "eth0", "/proc/net/dev"}}, Streams{Out: &out}); err != nil {
			t.Error(err)
		}
		return out.String()
	}
	for _, runs := range []bool{true, false} {
		if err := e.NetworkConnect(ctx, "bridge", "apart", Attachment{}); err == nil || err.Error() != private+": take it out of that first: kakuri network disconnect none apart" {
			t.Errorf("before it was taken out of none: %v", err)
		}
		if got := connectedTo(t, e, "apart"); !slices.Equal(got, []string{"none"}) {
			t.Errorf("it is on %q", got)
		}
		if err := e.NetworkDisconnect(ctx, "none", "apart", false); err != nil {
			t.Fatal(err)
		}
		if got := connectedTo(t, e, "apart"); len(got) != 0 {
			t.Errorf("it is on %q", got)
		}
		if err := e.NetworkDisconnect(ctx, "none", "apart", false); err == nil || !strings.Contains(err.Error(), "is not connected to network none") {
			t.Errorf("a second time: %v", err)
		}
		if err := e.NetworkConnect(ctx, "bridge", "apart", Attachment{}); err != nil {
			t.Fatal(err)
		}
		if !runs {
			if err := e.Start(ctx, "apart", StartOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if got := devices(); got != "1\n" {
			t.Errorf("it has %q devices", got)
		}
		if err := e.Remove(ctx, "apart", RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		detached(t, e, Config{Name: "apart", Image: "host", Network: "none", Command: []string{"sleep", "1000"}})
		if err := e.Stop(ctx, "apart", StopOptions{Timeout: &zero}); err != nil {
			t.Fatal(err)
		}
	}
	// The rules of --egress are there before a network is.
	detached(t, e, Config{Name: "limited", Image: "host", Network: "none", Egress: []string{"none"}, Command: []string{"sleep", "1000"}})
	if err := e.NetworkDisconnect(ctx, "none", "limited", false); err != nil {
		t.Fatal(err)
	}
	if err := e.NetworkConnect(ctx, "bridge", "limited", Attachment{}); err == nil || !strings.Contains(err.Error(), "kakuri stop limited") {
		t.Errorf("without rules: %v", err)
	}
}

// A container is taken from a network that is not there any more, and is one that has ended as long as it does not start.
func TestNetworkGone(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := bridged(t)
	ctx := t.Context()
	if _, err := e.NetworkCreate(ctx, NetworkConfig{Name: "front"}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(nstest.Dir(t), "x")
	program := dir + "/run"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, code := range map[string]string{"web": "7", "well": "0"} {
		if err := os.WriteFile(program, []byte("#!/bin/sh\nexit $1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		c, err := e.Create(ctx, Config{Name: name, Image: "host", Network: "front", Command: []string{"/x/run", code}, Mounts: []Mount{{Type: "bind", Source: dir, Dest: "/x"}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := e.Remove(context.Background(), c.ID, RemoveOptions{Force: true}); err != nil {
				t.Error(err)
			}
		})
		if err := e.Start(ctx, name, StartOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Wait(ctx, name, "not-running"); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.NetworkRemove(ctx, "front", false); err != nil {
		t.Fatal(err)
	}
	stays := func(name string, before Container, code int, cause string) {
		t.Helper()
		now := found(t, e, name)
		if now.Status != monitor.Exited || now.ExitCode != code || !now.Started.Equal(before.Started) || !now.Finished.Equal(before.Finished) || now.Error == "" || now.Death.Cause != cause {
			t.Errorf("it is %+v, was %+v", now.State, before.State)
		}
	}
	for name, code := range map[string]int{"web": 7, "well": 128} {
		before := found(t, e, name)
		err := e.Start(ctx, name, StartOptions{})
		if err == nil || !strings.HasPrefix(err.Error(), "network front not found: ") || !strings.HasSuffix(err.Error(), ": kakuri network disconnect -f front "+name) {
			t.Errorf("its start: %v", err)
		}
		stays(name, before, code, map[string]string{"web": "exit", "well": "setup"}[name])
	}
	if err := e.NetworkConnect(ctx, "bridge", "web", Attachment{}); err != nil {
		t.Errorf("to another network: %v", err)
	}
	if err := e.NetworkDisconnect(ctx, "nosuch", "web", true); !IsNoNetwork(err) {
		t.Errorf("from what it was not on: %v", err)
	}
	if err := e.NetworkDisconnect(ctx, "front", "web", true); err != nil {
		t.Fatal(err)
	}
	if got := connectedTo(t, e, "web"); !slices.Equal(got, []string{"bridge"}) {
		t.Errorf("it is on %q", got)
	}
	// So is one whose program is not there any more, as its monitor finds.
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	before := found(t, e, "web")
	if err := e.Start(ctx, "web", StartOptions{}); exitCodeOf(err) != 127 {
		t.Errorf("without its program: %v", err)
	}
	stays("web", before, 127, "setup")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexit $1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(ctx, "web", StartOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := e.Wait(ctx, "web", "not-running"); err != nil {
		t.Error(err)
	}
	if now := found(t, e, "web"); now.ExitCode != 7 || now.Error != "" {
		t.Errorf("after it ran again: %+v", now.State)
	}
}

// The record of a network is there as long as its bridge is: a command that is killed between, or that fails, leaves no bridge that is nobody's.
func TestNetworkRemoveEndsWithItsRecord(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	ctx := t.Context()
	n, err := e.NetworkCreate(ctx, NetworkConfig{Name: "front"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Run(ctx, Config{Image: "host", Network: "front", AutoRemove: true, Command: []string{"true"}}, Streams{}, RunOptions{}); err != nil {
		t.Fatal(err)
	}
	found, err := e.netdb().Lookup("front")
	if err != nil {
		t.Fatal(err)
	}
	// What cannot be removed stands for the moment of the kill.
	record := filepath.Join(e.dir, "rules/bridges", found.Device)
	if err := os.Remove(record); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(record+"/full", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := e.NetworkRemove(ctx, "front", false); err == nil || !strings.Contains(err.Error(), "its bridge is not removed") {
		t.Errorf("with rules that stay: %v", err)
	}
	if got, err := e.NetworkInspect("front"); err != nil || got.ID != n.ID {
		t.Errorf("it is %q then: %v", got.ID, err)
	}
	if err := os.RemoveAll(record); err != nil {
		t.Fatal(err)
	}
	if err := e.NetworkRemove(ctx, "front", false); err != nil {
		t.Error(err)
	}
	if _, err := e.NetworkInspect("front"); err == nil {
		t.Error("it is still there")
	}
}

// TestPruneUnmakesTheBridge: the default network stays, but what the kernel has of it goes with a prune, unless a container runs there; the next one makes it anew,
// also while somebody prunes.
func TestPruneUnmakesTheBridge(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	made := func() bool {
		n, err := e.NetworkInspect("bridge")
		if err != nil {
			t.Fatal(err)
		}
		name := n.Options["com.docker.network.bridge.name"]
		device := exec.Command("ip", "link", "show", name).Run() == nil
		rules, _ := exec.Command("nft", "list", "table", "inet", "kakuri").Output() // none where the table is not there
		if bytes.Contains(rules, []byte(`"`+name+`"`)) != device {
			t.Errorf("there is a bridge %s: %t, and its rules are\n%s", name, device, rules)
		}
		return device
	}
	prune := func(f Filters) {
		if removed, err := e.NetworkPrune(ctx, f); err != nil || len(removed) > 0 {
			t.Errorf("prune removes %q, %v", removed, err)
		}
	}
	prune(nil) // of an engine that had no container yet
	server := detached(t, e, on("bridge", Config{Name: "server", Command: []string{"/greeter", ":80"}}))
	ready(t, server)
	prune(nil)
	i, err := e.Inspect("server")
	if err != nil {
		t.Fatal(err)
	}
	has := i.NetworkSettings.Networks["bridge"]
	if line := says(t, e, "bridge", patient, has.IPAddress+":80")[0]; !made() || !strings.Contains(line, " to ") {
		t.Errorf("after a prune beside it a container answers %q", line)
	}
	if err := e.Remove(ctx, "server", RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if prune(Filters{"until": {"1h"}}); !made() {
		t.Error("a prune by a filter took the bridge away")
	}
	if prune(nil); made() {
		t.Error("nobody is on the network, and its bridge is there after a prune")
	}

	ran, pruned := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(pruned)
		for {
			select {
			case <-ran:
				return
			default:
				prune(nil)
			}
		}
	}()
	for range 10 {
		if line := says(t, e, "bridge", patient, has.Gateway+":80")[0]; !strings.Contains(line, "refused") {
			t.Errorf("a container that is started while somebody prunes gets no answer of its gateway: %s", line)
		}
	}
	close(ran)
	<-pruned
	if found, err := e.Check(ctx, false); err != nil || len(found) != 0 {
		t.Errorf("Check finds %+v, %v", found, err)
	}
}

// TestNetworkOfAnothersDevice: a bridge cannot have the name, nor the address, of another device of the machine. That is said when the network is to be made, none is left, and the device stays. A
// network whose name went to such a device while its bridge was away can be removed.
func TestNetworkOfAnothersDevice(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	ctx := t.Context()
	ip := func(args ...string) string { return output(t, exec.Command("ip", args...)) }
	ip("link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
	defer ip("link", "del", "lan1")
	ip("addr", "add", "10.83.0.1/24", "dev", "lan0")
	for want, c := range map[string]NetworkConfig{
		"the host has a device of that name, and it is a device of the kind veth: give the network's bridge another name": {Name: "mine", Options: map[string]string{optName: "lan0"}},
		"device lan0 of the host has the address 10.83.0.1/24: address already in use: the network needs another subnet":  {Name: "mine", IPAM: IPAM{Config: []IPAMPool{{Subnet: "10.83.0.0/16"}}}},
	} {
		n, err := e.NetworkCreate(ctx, c)
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("it says %v, not %q", err, want)
		}
		if err == nil {
			if err := e.NetworkRemove(ctx, n.ID, false); err != nil {
				t.Error(err)
			}
		}
	}
	if list, err := e.NetworkList(ctx, nil); err != nil || len(list) != 3 {
		t.Errorf("there are %+v, %v", list, err)
	}
	if _, err := e.NetworkCreate(ctx, NetworkConfig{Name: "mine", Options: map[string]string{optName: "mine0"}}); err != nil {
		t.Fatal(err)
	}
	ip("link", "del", "mine0")
	ip("link", "set", "lan0", "name", "mine0")
	if err := e.NetworkRemove(ctx, "mine", false); err != nil {
		t.Error(err)
	}
	if text := ip("addr", "show", "mine0"); !strings.Contains(text, "10.83.0.1/24") {
		t.Errorf("the device is %q", text)
	}
}

// TestDisconnectGoneContainer: what a container that is not there any more has left on a network goes by force, and by no path. Where it has left nothing, nothing is said to
// have been done, as with Docker.
func TestDisconnectGoneContainer(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	nstest.NoLeaks(t)
	networks(t, e, NetworkConfig{Name: "back"})
	db := e.netdb()
	t.Cleanup(db.Forget)
	n, err := db.Lookup("back")
	if err != nil {
		t.Fatal(err)
	}
	id := strings.Repeat("ab", 32)
	for _, ref := range []string{id, "old"} {
		if err := db.Join(n.ID, netdb.Member{Container: id, Name: "old"}); err != nil {
			t.Fatal(err)
		}
		for _, other := range []string{"../members/" + id, "../names/old", "new"} {
			if err := e.NetworkDisconnect(t.Context(), "back", other, true); !errors.As(err, new(ErrNoSuchContainer)) {
				t.Errorf("%s: %v", other, err)
			}
		}
		if _, err := db.Member(n.ID, id); err != nil {
			t.Fatal(err)
		}
		if err := e.NetworkDisconnect(t.Context(), "back", ref, false); !errors.As(err, new(ErrNoSuchContainer)) {
			t.Errorf("%s, not by force: %v", ref, err)
		}
		if err := e.NetworkDisconnect(t.Context(), "back", ref, true); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
		if _, err := db.Member(n.ID, id); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: it is still there: %v", ref, err)
		}
	}
}

// A container that does not run may be connected to a network a second time: it will be there as was asked last.
func TestConnectedAgain(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e, ctx := open(t), t.Context()
	if _, err := e.NetworkCreate(ctx, NetworkConfig{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	defer e.NetworkRemove(ctx, "web", true)
	if _, err := e.Create(ctx, Config{Name: "box", Rootfs: nstest.RootFS(t), Network: "web", Command: []string{"true"}}); err != nil {
		t.Fatal(err)
	}
	defer e.Remove(ctx, "box", RemoveOptions{})
	if err := e.NetworkConnect(ctx, "web", "box", Attachment{Aliases: []string{"later"}}); err != nil {
		t.Fatal(err)
	}
	box := found(t, e, "box")
	if has := box.Config.attachments(); len(has) != 1 || has[0].Network != "web" || !slices.Equal(has[0].Aliases, []string{"later"}) {
		t.Errorf("it is to be on %+v", has)
	}
}
