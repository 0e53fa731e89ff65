package network

import (
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/dbus"
	"github.com/kakuri/kakuri/internal/dbus/fakebus"
)

// A fakeFirewalld is a bus with a firewalld on it, as far as zones of interfaces go.
type fakeFirewalld struct {
	mu      sync.Mutex
	away    bool
	silent  bool              // it goes away without an answer
	zones   map[string]string // by device
	slow    time.Duration     // from what it does to its answer
	calls   []string
	refuse  string // everything, with this answer
	refuses string // only this, where it is not empty
}

// serveFirewalld has it on the system bus.
func serveFirewalld(t *testing.T) *fakeFirewalld {
	f := &fakeFirewalld{zones: map[string]string{}}
	fakebus.Serve(t, func(m *dbus.Message) (any, error) {
		body, err := f.answer(m)
		if m.Interface == "org.fedoraproject.FirewallD1.zone" {
			f.mu.Lock()
			slow := f.slow
			f.mu.Unlock()
			time.Sleep(slow)
		}
		return body, err
	})
	return f
}

func (f *fakeFirewalld) answer(m *dbus.Message) (any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	args := make([]string, len(m.Body))
	for i := range m.Body {
		args[i], _ = m.Body[i].(string)
	}
	switch m.Interface + " " + m.Member {
	case "org.freedesktop.DBus Hello":
		return ":1.1", nil
	case "org.freedesktop.DBus NameHasOwner":
		if f.silent {
			f.calls = append(f.calls, m.Member)
			return nil, io.EOF
		}
		return !f.away && args[0] == "org.fedoraproject.FirewallD1", nil
	}
	f.calls = append(f.calls, m.Member+" "+strings.Join(args, " "))
	switch {
	case f.refuse != "" && (f.refuses == "" || f.refuses == m.Member):
		return nil, errors.New(f.refuse)
	case m.Path != "/org/fedoraproject/FirewallD1" || m.Interface != "org.fedoraproject.FirewallD1.zone":
	case m.Member == "getZoneOfInterface":
		return f.zones[args[0]], nil
	case m.Member == "addInterface":
		f.zones[args[1]] = args[0]
		return args[0], nil
	case m.Member == "removeInterface":
		delete(f.zones, args[1])
		return args[0], nil
	}
	return nil, errors.New("INVALID_COMMAND")
}

// asked gives the calls since it was asked last.
func (f *fakeFirewalld) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.calls = nil }()
	return f.calls
}

// TestFirewalld: a bridge goes into a zone where firewalld is at work, once for the rules that it has, and is taken out with its network.
func TestFirewalld(t *testing.T) {
	onStage(t, false, func(s *stage) {
		f := serveFirewalld(t)
		calls := func(want ...string) {
			t.Helper()
			if got := f.asked(); !slices.Equal(got, want) {
				t.Errorf("firewalld was asked %q, not %q", got, want)
			}
		}
		s.bridges(bridgeA)
		calls() // it is not there
		const load = "nft 'add table inet firewalld'"
		s.shell(load)
		s.bridges(bridgeA)
		calls("getZoneOfInterface kba", "addInterface trusted kba")
		s.bridges(bridgeA)
		calls()
		// A reload brings other rules, and may keep interfaces in their zones; a restart does not.
		s.shell("nft delete table inet firewalld; " + load)
		s.bridges(bridgeA)
		calls("getZoneOfInterface kba")
		f.zones = map[string]string{}
		s.shell("nft delete table inet firewalld; " + load)
		if faults, err := s.rules.Check(); err != nil || len(faults) != 1 || !strings.Contains(faults[0], "firewalld was loaded anew, and not told of bridge kba") {
			t.Errorf("%q %v", faults, err)
		}
		if done, err := s.rules.Repair(); !done || err != nil {
			t.Errorf("%v %v", done, err)
		}
		calls("getZoneOfInterface kba", "addInterface trusted kba")
		if faults, err := s.rules.Check(); err != nil || len(faults) != 0 {
			t.Errorf("%q %v", faults, err)
		}
		// The next command of whatever kind mends that, too, and a table that was flushed; it looks, and does nothing, where all is well.
		heal := func(want bool) {
			t.Helper()
			if done, err := s.rules.Heal(); done != want || err != nil {
				t.Errorf("healed: %v, want %v; %v", done, want, err)
			}
		}
		heal(false)
		f.zones = map[string]string{}
		s.shell("nft delete table inet firewalld; " + load)
		heal(true)
		calls("getZoneOfInterface kba", "addInterface trusted kba")
		s.shell("nft delete table inet kakuri")
		heal(true)
		heal(false)
		calls()
		if faults, err := s.rules.Check(); err != nil || len(faults) != 0 {
			t.Errorf("%q %v", faults, err)
		}
		// What the administrator decided is left alone, at the end as well.
		f.zones["kbb"] = "dmz"
		s.bridges(bridgeB)
		calls("getZoneOfInterface kbb")
		if err := errors.Join(s.rules.RemoveBridge("kbb", ""), s.rules.RemoveBridge("kba", "")); err != nil {
			t.Error(err)
		}
		calls("removeInterface trusted kba")
		if len(f.zones) != 1 {
			t.Errorf("left: %v", f.zones)
		}
		// An error is told with the way out; rules that a firewalld which ended has left are none.
		f.refuse = "COMMAND_FAILED: python has no time"
		err := s.rules.AddBridge(bridgeA)
		for _, word := range []string{"kba", "python has no time", "firewall-cmd --zone=trusted --add-interface=kba"} {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%v, which has not %q", err, word)
			}
		}
		f.asked()
		f.refuse, f.away = "", true
		s.bridges(bridgeA)
		calls()
		s.shell("nft delete table inet firewalld; iptables-nft -N FORWARD_direct")
		s.bridges(bridgeA)
		if faults, err := s.rules.Check(); err != nil || len(faults) != 0 {
			t.Errorf("%q %v", faults, err)
		}
		if rules, _ := s.rules.zoned("kba"); !strings.HasPrefix(rules, "iptables ") {
			t.Errorf("with firewalld's older backend: %q", rules)
		}
	})
}

