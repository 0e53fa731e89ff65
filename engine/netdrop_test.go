package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"os/exec"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// TestRulesGoBeforeTheName: when the kernel tells that a network's bridge has gone, and its name is anybody's, the table knows it no more.
func TestRulesGoBeforeTheName(t *testing.T) {
	nstest.Root(t)
	nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}, func(t *testing.T) {
		run := t.TempDir()
		b := plan.Bridge{Device: "kbdrop", Network: "drop", Alias: network.BridgeAlias("drop", "1"), Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.9.1/24")}}
		d := &network.Doer{Rules: monitor.Rules(run)}
		defer d.Close()
		if _, err := d.Do(context.Background(), &plan.MakeBridge{Bridge: b}, 0); err != nil {
			t.Fatal(err)
		}
		if err := monitor.Rules(run).AddBridge(b); err != nil {
			t.Fatal(err)
		}
		knows := func() bool {
			all, _ := exec.Command("nft", "list", "tables").Output()
			return bytes.Contains(all, []byte(network.NftTable))
		}
		if !knows() {
			t.Fatal("there is no table")
		}
		told, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(told)
		if err := unix.Bind(told, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			ended <- (&netJob{Op: jobDrop, Run: run, Device: b.Device, Alias: b.Alias}).run(context.Background())
		}()
		buf := make([]byte, 1<<16)
		for gone := false; !gone; {
			n, err := unix.Read(told, buf)
			if err != nil {
				t.Fatal(err)
			}
			gone = n >= unix.SizeofNlMsghdr && binary.NativeEndian.Uint16(buf[4:]) == unix.RTM_DELLINK
		}
		if knows() {
			t.Error("the name is free, and the table is there")
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
