package namespace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/abi"
)

// A Namespace is one namespace of the machine.
type Namespace struct {
	Type  abi.Namespace
	Inode uint64 // in nsfs: what /proc/PID/ns shows; used again after the namespace's end
	ID    uint64 // never used again; 0 before Linux 6.18, of mount namespaces before 6.11

	Owner    *Namespace   // the owning user namespace, a user namespace's parent; nil when out of sight
	Creator  int64        // of a user namespace: the uid that made it, as the reader has it; else -1
	Parent   *Namespace   // of a pid or user namespace; nil for the outermost one in sight
	Children []*Namespace // by inode

	Members []*Process // by pid
	Refs    []Ref      // what else holds it, so that it may live without members

	// UIDs and GIDs are the maps of a user namespace with members, see ReadIDMaps.
	UIDs, GIDs IDMap
}

// String returns the kernel's own notation: "pid:[4026531836]".
func (n *Namespace) String() string {
	if n == nil {
		return "unknown"
	}
	return n.Type.ProcName() + ":[" + strconv.FormatUint(n.Inode, 10) + "]"
}

// initial are the inodes of the machine's first namespaces: include/uapi/linux/nsfs.h.
var initial = [...]uint64{
	abi.NSIPC: 0xEFFFFFFF, abi.NSUTS: 0xEFFFFFFE, abi.NSUser: 0xEFFFFFFD, abi.NSPID: 0xEFFFFFFC,
	abi.NSCgroup: 0xEFFFFFFB, abi.NSTime: 0xEFFFFFFA, abi.NSNetwork: 0xEFFFFFF9, abi.NSMount: 0xEFFFFFF8,
}

// Initial tells whether n is the machine's first namespace of its type, which has a fixed
// inode. Those of mount and network namespaces are fixed since Linux 6.18; before, the
// answer for them is false.
func (n *Namespace) Initial() bool {
	return int(n.Type) < len(initial) && n.Inode == initial[n.Type]
}

// A RefKind is a way to hold a namespace other than living in it.
type RefKind uint8

// The kinds.
const (
	RefFD       RefKind = iota // an open file descriptor
	RefMount                   // a bind mount, as ip-netns(8) makes them
	RefThread                  // a thread that is elsewhere than its process
	RefChildren                // where a process's next children will be
)

// A Ref is one holder of a namespace.
type Ref struct {
	Kind   RefKind
	PID    int    // the process, or the first in whose mount namespace the mount is
	Number int    // of the descriptor, or the thread's id
	Path   string // of the mount, as PID sees it; untrusted
}

func (r Ref) String() string {
	switch r.Kind {
	case RefFD:
		return fmt.Sprintf("file descriptor %d of process %d", r.Number, r.PID)
	case RefMount:
		return fmt.Sprintf("mounted on %s, seen by process %d", r.Path, r.PID)
	case RefThread:
		return fmt.Sprintf("thread %d of process %d", r.Number, r.PID)
	}
	return fmt.Sprintf("for children of process %d", r.PID)
}

// A System is all processes and namespaces of a machine, as far as its reader may know.
type System struct {
	Processes  []*Process   // by pid
	Namespaces []*Namespace // by type, then inode
	Self       *Process     // the reader; nil when the /proc is of a pid namespace without it
	PIDRoot    *Namespace   // the pid namespace of the /proc; nil when no process tells

	Device     uint64 // of nsfs: st_dev of every namespace's file
	Unreadable int    // processes whose namespaces the reader may not read
	Hidden     int    // processes of which a hidepid mount shows the pid alone

	reader uint64 // inode of the reader's user namespace; 0 when unknown
}

// Options say how to read. The zero value reads all of /proc but single threads.
type Options struct {
	Proc *os.File // the directory of a procfs; nil for /proc

	// Threads looks for namespaces that a single thread has left its process for, at the
	// price of five more links a thread.
	Threads bool
	// Quick leaves out open files and bind mounts, and so the namespaces that only these
	// hold.
	Quick bool

	// For tests, which have a tree of files instead of a kernel.
	open nsOpener
	boot time.Time
}

// An nsOpener opens the namespace at path from d; the kernel's is openNS.
type nsOpener func(d dir, path string, how uint64) (nsFile, error)

// Read takes a reading of the machine. That a process ends meanwhile, or belongs to
// another user, is no error; that /proc is not there is one, and ctx's end.
func Read(ctx context.Context, o Options) (*System, error) {
	root, done, err := openProc(o.Proc)
	if err != nil {
		return nil, err
	}
	defer done()
	pids, err := root.numbers(".")
	if err != nil {
		return nil, fmt.Errorf("/proc: list processes: %w", err)
	}
	r := &reader{
		Options: o, root: root,
		byInode: map[nsKey]*Namespace{}, asked: map[*Namespace]bool{}, mounted: map[*Namespace]bool{},
	}
	if r.open == nil {
		r.open, r.boot = openNS, bootTime()
	}
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("/proc: read process %d: %w", pid, err)
		}
		if err := r.process(pid); err != nil {
			return nil, err
		}
	}
	return r.finish(), nil
}

