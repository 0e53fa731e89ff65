package engine

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/network"
)

// TestEnginesShareATable: two engines that know nothing of each other have one table of rules. What one of them removes, or makes again, costs the other one's containers none of their rules for longer than
// to its next command, and what it has noted of a bridge whose name is the other one's by now says nothing about that.
func TestEnginesShareATable(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	loopback(t)
	ctx := t.Context()
	first, second := bridged(t), bridged(t)
	whole := func(when string, engines ...*Engine) {
		t.Helper()
		for _, e := range engines {
			if f, err := e.Check(ctx, false); err != nil || len(f) != 0 {
				t.Errorf("%s Check finds %+v, %v", when, f, err)
			}
		}
	}
	sleeper := Config{Name: "sleeper", Image: "host", Command: []string{"sleep", "1000"}}
	runs := func(e *Engine) (stop func()) {
		c := detached(t, e, sleeper)
		return func() {
			if err := e.Remove(ctx, c.ID, RemoveOptions{Force: true}); err != nil {
				t.Error(err)
			}
		}
	}
	stopFirst := runs(first)
	// The second one has a record of its default network, with the same bridge, and has never had that: as long as it has no container, nobody chooses another.
	device, _ := bridgeOn(t, first)
	n, err := second.netdb().Default()
	if err != nil {
		t.Fatal(err)
	}
	n.Device = device
	if err := second.netdb().Move(n); err != nil {
		t.Fatal(err)
	}
	if _, err := second.NetworkPrune(ctx, nil); err != nil {
		t.Error(err)
	}
	whole("after the other one's prune", first)
	// After somebody flushed all rules, one of them makes the table anew, and knows of its own.
	stopSecond := runs(second)
	output(t, exec.Command("nft", "flush", "ruleset"))
	for _, e := range []*Engine{first, second} {
		if err := e.sweep(); err != nil {
			t.Error(err)
		}
	}
	whole("after a flush", first, second)
	stopSecond()
	stopFirst()
	if _, err := first.NetworkCreate(ctx, NetworkConfig{Name: "own"}); err != nil {
		t.Fatal(err)
	}
	sleeper.Network = "own"
	stopFirst = runs(first)
	// The first one's bridge is removed by hand, and the name is the second one's, whose network is another one: internal.
	output(t, exec.Command("ip", "link", "delete", device))
	c := NetworkConfig{Name: "inner", Internal: true, Options: map[string]string{optName: device}}
	networks(t, second, c)
	sleeper.Network = "inner"
	stopInner := runs(second)
	rules := func() string { return output(t, exec.Command("nft", "list", "table", "inet", network.NftTable)) }
	before := rules()
	whole("with a record of a bridge that is another's", first, second)
	if _, err := monitor.Rules(first.dir).Heal(); err != nil {
		t.Error(err)
	}
	if _, err := monitor.Rules(first.dir).Repair(); err != nil {
		t.Error(err)
	}
	output(t, exec.Command("nft", "flush", "table", "inet", network.NftTable)) // its elements stay
	if err := first.sweep(); err != nil {
		t.Error(err)
	}
	if now := rules(); strings.Join(strings.Fields(now), " ") != strings.Join(strings.Fields(before), " ") {
		t.Errorf("the rules are\n%s\nand were\n%s", now, before)
	}
	whole("after a repair", first, second)
	stopFirst()
	if _, err := first.NetworkPrune(ctx, nil); err != nil {
		t.Error(err)
	}
	whole("after a prune", first, second)
	stopInner()
}
