package engine

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
)

// TestEgressAsked refuses what the rules could not hold.
func TestEgressAsked(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	ctx := t.Context()
	loopback(t)
	networks(t, e, NetworkConfig{Name: "web"})
	with := func(c Config) Config {
		if c.Network == "" {
			c.Network = "web"
		}
		c.Image, c.Command = "host", []string{"/bin/true"}
		return c
	}
	none := []string{"none"}
	for want, c := range map[string]Config{
		"could take the rules away":    {Egress: none, Privileged: true},
		"with NET_ADMIN":               {Egress: none, CapAdd: []string{"net_admin"}},
		"or ALL":                       {Egress: none, CapAdd: []string{"ALL"}},
		"packet socket":                {Egress: none, CapAdd: []string{"CAP_NET_RAW"}},
		"AF_VSOCK":                     {Egress: none, SecurityOpt: []string{"seccomp=unconfined"}},
		"--network host has another's": {Egress: none, Network: "host"},
		"in no network":                {Egress: []string{"example.org:443"}, Network: "none"},
		"no port":                      {Egress: []string{"example.org:x"}},
		"127.0.0.1 is the container":   {Egress: []string{"example.org:443"}, DNS: []string{"192.0.2.53", "127.0.0.1"}},
		"::1 is the container":         {Egress: []string{"example.org:443"}, DNS: []string{"::1"}},
		"::ffff:127.0.0.1 is":          {Egress: []string{"example.org:443"}, DNS: []string{"::ffff:127.0.0.1"}},
		"0.0.0.0 is the container":     {Egress: []string{"example.org:443"}, DNS: []string{"0.0.0.0"}},
	} {
		refused(t, e, with(c), 125, want)
	}
	want(t, e, with(Config{Egress: none, Network: "none"}), "")
	caps := with(Config{Egress: none, SecurityOpt: []string{"level=docker"}})
	caps.Command = []string{"grep", "^CapBnd", "/proc/self/status"}
	out, _, err := inside(t, e, caps)
	var set abi.CapSet
	if _, scan := fmt.Sscanf(out, "CapBnd: %x", &set); err != nil || scan != nil || set.Has(abi.CapNetRaw) || set.Has(abi.CapNetAdmin) || !set.Has(abi.CapMknod) {
		t.Errorf("with Docker's level, its capabilities are %s, %v", out, err)
	}

	limited := with(Config{Name: "limited", Egress: none})
	limited.Command = []string{"sleep", "1000"}
	detached(t, e, limited)
	free := with(Config{Name: "free"})
	free.Command = []string{"sleep", "1000"}
	detached(t, e, free)
	for want, c := range map[string]Config{
		"container:limited has --egress: a container with NET_ADMIN":             {Network: "container:limited", CapAdd: []string{"NET_ADMIN"}},
		"container:limited has --egress: with --security-opt seccomp=unconfined": {Network: "container:limited", SecurityOpt: []string{"seccomp=unconfined"}},
		"container:limited has --egress: a container with --priv":                {Network: "none", PID: "container:limited", Privileged: true},
		"it shares namespaces with container free":                               {Egress: none, PID: "container:free"},
	} {
		refused(t, e, with(c), 125, want)
	}
	if _, err := e.Exec(ctx, "limited", ExecConfig{Command: []string{"true"}, Privileged: true}, Streams{}); err == nil || !strings.Contains(err.Error(), "--egress") {
		t.Errorf("exec --privileged: %v", err)
	}
	if i, err := e.Inspect("limited"); err != nil || strings.Join(i.HostConfig.Egress, " ") != "none" {
		t.Errorf("%+v, %v", i.HostConfig.Egress, err)
	}
	if _, _, err := e.NetworkLog(ctx, "free"); err == nil || !strings.Contains(err.Error(), "has no --egress") {
		t.Errorf("the log of one without: %v", err)
	}
}

// TestEgressNobody: who allows a name that no container can have is warned.
func TestEgressNobody(t *testing.T) {
	front, bridge := []Attachment{{Network: "front"}}, "bridge"
	for want, list := range map[string][]Config{
		"--egress db:5432: a name without a dot is a container's": {{Network: bridge, Egress: []string{"db:5432,example.org:443"}}, {Network: bridge, Egress: []string{"static:80,db:5432"}, ExtraHosts: []string{"static:192.0.2.1"}}},
		"": {
			{Network: "front", Egress: []string{"db:5432"}}, {Network: bridge, Networks: front, Egress: []string{"db:5432"}}, {Network: bridge, Links: []string{"db"}, Egress: []string{"db:5432"}},
			{Network: bridge, Egress: []string{"example.org:443,192.0.2.1,:80"}}, {Network: bridge, Egress: []string{"none"}}, {Network: bridge}, {Network: "none", Egress: []string{"none"}},
		},
	} {
		for _, c := range list {
			var told []string
			e := &Engine{warn: func(text string) { told = append(told, text) }}
			if err := e.chooseNetwork(&c); err != nil {
				t.Error(err)
			}
			if got := strings.Join(told, "\n"); !strings.HasPrefix(got, want) || want == "" && got != "" || len(told) > 1 {
				t.Errorf("%+v: %q", c, got)
			}
		}
	}
}