type nsKey struct {
	t     abi.Namespace
	inode uint64
}

// A reader is a System in the making.
type reader struct {
	Options
	System
	root    dir
	files   processReader
	byInode map[nsKey]*Namespace
	asked   map[*Namespace]bool // those whose relations are known
	mounted map[*Namespace]bool // mount namespaces that were searched
}

// process adds one process and what hangs on it.
func (r *reader) process(pid int) error {
	d, err := openDir(r.root, strconv.Itoa(pid))
	if gone(err) {
		return nil
	}
	if err != nil {
		return &processError{pid, "", err}
	}
	defer d.close()
	p, err := r.files.read(d, pid)
	switch {
	case gone(err):
		return nil
	case errors.Is(err, fs.ErrPermission):
		r.Hidden++
		return nil
	case err != nil:
		return err
	}
	p.Start = r.boot.Add(time.Duration(p.ticks) * tick)
	r.Processes = append(r.Processes, p)
	if !p.Readable {
		r.Unreadable++
		return nil
	}
	r.join(d, p)
	if (r.Threads || p.Ended) && p.Threads > 1 {
		r.threads(d, p) // the first thread may end before the others
	}
	if p.Kernel || p.Ended {
		return nil // neither has files or mounts of its own
	}
	r.forChildren(d, p)
	if !r.Quick {
		r.fds(d, p)
		r.mounts(d, p)
	}
	return nil
}

// find returns the namespace of a type and inode, a new one when it was not met before.
func (r *reader) find(t abi.Namespace, inode uint64) *Namespace {
	key := nsKey{t, inode}
	n := r.byInode[key]
	if n == nil {
		n = &Namespace{Type: t, Inode: inode, Creator: -1}
		r.byInode[key] = n
		r.Namespaces = append(r.Namespaces, n)
	}
	return n
}

// join makes p a member of its namespaces.
func (r *reader) join(d dir, p *Process) {
	for _, t := range abi.Namespaces() {
		if p.Inodes[t] == 0 {
			continue
		}
		n := r.find(t, p.Inodes[t])
		p.spaces[t] = n
		n.Members = append(n.Members, p)
		r.look(n, d, "ns/"+t.ProcName(), 0)
	}
	if n := p.spaces[abi.NSUser]; n != nil && n.UIDs == nil {
		if uids, gids, err := readIDMaps(d, p.PID); err == nil { // else the next member tells
			n.UIDs, n.GIDs = uids, gids
		}
	}
}

// look asks n for its relations by the file at path, once a namespace. A path that
// leads elsewhere by now, or nowhere, leaves the question to the next way to n.
func (r *reader) look(n *Namespace, d dir, path string, how uint64) {
	if r.asked[n] {
		return
	}
	f, err := r.open(d, path, how)
	if err != nil {
		return
	}
	defer f.close()
	if f.inode() == n.Inode {
		r.ask(n, f)
	}
}

// ask fills in what f, n's file, says of n, and adds those it is related to.
func (r *reader) ask(n *Namespace, f nsFile) {
	r.asked[n] = true
	n.ID = f.id()
	if fd, ok := f.(*nsFD); ok {
		r.Device = fd.stat.Dev
	}
	if n.Type == abi.NSUser {
		n.Creator = f.creator()
		n.Parent = r.related(f, parent, abi.NSUser)
		n.Owner = n.Parent
		return
	}
	n.Owner = r.related(f, owner, abi.NSUser)
	if n.Type == abi.NSPID {
		n.Parent = r.related(f, parent, abi.NSPID)
	}
}

// related returns the namespace which f names as its parent or owner; nil when that is
// out of sight.
func (r *reader) related(f nsFile, way relation, t abi.Namespace) *Namespace {
	g, err := f.ask(way)
	if err != nil {
		return nil
	}
	defer g.close()
	n := r.find(t, g.inode())
	if !r.asked[n] {
		r.ask(n, g)
	}
	return n
}

// held notes a namespace that ref holds, by the text of a link to it.
func (r *reader) held(ref Ref, link string, d dir, path string, how uint64) {
	name, inode, ok := parseLink(link)
	t, known := abi.ParseNamespace(strings.TrimSuffix(name, "_for_children"))
	if !ok || !known {
		return
	}
	n := r.find(t, inode)
	n.Refs = append(n.Refs, ref)
	r.look(n, d, path, how)
}

