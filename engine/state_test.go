package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// reserver reserves args[1] containers in the directory args[0], under the name args[2]
// where there is one, prints what it got on one line, and gives them back at the
// end of its standard input.
func reserver(args []string) int {
	e := &Engine{dir: args[0]}
	n, _ := strconv.Atoi(args[1])
	name := ""
	if len(args) > 2 {
		name = args[2]
	}
	var line strings.Builder
	var held []*entry
	for range n {
		ent, err := e.reserve(Container{ID: newID(), Name: name})
		if err != nil {
			return complain(err)
		}
		held = append(held, ent)
		fmt.Fprintf(&line, "%d/%s ", ent.rec.Slot, ent.rec.Name)
	}
	fmt.Println(line.String())
	<-untilEOF()
	for _, ent := range held {
		if err := ent.remove(); err != nil {
			return complain(err)
		}
	}
	return 0
}

// churner reserves args[1] containers in the directory args[0], one after the other, and
// looks whether each is still its own.
func churner(args []string) int {
	e := &Engine{dir: args[0]}
	n, _ := strconv.Atoi(args[1])
	for range n {
		ent, err := e.reserve(Container{ID: newID()})
		if err != nil {
			return complain(err)
		}
		if !exists(ent.path) {
			return complain(fmt.Errorf("%s: somebody removed it", ent.path))
		}
		if err := ent.remove(); err != nil {
			return complain(err)
		}
	}
	fmt.Println("done")
	return 0
}

// sweeper does what each command does for those that were killed, over and over.
func sweeper(args []string) int {
	e := &Engine{dir: args[0]}
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

// Eight processes take twenty containers each, while others sweep: no name and no
// range of ids is given twice, and nobody is refused.
func TestReserveConcurrently(t *testing.T) {
	nstest.Root(t)
	dir := filepath.Join(nstest.Dir(t), "kakuri")
	nstest.NoLeaks(t)
	for range 2 {
		c, line, stdin := part(t, "sweeper", dir)
		if line != "ready" {
			t.Fatal(line)
		}
		defer c.Wait()
		defer stdin.Close()
	}
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
	files, err := readNames(filepath.Join(dir, "containers"))
	if err != nil || len(files) != processes*each || len(slots) != processes*each {
		t.Errorf("%v: %d files of %d containers, %d ranges", err, len(files), processes*each, len(slots))
	}
	for _, end := range ends {
		end()
	}
	if files, err := readNames(filepath.Join(dir, "containers")); err != nil || len(files) != 0 {
		t.Errorf("%v: %d files are left", err, len(files))
	}
}

// A container's file that was just made belongs to whoever made it, and is not what a
// killed process left.
func TestReserveBesideSweepers(t *testing.T) {
	nstest.Root(t)
	dir := filepath.Join(nstest.Dir(t), "kakuri")
	nstest.NoLeaks(t)
	for range 3 {
		c, line, stdin := part(t, "sweeper", dir)
		if line != "ready" {
			t.Fatal(line)
		}
		defer c.Wait()
		defer stdin.Close()
	}
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			c, line, stdin := part(t, "churner", dir, "2000")
			defer c.Wait()
			defer stdin.Close()
			if line != "done" {
				t.Error(line)
			}
		})
	}
	all.Wait()
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
				} else if !strings.Contains(line, `the name "same" is taken by container `) {
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
}

