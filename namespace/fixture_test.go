package namespace

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/abi"
)

// A fixture is a machine written down in a txtar archive: its /proc as a directory, and
// what nsfs would say of the namespaces in it.
type fixture struct {
	proc *os.File
	nsfs map[string]nsRow // by link text, mounts by mount point too
}

type nsRow struct {
	t                           abi.Namespace
	ino, own, up, number, maker uint64
	made                        bool
	table                       map[string]nsRow
}

// load unpacks testdata/name.txtar. Files below ns/ and fd/ and "self" become links.
func load(t *testing.T, name string) fixture {
	t.Helper()
	archive, err := os.ReadFile(filepath.Join("testdata", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	f := fixture{nsfs: map[string]nsRow{}}
	_, files, _ := strings.Cut("\n"+string(archive), "\n-- ") // what comes before is a comment
	for file := range strings.SplitSeq(files, "\n-- ") {
		name, text, ok := strings.Cut(file, " --\n")
		if !ok {
			name, ok = strings.CutSuffix(file, " --")
		}
		if !ok {
			t.Fatalf("%s: file without a name: %q", root, file)
		}
		text = strings.TrimSuffix(text, "\n")
		if name == "nsfs" {
			f.table(t, text)
			continue
		}
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if kind := filepath.Base(filepath.Dir(path)); kind == "ns" || kind == "fd" || name == "self" {
			err = os.Symlink(text, path)
		} else {
			if filepath.Base(name) == "cmdline" {
				text = strings.ReplaceAll(text, " --", "\x00--") // a blank that separates arguments
			}
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if f.proc, err = os.Open(root); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.proc.Close() })
	return f
}

// table parses lines such as "pid:[2] owner=1 parent=1 id=11" and "/mount point net:[5]".
func (f fixture) table(t *testing.T, text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "/") {
			cut := strings.LastIndexByte(line, ' ')
			f.nsfs[line[:cut]] = f.nsfs[line[cut+1:]]
			continue
		}
		columns := strings.Fields(line)
		name, ino, ok := parseLink(columns[0])
		typ, known := abi.ParseNamespace(name)
		if !ok || !known {
			t.Fatalf("nsfs: %q", line)
		}
		row := nsRow{t: typ, ino: ino, table: f.nsfs}
		for _, c := range columns[1:] {
			key, value, _ := strings.Cut(c, "=")
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				t.Fatalf("nsfs: %q: %v", line, err)
			}
			switch key {
			case "owner":
				row.own = n
			case "parent":
				row.up = n
			case "id":
				row.number = n
			case "creator":
				row.maker, row.made = n, true
			}
		}
		f.nsfs[columns[0]] = row
	}
}

func (r nsRow) inode() uint64 { return r.ino }
func (r nsRow) id() uint64    { return r.number }
func (r nsRow) close()        {}
func (r nsRow) creator() int64 {
	if !r.made {
		return -1
	}
	return int64(r.maker)
}

func (r nsRow) ask(way relation) (nsFile, error) {
	key := fmt.Sprintf("user:[%d]", r.own)
	if way == parent {
		key = fmt.Sprintf("%s:[%d]", r.t.ProcName(), r.up)
	}
	if row, ok := r.table[key]; ok {
		return row, nil
	}
	return nil, fs.ErrPermission
}

// open is openNS of the fixture.
func (f fixture) open(d dir, path string, how uint64) (nsFile, error) {
	key := path
	if how == 0 {
		link, err := d.link(path)
		if err != nil {
			return nil, err
		}
		key = strings.Replace(link, "_for_children", "", 1)
	}
	row, ok := f.nsfs[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return row, nil
}

func (f fixture) read(t *testing.T, o Options) *System {
	t.Helper()
	o.Proc, o.open, o.boot = f.proc, f.open, time.Unix(1_700_000_000, 0)
	s, err := Read(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// dump writes a reading in full.
func dump(s *System) string {
	var b strings.Builder
	fmt.Fprintf(&b, "self %v, root %v, unreadable %d, hidden %d\n", s.Self, s.PIDRoot, s.Unreadable, s.Hidden)
	for _, p := range s.Processes {
		fmt.Fprintf(&b, "\n%v parent %d state %c command %q kernel %v start %s\n", p, p.Parent, p.State, p.Command(), p.Kernel, p.Start.UTC().Format(time.RFC3339Nano))
		fmt.Fprintf(&b, "  uids %v gids %v groups %v umask %#o caps %v\n", p.UIDs, p.GIDs, p.Groups, p.Umask, p.Caps.Effective.Len())
		fmt.Fprintf(&b, "  seccomp %v filters %d nonewprivs %v cgroups %v\n", p.Seccomp, p.Filters, p.NoNewPrivs, p.Cgroups)
		for _, at := range s.PIDsOf(p) {
			fmt.Fprintf(&b, "  pid %d in %v\n", at.PID, at.Namespace)
		}
		for _, at := range s.UIDsOf(p) {
			fmt.Fprintf(&b, "  uid %d in %v, mapped %v, known %v\n", at.ID, at.Namespace, at.Mapped, at.Known)
		}
	}
	b.WriteByte('\n')
	for _, n := range s.Namespaces {
		fmt.Fprintf(&b, "%v id %d owner %v parent %v creator %d initial %v members", n, n.ID, n.Owner, n.Parent, n.Creator, n.Initial())
		for _, p := range n.Members {
			fmt.Fprintf(&b, " %d", p.PID)
		}
		fmt.Fprintf(&b, " children %v maps %v %v\n", n.Children, n.UIDs, n.GIDs)
		for _, r := range n.Refs {
			fmt.Fprintf(&b, "  %v\n", r)
		}
	}
	return b.String()
}
