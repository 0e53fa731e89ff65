package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
)

// reserver makes args[1] containers in the engine of args[0], under the name args[2]
// where there is one, prints what it got on one line, and takes them away at the
// end of its standard input.
func reserver(args []string) int {
	e, err := Open(Options{Dir: args[0]})
	if err != nil {
		return complain(err)
	}
	n, _ := strconv.Atoi(args[1])
	cfg := Config{Rootfs: "/", Command: []string{"true"}, AutoRemove: true}
	if len(args) > 2 {
		cfg.Name = args[2]
	}
	var line strings.Builder
	var made []Container
	var locks []*os.File
	for range n {
		c, lock, err := e.create(context.Background(), cfg)
		if err != nil {
			return complain(err)
		}
		made, locks = append(made, c), append(locks, lock)
		fmt.Fprintf(&line, "%d/%s ", c.Slot, c.Name)
	}
	fmt.Println(line.String())
	<-untilEOF()
	for i, c := range made {
		if err := e.discard(&c); err != nil {
			return complain(err)
		}
		locks[i].Close()
	}
	return 0
}

// churner makes args[1] containers in the engine of args[0], one after the other, and
// looks whether each is still there.
func churner(args []string) int {
	e, err := Open(Options{Dir: args[0]})
	if err != nil {
		return complain(err)
	}
	n, _ := strconv.Atoi(args[1])
	for range n {
		c, lock, err := e.create(context.Background(), Config{Rootfs: "/", AutoRemove: true})
		if err != nil {
			return complain(err)
		}
		if !exists(c.dir + "/container.json") {
			return complain(fmt.Errorf("%s: somebody removed it", c.dir))
		}
		if err := e.discard(&c); err != nil {
			return complain(err)
		}
		lock.Close()
	}
	fmt.Println("done")
	return 0
}

// sweeper does what each command does for those that were killed, over and over.
func sweeper(args []string) int {
	e, err := Open(Options{Dir: args[0]})
	if err != nil {
		return complain(err)
	}
	fmt.Println("ready")
	done := untilEOF()
	for {
		select {
		case <-done:
			return 0
		default:
			if err := e.sweep(); err != nil {
				return complain(err)
			}
		}
	}
}

// sweepers starts some of these, until the test ends.
func sweepers(t *testing.T, n int, dir string) {
	t.Helper()
	for range n {
		c, line, stdin := part(t, "sweeper", dir)
		if line != "ready" {
			t.Fatal(line)
		}
		t.Cleanup(func() {
			stdin.Close()
			if err := c.Wait(); err != nil {
				t.Errorf("a sweeper: %v", err)
			}
		})
	}
}

// Eight processes make twenty containers each, while others sweep: no name and no
// range of ids is given twice, and nobody is refused.
func TestReserveConcurrently(t *testing.T) {
	nstest.Root(t)
	dir := filepath.Join(nstest.Dir(t), "kakuri")
	e := openAt(t, dir)
	nstest.NoLeaks(t)
	sweepers(t, 2, dir)
	const processes, each = 8, 20
	var all sync.WaitGroup
	lines := make([]string, processes)
	ends := make([]func(), processes)
	for i := range processes {
		all.Go(func() {
			c, line, stdin := part(t, "reserver", dir, strconv.Itoa(each))
			lines[i] = line
			ends[i] = func() {
				stdin.Close()
				if err := c.Wait(); err != nil {
					t.Errorf("%v", err)
				}
			}
		})
	}
	all.Wait()
	slots, names := map[string]bool{}, map[string]bool{}
	for _, line := range lines {
		if strings.HasPrefix(line, "error:") {
			t.Error(line)
			continue
		}
		for pair := range strings.FieldsSeq(line) {
			slot, name, _ := strings.Cut(pair, "/")
			if slots[slot] || names[name] {
				t.Errorf("%s is given twice", pair)
			}
			slots[slot], names[name] = true, true
		}
	}
	dirs, err := files.List(e.homes()[0])
	if err != nil || len(dirs) != processes*each || len(slots) != processes*each {
		t.Errorf("%v: %d directories of %d containers, %d ranges", err, len(dirs), processes*each, len(slots))
	}
	for _, end := range ends {
		end()
	}
	empty(t, e)
}