// forChildren notes where p's children will be, when that is elsewhere.
func (r *reader) forChildren(d dir, p *Process) {
	for _, t := range [...]abi.Namespace{abi.NSPID, abi.NSTime} {
		path := "ns/" + t.ProcName() + "_for_children"
		link, err := d.link(path) // none before the first child of a new pid namespace
		if _, inode, ok := parseLink(link); err == nil && ok && inode != p.Inodes[t] {
			r.held(Ref{Kind: RefChildren, PID: p.PID}, link, d, path, 0)
		}
	}
}

// fds notes the namespaces that p holds open.
func (r *reader) fds(d dir, p *Process) {
	numbers, err := d.numbers("fd")
	if err != nil {
		return
	}
	for _, n := range numbers {
		path := "fd/" + strconv.Itoa(n)
		if link, err := d.link(path); err == nil {
			r.held(Ref{Kind: RefFD, PID: p.PID, Number: n}, link, d, path, 0)
		}
	}
}

// mounts notes the namespaces that are mounted in p's mount namespace, unless another of
// its processes was asked before. Mount points are a stranger's: they are looked up below
// that process's root, without magic links.
func (r *reader) mounts(d dir, p *Process) {
	n := p.spaces[abi.NSMount]
	if n == nil || r.mounted[n] {
		return
	}
	data, err := d.read("mountinfo", nil)
	if err != nil {
		return
	}
	r.mounted[n] = true
	if !strings.Contains(string(data), " nsfs ") {
		return
	}
	list, err := ParseMounts(data)
	if err != nil {
		return
	}
	root, err := openDir(d, "root")
	if err != nil {
		return
	}
	defer root.close()
	for _, m := range list {
		if m.Type == "nsfs" {
			r.held(Ref{Kind: RefMount, PID: p.PID, Path: m.Point}, m.Root, root, m.Point, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
		}
	}
}

// threads notes the namespaces that threads of p have gone to alone. Of user, pid and time
// namespaces the kernel lets a process with threads have one only.
func (r *reader) threads(d dir, p *Process) {
	tids, err := d.numbers("task")
	if err != nil {
		return
	}
	for _, tid := range tids {
		for _, t := range [...]abi.Namespace{abi.NSMount, abi.NSNetwork, abi.NSUTS, abi.NSIPC, abi.NSCgroup} {
			path := "task/" + strconv.Itoa(tid) + "/ns/" + t.ProcName()
			link, err := d.link(path)
			if _, inode, ok := parseLink(link); err == nil && ok && inode != p.Inodes[t] {
				r.held(Ref{Kind: RefThread, PID: p.PID, Number: tid}, link, d, path, 0)
			}
		}
	}
}

// finish puts the reading in order.
func (r *reader) finish() *System {
	s := r.System
	byInode := func(a, b *Namespace) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Inode, b.Inode))
	}
	slices.SortFunc(s.Namespaces, byInode)
	for _, n := range s.Namespaces {
		if n.Parent != nil {
			n.Parent.Children = append(n.Parent.Children, n)
		}
	}
	s.findPIDRoot()
	if link, err := r.root.link("self"); err == nil {
		if pid, err := strconv.Atoi(link); err == nil {
			s.Self = s.Process(pid)
		}
	}
	s.reader = r.ownUser(s.Self)
	return &s
}

// findPIDRoot finds the pid namespace of the /proc, which is where processes with a
// single pid live, and puts those of other users there as well.
func (s *System) findPIDRoot() {
	for _, p := range s.Processes {
		if n := p.spaces[abi.NSPID]; n != nil && len(p.PIDs) == 1 {
			s.PIDRoot = n
			break
		}
	}
	if s.PIDRoot == nil {
		return
	}
	for _, p := range s.Processes {
		if p.spaces[abi.NSPID] == nil && len(p.PIDs) == 1 {
			p.spaces[abi.NSPID], p.Inodes[abi.NSPID] = s.PIDRoot, s.PIDRoot.Inode
			s.PIDRoot.Members = append(s.PIDRoot.Members, p)
		}
	}
	slices.SortFunc(s.PIDRoot.Members, func(a, b *Process) int { return a.PID - b.PID })
}

// ownUser returns the reader's user namespace, against which id maps were read. Where the
// /proc is another's, the reader is in the machine's own.
func (r *reader) ownUser(self *Process) uint64 {
	if self != nil {
		return self.Inodes[abi.NSUser]
	}
	link, err := dir(unix.AT_FDCWD).link("/proc/self/ns/user")
	_, inode, ok := parseLink(link)
	if err != nil || !ok {
		return 0
	}
	return inode
}
