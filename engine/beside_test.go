package engine

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/network/netdb"
	"golang.org/x/sys/unix"
)

// TestSweepBesideFinish: a container that is there as a whole when a sweep comes to it is not taken away, though it was being made when the sweep saw it.
func TestSweepBesideFinish(t *testing.T) {
	e := open(t)
	c := made(t, e, Config{Name: "finished", Rootfs: nstest.RootFS(t)})
	done := make(chan error)
	begun := make(chan bool)
	go func() {
		close(begun)
		for range 2000 {
			if err := e.sweepCreating(); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	<-begun
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			if err := e.Remove(t.Context(), "finished", RemoveOptions{}); err != nil {
				t.Error(err)
			}
			empty(t, e)
			return
		default:
		}
		lock, err := lockDir(c.dir, unix.LOCK_EX)
		if err != nil {
			t.Fatal(<-done, err)
		}
		if err := errors.Join(os.Symlink(c.dir, e.creating()+"/"+c.ID), e.finished(&c)); err != nil {
			t.Error(err)
		}
		lock.Close()
	}
}

// TestBegun: whoever starts a container has its lock until its monitor has a place, and in no moment between is it one that nobody starts. One that nobody does is kept
// from that, and asked about twice.
func TestBegun(t *testing.T) {
	e := open(t)
	c := made(t, e, Config{Name: "begun", Rootfs: nstest.RootFS(t)})
	place := monitor.Place(e.dir, c.ID)
	is, done := e.begun()
	// Where nobody can know, as without descriptors, it may have begun.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Max: limit.Max})
	unknown := is(c.ID)
	if err := errors.Join(err, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)); err != nil || !unknown {
		t.Errorf("without descriptors it has not begun, %v", err)
	}
	for range 2 {
		if is(c.ID) {
			t.Error("it has begun")
		}
	}
	if _, err := lockDir(c.dir, unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("another one may start it: %v", err)
	}
	done()
	for range 100 {
		lock, err := lockDir(c.dir, unix.LOCK_EX)
		if err != nil {
			t.Fatal(err)
		}
		started := make(chan error, 1)
		go func() {
			err := os.MkdirAll(place, 0o700)
			started <- errors.Join(err, lock.Close())
		}()
		for len(started) == 0 {
			if !e.begunOrLocked(c.ID) {
				t.Error("somebody starts it, and it is taken for one that does not run")
			}
			runtime.Gosched()
		}
		if err := errors.Join(<-started, os.Remove(place)); err != nil || t.Failed() {
			t.Fatal(err)
		}
	}
}

// foundNothing has a test fail for what a check has found.
func foundNothing(t *testing.T, k *check, when string) {
	t.Helper()
	for _, f := range k.found {
		t.Errorf("%s: %+v", when, f)
	}
	k.found = nil
}