func TestChoose(t *testing.T) {
	id := strings.Repeat("a", 64)
	file := func(slot int, name string) string { return fmt.Sprintf("%s.%d.%s", id, slot, name) }
	rec := Container{}
	if err := choose(&rec, []string{file(0, "x"), file(1, "y"), file(3, "z"), "garbage", "a.b.c", file(9, "")}); err != nil || rec.Slot != 2 || !ValidName(rec.Name) {
		t.Errorf("%v: %+v", err, rec)
	}
	rec = Container{Name: "web"}
	err := choose(&rec, []string{file(0, "web")})
	if err == nil || !strings.Contains(err.Error(), `the name "web" is taken by container aaaaaaaaaaaa: choose another one`) {
		t.Errorf("%v", err)
	}
	// A name may hold dots.
	rec = Container{Name: "we.b"}
	if err := choose(&rec, []string{file(0, "we.b")}); err == nil {
		t.Error("a name with a dot is given twice")
	}
	var full []string
	for s := range slots {
		full = append(full, file(s, fmt.Sprint("n", s)))
	}
	if err := choose(&rec, full); err == nil || !strings.Contains(err.Error(), "ranges of ids are taken") {
		t.Errorf("%v", err)
	}
	if err := choose(&rec, full[1:]); err != nil || rec.Slot != 0 {
		t.Errorf("%v: slot %d", err, rec.Slot)
	}
}

