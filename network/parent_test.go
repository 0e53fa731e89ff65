package network

import (
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// TestParent: a device for macvlans is made, set up where a killed process left it down, handed on, and removed; one of the machine's own stays as it is. A kernel without
// devices of the kind is told of.
func TestParent(t *testing.T) {
	nstest.Root(t)
	nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWNET}, func(t *testing.T) {
		d := doer(t)
		d.ip(t, "link", "add", "lan0", "type", "bridge")
		d.ip(t, "link", "set", "lan0", "up")
		for _, p := range []plan.Parent{
			{Device: "dm-1", Network: "apart", Alias: BridgeAlias("apart", "1")},
			{Device: "lan0.50", Network: "fifty", Alias: BridgeAlias("fifty", "2"), Link: "lan0", VLAN: 50},
		} {
			kind := map[bool]string{true: "dummy", false: "vlan"}[p.Link == ""]
			if err := d.makeParent(p); err != nil {
				if !strings.Contains(err.Error(), "the kernel knows no "+kind) {
					t.Error(err)
				}
				t.Log(err)
				continue
			}
			d.ip(t, "link", "set", p.Device, "down")
			if err := d.makeParent(p); err != nil {
				t.Error(err)
			}
			if text := d.ip(t, "-d", "link", "show", p.Device); !strings.Contains(text, ",UP") || !strings.Contains(text, kind) || !strings.Contains(text, "alias "+p.Alias) {
				t.Errorf("it is %s", text)
			}
			heir := p
			heir.Alias = BridgeAlias("heir", "3")
			for _, step := range []struct {
				p    plan.Parent
				heir string
			}{{heir, ""}, {p, heir.Alias}, {p, ""}} {
				if err := d.RemoveParent(step.p, step.heir); err != nil {
					t.Error(err)
				}
				d.ip(t, "link", "show", p.Device) // it stays
			}
			if err := d.RemoveParent(heir, ""); err != nil {
				t.Error(err)
			}
			if text := d.ip(t, "link"); strings.Contains(text, p.Device) {
				t.Errorf("it stays: %s", text)
			}
		}
		own := plan.Parent{Device: "lan0", Network: "own", Alias: BridgeAlias("own", "4")}
		if err := d.makeParent(own); err != nil {
			t.Error(err)
		}
		if err := d.RemoveParent(own, ""); err != nil {
			t.Error(err)
		}
		if text := d.ip(t, "link", "show", "lan0"); strings.Contains(text, "alias") {
			t.Errorf("a device of the machine's own is %s", text)
		}
	})
}
