package content

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/sandbox"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/storage"
	"golang.org/x/sys/unix"
)

// What is done to files of a container or a volume is a job. An ordinary user whose containers have more ids than the user's own
// may not open, make and remove files of those; then the job is done by this program once more, as root of a user namespace that
// has the container's ids. It gets the container's root directory as a descriptor, and never enters the container. Where a file system may not answer (see
// [View.Running]), the job is done by a child that has no namespace of its own, and the container's ids from this process.
type job struct {
	Op                         string
	Name                       string // the container's
	Path, Dst                  string
	Follow, Archive, KeepTypes bool
	Store                      string // the directory of volumes; Name is the volume's then
	Child                      bool   // in a user namespace: no device can be made
	Shut                       bool   // the process is the job's alone, with namespaces to be shut in
	Passing                    []uint64
	Root                       int             // the descriptor that the child has of the container's root directory
	UIDs, GIDs                 namespace.IDMap `json:",omitempty"` // the container's, for a child that is in this process's user namespace
}

const (
	jobStat   = "stat"   // Path, as JSON
	jobFrom   = "from"   // a tar of Path
	jobTo     = "to"     // a tar into Path
	jobOut    = "out"    // Path to the host's Dst
	jobIn     = "in"     // the host's Path to Dst
	jobExport = "export" // a tar of all
	jobFill   = "fill"   // a tar into a new volume
	jobStage  = "stage"  // a directory for what is to come into a volume; its path, as JSON
	jobUnpack = "unpack" // a tar into the directory Path; what was left out, as JSON
	jobTake   = "take"   // what is in the directory Path into a volume
	jobDump   = "dump"   // a tar of a volume
	jobSize   = "size"   // of a volume, as JSON
	jobRemove = "remove" // the directory Path
)

// childName is what the program is called as for a job, in such a namespace or in none.
const childName = "kakuri-files"

// Child does the job of a process that has been started for one. The main function of a program that opens views calls it before all else, and ends with
// the code when it is done.
func Child() (done bool, code int) {
	if filepath.Base(os.Args[0]) != childName || len(os.Args) != 2 {
		return false, 0
	}
	var j job
	err := json.Unmarshal([]byte(os.Args[1]), &j)
	if err == nil {
		v := &View{name: j.Name, uid: j.UIDs, gid: j.GIDs, passing: j.Passing}
		if len(j.UIDs) == 0 {
			v.uid, v.gid, v.noNodes = ownIDs("uid"), ownIDs("gid"), true
		}
		if j.ofContainer() {
			v.root = os.NewFile(uintptr(j.Root), "/")
		}
		err = j.run(context.Background(), v, &fed{from: os.Stdin}, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return true, 1
	}
	return true, 0
}

// ownIDs are those that there are in this process's user namespace, which are the container's, each as itself.
func ownIDs(kind string) namespace.IDMap {
	data, err := os.ReadFile("/proc/self/" + kind + "_map")
	m, bad := namespace.ParseIDMap(data)
	if err != nil || bad != nil {
		return namespace.IDMap{{Count: ^uint32(0)}} // then the kernel says which there is not
	}
	for i := range m {
		m[i].Outside = m[i].Inside
	}
	return m
}

func (j *job) ofContainer() bool { return j.Store == "" && j.Op != jobRemove }

// run does the job in this process.
func (j *job) run(ctx context.Context, v *View, in io.Reader, out io.Writer) error {
	switch j.Op {
	case jobStat:
		s, err := v.stat(j.Path)
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(s)
	case jobFrom:
		return v.copyFrom(ctx, out, j.Path, j.Follow)
	case jobTo:
		return v.write(ctx, in, j.Path, CopyToOptions{KeepTypes: j.KeepTypes, Archive: j.Archive})
	case jobOut:
		return v.copyOut(ctx, j.Path, j.Dst, CopyOptions{Archive: j.Archive, Follow: j.Follow})
	case jobIn:
		return v.copyIn(ctx, j.Path, j.Dst, CopyOptions{Archive: j.Archive, Follow: j.Follow})
	case jobExport:
		known := func(uid, gid uint32) bool {
			_, u := v.uid.Inside(uid)
			_, g := v.gid.Inside(gid)
			return u && g && !(j.Child && (uid == overflow || gid == overflow)) // it sees nobody's and others' alike
		}
		return archive.Write(ctx, out, v.root, "/", archive.WriteOptions{Rename: ".", OneMount: true, Known: known, UID: idInside(v.uid), GID: idInside(v.gid)})
	case jobRemove:
		return files.RemoveAll(j.Path)
	case jobUnpack:
		return j.unpack(ctx, in, out)
	}
	return j.runVolume(ctx, in, out)
}

// enter has a child do a job, with ids in a user namespace. root is the container's root directory, nil for none.
func enter(ctx context.Context, ids storage.IDs, j job, in io.Reader, out io.Writer, root *os.File) error {
	j.Child = len(ids.UIDs) > 0
	var others []abi.Namespace
	if j.Shut {
		others = sandbox.Namespaces()
	}
	if root != nil {
		fd, err := unix.Dup(int(root.Fd())) // without close-on-exec
		if err != nil {
			return os.NewSyscallError("dup", err)
		}
		defer unix.Close(fd)
		j.Root = fd
	}
	text, err := json.Marshal(j)
	if err != nil {
		return err
	}
	var stdin *os.File
	failed := make(chan error, 1) // why not all of in could be read
	if in != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer r.Close()
		go func() { // it ends when the child does, which has the other side
			if err := feed(ctx, w, in); err != nil {
				failed <- err
			}
			w.Close()
		}()
		stdin = r
	}
	helper := storage.Helper{Name: childName, Arg: string(text), IDs: ids, Others: others, In: stdin, Out: out}
	err = childError(j, helper.Run(ctx))
	select {
	case why := <-failed:
		if err != nil && strings.HasSuffix(err.Error(), why.Error()) {
			err = fmt.Errorf("%s%w", strings.TrimSuffix(err.Error(), why.Error()), why)
		}
	default:
	}
	return err
}

// childError gives errors that callers tell apart their types again.
func childError(j job, err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	p, ok := strings.CutPrefix(text, "Could not find the file ")
	if p, here := strings.CutSuffix(p, " in container "+j.Name); ok && here {
		return ErrNoSuchPath{p, j.Name}
	}
	if e := (ErrInMemory{Container: j.Name}); strings.HasSuffix(text, e.Error()) {
		e.Dir = strings.TrimSuffix(text, e.Error())
		return e
	}
	if strings.HasSuffix(text, unix.EROFS.Error()) {
		return fmt.Errorf("%s%w", strings.TrimSuffix(text, unix.EROFS.Error()), unix.EROFS)
	}
	return err
}

// mapped is how many ids a map has.
func mapped(m namespace.IDMap) (n uint64) {
	for _, l := range m {
		n += uint64(l.Count)
	}
	return n
}

// mappings is a map as plans have it.
func mappings(m namespace.IDMap) []plan.IDMapping {
	list := make([]plan.IDMapping, len(m))
	for i, l := range m {
		list[i] = plan.IDMapping{Inside: l.Inside, Outside: l.Outside, Size: l.Count}
	}
	return list
}
