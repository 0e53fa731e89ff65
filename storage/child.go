package storage

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/sandbox"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/storage/tree"
	"golang.org/x/sys/unix"
)

// The files of an ordinary user's images and containers belong to the ids that the user was given
// (subuid(5)), which only root of a user namespace with these ids may make, read and remove. So such work is a
// job: a rootless store starts its own program once more in a namespace, and [Child] does it there. Any other
// store does it on the spot.

// A job is such work. Its paths are the store's own.
type job struct {
	Op     string
	Path   string
	To     string   // of jobMove
	Skip   []string // of jobPack
	Served bool     // of jobPack and jobList: fuse-overlayfs has written the upper directory
	Mtab   bool     // of jobPack: the link of [plan.Mtab] is left out
	// Around, of jobPack, are directories of the image that hold what is left out, by their names in the layer: they are left out, too, where nothing else of them has changed.
	Around map[string]owned `json:",omitempty"`
	Bare   bool             // owners are left out
	Shut   bool             // the process is the job's alone, with namespaces to be shut in
}

// owned is what a directory has besides its name, times and content.
type owned struct {
	Mode     int64
	UID, GID int
}

const (
	jobUnpack = "unpack" // a layer from stdin into the directory Path; stdout gets an archive.Result
	jobPack   = "pack"   // the upper directory Path as a layer, to stdout
	jobList   = "list"   // what the upper directory Path has, to stdout
	jobRemove = "remove" // Path with all that is in it
	jobMove   = "move"   // Path to To
	jobTry    = "try"    // an overlay in Path
	jobForget = "forget" // where files of the upper directory Path come from
)

// childName is what the program is called as in a user namespace.
const childName = "kakuri-storage"

// childIsCalled says that this program can be started for a job.
var childIsCalled bool

