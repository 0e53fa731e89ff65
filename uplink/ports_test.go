package uplink

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/plan"
)

// TestRecords: what is written of ports is read again, and what others wrote is not taken for ports.
func TestRecords(t *testing.T) {
	run := t.TempDir()
	if err := MakeDir(run); err != nil {
		t.Fatal(err)
	}
	want := []plan.Publish{
		{Proto: "tcp", HostAddr: netip.MustParseAddr("0.0.0.0"), HostPort: 8080, Addr: netip.MustParseAddr("172.17.0.2"), Port: 80, Bridge: "kakuri0"},
		{Proto: "udp", HostAddr: netip.MustParseAddr("::1"), HostPort: 65535, Addr: netip.MustParseAddr("fd17::2"), Port: 1},
	}
	if err := WritePorts(run, "c1", want); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadPorts(run, "c1"); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	// A file that was begun is nobody's.
	if err := os.WriteFile(filepath.Join(run, portsDir, ".new-1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if owners, err := Owners(run); err != nil || !slices.Equal(owners, []string{"c1"}) {
		t.Errorf("owners %q, %v", owners, err)
	}
	for _, line := range []string{"x", "tcp 0.0.0.0 8080 172.17.0.2 80", "gre 0.0.0.0 1 172.17.0.2 80 rule b", "tcp 0.0.0.0 65536 172.17.0.2 80 rule b", "tcp 0.0.0 80 172.17.0.2 80 rule b",
		"tcp 0.0.0.0 -1 172.17.0.2 80 rule b", "tcp 0.0.0.0 80 172.17.0.2 80 b", "tcp 0.0.0.0 80 172.17.0.2 80 other b"} {
		if err := os.WriteFile(filepath.Join(run, portsDir, "c2"), []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := ReadPorts(run, "c2"); err == nil {
			t.Errorf("%q is port %v", line, p)
		}
	}
	if err := os.Remove(filepath.Join(run, portsDir, "c2")); err != nil {
		t.Fatal(err)
	}
	for _, owner := range []string{"", ".", "..", "../c1", "a/b", "a b", "a\n", strings.Repeat("a", 200)} {
		if checkOwner(owner) == nil {
			t.Errorf("%q is an owner", owner)
		}
		if err := Unpublish(run, owner, nil); err == nil {
			t.Errorf("%q: its ports are given back", owner)
		}
	}
	// Without an uplink the record goes.
	if err := Unpublish(run, "c1", nil); err != nil {
		t.Fatal(err)
	}
	if owners, err := Owners(run); err != nil || len(owners) > 0 {
		t.Errorf("owners %q, %v", owners, err)
	}
	if err := os.Chmod(run, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := MakeDir(run); err == nil || !strings.Contains(err.Error(), "others may write") {
		t.Errorf("a directory of everyone's: %v", err)
	}
}
