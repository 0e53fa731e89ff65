package engine

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/network"
	"golang.org/x/sys/unix"
)

// unwatched has monitors leave flushed rules to the test.
func unwatched(t *testing.T, e *Engine) {
	t.Helper()
	fd, err := files.LockDir(e.dir+"/rules/bridges", unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
}

// watchers is how many sockets of this network namespace hear of changes to the ruleset.
func watchers(t *testing.T) (n int) {
	t.Helper()
	sockets, err := os.ReadFile("/proc/thread-self/net/netlink")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(sockets)) {
		if f := strings.Fields(line); f[1] == strconv.Itoa(unix.NETLINK_NETFILTER) && f[3] == fmt.Sprintf("%08x", 1<<(unix.NFNLGRP_NFTABLES-1)) {
			n++
		}
	}
	return n
}

// TestFlushedRulesComeBack: rules that somebody flushes while containers run are put back by a monitor, again and again, and by another one's when that has ended, without any command.
func TestFlushedRulesComeBack(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	ctx := t.Context()
	loopback(t)
	networks(t, e, NetworkConfig{Name: "web"})
	server := detached(t, e, on("web", Config{Name: "server", Hostname: "first", Command: []string{"/greeter", ":80"}, Publish: []PortSpec{{Port: 80}}}))
	second := detached(t, e, on("web", Config{Name: "second", Command: []string{"/greeter", ":80"}}))
	ready(t, server)
	ready(t, second)
	ports, err := e.Port("server")
	if err != nil || len(ports) == 0 {
		t.Fatalf("ports are %v, %v", ports, err)
	}
	back := func(when string) {
		t.Helper()
		for until := time.Now().Add(patient); ; time.Sleep(50 * time.Millisecond) {
			faults, err := monitor.Rules(e.dir).Check()
			if err == nil && len(faults) == 0 {
				break
			}
			if time.Now().After(until) {
				t.Fatalf("%s: %v, %v", when, faults, err)
			}
		}
		if text := ask("127.0.0.1:"+ports[0].HostPort, patient); !strings.HasPrefix(text, "first to ") {
			t.Errorf("%s: by the published port the host is told %q", when, text)
		}
	}
	for until := time.Now().Add(patient); watchers(t) < 2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("of two monitors %d watch", watchers(t))
		}
	}
	for range 2 {
		output(t, exec.Command("nft", "flush", "ruleset"))
		back("after a flush")
	}
	output(t, exec.Command("nft", "delete", "table", "inet", network.NftTable))
	back("after the table alone was deleted")
	output(t, exec.Command("sh", "-ec", "nft add table ip filter; nft add chain ip filter FORWARD '{ type filter hook forward priority 0; policy drop; }'; nft add chain ip filter DOCKER-USER; nft add rule ip filter FORWARD jump DOCKER-USER"))
	inDocker := func(when string) {
		t.Helper()
		back(when)
		if chain := output(t, exec.Command("nft", "list", "chain", "ip", "filter", "DOCKER-USER")); strings.Count(chain, "accept") != 2 {
			t.Errorf("%s: %s", when, chain)
		}
	}
	inDocker("with a dockerd that came later")
	output(t, exec.Command("nft", "flush", "chain", "ip", "filter", "DOCKER-USER"))
	inDocker("after its chain was flushed")
	if err := e.Remove(ctx, second.ID, RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	output(t, exec.Command("nft", "flush", "ruleset"))
	back("with one container less")
	if err := e.Remove(ctx, server.ID, RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
}