// TestLooksBesideEnd: a container with --rm that its monitor takes away, first its name, then its directory, is the monitor's business in any moment of that, unless there is no end of it.
func TestLooksBesideEnd(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	c := made(t, e, Config{Name: "goes", Rootfs: nstest.RootFS(t), AutoRemove: true})
	k := &check{e: e, repair: true}
	place := monitor.Place(e.dir, c.ID)
	if err := errors.Join(os.MkdirAll(place, 0o700), os.Remove(e.names()+"/goes")); err != nil {
		t.Fatal(err)
	}
	attended, err := lockDir(place, unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	defer attended.Close()
	k.directory(c.dir, c.ID)
	foundNothing(t, k, "its name is gone")
	if err := os.Remove(c.dir + "/container.json"); err != nil {
		t.Fatal(err)
	}
	k.directory(c.dir, c.ID)
	foundNothing(t, k, "its record is gone")
	if _, err := e.Find(c.ID); !errors.As(err, new(ErrNoSuchContainer)) {
		t.Errorf("its record is gone: %v", err)
	}
	if err := os.RemoveAll(c.dir); err != nil {
		t.Fatal(err)
	}
	if err := k.monitors(); err != nil {
		t.Error(err)
	}
	if len(k.found) != 1 || k.found[0].Mended {
		t.Errorf("its monitor does not end: %+v", k.found)
	}
	k.found = nil
	time.AfterFunc(100*time.Millisecond, func() { attended.Close() })
	if err := k.monitors(); err != nil {
		t.Error(err)
	}
	foundNothing(t, k, "its directory is gone")
}

// TestLooksAtWhatIsGone: what a look has listed may be gone when the look comes to it. What is left of it then is found.
func TestLooksAtWhatIsGone(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	c := made(t, e, Config{Name: "gone", Rootfs: nstest.RootFS(t), AutoRemove: true})
	if err := e.Remove(t.Context(), "gone", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	k := &check{e: e, repair: true}
	found := func(string, func() error) { k.find("it", "is found", func() error { return nil }) }
	k.directory(c.dir, c.ID)
	e.oneRemoved(c.dir, c.ID, found)
	e.oneIntent(c.ID, c.ID, found)
	k.state(c.ID)
	k.firstStep(c.ID)
	if e.isOrphan(c.ID) || e.isDisplaced(c.ID) {
		t.Error("it runs without a monitor")
	}
	foundNothing(t, k, "it is gone")
	if err := os.MkdirAll(e.dir+"/runtime/"+c.ID, 0o700); err != nil {
		t.Fatal(err)
	}
	if k.state(c.ID); len(k.found) != 1 {
		t.Errorf("%+v", k.found)
	}
}

// TestLooksBesideCommand: a container that another command is at, that has not reserved its name yet, and whose monitor makes its place, is that command's business.
func TestLooksBesideCommand(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	c := made(t, e, Config{Name: "stays", Rootfs: nstest.RootFS(t)})
	k := &check{e: e, repair: true}
	first := monitor.Place(e.dir, "."+c.ID)
	if err := errors.Join(os.MkdirAll(first, 0o700), os.MkdirAll(monitor.Place(e.dir, c.ID), 0o700), os.Remove(e.names()+"/stays"), files.Reserve(c.ID, e.names()+"/next")); err != nil {
		t.Fatal(err)
	}
	lock, err := lockDir(c.dir, unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	stale := func(_, text string, mend func() error) { k.find("name", text, mend) }
	look := func() {
		k.directory(c.dir, c.ID)
		k.firstStep(c.ID)
		e.staleName("next", c.ID, stale)
	}
	look()
	if e.isOrphan(c.ID) || e.isDisplaced(c.ID) {
		t.Error("it runs without a monitor")
	}
	foundNothing(t, k, "somebody is at it")
	if !exists(first) || !isReserved(e.names()+"/next", c.ID) {
		t.Error("what somebody was about to use is gone")
	}
	lock.Close()
	// And when nobody is: all of that is found.
	e.staleName("none", c.ID, stale)
	foundNothing(t, k, "a name that was given back")
	look()
	if len(k.found) != 3 || !e.isOrphan(c.ID) || exists(first) || !isReserved(e.names()+"/stays", c.ID) || exists(e.names()+"/next") {
		t.Errorf("%+v", k.found)
	}
}

// TestDiscardIsWhole: who looks for what is left of containers sees one that is removed as a whole, or not at all.
func TestDiscardIsWhole(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	c := made(t, e, Config{Name: "whole", Rootfs: nstest.RootFS(t)})
	looks, err := e.lockMaking(unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	removed := make(chan error, 1)
	go func() { removed <- e.Remove(t.Context(), "whole", RemoveOptions{}) }()
	nstest.Until(t, "a removal that has begun", func() bool { return exists(e.creating() + "/" + c.ID) })
	time.Sleep(50 * time.Millisecond)
	if !exists(c.dir) || !exists(e.names()+"/whole") {
		t.Error("some of it is gone")
	}
	looks.Close()
	if err := <-removed; err != nil {
		t.Error(err)
	}
	empty(t, e)
}

// TestDiscardBesideHook: who looks for what is left, and does not come to an end, is not waited for, as a hook of what it takes away cannot that removes a container itself.
func TestDiscardBesideHook(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	made(t, e, Config{Name: "goes", Rootfs: nstest.RootFS(t)})
	looks, err := e.lockMaking(unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	defer looks.Close()
	removed := make(chan error, 1)
	go func() { removed <- e.Remove(t.Context(), "goes", RemoveOptions{}) }()
	select {
	case err := <-removed:
		if err != nil {
			t.Error(err)
		}
		empty(t, e)
	case <-time.After(10 * time.Second):
		t.Error("it waits")
		looks.Close()
		<-removed
	}
}

// TestCheckAfterRemoval: what a container with --rm leaves for the next command is nothing that a check tells of, and a repair takes it away. One that ends before the
// command that made it has come to its end leaves no mark of that.
func TestCheckAfterRemoval(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	imported(t, e, nstest.RootFS(t), "base:1")
	c := detached(t, e, Config{Image: "base:1", Command: []string{"sh", "-c", "echo > /written; exec sleep 1000"}, AutoRemove: true})
	lock, err := lockDir(c.dir, unix.LOCK_EX) // as that command has it
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := os.Symlink(c.dir, e.creating()+"/"+c.ID); err != nil {
		t.Fatal(err)
	}
	if err := e.Kill(t.Context(), c.ID, "KILL"); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "its end", func() bool { return !exists(c.dir) && !exists(monitor.Place(e.dir, c.ID)) })
	if exists(e.creating() + "/" + c.ID) {
		t.Error("it is there as one that is being made")
	}
	if !exists(e.data + "/ephemeral/" + c.ID) {
		t.Error("what it wrote is gone")
	}
	for _, repair := range []bool{false, true} {
		if found, err := e.Check(t.Context(), repair); err != nil || len(found) != 0 {
			t.Errorf("%v: %+v", err, found)
		}
	}
	if exists(e.data + "/ephemeral/" + c.ID) {
		t.Error("what it wrote is there")
	}
	empty(t, e)
}

// TestNamesBesideEnd: a container that has ended, which its monitor has not written down yet, is not found for the names that go with that.
func TestNamesBesideEnd(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	loopback(t)
	networks(t, e, NetworkConfig{Name: "back"})
	c := detached(t, e, on("back", Config{Name: "ends", Command: []string{"/greeter", ":80"}}))
	n, err := e.netdb().Lookup("back")
	if err != nil {
		t.Fatal(err)
	}
	m, p := c.Monitor.Open(), c.Witness().Open()
	if m == nil || p == nil {
		t.Fatal("it does not run")
	}
	defer m.Close()
	defer p.Close()
	if err := m.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer m.Signal(unix.SIGCONT)
	if err := errors.Join(p.Signal(unix.SIGKILL), e.netdb().Leave(n.ID, c.ID)); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "the end", func() bool { return ending(c.Witness()) })
	k := &check{e: e, repair: true}
	k.namedOne(c.ID)
	foundNothing(t, k, "it has ended")
}

// TestNetworkCreateBesideRemove: a network that is removed as soon as it can be seen leaves no bridge behind, which would be nobody's.
func TestNetworkCreateBesideRemove(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	loopback(t)
	d := &network.Doer{}
	defer d.Close()
	for range 20 {
		made := make(chan error, 1)
		go func() {
			_, err := e.NetworkCreate(t.Context(), NetworkConfig{Name: "brief"})
			made <- err
		}()
		n, err := e.netdb().Lookup("brief")
		for there := false; err != nil && !there; {
			there = len(made) > 0
			n, err = e.netdb().Lookup("brief")
		}
		err = errors.Join(err, e.netdb().Remove(n.ID, false, func(n netdb.Network) error { return e.dropNetwork(&n) }), <-made)
		if err != nil {
			t.Fatal(err)
		}
		if gone, err := d.BridgeGone(bridgeOf(&n)); err != nil || !gone {
			t.Fatalf("its bridge is left, %v", err)
		}
	}
}

// TestNetworkRefusedBesideJoin: a network that cannot get its bridge is not taken from a container that has joined it meanwhile.
func TestNetworkRefusedBesideJoin(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	loopback(t)
	output(t, exec.Command("ip", "link", "add", "taken", "type", "veth", "peer", "name", "far"))
	defer func() { output(t, exec.Command("ip", "link", "delete", "taken")) }()
	m := netdb.Member{Container: files.NewID(), Name: "joins"}
	for range 100 {
		refused := make(chan error, 1)
		go func() {
			_, err := e.NetworkCreate(t.Context(), NetworkConfig{Name: "brief", Options: map[string]string{"com.docker.network.bridge.name": "taken"}})
			refused <- err
		}()
		n, err := e.netdb().Lookup("brief")
		for err != nil && len(refused) == 0 {
			n, err = e.netdb().Lookup("brief")
		}
		if err == nil {
			err = e.netdb().Join(n.ID, m)
		}
		if err := <-refused; !errors.Is(err, unix.EEXIST) {
			t.Fatal(err)
		}
		if err != nil {
			continue // it was gone before
		}
		if members, err := e.netdb().Members(n.ID); err != nil || len(members) == 0 {
			t.Fatalf("its network is gone: %v", err)
		}
		if err := errors.Join(e.netdb().Leave(n.ID, m.Container), e.NetworkRemove(t.Context(), "brief", false)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestChangeBesideEnd: a container that went while it was changed is one that there is not, and not a file that is missing.
func TestChangeBesideEnd(t *testing.T) {
	e := open(t)
	c := made(t, e, Config{Name: "goes", Rootfs: nstest.RootFS(t), AutoRemove: true})
	missing := func(c *Container) error { return os.Remove(c.dir + "/none") }
	if err := e.changing(t.Context(), "goes", missing); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
	if err := c.orGone("goes", missing(&c)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
	err := e.changing(t.Context(), "goes", func(c *Container) error { return errors.Join(e.discard(c), missing(c)) })
	if !errors.As(err, new(ErrNoSuchContainer)) {
		t.Errorf("it went: %v", err)
	}
	if err := c.orGone("goes", missing(&c)); !errors.As(err, new(ErrNoSuchContainer)) {
		t.Errorf("it went: %v", err)
	}
}

// TestLooksBesideMaking: a bridge that is just being made, and what a command is about to do to a container that went with --rm, are that command's business.
func TestLooksBesideMaking(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	loopback(t)
	networks(t, e, NetworkConfig{Name: "made"})
	n, err := e.netdb().Lookup("made")
	if err != nil {
		t.Fatal(err)
	}
	k := &check{e: e}
	d := &network.Doer{}
	defer d.Close()
	output(t, exec.Command("ip", "link", "set", n.Device, "down"))
	k.after(t, func() error { _, err := d.HealBridge(bridgeOf(&n)); return err }, k.cables)
	id := files.NewID()
	if err := e.intend(id, intent{Update: &updating{}}); err != nil {
		t.Fatal(err)
	}
	k.after(t, func() error { return e.dropIntent(id, id) }, k.intents)
}

// TestLooksAtManyBridges: however many bridges are down, that somebody may just be making them is waited for once.
func TestLooksAtManyBridges(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	loopback(t)
	var want []Finding
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		networks(t, e, NetworkConfig{Name: name})
		n, err := e.netdb().Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		output(t, exec.Command("ip", "link", "set", n.Device, "down"))
		want = append(want, Finding{Object: "network " + name})
	}
	k := &check{e: e}
	begun := time.Now()
	if err := k.cables(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 12*time.Second {
		t.Errorf("it took %v", took)
	}
	found := slices.Clone(k.found)
	slices.SortFunc(found, func(a, b Finding) int { return strings.Compare(a.Object, b.Object) })
	if !slices.EqualFunc(found, want, func(a, b Finding) bool { return a.Object == b.Object && strings.Contains(a.Text, "is down") }) {
		t.Errorf("%+v", found)
	}
}

// after has a look find nothing of what somebody is at that comes to its end.
func (k *check) after(t *testing.T, end, look func() error) {
	t.Helper()
	done := make(chan error)
	time.AfterFunc(50*time.Millisecond, func() { done <- end() })
	if err := errors.Join(look(), <-done); err != nil {
		t.Error(err)
	}
	foundNothing(t, k, "it is made")
}