// TestEgress has a container that may speak to one neighbour: at its start, connected to another network, with its monitor killed, and
// after a restart.
func TestEgress(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	ctx := t.Context()
	loopback(t)
	networks(t, e, NetworkConfig{Name: "web"}, NetworkConfig{Name: "other"})
	for name, network := range map[string]string{"db": "web", "neighbour": "web", "far": "other"} {
		detached(t, e, on(network, Config{Name: name, Hostname: name, Command: []string{"/greeter", ":80"}}))
	}
	limited := on("web", Config{Name: "limited", Hostname: "limited", Egress: []string{"db:80,static:80,absent:80"}, ExtraHosts: []string{"static:192.0.2.77"}, Publish: []PortSpec{{Port: 80}}, Command: []string{"/greeter", ":80"}})
	detached(t, e, limited)
	for _, name := range []string{"db", "neighbour", "far", "limited"} {
		ready(t, found(t, e, name))
	}
	addr := func(name, network string) string {
		i, err := e.Inspect(name)
		if err != nil {
			t.Fatal(err)
		}
		return i.NetworkSettings.Networks[network].IPAddress
	}
	neighbour := addr("neighbour", "web")
	told := func(addresses ...string) []string {
		t.Helper()
		var out bytes.Buffer
		if _, err := e.Exec(ctx, "limited", ExecConfig{Command: append([]string{"/greeted", patient.String()}, addresses...)}, Streams{Out: &out}); err != nil {
			t.Error(err)
		}
		return strings.Split(strings.TrimSpace(out.String()), "\n")
	}
	// holds asks for what is let through and what is not; the latter is refused at once.
	holds := func(when string) {
		t.Helper()
		lines := told("db:80", "neighbour:80", neighbour+":80", "far:80", addr("far", "other")+":80", "db:81", "absent:80")
		for i, want := range []string{"db to ", "no such host", "refused", "no such host", "refused", "refused", "no such host"} {
			if !strings.Contains(lines[i], want) {
				t.Errorf("%s it is told %q, want %q", when, lines[i], want)
			}
		}
		if text := ask(addr("limited", "web")+":80", patient); !strings.HasPrefix(text, "limited to ") {
			t.Errorf("%s who speaks to it is told %q", when, text)
		}
		ports, err := e.Port("limited")
		if err != nil || len(ports) == 0 {
			t.Fatalf("ports are %v, %v", ports, err)
		}
		if text := ask("127.0.0.1:"+ports[0].HostPort, patient); !strings.HasPrefix(text, "limited to ") {
			t.Errorf("%s who speaks to its published port is told %q", when, text)
		}
	}
	if n, err := monitor.ReadNetworks(found(t, e, "limited").dir); err != nil || n.Egress == nil || n.Egress.String() != "db:80 static:80 absent:80 192.0.2.77:80" {
		t.Errorf("with a name of /etc/hosts, it may reach %v, %v", n.Egress, err)
	}
	holds("at the start")
	refused := func() map[string]uint64 {
		list, _, err := e.NetworkLog(ctx, "limited")
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]uint64{}
		for _, r := range list {
			key := r.Kind + " " + r.Name
			if r.Allowed {
				key = "allowed " + r.Name
			}
			if r.Kind == "packet" {
				key = r.Proto + " " + net.JoinHostPort(r.Addr.String(), fmt.Sprint(r.Port))
			}
			all[key] += r.Count
		}
		return all
	}
	if all := refused(); all["allowed absent"] == 0 || all["name absent"] != 0 || all["allowed far"] != 0 || all["name neighbour"] == 0 || all["name far"] == 0 || all["tcp "+neighbour+":80"] != 1 || all["tcp "+addr("db", "web")+":81"] == 0 || all["tcp "+addr("db", "web")+":80"] != 0 {
		t.Errorf("refused: %v", all)
	}
	if err := e.NetworkConnect(ctx, "other", "limited", Attachment{}); err != nil {
		t.Fatal(err)
	}
	holds("on a second network")
	// One that joins its network namespace is held by the same rules, and what it is refused counts there.
	joined := on("container:limited", Config{Command: []string{"/greeted", patient.String(), "db:80", neighbour + ":80"}})
	if out, _, err := inside(t, e, joined); err != nil || !strings.HasPrefix(out, "db to ") || !strings.Contains(out, "refused") {
		t.Errorf("one that joins it is told %q, %v", out, err)
	}
	killMonitor(t, e, found(t, e, "limited"))
	if all := refused(); all["tcp "+neighbour+":80"] != 3 || all["name far"] == 0 {
		t.Errorf("when its monitor was killed, refused: %v", all)
	}
	if _, err := e.List(ListOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := e.Restart(ctx, "limited", StopOptions{}); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "it is ready again", func() bool { return strings.Count(logOf(t, found(t, e, "limited")), "ready") == 2 })
	holds("after a restart")
	if all := refused(); all["tcp "+neighbour+":80"] != 4 {
		t.Errorf("after a restart, refused: %v", all)
	}
}
