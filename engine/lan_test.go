package engine

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
)

// lanMachine is another machine, at the other end of a pair of devices: it has an address on that network, one behind it, and greets who connects as "lan".
// It returns what somebody there is told by an address.
func lanMachine(t *testing.T, device, addr, behind string) (ask func(address string) string) {
	t.Helper()
	c := exec.Command("unshare", "--net", "--uts", "sh", "-ec", `hostname lan; echo made; read go; ip link set lo up
ip addr add "$2/32" dev lo; ip addr add "$1" dev "$3"; ip link set "$3" up; exec "$0" :80`, nstest.PartPath("greeter"), addr, behind, device)
	in, err := c.StdinPipe()
	out, oerr := c.StdoutPipe()
	if err = errors.Join(err, oerr); err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	said := bufio.NewReader(out)
	pid := strconv.Itoa(c.Process.Pid)
	if line, err := said.ReadString('\n'); line != "made\n" {
		t.Fatalf("%q, %v", line, err)
	}
	output(t, exec.Command("ip", "link", "set", device, "netns", pid))
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := said.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return func(address string) string {
		return output(t, exec.Command("nsenter", "--net", "-t", pid, nstest.PartPath("greeted"), patient.String(), address))
	}
}

// TestOnALAN: a container on a macvlan, or on an ipvlan of mode l2, is a neighbour of the machines at the other end of the device that it is made on: it reaches them, and by
// the one that is its gateway what is behind, and they reach it. Those of l3 and l3s are for networks that others have routes to. A kernel without
// such devices is the other tests' business.
func TestOnALAN(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	ctx := t.Context()
	for i, driver := range []string{"macvlan", "ipvlan"} {
		parent, subnet, behind := "wire"+strconv.Itoa(i), "10.8"+strconv.Itoa(i)+".0.", "192.0.2."+strconv.Itoa(i+1)
		output(t, exec.Command("ip", "link", "add", parent, "type", "veth", "peer", "name", parent+"x"))
		defer exec.Command("ip", "link", "del", parent).Run()
		output(t, exec.Command("ip", "link", "set", parent, "up"))
		fromLAN := lanMachine(t, parent+"x", subnet+"1/24", behind)
		if _, err := e.NetworkCreate(ctx, NetworkConfig{Name: driver, Driver: driver, Options: map[string]string{"parent": parent}, IPAM: IPAM{Config: []IPAMPool{{Subnet: subnet + "0/24"}}}}); err != nil {
			t.Fatal(err)
		}
		c, err := e.Create(ctx, on(driver, Config{Name: driver, Hostname: driver, Command: []string{"/greeter", ":80"}}))
		if err == nil {
			err = e.Start(ctx, c.ID, StartOptions{})
		}
		if _, loaded := os.Stat("/sys/module/" + driver); err != nil && (loaded == nil || !strings.Contains(err.Error(), "the kernel knows no "+driver)) {
			t.Error(err)
		}
		if err == nil {
			server := found(t, e, driver)
			ready(t, server)
			for _, line := range says(t, e, driver, patient, subnet+"1:80", behind+":80") {
				if !strings.HasPrefix(line, "lan to "+subnet) {
					t.Errorf("%s: its neighbour, and who is behind that, tell %q", driver, line)
				}
			}
			if text := fromLAN(server.Connections[0].Addrs[0].Addr().String() + ":80"); !strings.HasPrefix(text, driver+" to "+subnet+"1:") {
				t.Errorf("%s: a neighbour is told %q", driver, text)
			}
		}
		if err := errors.Join(e.Remove(ctx, driver, RemoveOptions{Force: true}), e.NetworkRemove(ctx, driver, false)); err != nil {
			t.Error(err)
		}
	}
}
