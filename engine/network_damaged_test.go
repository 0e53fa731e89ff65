package engine

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/network/netdb"
	"golang.org/x/sys/unix"
)

// TestDamagedNetworks: a network whose record cannot be read, however that came about, is named with the way out by whoever comes upon it, others are listed, made and
// used, and it is removed by force with the device that it has on the machine.
func TestDamagedNetworks(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	ctx := t.Context()
	var warned []string
	e.warn = func(s string) { warned = append(warned, s) }
	other, err := e.NetworkCreate(ctx, NetworkConfig{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	file := func(id string) string { return e.data + "/networks/" + id + "/network.json" }
	write := func(text string) func(string) error {
		return func(name string) error { return os.WriteFile(name, []byte(text), 0o600) }
	}
	instead := func(put func(string) error) func(string) error {
		return func(name string) error { return errors.Join(os.Remove(name), put(name)) }
	}
	output(t, exec.Command("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1"))
	defer exec.Command("ip", "link", "del", "lan0").Run()
	for _, d := range []struct {
		what   string
		config NetworkConfig
		do     func(name string) error
	}{
		{"nothing in it", NetworkConfig{Name: "hurt"}, write("")},
		{"half of it", NetworkConfig{Name: "hurt"}, write(`{"ID":"`)},
		{"no fields, a bridge of another name", NetworkConfig{Name: "hurt", Options: map[string]string{optName: "hurt0"}}, write("{}")},
		{"another's", NetworkConfig{Name: "hurt"}, func(name string) error {
			data, err := os.ReadFile(file(other.ID))
			return errors.Join(err, os.WriteFile(name, data, 0o600))
		}},
		{"a later version's, on a device of the machine", NetworkConfig{Name: "hurt", Driver: "macvlan", Options: map[string]string{"parent": "lan0"}}, write(`{"ID":{"sha512":"x"},"Pools":{}}`)},
		{"a FIFO", NetworkConfig{Name: "hurt"}, instead(func(name string) error { return unix.Mkfifo(name, 0o600) })},
		{"a directory", NetworkConfig{Name: "hurt"}, instead(func(name string) error { return os.MkdirAll(name+"/full", 0o700) })},
		{"the default one", NetworkConfig{Name: netdb.DefaultName}, write("")},
	} {
		t.Run(d.what, func(t *testing.T) {
			name := d.config.Name
			var n Network
			var err error
			if name == netdb.DefaultName {
				var first netdb.Network
				first, err = e.findNetwork(name)
				n.ID = first.ID
			} else {
				n, err = e.NetworkCreate(ctx, d.config)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := d.do(file(n.ID)); err != nil {
				t.Fatal(err)
			}
			wayOut := "kakuri network rm -f " + name + " removes it"
			warned = nil
			list, err := e.NetworkList(ctx, nil)
			if err != nil || !slices.ContainsFunc(list, func(n Network) bool { return n.Name == "other" }) || slices.ContainsFunc(list, func(l Network) bool { return l.ID == n.ID }) {
				t.Errorf("%v: %+v", err, list)
			}
			if text := strings.Join(warned, "\n"); !strings.Contains(text, wayOut) {
				t.Errorf("warnings: %q", text)
			}
			_, inspected := e.NetworkInspect(name)
			_, another := e.netdb().Create(netdb.Network{Name: name, Driver: "bridge", IPv4: true}, nil)
			for verb, err := range map[string]error{"inspect": inspected, "rm": e.NetworkRemove(ctx, n.ID, false), "create": another} {
				if err == nil || !strings.Contains(err.Error(), wayOut) {
					t.Errorf("%s: %v", verb, err)
				}
			}
			if _, err := e.NetworkPrune(ctx, Filters{"label": {"none"}}); err != nil {
				t.Errorf("prune: %v", err)
			}
			found, err := e.Check(ctx, true)
			if err != nil || !slices.ContainsFunc(found, func(f Finding) bool {
				return f.Object == "network "+files.ShortID(n.ID) && !f.Mended && strings.Contains(f.Error, wayOut)
			}) {
				t.Errorf("check: %v: %+v", err, found)
			}
			// A container that is on it holds it.
			if err := e.netdb().Join(n.ID, netdb.Member{Container: strings.Repeat("a", 64), Name: "one"}); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(e.dir+"/monitor/"+strings.Repeat("a", 64), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := e.NetworkRemove(ctx, name, true); !errors.As(err, new(ErrConflict)) {
				t.Errorf("with a container: %v", err)
			}
			if err := os.Remove(e.dir + "/monitor/" + strings.Repeat("a", 64)); err != nil {
				t.Fatal(err)
			}
			if err := e.NetworkRemove(ctx, name, true); err != nil {
				t.Fatal(err)
			}
			if text := output(t, exec.Command("ip", "link")); strings.Contains(text, n.ID) || strings.Contains(text, "hurt0") || !strings.Contains(text, "lan0") {
				t.Errorf("devices: %s", text)
			}
			if found, err := e.Check(ctx, false); err != nil || len(found) != 0 {
				t.Errorf("after rm -f: %v: %+v", err, found)
			}
		})
	}
	if _, err := e.findNetwork(netdb.DefaultName); err != nil {
		t.Errorf("the default one once more: %v", err)
	}
	if err := e.NetworkRemove(ctx, "other", false); err != nil {
		t.Error(err)
	}
}