// Child does the work of a process that a rootless store has started. The main function of a program that opens such
// stores calls it before all else, and ends with the code when it is done. With it, layers are unpacked in such a process as root, too.
func Child() (done bool, code int) {
	childIsCalled = true
	if filepath.Base(os.Args[0]) != childName || len(os.Args) != 2 {
		return false, 0
	}
	var j job
	err := json.Unmarshal([]byte(os.Args[1]), &j)
	if err == nil {
		err = j.run(context.Background(), os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return true, 1
	}
	return true, 0
}

// run does the job in this process.
func (j job) run(ctx context.Context, in io.Reader, out io.Writer) error {
	switch j.Op {
	case jobRemove:
		return files.RemoveAll(j.Path)
	case jobMove:
		return os.Rename(j.Path, j.To)
	case jobTry:
		return tryIn(j.Path)
	case jobForget:
		return j.inDir(func(dir *os.File) error { return forgetOrigins(int(dir.Fd()), 0) })
	case jobUnpack:
		o := archive.Options{Layer: true, Limits: tree.Limits(), NoOwner: j.Bare}
		if os.Getuid() != 0 || j.Bare || host.InUserNamespace() {
			o.Devices = archive.SkipDevices
		}
		if j.Shut {
			if err := sandbox.Shut(j.Path); err != nil {
				return err
			}
		}
		return j.inDir(func(dir *os.File) error {
			done, err := archive.Apply(ctx, dir, in, o)
			if err != nil {
				return err
			}
			return json.NewEncoder(out).Encode(done)
		})
	case jobPack:
		return j.inDir(func(dir *os.File) error {
			return archive.Write(ctx, out, dir, ".", archive.WriteOptions{Rename: ".", Layer: true, Served: j.Served, Skip: j.skips, Frame: j.around})
		})
	case jobList:
		return j.inDir(func(dir *os.File) error { return listUpper(dir, j.Served, out) })
	}
	return fmt.Errorf("no job %q", j.Op)
}

// skips reports whether a name is one of those to leave out.
func (j job) skips(f *os.File, name string) bool {
	name = strings.Trim(name, "/")
	if j.Mtab && name == mtab && isMtab(int(f.Fd()), "") {
		return true
	}
	for _, s := range j.Skip {
		if strings.Trim(s, "/") == name {
			return !written(f)
		}
	}
	return false
}

// written reports whether something is in a file: what was made for a mount is empty.
func written(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode().IsRegular() && st.Size() > 0
}

// around reports whether a directory is one of Around, as the image has it but for the times that what was made in it gave it.
func (j job) around(h *tar.Header) bool {
	as, ok := j.Around[h.Name]
	return ok && as == owned{h.Mode, h.Uid, h.Gid} && len(h.PAXRecords) == 0
}

func (j job) inDir(do func(dir *os.File) error) error {
	dir, err := os.Open(j.Path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return do(dir)
}

// do does a job where it may be done.
func (s *Store) do(ctx context.Context, j job, in *os.File, out io.Writer) error {
	j.Shut = j.Op == jobUnpack && childIsCalled
	if !s.o.Rootless && !j.Shut {
		var r io.Reader = strings.NewReader("")
		if in != nil {
			r = in
		}
		return j.run(ctx, r, out)
	}
	var others []abi.Namespace
	if j.Shut {
		others = sandbox.Namespaces()
	}
	return s.start(ctx, j, others, in, out)
}

// remove takes a tree away. What is all the caller's own goes without a process of his other ids, and so where the machine has no user namespaces for him.
func (s *Store) remove(path string) error {
	if s.o.Rootless && files.RemoveAll(path) == nil {
		return nil
	}
	return s.do(context.Background(), job{Op: jobRemove, Path: path}, nil, nil)
}

// start starts a process for a job, in new namespaces.
func (s *Store) start(ctx context.Context, j job, others []abi.Namespace, in *os.File, out io.Writer) error {
	j.Bare = s.o.Rootless && len(s.o.IDs.UIDs) == 1 && s.o.IDs.UIDs[0].Size == 1
	text, err := json.Marshal(j)
	if err != nil {
		return err
	}
	ids := IDs{}
	if s.o.Rootless {
		if ids = s.o.IDs; len(ids.UIDs) == 0 || len(ids.GIDs) == 0 {
			return errors.New("storage: a rootless store has to know the caller's ids")
		}
	}
	return Helper{Name: childName, Arg: string(text), IDs: ids, Others: others, In: in, Out: out}.Run(ctx)
}

// A Helper is this program once more, for a job with other ids, or in namespaces that let it do nothing else.
type Helper struct {
	Name, Arg string          // its os.Args: the main function of the program has to know the name
	IDs       IDs             // of the user namespace that it is in; without any there is none
	Others    []abi.Namespace // other new namespaces
	In        *os.File        // its standard input; nil is none
	Out       io.Writer       // takes its standard output; nil for nobody
}

// Run starts the helper, and waits for its end. Descriptors that are not close-on-exec it has, too, unless it is in a pid namespace of its own. Its
// standard error is the error, where it ends with another code than 0.
func (h Helper) Run(ctx context.Context) error {
	p, err := h.plan()
	if err != nil {
		return err
	}
	// It ends with the thread that made it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	in, fed, err := h.input()
	if err != nil {
		return err
	}
	defer fed()
	var pipes [2][2]*os.File
	for i := range pipes {
		if pipes[i][0], pipes[i][1], err = os.Pipe(); err != nil {
			return err
		}
		defer pipes[i][0].Close()
		defer pipes[i][1].Close()
	}
	proc, err := launch.Run(ctx, p, launch.Options{Hands: mapper{}, KeepFDs: !h.alone(), Stdio: [3]*os.File{in, pipes[0][1], pipes[1][1]}})
	if err != nil {
		return fmt.Errorf("a process with the caller's ids: %w", err)
	}
	pipes[0][1].Close()
	pipes[1][1].Close()
	var said bytes.Buffer
	heard := make(chan error, 1)
	go func() { _, err := io.Copy(&said, io.LimitReader(pipes[1][0], 64<<10)); heard <- err }()
	out := h.Out
	if out == nil {
		out = io.Discard
	}
	_, copied := io.Copy(out, pipes[0][0])
	pipes[0][0].Close() // a writer whose reader is gone ends
	err = <-heard
	status, waited := proc.Wait()
	notFed := fed()
	switch {
	case copied != nil || err != nil || waited != nil || notFed != nil:
		return errors.Join(copied, err, waited, notFed)
	case status != 0:
		return cmp.Or(ctx.Err(), h.failure(status, strings.TrimSpace(said.String())))
	}
	return ctx.Err()
}

// failure is why a helper did not do its work: what it said, which one that was killed has not.
func (h *Helper) failure(status syscall.WaitStatus, said string) error {
	switch {
	case status.Signaled():
		return fmt.Errorf("%s was ended by signal %s", h.Name, abi.Signal(status.Signal()))
	case said == "":
		return fmt.Errorf("%s ended with code %d", h.Name, status.ExitStatus())
	}
	return errors.New(said)
}

// alone reports whether the helper has a pid namespace of its own: there it has to be the first process, and ends with this one as it would without.
func (h *Helper) alone() bool { return slices.Contains(h.Others, abi.NSPID) }

func (h *Helper) plan() (plan.Plan, error) {
	if h.IDs.Join != "" {
		root := uint32(0)
		return plan.CompileEnter(plan.EnterOptions{
			Join: []plan.JoinNamespace{{NS: abi.NSUser, Path: h.IDs.Join}}, SetUID: &root, SetGID: &root, File: "/proc/self/exe", Args: []string{h.Name, h.Arg}, Env: os.Environ(),
		}, h.IDs.Facts)
	}
	o := plan.UnshareOptions{New: slices.Clone(h.Others), UIDs: h.IDs.UIDs, GIDs: h.IDs.GIDs, File: "/proc/self/exe", Args: []string{h.Name, h.Arg}, Env: os.Environ()}
	if len(h.IDs.UIDs) > 0 && len(h.IDs.GIDs) > 0 {
		o.New = append(o.New, abi.NSUser)
	}
	if h.alone() {
		o.Fork, o.KillChild = true, abi.SIGKILL
	}
	return plan.CompileUnshare(o, h.IDs.Facts)
}

// input is what the helper gets to read. fed closes it, and tells whether all could be read that it was to get.
func (h *Helper) input() (in *os.File, fed func() error, err error) {
	if h.In == nil {
		null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
		if err != nil {
			return nil, nil, err
		}
		return null, sync.OnceValue(func() error { null.Close(); return nil }), nil
	}
	st, err := h.In.Stat()
	if err != nil {
		return nil, nil, err
	}
	if h.alone() && st.Mode().IsRegular() {
		// By /proc/self/fd a file can be opened once more, for writing, too. A pipe leads nowhere.
		return piped(h.In)
	}
	return h.In, func() error { return nil }, nil
}

// piped gives the reading end of a pipe into which all of a regular file is written. end closes it, and tells whether the file could be read.
func piped(file *os.File) (r *os.File, end func() error, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(w, file)
		w.Close()
		if errors.Is(err, unix.EPIPE) { // enough was read
			err = nil
		}
		done <- err
	}()
	return r, sync.OnceValue(func() error { r.Close(); return <-done }), nil
}

// A mapper runs newuidmap(1) and newgidmap(1), with an empty environment: they are setuid.
type mapper struct{}

// Do implements [launch.Hands].
func (mapper) Do(ctx context.Context, op plan.Op, pid int) error {
	m, ok := op.(*plan.HelperIDMap)
	if !ok {
		return fmt.Errorf("%s: nothing here can do that", op.Name())
	}
	args := []string{strconv.Itoa(pid)}
	for _, r := range m.Map {
		args = append(args, strings.Fields(r.String())...)
	}
	cmd := exec.CommandContext(ctx, m.Program, args...)
	cmd.Env = []string{}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s: %s", err, bytes.TrimSpace(out), launch.HelperHint(string(out)))
	}
	return nil
}
