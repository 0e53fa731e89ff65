package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
)

// What is changed of a container that its policy starts again and again is in force at its next start, in whatever moment it is asked for, and nothing is left to be done. A
// connect said that there was no network namespace of process 0, and each command after it that something was left.
func TestChangesBetweenRuns(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	loopback(t)
	networks(t, e, NetworkConfig{Name: "first"}, NetworkConfig{Name: "other"})
	shares := Resources{CPUShares: 300}
	rounds := 24
	if testing.Short() {
		rounds = 8
	}
	for i := range rounds {
		name := fmt.Sprint("looped", i)
		c := detached(t, e, Config{
			Name: name, Image: "host", Network: "first", Restart: Restart{Policy: "always"},
			Command: []string{"sh", "-c", fmt.Sprintf("ls /sys/class/net; sleep 0.%02d; exit 1", i%8)},
		})
		if i%4 == 0 {
			nstest.Until(t, "a pause between two runs", func() bool { return found(t, e, name).Status == monitor.Restarting })
		} else {
			time.Sleep(time.Duration(i) * 7 * time.Millisecond)
		}
		if err := e.NetworkConnect(ctx, "other", name, Attachment{Aliases: []string{"alias"}}); err != nil {
			t.Error(err)
		}
		if err := e.NetworkDisconnect(ctx, "first", name, false); err != nil {
			t.Error(err)
		}
		if _, err := e.Update(ctx, name, UpdateConfig{Resources: shares}); err != nil {
			t.Error(err)
		}
		now := found(t, e, name)
		if list := now.Config.attachments(); len(list) != 1 || list[0].Network != "other" || len(now.Connections) != 1 || now.Connections[0].Network != "other" || now.Config.Resources.CPUShares != 300 {
			t.Errorf("it is on %+v, %+v", list, now.Connections)
		}
		n, err := e.findNetwork("other")
		if err != nil {
			t.Fatal(err)
		}
		if m, err := e.netdb().Member(n.ID, c.ID); err != nil || !slices.Contains(m.Aliases, "alias") {
			t.Errorf("its names there are %+v, %v", m, err)
		}
		if i%4 == 0 {
			nstest.Until(t, "the next run, on the other network alone", func() bool {
				log := logOf(t, c)
				return strings.LastIndex(log, "eth1") > strings.LastIndex(log, "eth0")
			})
		}
		if list, err := e.Check(ctx, false); err != nil || len(list) > 0 {
			t.Errorf("check finds %+v, %v", list, err)
		}
		if i%2 == 0 {
			err = e.Kill(ctx, name, "")
		} else {
			err = e.Stop(ctx, name, StopOptions{})
		}
		if err != nil {
			t.Error(err)
		}
		if err := e.Remove(ctx, name, RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Fatalf("at the %dth", i)
		}
	}
}