// empty wants that an engine has nothing left of containers.
func empty(t testing.TB, e *Engine) {
	t.Helper()
	for _, dir := range []string{e.homes()[0], e.homes()[1], e.names(), e.ids(), e.creating(), e.dir + "/monitor", e.dir + "/runtime"} {
		if list, err := files.List(dir); err != nil && !errors.Is(err, os.ErrNotExist) || len(list) != 0 {
			t.Errorf("%s: %v: %q are left", dir, err, list)
		}
	}
}

// A container that is just being made belongs to whoever makes it, and is not what a
// killed process left.
func TestReserveBesideSweepers(t *testing.T) {
	nstest.Root(t)
	dir := filepath.Join(nstest.Dir(t), "kakuri")
	nstest.NoLeaks(t)
	sweepers(t, 3, dir)
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			c, line, stdin := part(t, "churner", dir, "1000")
			defer c.Wait()
			defer stdin.Close()
			if line != "done" {
				t.Error(line)
			}
		})
	}
	all.Wait()
	empty(t, openAt(t, dir))
}

// Of those who want one name at the same time, one gets it, and the others a plain
// error.
func TestReserveOneName(t *testing.T) {
	nstest.Root(t)
	dir := filepath.Join(nstest.Dir(t), "kakuri")
	nstest.NoLeaks(t)
	for round := range 5 {
		var all sync.WaitGroup
		var won atomic.Int32
		ends := make([]func(), 6)
		for i := range ends {
			all.Go(func() {
				c, line, stdin := part(t, "reserver", dir, "1", "same")
				if !strings.HasPrefix(line, "error:") {
					won.Add(1)
				} else if !strings.Contains(line, `The container name "/same" is already in use by container `) {
					t.Error(line)
				}
				ends[i] = func() { stdin.Close(); c.Wait() }
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Errorf("round %d: %d got the name", round, won.Load())
		}
		for _, end := range ends {
			end()
		}
	}
	empty(t, openAt(t, dir))
}

// TestKilledRename: a name that a killed rename has left is nobody's, whether its container is there or not.
func TestKilledRename(t *testing.T) {
	nstest.Root(t)
	e, root, ctx := open(t), nstest.RootFS(t), context.Background()
	create := func(name string) (Container, error) {
		c, err := e.Create(ctx, Config{Name: name, Rootfs: root, Command: []string{"true"}})
		if err == nil {
			t.Cleanup(func() { e.Remove(ctx, c.ID, RemoveOptions{}) })
		}
		return c, err
	}
	one, err := create("one")
	if err != nil {
		t.Fatal(err)
	}
	for name, id := range map[string]string{"half": one.ID, "half-too": one.ID, "gone": strings.Repeat("a", 64), "gone-too": strings.Repeat("b", 64)} {
		if err := os.Symlink(id, e.names()+"/"+name); err != nil {
			t.Fatal(err)
		}
	}
	_, lock, err := e.lock(one.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := create("half"); !errors.As(err, new(ErrConflict)) {
		t.Errorf("the name that a container is about to get: %v", err)
	}
	lock.Close()
	if _, err := create("one"); !errors.As(err, new(ErrConflict)) {
		t.Errorf("the name that a container has: %v", err)
	}
	for _, name := range []string{"half", "gone"} {
		c, err := create(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if err := e.Rename(ctx, c.ID, name+"-too"); err != nil {
			t.Error(err)
		}
	}
	if err := os.Symlink(one.ID, e.names()+"/again"); err != nil {
		t.Fatal(err)
	}
	if err := e.Rename(ctx, one.ID, "again"); err != nil || found(t, e, one.ID).Name != "again" {
		t.Errorf("once more after it was killed: %v", err)
	}
}

// A rename that was killed, after each of its steps, leaves one name with the next command, also where the container is gone by then, or the machine went down.
func TestKilledRenameIsSwept(t *testing.T) {
	nstest.Root(t)
	e, root, ctx := open(t), nstest.RootFS(t), context.Background()
	names := func() string {
		list, _ := files.ListOwn(e.names())
		slices.Sort(list)
		return strings.Join(list, " ")
	}
	for step := range 4 {
		for _, next := range []string{"sweep", "lock", "remove", "boot"} {
			want := map[bool]string{false: "old", true: "new"}[step > 1]
			c := made(t, e, Config{Name: "old", Rootfs: root, Command: []string{"true"}})
			err := e.intend(c.ID, intent{Rename: &renaming{"old", "new"}})
			if err == nil && step > 0 {
				err = files.Reserve(c.ID, e.names()+"/new")
			}
			if err == nil && step > 1 {
				c.Name = "new"
				err = c.writeRecord()
			}
			if err == nil && step > 2 {
				err = os.Remove(e.names() + "/old")
			}
			switch {
			case err != nil:
			case next == "remove":
				want = ""
				err = errors.Join(e.Remove(ctx, c.ID, RemoveOptions{}), e.sweep())
			case next == "boot":
				if err = errors.Join(os.RemoveAll(e.intents()), os.RemoveAll(e.dir+"/runtime")); err == nil {
					err = e.mkdirs()
				}
			case next == "lock":
				var lock *os.File
				if _, lock, err = e.lock(c.ID); err == nil {
					lock.Close()
				}
			default:
				err = e.sweep()
			}
			if now := names(); err != nil || now != want || exists(e.intents()+"/"+c.ID) {
				t.Errorf("killed after step %d, %s: names are reserved: %s; %v", step, next, now, err)
			}
			if want != "" {
				if err := e.Remove(ctx, want, RemoveOptions{}); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// Names and ranges that are taken are passed over; when all names of two words are taken, there are others.
func TestChooseFree(t *testing.T) {
	e := openAt(t, t.TempDir())
	e.host = rootFacts()
	if err := e.mkdirs(); err != nil {
		t.Fatal(err)
	}
	take := func(dir, name string) {
		if err := os.Symlink(strings.Repeat("a", 64), dir+"/"+name); err != nil {
			t.Fatal(err)
		}
	}
	for _, slot := range []string{"0", "1", "3", "x"} {
		take(e.ids(), slot)
	}
	take(e.names(), "we.b")
	r := Record{Slot: -1}
	if err := e.chooseFree(&r); err != nil || r.Slot != 2 || !ValidName(r.Name) {
		t.Errorf("%v: %+v", err, r)
	}
	if err := e.chooseFree(&Record{Name: "we.b"}); err == nil || !strings.Contains(err.Error(), `already in use by container "aaaa`) {
		t.Errorf("%v", err)
	}
	r = Record{Slot: -1, Config: Config{UserNS: "host"}}
	if err := e.chooseFree(&r); err != nil || r.Slot != -1 {
		t.Errorf("%v: a range of ids for none: %d", err, r.Slot)
	}
	for _, m := range manners {
		for _, p := range places {
			take(e.names(), m+"_"+p)
		}
	}
	r = Record{Slot: -1}
	if err := e.chooseFree(&r); err != nil || !ValidName(r.Name) {
		t.Errorf("%v: name %q", err, r.Name)
	}
	for s := range slots {
		os.Symlink("x", e.ids()+"/"+strconv.Itoa(s))
	}
	if err := e.chooseFree(&Record{}); err == nil || !strings.Contains(err.Error(), "ranges of ids are taken") {
		t.Errorf("%v", err)
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"ab": true, "a1": true, "9z": true, "a_b.c-d": true, strings.Repeat("a", 255): true,
		"": false, "a": false, "_a": false, ".a": false, "-a": false, "a/b": false, "a b": false, "a\n": false, "ü1": false, "a\x00b": false,
		strings.Repeat("a", 256): false, "../x": false,
	} {
		if ValidName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

// made makes a container that does not run.
func made(t testing.TB, e *Engine, cfg Config) Container {
	t.Helper()
	c, lock, err := e.create(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	c.Status = monitor.Created
	if err := errors.Join(c.writeState(), e.finished(&c)); err != nil {
		t.Fatal(err)
	}
	return c
}

// What a killed process left at any point of making or removing a container is taken away by the next command; what is whole
// stays.
func TestSweepHalfMade(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	for name, spoil := range map[string]func(e *Engine, c *Container){
		"whole, but for the last word":  func(e *Engine, c *Container) {},
		"without a record":              func(e *Engine, c *Container) { os.Remove(c.dir + "/container.json") },
		"half a record":                 func(e *Engine, c *Container) { os.Truncate(c.dir+"/container.json", 20) },
		"without a state":               func(e *Engine, c *Container) { os.Remove(c.dir + "/state.json") },
		"without a directory":           func(e *Engine, c *Container) { os.RemoveAll(c.dir) },
		"without a directory and names": func(e *Engine, c *Container) { os.RemoveAll(c.dir); os.Remove(e.names() + "/" + c.Name) },
		"a place, unlocked": func(e *Engine, c *Container) {
			os.Mkdir(monitor.Place(e.dir, c.ID), 0o700)
			os.Mkdir(monitor.Place(e.dir, "."+c.ID), 0o700)
		},
		"half removed": func(e *Engine, c *Container) {
			c.Status = monitor.Removing
			c.writeState()
			os.Remove(c.dir + "/container.json")
		},
	} {
		for _, remove := range []bool{true, false} {
			e := open(t)
			whole := made(t, e, Config{Name: "whole", Rootfs: "/", AutoRemove: remove})
			c, lock, err := e.create(t.Context(), Config{Rootfs: "/", AutoRemove: remove})
			if err != nil {
				t.Fatal(err)
			}
			if err := e.sweep(); err != nil || !exists(c.dir) {
				t.Errorf("%s: %v: taken away under its maker", name, err)
			}
			spoil(e, &c)
			lock.Close()
			list, err := e.List(ListOptions{All: true})
			if err != nil || len(list) != 1 || list[0].ID != whole.ID {
				t.Errorf("%s: %v: %+v", name, err, list)
			}
			if err := e.Remove(t.Context(), "whole", RemoveOptions{}); err != nil {
				t.Error(err)
			}
			empty(t, e)
		}
	}
}

// A record and a state that are cut at any byte, or have any byte changed, are no reason to fail for the others.
func TestTornRecord(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	made(t, e, Config{Name: "fine", Rootfs: "/"})
	c := made(t, e, Config{Name: "torn", Rootfs: "/"})
	for _, file := range []string{"state.json", "container.json"} {
		whole, err := os.ReadFile(c.dir + "/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for cut := range whole {
			for _, data := range [][]byte{whole[:cut], append(append(slices.Clone(whole[:cut]), whole[cut]^0x55), whole[cut+1:]...)} {
				if err := os.WriteFile(c.dir+"/"+file, data, 0o600); err != nil {
					t.Fatal(err)
				}
				list, err := e.List(ListOptions{All: true})
				if err != nil || !slices.ContainsFunc(list, func(c Container) bool { return c.Name == "fine" }) {
					t.Fatalf("%s cut at %d: %v: %+v", file, cut, err, list)
				}
			}
		}
		if err := os.WriteFile(c.dir+"/"+file, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever lies among the containers, the others can be listed.
func TestStrangeRecords(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	if list, err := openAt(t, filepath.Join(nstest.Dir(t), "none")).List(ListOptions{}); err != nil || len(list) != 0 {
		t.Fatalf("without a directory: %v %v", err, list)
	}
	made(t, e, Config{Name: "fine", Rootfs: "/"})
	id := func(c string) string { return strings.Repeat(c, 64) }
	for _, home := range e.homes() {
		for _, err := range []error{
			os.WriteFile(home+"/"+id("b"), nil, 0o600),
			os.WriteFile(home+"/README", []byte("text"), 0o600),
			os.Mkdir(home+"/short", 0o700),
			os.Symlink("/no/such", home+"/"+id("f")),
			os.Symlink("/no/such", e.names()+"/dangling"+filepath.Base(filepath.Dir(home))),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		list, err := e.List(ListOptions{All: true})
		if err != nil || len(list) != 1 || list[0].Name != "fine" {
			t.Errorf("%v: %+v", err, list)
		}
	}
	if _, err := e.Find("danglingdata"); !errors.As(err, new(ErrNoSuchContainer)) {
		t.Errorf("%v", err)
	}
	// The directory itself is a file.
	bad := openAt(t, filepath.Join(nstest.Dir(t), "x"))
	if err := os.MkdirAll(bad.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad.homes()[0], nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bad.List(ListOptions{}); err == nil {
		t.Error("a file can be listed")
	}
	if _, _, err := bad.create(t.Context(), Config{}); err == nil {
		t.Error("a file takes containers")
	}
}

// A container that is being made has its name, but is not there yet.
func TestStarting(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	c, lock, err := e.create(t.Context(), Config{Name: "soon", Rootfs: "/", AutoRemove: true})
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if list, err := e.List(ListOptions{All: true}); err != nil || len(list) != 0 {
		t.Errorf("%v %v", err, list)
	}
	if _, _, err := e.Plan("soon"); err == nil || !strings.Contains(err.Error(), "not running") {
		t.Errorf("%v", err)
	}
	if _, err := e.Prepare(t.Context(), Config{Name: "soon", Image: "host", Command: []string{"true"}}); err == nil || !strings.Contains(err.Error(), "already in use") {
		t.Errorf("%v", err)
	}
	if err := e.discard(&c); err != nil {
		t.Error(err)
	}
}

func TestFind(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	for _, c := range []struct{ id, name string }{{strings.Repeat("ab", 32), "one"}, {"ab0" + strings.Repeat("c", 61), "ab"}, {strings.Repeat("d", 64), "three"}} {
		dir := e.homes()[1] + "/" + c.id
		rec, err := json.Marshal(Record{ID: c.id, Name: c.name})
		if err := errors.Join(err, os.Mkdir(dir, 0o700), os.WriteFile(dir+"/container.json", rec, 0o600), monitor.WriteState(dir, State{Status: monitor.Created}), os.Symlink(c.id, e.names()+"/"+c.name)); err != nil {
			t.Fatal(err)
		}
	}
	for ref, want := range map[string]string{"one": "one", "/one": "one", "ab": "ab", "aba": "one", "ab0": "ab", "d": "three", strings.Repeat("d", 64): "three"} {
		if c, err := e.Find(ref); err != nil || c.Name != want {
			t.Errorf("%s: %v %s, want %s", ref, err, c.Name, want)
		}
	}
	for ref, text := range map[string]string{"a": "multiple IDs found with provided prefix: a", "": "invalid container name or ID: value is empty", "x": "No such container: x", "../one": "No such container: ../one"} {
		if _, err := e.Find(ref); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

// Locks are those of the kernel: a process that is killed holds none.
func TestLockOfAKilledProcess(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dir := filepath.Join(nstest.Dir(t), "kakuri")
	e := openAt(t, dir)
	c, line, _ := part(t, "reserver", dir, "5")
	if strings.HasPrefix(line, "error") {
		t.Fatal(line)
	}
	if err := e.sweep(); err != nil {
		t.Fatal(err)
	}
	if list, _ := files.List(e.homes()[0]); len(list) != 5 {
		t.Errorf("%d of 5 are left while their process runs", len(list))
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	if _, err := e.List(ListOptions{}); err != nil {
		t.Fatal(err)
	}
	empty(t, e)
}
