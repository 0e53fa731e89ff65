package engine

import (
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
)

// Ports that are asked for without a network, or with the host's, are taken, published nowhere, shown nowhere but in what was asked for, and warned of.
// What --add-host and --dns ask for such a container has in its files, whatever its root is.
func TestPublishedNowhere(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	var warned []string
	e.warn = func(text string) { warned = append(warned, text) }
	for mode, want := range map[string]string{"host": "Published ports are discarded when using host network mode", "none": "-p publishes nothing: the container has no network"} {
		for _, cfg := range []Config{{Publish: []PortSpec{{HostPort: 8000, HostPortEnd: 8010, Port: 80}}}, {PublishAll: true, Expose: []string{"81"}}} {
			warned = nil
			cfg.Name, cfg.Command = mode, []string{"sh", "-c", "cat /etc/hosts /etc/resolv.conf; exec sleep 1000"}
			cfg.ExtraHosts, cfg.DNS = []string{"there:10.9.9.9"}, []string{"10.9.9.8"}
			c := detached(t, e, on(mode, cfg))
			if !slices.Equal(warned, []string{want}) {
				t.Errorf("--network %s: warned %q, want %q", mode, warned, want)
			}
			s, err := e.Inspect(c.ID)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.NetworkSettings.Ports) != 0 || len(c.summaryPorts()) != 0 {
				t.Errorf("--network %s: ports %v, %v", mode, s.NetworkSettings.Ports, c.summaryPorts())
			}
			if asked := s.HostConfig.PortBindings["80/tcp"]; len(cfg.Publish) > 0 && (len(asked) != 1 || asked[0].HostPort != "8000-8010") {
				t.Errorf("--network %s: asked for %v", mode, s.HostConfig.PortBindings)
			}
			nstest.Until(t, "names are those that were asked for", func() bool {
				text := logOf(t, c)
				return strings.Contains(text, "10.9.9.9") && strings.Contains(text, "nameserver 10.9.9.8")
			})
			if err := e.Remove(t.Context(), c.ID, RemoveOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A domain or an option of resolv.conf that is asked for is in it without a network as well, and of one that has another container's it is told that they have no effect.
func TestResolvConfWithoutNetwork(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	imported(t, e, nstest.RootFS(t), "base:1")
	var warned []string
	e.warn = func(text string) { warned = append(warned, text) }
	ask := Config{Image: "base:1", AutoRemove: true, Network: "none", DNSSearch: []string{"ex.com"}, DNSOptions: []string{"ndots:3"}, Command: []string{"cat", "/etc/resolv.conf"}}
	if out, _, err := inside(t, e, ask); err != nil || !strings.HasSuffix(out, "search ex.com\noptions ndots:3\n") {
		t.Errorf("%q, %v", out, err)
	}
	started(t, e, Config{Image: "base:1", Name: "first", Network: "none", Command: []string{"sleep", "1000"}})
	ask.Network = "container:first"
	if out, _, err := inside(t, e, ask); err != nil || out != "" {
		t.Errorf("%q, %v", out, err)
	}
	if !slices.Equal(warned, []string{"--dns-search and --dns-option have no effect: the container has the resolv.conf of first"}) {
		t.Errorf("%q", warned)
	}
}

// That a container without a limit of memory is stopped by nothing when memory runs out is told, where the flag has that effect.
func TestNothingEndsItWhenMemoryRunsOut(t *testing.T) {
	e := &Engine{}
	for _, c := range []struct {
		r    Resources
		want bool
	}{{Resources{}, false}, {Resources{OOMKillDisable: true}, !unifiedMemory()}, {Resources{OOMKillDisable: true, Memory: 100 << 20}, false}} {
		var warned []string
		e.warn = func(text string) { warned = append(warned, text) }
		if _, err := e.plainRecord(Config{Resources: c.r}); err != nil {
			t.Fatal(err)
		}
		if told := slices.ContainsFunc(warned, func(w string) bool { return strings.HasPrefix(w, "OOM killer is disabled") }); told != c.want {
			t.Errorf("%+v: warned %q", c.r, warned)
		}
	}
}
