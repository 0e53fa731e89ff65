package engine

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// A container takes a network namespace that has a name, by its path, and leaves it as it was.
func TestNetworkByPath(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	loopback(t)
	holder := exec.Command("unshare", "--net", "sh", "-c", "ip link set lo up; ip link add marked type bridge; echo ready; exec sleep 1000")
	out, err := holder.StdoutPipe()
	if err == nil {
		err = holder.Start()
	}
	if err == nil {
		_, err = out.Read(make([]byte, 5))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Wait()
	defer holder.Process.Kill()
	path := nstest.Dir(t) + "/ns"
	if err := errors.Join(os.WriteFile(path, nil, 0o600), unix.Mount("/proc/"+strconv.Itoa(holder.Process.Pid)+"/ns/net", path, "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(path, unix.MNT_DETACH)
	want, err := os.Readlink("/proc/" + strconv.Itoa(holder.Process.Pid) + "/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	// In a user namespace of its own, which gives no right to that network, too, and so who joins both.
	for _, user := range []string{"host", "", "container:shown"} {
		c := Config{Image: "host", Network: "ns:" + path, UserNS: user, Command: []string{"sh", "-c", "ip -br link; ls /sys/class/net; readlink /proc/self/ns/net"}}
		if user == "container:shown" {
			detached(t, e, Config{Image: "host", Name: "shown", Network: c.Network, Command: []string{"sleep", "1000"}})
			c.Network = user
		}
		text, code, err := inside(t, e, c)
		if err != nil || code != 0 || strings.Count(text, "marked") != 2 || !strings.HasSuffix(text, want+"\n") {
			t.Errorf("--userns %q: %v, code %d: %s, want %s", user, err, code, text, want)
		}
	}
	refused(t, e, Config{Image: "host", Network: "ns:" + path + "none", UserNS: "host", Command: []string{"true"}}, 125, path+"none")
	refused(t, e, Config{Image: "host", Network: "ns:/proc/self/ns/pid", UserNS: "host", Command: []string{"true"}}, 125, "/proc/self/ns/pid")
}

// TestJoinedWithOwnIDs: a container with ids of its own joins namespaces of one that has others.
func TestJoinedWithOwnIDs(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	facts, err := host.Read(host.Needs{ProcPIDNS: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"", "host"} {
		other := detached(t, e, Config{Image: "host", Network: "none", IPC: "shareable", UserNS: user, Command: []string{"sh", "-c", "echo text >/dev/shm/file; chmod 644 /dev/shm/file; exec sleep 1000"}})
		nstest.Until(t, "its file", func() bool {
			_, err := os.Stat(fmt.Sprintf("/proc/%d/root/dev/shm/file", other.PID))
			return err == nil
		})
		mode := "container:" + other.ID
		configs := map[string]Config{"net": {Network: mode}, "ipc": {Network: "none", IPC: mode}, "uts": {Network: "none", UTS: mode}}
		if facts.ProcPIDNS {
			configs["pid"] = Config{Network: "none", PID: mode}
		}
		for ns, c := range configs {
			want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", other.PID, ns))
			if err != nil {
				t.Fatal(err)
			}
			c.Image, c.UserNS = "host", "auto"
			c.Command = []string{"sh", "-c", "readlink /proc/self/ns/" + ns + " /proc/self/ns/user; ls /sys/class/net; cat /dev/shm/file 2>/dev/null"}
			text, _, err := inside(t, e, c)
			lines := strings.Split(text, "\n")
			if users, linkErr := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", other.PID)); err != nil || linkErr != nil || len(lines) < 3 || lines[0] != want || lines[1] == users || lines[2] != "lo" {
				t.Errorf("--userns %q of the other, %s: %v %v: %s", user, ns, err, linkErr, text)
			}
			if strings.Contains(text, "\ntext\n") != (ns == "ipc") {
				t.Errorf("%s: its shared memory: %s", ns, text)
			}
		}
	}
}

// TestLinksOnce: a link that is said of the container and of its network, as the command line does, is one.
func TestLinksOnce(t *testing.T) {
	c := Container{Record: Record{Config: Config{Network: "bridge", Networks: []Attachment{{Network: "bridge", Links: []string{"a:b"}}}, Links: []string{"a:b", "c"}}}}
	for range 2 {
		list := c.Config.attachments()
		if len(list) != 1 || !slices.Equal(list[0].Links, []string{"a:b", "c"}) {
			t.Errorf("%+v", list)
		}
		c.connectTo(list) // as after a connect
	}
}

// Links of the default network and of one that somebody made, a link-local address, and parameters of one endpoint's device.
func TestLinksAndEndpoints(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := bridged(t)
	ctx := t.Context()
	loopback(t)
	networks(t, e, NetworkConfig{Name: "made"})
	for _, network := range []string{"", "made"} {
		name := "server" + network
		c := detached(t, e, on(network, Config{Name: name, Hostname: name, Command: []string{"/greeter", ":80"}}))
		defer e.Remove(ctx, c.ID, RemoveOptions{Force: true})
		ready(t, c)
		for _, to := range []string{"db:80", name + ":80"} {
			text, code, err := inside(t, e, on(network, Config{AutoRemove: true, Links: []string{name + ":db"}, Command: []string{"/greeted", patient.String(), to}}))
			if err != nil || code != 0 || !strings.HasPrefix(text, name+" to ") {
				t.Errorf("network %q, by the link %s: %v, code %d: %s", network, to, err, code, text)
			}
		}
	}
	// On the default network the environment tells of a link, too; what the caller sets counts.
	known := detached(t, e, Config{Image: "host", Name: "known", Env: []string{"SECRET=s"}, Expose: []string{"5432"}, Command: []string{"sleep", "999"}})
	defer e.Remove(ctx, known.ID, RemoveOptions{Force: true})
	at := known.Connections[0].Addrs[0].Addr().String()
	said, code, err := inside(t, e, Config{Image: "host", Name: "asks", AutoRemove: true, Links: []string{"known:db"}, Env: []string{"DB_PORT_5432_TCP_PROTO=mine"}, Command: []string{"sh", "-c", "echo $DB_NAME $DB_PORT $DB_PORT_5432_TCP_PORT $DB_ENV_SECRET $DB_PORT_5432_TCP_PROTO"}})
	if want := "/asks/db tcp://" + at + ":5432 5432 s mine\n"; err != nil || code != 0 || said != want {
		t.Errorf("%v, code %d: %q, want %q", err, code, said, want)
	}
	refused(t, e, on("", Config{Links: []string{"nobody:db"}, Command: []string{"true"}}), 125, "nobody")
	// Who runs on another network alone is not said to have ended.
	refused(t, e, on("", Config{Links: []string{"servermade:db"}, Command: []string{"true"}}), 125, "cannot link to /servermade, as it does not belong to the default network")

	// Who lists containers sees the names that links give; a link can be taken away alone.
	later, err := e.Create(ctx, Config{Image: "host", Name: "later", Links: []string{"server:db", "server"}, Command: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Remove(ctx, later.ID, RemoveOptions{Force: true})
	namesOf := func(name string) []string {
		list, err := e.Summaries(ctx, SummaryOptions{All: true, Filters: Filters{"name": {"^" + name + "$"}}})
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return list[0].Names
	}
	if got, want := namesOf("server"), []string{"/server", "/later/db", "/later/server"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if err := e.Start(ctx, "later", StartOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"later/nobody", "nobody/db", "server"} {
		if err := e.Remove(ctx, bad, RemoveOptions{Link: true}); err == nil {
			t.Errorf("a link %s was removed", bad)
		}
	}
	if err := e.Remove(ctx, "/later/db", RemoveOptions{Link: true}); err != nil {
		t.Error(err)
	}
	if got, want := namesOf("server"), []string{"/server", "/later/server"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}

	// A link to one that has another's network leads there; a container with that network has its host name, too.
	joined := detached(t, e, Config{Image: "host", Name: "joined", Network: "container:server", Command: []string{"sleep", "999"}})
	defer e.Remove(ctx, joined.ID, RemoveOptions{Force: true})
	text, code, err := inside(t, e, Config{Image: "host", AutoRemove: true, Links: []string{"joined:db"}, Command: []string{"cat", "/etc/hosts"}})
	if server, ferr := e.Find("server"); ferr != nil || err != nil || code != 0 || !strings.Contains(text, server.Connections[0].Addrs[0].Addr().String()+"\tdb "+files.ShortID(server.ID)+" server\n") {
		t.Errorf("%v, code %d, %v: %s", err, code, ferr, text)
	}
	text, code, err = inside(t, e, Config{Image: "host", AutoRemove: true, Network: "container:joined", Command: []string{"sh", "-c", "hostname; echo $HOSTNAME"}})
	if err != nil || code != 0 || text != "server\nserver\n" {
		t.Errorf("%v, code %d: %s", err, code, text)
	}
	if x, err := e.Inspect("joined"); err != nil || x.Config.Hostname != "server" {
		t.Errorf("%v: %+v", err, x.Config)
	}
	// With the host's network, too, it is entered by others.
	host := detached(t, e, Config{Image: "host", Network: "host", Command: []string{"sleep", "999"}})
	defer e.Remove(ctx, host.ID, RemoveOptions{Force: true})
	refused(t, e, Config{Image: "host", Links: []string{host.ID + ":x"}, Command: []string{"true"}}, 125, "host type networking can't be used with links")
	want, err := os.Readlink("/proc/self/ns/net")
	text, code, rerr := inside(t, e, Config{Image: "host", AutoRemove: true, Network: "container:" + host.ID, Command: []string{"readlink", "/proc/self/ns/net"}})
	if err != nil || rerr != nil || code != 0 || text != want+"\n" {
		t.Errorf("%v, %v, code %d: %s, want %s", err, rerr, code, text, want)
	}

	// One that is started again has another address: who knows it by a link learns it.
	client := detached(t, e, Config{Image: "host", Links: []string{"server:db", "server", "server:db"}, ExtraHosts: []string{"db.other:192.0.2.1"}, Command: []string{"sleep", "999"}})
	defer e.Remove(ctx, client.ID, RemoveOptions{Force: true})
	for range 2 {
		if err := e.Restart(ctx, "server", StopOptions{}); err != nil {
			t.Fatal(err)
		}
		server, err := e.Find("server")
		hosts, rerr := os.ReadFile(client.dir + "/hosts")
		if err != nil || rerr != nil {
			t.Fatal(err, rerr)
		}
		lines := 0
		for _, p := range server.Connections[0].Addrs {
			at := p.Addr().String() + "\t"
			lines += 2
			if !strings.Contains(string(hosts), at+"db "+files.ShortID(server.ID)+" server\n") || !strings.Contains(string(hosts), at+"server "+files.ShortID(server.ID)+"\n") {
				t.Errorf("%s is not that of the links:\n%s", at, hosts)
			}
		}
		if got := strings.Count(string(hosts), files.ShortID(server.ID)); got != lines || !strings.Contains(string(hosts), "192.0.2.1\tdb.other\n") {
			t.Errorf("%d lines of %d:\n%s", got, lines, hosts)
		}
	}

	text, code, err = inside(t, e, Config{Image: "host", Network: "made", Command: []string{"sh", "-c", "ip -br addr show dev lan; cat /proc/sys/net/ipv4/conf/lan/log_martians"},
		Networks: []Attachment{{Network: "made", Device: "lan", LinkLocal: []string{"169.254.9.9", "fe80::9"}, Options: map[string]string{optSysctls: "net.ipv4.conf.IFNAME.log_martians=1"}}}})
	if err != nil || code != 0 || !strings.Contains(text, "169.254.9.9/16") || !strings.Contains(text, "fe80::9/64") || !strings.HasSuffix(text, "\n1\n") {
		t.Errorf("%v, code %d: %s", err, code, text)
	}
	refused(t, e, Config{Image: "host", Network: "made", Command: []string{"true"}, Networks: []Attachment{{Network: "made", Options: map[string]string{optSysctls: "net.ipv4.conf.IFNAME.none=1"}}}}, 125, "net/ipv4/conf/eth0/none")
	refused(t, e, Config{Image: "host", Network: "made", Command: []string{"true"}, Networks: []Attachment{{Network: "made", Options: map[string]string{optSysctls: "kernel.panic=1"}}}}, 125, "kernel.panic=1")
}

// The subnet of a network is seen to be taken from its making on, by the bridge; and one that another engine took while the bridge was away is not used by both.
func TestSubnetIsSeen(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	ctx := t.Context()
	loopback(t)
	n, err := e.NetworkCreate(ctx, NetworkConfig{Name: "made"})
	if err != nil {
		t.Fatal(err)
	}
	gateway := n.IPAM.Config[0].Gateway + "/" + strings.Split(n.IPAM.Config[0].Subnet, "/")[1]
	bridge := "bk-" + n.ID[:12]
	if out, err := exec.Command("ip", "-br", "addr", "show", "dev", bridge).CombinedOutput(); err != nil || !strings.Contains(string(out), gateway) {
		t.Fatalf("%v: %s, want %s", err, out, gateway)
	}
	// Rules that somebody flushed are there again after whatever command.
	if text, code, err := inside(t, e, on("made", Config{AutoRemove: true, Command: []string{"true"}})); err != nil || code != 0 {
		t.Fatalf("%v, code %d: %s", err, code, text)
	}
	if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := e.List(ListOptions{}); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("nft", "list", "table", "inet", "kakuri").CombinedOutput(); err != nil || !strings.Contains(string(out), bridge) {
		t.Errorf("after the next command: %v: %s", err, out)
	}
	if out, err := exec.Command("sh", "-ec", "ip link del "+bridge+"; ip link add theirs type bridge; ip addr add "+gateway+" dev theirs").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer exec.Command("ip", "link", "del", "theirs").Run()
	refused(t, e, on("made", Config{AutoRemove: true, Command: []string{"true"}}), 125, "device theirs of the host has the address "+gateway)
	if err := exec.Command("ip", "link", "show", bridge).Run(); err == nil {
		t.Errorf("bridge %s is left", bridge)
	}
	if err := e.NetworkRemove(ctx, "made", false); err != nil {
		t.Error(err)
	}
}

// Containers on a macvlan and on an ipvlan, of each mode, reach each other, by the machine's device that it is made on, by a VLAN of it, and by one that is made for that. A kernel
// without them says which module it has not.
func TestMacvlanAndIPvlan(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	ctx := t.Context()
	for i, c := range []struct{ driver, mode, on string }{
		{"macvlan", "bridge", ""}, {"ipvlan", "l2", ""}, {"ipvlan", "l3", ""}, {"ipvlan", "l3s", ""}, {"macvlan", "bridge", "dummy"}, {"ipvlan", "l2", "dummy"}, {"macvlan", "bridge", "vlan"},
	} {
		driver, name, parent := c.driver, c.driver+c.mode+c.on, "lan"+strconv.Itoa(i)
		if out, err := exec.Command("sh", "-ec", "ip link add "+parent+" type veth peer name "+parent+"x; ip link set "+parent+" up; ip link set "+parent+"x up").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		defer exec.Command("ip", "link", "del", parent).Run()
		options := map[string]string{"parent": parent, driver + "_mode": c.mode}
		switch c.on {
		case "dummy":
			delete(options, "parent")
		case "vlan":
			options["parent"] += ".50"
		}
		n, err := e.NetworkCreate(ctx, NetworkConfig{Name: name, Driver: driver, Options: options, IPAM: IPAM{Config: []IPAMPool{{Subnet: "10.7" + strconv.Itoa(i) + ".0.0/24"}}}})
		if err != nil {
			if _, there := e.NetworkInspect(name); c.on == "" || !strings.Contains(err.Error(), "the kernel knows no "+c.on) || there == nil {
				t.Fatal(err)
			}
			t.Log(err)
			continue
		}
		device := cmp.Or(options["parent"], map[string]string{"macvlan": "dm-", "ipvlan": "di-"}[driver]+n.ID[:12])
		if _, err := net.InterfaceByName(device); err != nil {
			t.Errorf("device %s: %v", device, err)
		}
		made, err := e.Create(ctx, on(name, Config{Name: name, Hostname: name, Command: []string{"/greeter", ":80"}}))
		if err == nil {
			err = e.Start(ctx, made.ID, StartOptions{})
		}
		_, loaded := os.Stat("/sys/module/" + driver)
		switch {
		case err == nil:
			server := found(t, e, name)
			ready(t, server)
			i, err := e.Inspect(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range says(t, e, name, patient, i.NetworkSettings.Networks[name].IPAddress+":80", name+":80") {
				if !strings.HasPrefix(line, name+" to ") {
					t.Errorf("a neighbour on the %s is told %q", name, line)
				}
			}
			text, code, err := inside(t, e, Config{Image: "host", Network: name, AutoRemove: true, Command: []string{"ip", "-d", "link", "show", "dev", "eth0"}})
			if err != nil || code != 0 || !strings.Contains(text, driver+" ") || !strings.Contains(text, " mode "+c.mode+" ") {
				t.Errorf("%v, code %d: %s", err, code, text)
			}
			t.Logf("%s is there", name)
		case loaded == nil || !strings.Contains(err.Error(), "the kernel knows no "+driver) || !strings.Contains(err.Error(), "modprobe "+driver):
			t.Error(err)
		default:
			t.Log(err)
		}
		if err := errors.Join(e.Remove(ctx, name, RemoveOptions{Force: true}), e.NetworkRemove(ctx, name, false)); err != nil {
			t.Error(err)
		}
		if _, err := net.InterfaceByName(device); (err == nil) != (c.on == "") {
			t.Errorf("device %s after the network: %v", device, err)
		}
	}
}