// TestSilentFirewalld: a firewalld that does not answer about one bridge is not asked about each of the others, and no command waits for it as long as the start of a container does.
func TestSilentFirewalld(t *testing.T) {
	onStage(t, false, func(s *stage) {
		f := serveFirewalld(t)
		s.bridges(bridgeA, bridgeB)
		s.shell("nft 'add table inet firewalld'")
		f.silent = true
		begin := time.Now()
		if done, err := s.rules.Heal(); done || err == nil || !strings.Contains(err.Error(), "firewalld") {
			t.Errorf("healed: %v, %v", done, err)
		}
		if calls := f.asked(); len(calls) != 1 {
			t.Errorf("it was asked %q", calls)
		}
		if took := time.Since(begin); took > firewalldPatience/2 {
			t.Errorf("it was waited for for %s", took)
		}
	})
}

// TestSlowFirewalld: all bridges together take no longer than one, and what firewalld did when nobody waited for its answer any more is undone with the network.
func TestSlowFirewalld(t *testing.T) {
	onStage(t, false, func(s *stage) {
		f := serveFirewalld(t)
		set := func(slow time.Duration) {
			f.mu.Lock()
			f.slow = slow
			f.mu.Unlock()
		}
		s.bridges(bridgeA, bridgeB)
		s.shell("nft 'add table inet firewalld'")
		set(healPatience * 3 / 4)
		begin := time.Now()
		if done, err := s.rules.Heal(); done || err == nil {
			t.Errorf("healed: %v, %v", done, err)
		}
		if took := time.Since(begin); took > healPatience*2 {
			t.Errorf("it was waited for for %s", took)
		}
		if calls := f.asked(); !slices.Equal(calls, []string{"getZoneOfInterface kba", "addInterface trusted kba"}) {
			t.Errorf("it was asked %q", calls)
		}
		set(0)
		if done, err := s.rules.Heal(); !done || err != nil {
			t.Errorf("healed: %v, %v", done, err)
		}
		if err := errors.Join(s.rules.RemoveBridge("kba", ""), s.rules.RemoveBridge("kbb", "")); err != nil {
			t.Error(err)
		}
		if len(f.zones) != 0 {
			t.Errorf("left: %v", f.zones)
		}
		// What it refuses leaves nothing to undo.
		f.refuse, f.refuses = "NOT_AUTHORIZED", "addInterface"
		if err := s.rules.AddBridge(bridgeA); err == nil || !strings.Contains(err.Error(), f.refuse) {
			t.Error(err)
		}
		f.asked()
		if err := s.rules.RemoveBridge("kba", ""); err != nil {
			t.Error(err)
		}
		if calls := f.asked(); len(calls) != 0 {
			t.Errorf("it was asked %q", calls)
		}
	})
}