// When all names of two words are taken, there are others.
func TestChooseNameAmongMany(t *testing.T) {
	var list []string
	for i, m := range manners {
		for k, p := range places {
			list = append(list, fmt.Sprintf("%064d.%d.%s_%s", i*len(places)+k, i*len(places)+k, m, p))
		}
	}
	if len(list) >= slots {
		list = list[:slots-1]
	}
	done := make(chan Container, 1)
	go func() {
		var rec Container
		if err := choose(&rec, list); err != nil {
			t.Error(err)
		}
		done <- rec
	}()
	select {
	case rec := <-done:
		if !ValidName(rec.Name) || slices.ContainsFunc(list, func(f string) bool { return strings.HasSuffix(f, "."+rec.Name) }) {
			t.Errorf("name %q", rec.Name)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("no end")
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"ab": true, "a1": true, "9z": true, "a_b.c-d": true, strings.Repeat("a", 128): true,
		"": false, "a": false, "_a": false, ".a": false, "-a": false, "a/b": false, "a b": false, "a\n": false, "ü1": false, "a\x00b": false,
		strings.Repeat("a", 129): false, "../x": false,
	} {
		if ValidName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

func TestNewID(t *testing.T) {
	seen := map[string]bool{}
	for range 2000 {
		id := newID()
		if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" || strings.Trim(id[:12], "0123456789") == "" || seen[id] {
			t.Fatalf("%q", id)
		}
		seen[id] = true
	}
}

// place writes a container's file, that nobody holds.
func place(t testing.TB, e *Engine, slot int, name string, data []byte) string {
	t.Helper()
	if err := os.MkdirAll(e.containers(), 0o700); err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(e.containers(), fmt.Sprintf("%064x.%d.%s", slot+1, slot, name))
	if err := os.WriteFile(p, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// The record of a container whose runner was killed is undone by whoever comes next:
// its process ends, and its file goes.
func TestSweep(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	start := func() (*exec.Cmd, Container) {
		c := exec.Command("sleep", "100")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		started, err := startTime(c.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		return c, Container{ID: newID(), PID: c.Process.Pid, Started: started}
	}
	line := func(rec Container) []byte {
		data, err := json.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		return append(data, '\n')
	}
	ours, rec := start()
	theirs, other := start()
	other.Started++ // an earlier process had that number
	files := []string{
		place(t, e, 0, "running", line(rec)), place(t, e, 1, "reused", line(other)), place(t, e, 2, "ended", line(Container{ID: newID(), PID: 1 << 22})),
		place(t, e, 3, "starting", line(Container{ID: newID()})), place(t, e, 4, "empty", nil), place(t, e, 5, "torn", line(rec)[:20]),
	}
	// One that is held is left alone.
	held, err := e.reserve(Container{ID: newID(), Name: "held"})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.sweep(); err != nil {
		t.Fatal(err)
	}
	if err := ours.Wait(); err == nil || ours.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the container's process ended with %v", ours.ProcessState)
	}
	if err := theirs.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("a process that got an old number: %v", err)
	}
	theirs.Process.Kill()
	theirs.Wait()
	for _, f := range files {
		if exists(f) {
			t.Errorf("%s is left", filepath.Base(f))
		}
	}
	if !exists(held.path) {
		t.Error("the file of a container that runs is gone")
	}
	if err := held.remove(); err != nil {
		t.Error(err)
	}
}

// What cannot be undone is told, and found again by the next command.
func TestSweepCannotUndo(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	undo, err := plan.MarshalOp(&plan.RemoveCgroup{Path: "x"})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(Container{ID: newID(), Undo: []json.RawMessage{undo, []byte(`{"kind":"no such operation","args":{}}`)}})
	if err != nil {
		t.Fatal(err)
	}
	p := place(t, e, 0, "stuck", append(data, '\n'))
	for range 2 {
		err := e.sweep()
		if err == nil || !strings.Contains(err.Error(), filepath.Base(p)) || !strings.Contains(err.Error(), "no such operation") {
			t.Errorf("%v", err)
		}
		if !exists(p) {
			t.Fatal("the file is gone, with what it says")
		}
	}
}

// A record that is cut at any byte, or has any byte changed, is no reason to fail.
func TestTornRecord(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	good := &entry{rec: Container{ID: newID(), Name: "torn", PID: os.Getpid(), Started: 1, Undo: nil}}
	file, err := os.CreateTemp(nstest.Dir(t), "")
	if err != nil {
		t.Fatal(err)
	}
	good.file = file
	if err := good.write(&plan.Plan{Steps: []plan.Step{{Op: &plan.Clone{New: []abi.Namespace{abi.NSPID}}}}, Warnings: []string{"w"}}); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	first := bytes.IndexByte(whole, '\n')
	for cut := range len(whole) + 1 {
		rec, rest, err := decode(bytes.NewReader(whole[:cut]))
		if (err == nil) != (cut > first) {
			t.Errorf("cut at %d of %d: %v", cut, len(whole), err)
		}
		if err == nil && (rec.Name != "torn" || !bytes.Equal(rest, whole[first+1:cut])) {
			t.Errorf("cut at %d: %+v", cut, rec)
		}
		var p plan.Plan
		if err == nil && len(rest) > 0 && (json.Unmarshal(rest, &p) == nil) != (cut >= len(whole)-1) {
			t.Errorf("cut at %d: a plan that is not whole is taken for one", cut)
		}
		flipped := bytes.Clone(whole)
		flipped[min(cut, len(whole)-1)] ^= 0x55
		decode(bytes.NewReader(flipped)) // must only not panic
	}
	// The same in the file system, in steps.
	for cut := 0; cut < len(whole); cut += 7 {
		p := place(t, e, 0, "torn", whole[:cut])
		if _, err := e.Find("torn"); err == nil {
			t.Errorf("cut at %d: it runs", cut)
		}
		if _, err := e.List(); err != nil {
			t.Errorf("cut at %d: %v", cut, err)
		}
		if exists(p) {
			t.Errorf("cut at %d: left", cut)
			os.Remove(p)
		}
	}
}

// Whatever lies among the records, the others can be listed.
func TestStrangeRecords(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	if list, err := openAt(t, filepath.Join(nstest.Dir(t), "none")).List(); err != nil || len(list) != 0 {
		t.Fatalf("without a directory: %v %v", err, list)
	}
	ent, err := e.reserve(Container{ID: newID(), Name: "fine"})
	if err != nil {
		t.Fatal(err)
	}
	defer ent.remove()
	ent.rec.PID = os.Getpid()
	if ent.rec.Started, err = startTime(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if err := ent.write(nil); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(e.containers(), name) }
	id := func(c string) string { return strings.Repeat(c, 64) }
	for _, err := range []error{
		os.Mkdir(at(id("b")+".7.directory"), 0o700),
		os.WriteFile(at("README"), []byte("text"), 0o600),
		os.WriteFile(at(id("c")+".x.noslot"), nil, 0o600),
		os.WriteFile(at("short.1.name"), nil, 0o600),
		os.WriteFile(at(id("d")+".8.binary"), bytes.Repeat([]byte{0, 0xff, '\n'}, 1000), 0o600),
		os.WriteFile(at(id("e")+".9.version"), []byte(`{"ID":5,"PID":"many"}`+"\n"), 0o600),
		os.Symlink("/no/such", at(id("f")+".10.dangling")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		list, err := e.List()
		if err != nil || len(list) != 1 || list[0].Name != "fine" {
			t.Errorf("%v: %+v", err, list)
		}
	}
	if c, err := e.Find("fine"); err != nil || c.PID != os.Getpid() {
		t.Errorf("%v %+v", err, c)
	}
	if _, err := e.Find("directory"); err == nil {
		t.Error("a directory is a running container")
	}
	// And new ones can be made.
	more, err := e.reserve(Container{ID: newID()})
	if err != nil {
		t.Fatal(err)
	}
	if more.rec.Slot == 7 {
		t.Error("the range of a damaged record is given away")
	}
	if err := more.remove(); err != nil {
		t.Error(err)
	}
	// The directory itself is a file.
	bad := openAt(t, filepath.Join(nstest.Dir(t), "x"))
	if err := os.WriteFile(bad.containers(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bad.List(); err == nil {
		t.Error("a file can be listed")
	}
	if _, err := bad.reserve(Container{ID: newID()}); err == nil {
		t.Error("a file takes records")
	}
}

// A container that is being made has its name, but does not run yet.
func TestStarting(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	ent, err := e.reserve(Container{ID: newID(), Name: "soon"})
	if err != nil {
		t.Fatal(err)
	}
	defer ent.remove()
	if list, err := e.List(); err != nil || len(list) != 0 {
		t.Errorf("%v %v", err, list)
	}
	if _, err := e.Find("soon"); err == nil || !strings.Contains(err.Error(), "not running") {
		t.Errorf("%v", err)
	}
	if _, _, err := e.Plan("soon"); err == nil {
		t.Error("it has a plan")
	}
	if _, err := e.Prepare(Config{Name: "soon", Image: "host", Command: []string{"true"}}); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("%v", err)
	}
}

func TestFind(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	started, err := startTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var held []*entry
	for _, c := range []Container{{ID: strings.Repeat("ab", 32), Name: "one"}, {ID: "ab0" + strings.Repeat("c", 61), Name: "ab"}, {ID: strings.Repeat("d", 64), Name: "three"}} {
		ent, err := e.reserve(c)
		if err != nil {
			t.Fatal(err)
		}
		ent.rec.PID, ent.rec.Started = os.Getpid(), started
		if err := ent.write(nil); err != nil {
			t.Fatal(err)
		}
		held = append(held, ent)
	}
	defer func() {
		for _, ent := range held {
			ent.remove()
		}
	}()
	for ref, want := range map[string]string{"one": "one", "ab": "ab", "aba": "one", "ab0": "ab", "d": "three", strings.Repeat("d", 64): "three"} {
		if c, err := e.Find(ref); err != nil || c.Name != want {
			t.Errorf("%s: %v %s, want %s", ref, err, c.Name, want)
		}
	}
	for ref, text := range map[string]string{"a": "2 containers have ids that start so", "": "no such container", "x": "no such container", "../one": "no such container"} {
		if _, err := e.Find(ref); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

// Who reads a record while it is written gets the old one or the new one, or none.
func TestWriteBesideReaders(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	ent, err := e.reserve(Container{ID: newID(), Name: "busy"})
	if err != nil {
		t.Fatal(err)
	}
	defer ent.remove()
	var steps []plan.Step
	for range 200 {
		steps = append(steps, plan.Step{Op: &plan.Workdir{Path: "/" + strings.Repeat("x", 200)}})
	}
	long := plan.Plan{Steps: steps}
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			// As a run does: without a process, with one, with the plan.
			ent.rec.PID, ent.rec.Started = 0, 0
			err := ent.write(nil)
			ent.rec.PID, ent.rec.Started = os.Getpid(), uint64(i)
			err = errors.Join(err, ent.write(nil), ent.write(&long))
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	bad := 0
	for begin := time.Now(); time.Since(begin) < 700*time.Millisecond; {
		f, err := os.Open(ent.path)
		if err != nil {
			t.Fatal(err)
		}
		rec, _, err := decode(f)
		f.Close()
		if err != nil && err.Error() != "the record is not whole" {
			bad++
			if bad < 4 {
				t.Errorf("a reader gets: %v", err)
			}
		}
		if err == nil && rec.Name != "busy" {
			t.Errorf("a reader gets %+v", rec)
		}
	}
	close(stop)
	writer.Wait()
}

func TestStartTime(t *testing.T) {
	mine, err := startTime(os.Getpid())
	if err != nil || mine == 0 {
		t.Fatalf("%v %d", err, mine)
	}
	if _, err := startTime(1 << 22); err == nil {
		t.Error("a process that cannot be has a start")
	}
	// A name with blanks and parentheses.
	dir := t.TempDir()
	program := filepath.Join(dir, "a) R 1 (b")
	data, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Skip(err)
	}
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, "100")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	nstest.Until(t, "its execve", func() bool {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.Process.Pid))
		return strings.HasPrefix(string(comm), "a) R")
	})
	theirs, err := startTime(c.Process.Pid)
	if err != nil || theirs < mine {
		t.Errorf("%v: %d, mine %d", err, theirs, mine)
	}
	if !alive(Container{PID: c.Process.Pid, Started: theirs}) || alive(Container{PID: c.Process.Pid, Started: theirs + 1}) {
		t.Error("alive is wrong")
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
	if list, _ := e.entries(); len(list) != 5 {
		t.Errorf("%d of 5 files are left while their process runs", len(list))
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	if _, err := e.List(); err != nil {
		t.Fatal(err)
	}
	if list, _ := e.entries(); len(list) != 0 {
		t.Errorf("%d files are left", len(list))
	}
}

// leaver reserves a container's file, starts a process that has the file and its lock too, and is
// killed.
func leaver(args []string) int {
	e, err := Open(Options{Dir: args[0]})
	if err != nil {
		return complain(err)
	}
	rec, err := e.record(Config{})
	if err != nil {
		return complain(err)
	}
	ent, err := e.reserve(rec)
	if err != nil {
		return complain(err)
	}
	heir := exec.Command("cat")
	heir.Stdin, heir.ExtraFiles = os.Stdin, []*os.File{ent.file}
	if err := heir.Start(); err != nil {
		return complain(err)
	}
	fmt.Println("left")
	unix.Kill(os.Getpid(), unix.SIGKILL)
	return 1
}

// A lock that a process of the killed runner's has inherited is waited for, until that is through.
func TestLockOutlivesItsProcess(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dir := filepath.Join(nstest.Dir(t), "kakuri")
	e := openAt(t, dir)
	c, line, stdin := part(t, "leaver", dir)
	if line != "left" {
		t.Fatal(line)
	}
	c.Process.Wait()
	defer c.Wait() // closes the pipes
	if list, err := e.entries(); err != nil || len(list) != 1 {
		t.Fatalf("%v: %q", err, list)
	}
	done := make(chan error, 1)
	go func() {
		_, err := e.List()
		done <- err
	}()
	select {
	case err := <-done:
		t.Errorf("%v: it is not waited for", err)
	case <-time.After(10 * time.Millisecond):
	}
	stdin.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if list, err := e.entries(); err != nil || len(list) != 0 {
		t.Errorf("%v: %q", err, list)
	}
}

var _ = unix.AT_FDCWD
