package engine

import (
	"slices"
	"testing"

	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/plan"
)

// Docker's order of a command's variables: what the container's own process has, -e, and HOME last, unless somebody set it.
func TestExecEnvOrder(t *testing.T) {
	box := []string{"PATH=/bin", "HOSTNAME=h", "A=1", "Z=2", "HOME=/root"}
	for _, x := range []struct {
		env, config []string
		x           ExecConfig
		home        string
		want        []string
	}{
		{box, []string{"A=1", "Z=2"}, ExecConfig{Env: []string{"M=1", "A=9", "B=2"}}, "", []string{"PATH=/bin", "HOSTNAME=h", "A=9", "Z=2", "M=1", "B=2", "HOME=/root"}},
		{box, []string{"A=1", "Z=2"}, ExecConfig{Env: []string{"M=1"}, TTY: true}, "/", []string{"PATH=/bin", "HOSTNAME=h", "TERM=xterm", "A=1", "Z=2", "M=1", "HOME=/"}},
		{box, []string{"A=1", "Z=2"}, ExecConfig{Env: []string{"HOME=/x", "M=1"}}, "/", []string{"PATH=/bin", "HOSTNAME=h", "A=1", "Z=2", "HOME=/x", "M=1"}},
		{box, []string{"A=1", "HOME=/root"}, ExecConfig{Env: []string{"M=1"}}, "/", append(slices.Clone(box), "M=1")},
		{[]string{"PATH=/bin", "TERM=xterm", "HOME=/root"}, nil, ExecConfig{}, "", []string{"PATH=/bin", "HOME=/root"}},
		{[]string{"PATH=/bin", "HOME=/root"}, nil, ExecConfig{TTY: true}, "", []string{"PATH=/bin", "TERM=xterm", "HOME=/root"}},
		{[]string{"PATH=/bin", "TERM=vt100", "HOME=/root"}, []string{"TERM=vt100"}, ExecConfig{TTY: true}, "", []string{"PATH=/bin", "TERM=vt100", "HOME=/root"}},
	} {
		before := slices.Clone(x.env)
		if got := execEnv(x.env, x.config, x.x, x.home); !slices.Equal(got, x.want) {
			t.Errorf("%+v: %q, want %q", x, got, x.want)
		}
		if !slices.Equal(x.env, before) {
			t.Errorf("it wrote into the container's own: %q", x.env)
		}
	}
}

// Docker's order of addresses: inspect has a port's by the machine's port, port by address.
func TestPortOrder(t *testing.T) {
	published := func(port, hostPort uint16, addr string) plan.Publish {
		return plan.Publish{Port: port, Proto: "tcp", HostPort: hostPort, HostAddr: netip.MustParseAddr(addr)}
	}
	list := []plan.Publish{
		published(81, 70, "0.0.0.0"), published(80, 8080, "0.0.0.0"), published(80, 8080, "::"), published(80, 6000, "10.0.0.1"), published(80, 33, "0.0.0.0"), published(80, 33, "::"),
	}
	want := []PortBinding{{"0.0.0.0", "33"}, {"::", "33"}, {"10.0.0.1", "6000"}, {"0.0.0.0", "8080"}, {"::", "8080"}}
	if got := bindings(list)["80/tcp"]; !slices.Equal(got, want) {
		t.Errorf("inspect: %v, want %v", got, want)
	}
	ports := []Port{
		{"80/tcp", PortBinding{"0.0.0.0", "33"}}, {"80/tcp", PortBinding{"0.0.0.0", "8080"}}, {"80/tcp", PortBinding{"10.0.0.1", "6000"}},
		{"80/tcp", PortBinding{"::", "33"}}, {"80/tcp", PortBinding{"::", "8080"}}, {"81/tcp", PortBinding{"0.0.0.0", "70"}},
	}
	if got := publishedPorts(list); !slices.Equal(got, ports) {
		t.Errorf("port: %v, want %v", got, ports)
	}
	if list[0].Port != 81 {
		t.Error("it sorted the container's own list")
	}
}
