package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/thread"
	"github.com/kakuri/kakuri/oci/criu"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ImageOptions are those that a checkpoint and a restore share. They are CRIU's: criu(8).
type ImageOptions struct {
	ImagePath      string // the directory of the image
	WorkPath       string // that of CRIU's logs; empty is ImagePath
	TCPEstablished bool   // with open connections
	ExtUnixSk      bool   // with unix sockets to the outside
	ShellJob       bool   // with a terminal of the outside
	FileLocks      bool
	AutoDedup      bool
	LazyPages      bool
	CgroupsMode    string   // soft, full, strict or ignore; empty is CRIU's default
	EmptyNS        []string // namespaces that are made and left as they are: "network", which is always among them
}

// CheckpointOptions are those of [Container.Checkpoint].
type CheckpointOptions struct {
	ImageOptions
	ParentPath      string // of an earlier image, from ImagePath
	LeaveRunning    bool
	PreDump         bool // only memory, and the container goes on
	TCPSkipInFlight bool
	LinkRemap       bool
	PageServer      string // ADDRESS:PORT
	StatusFD        int    // gets a null byte when pages can be asked for; negative is none
}

// configAnnotation names a configuration file for CRIU; an empty value is none at all.
const configAnnotation = "org.criu.config"

// defaultCRIUConfig is the file that CRIU reads for containers without that annotation, as for those of runc.
const defaultCRIUConfig = "/etc/criu/runc.conf"

// descriptorsFile is a file of the image: a JSON list of what the container's streams were.
const descriptorsFile = "descriptors.json"

// oldestCRIU is the version that answers what it is: older ones cannot be asked.
const oldestCRIU = 30000

// image is an image on its way: CRIU and the directories.
type image struct {
	dir, work *os.File
	log       string
	session   *criu.Session
	version   int
}

// opts are the options that a dump and a restore share.
func (o *ImageOptions) opts(m *image, annotations map[string]string) (*criu.Opts, error) {
	mode, err := cgroupsMode(o.CgroupsMode)
	if err != nil {
		return nil, err
	}
	for _, ns := range o.EmptyNS {
		if ns != string(specs.NetworkNamespace) {
			return nil, fmt.Errorf("--empty-ns %s: namespace %q is not supported: only network is", ns, ns)
		}
	}
	x := &criu.Opts{
		ImagesDir: int(m.dir.Fd()), LogLevel: 4, LogFile: m.log, Notify: true, OrphanPts: true,
		TCPEstablished: o.TCPEstablished, ExtUnixSk: o.ExtUnixSk, ShellJob: o.ShellJob, FileLocks: o.FileLocks,
		AutoDedup: o.AutoDedup, LazyPages: o.LazyPages, Cgroups: mode,
		// What is in a network namespace is not this runtime's.
		EmptyNS: abi.CloneNewNet,
	}
	if m.work != nil {
		x.WorkDir = int(m.work.Fd())
	}
	if file, ok := annotations[configAnnotation]; ok {
		x.ConfigFile = file
	} else {
		x.ConfigFile = defaultCRIUConfig
	}
	return x, nil
}

func cgroupsMode(s string) (criu.CgroupMode, error) {
	switch s {
	case "":
		return criu.CgroupDefault, nil
	case "soft":
		return criu.CgroupSoft, nil
	case "full":
		return criu.CgroupFull, nil
	case "strict":
		return criu.CgroupStrict, nil
	case "ignore":
		return criu.CgroupIgnore, nil
	}
	return 0, fmt.Errorf("invalid manage-cgroups-mode value %q: it is soft, full, strict or ignore", s)
}

// openDirs opens the directories of the image and of the logs. A dump makes them, for their owner alone: an image has all of
// the memory of a container.
func (o *ImageOptions) openDirs(m *image, create bool) (err error) {
	if create {
		if err := os.MkdirAll(o.ImagePath, 0o700); err != nil {
			return fmt.Errorf("--image-path: %w", err)
		}
	}
	if m.dir, err = openDir("--image-path", o.ImagePath); err != nil {
		return err
	}
	if create {
		if err := onlyOurs(m.dir); err != nil {
			return fmt.Errorf("--image-path: %w", err)
		}
	}
	if o.WorkPath == "" {
		return nil
	}
	if err := os.Mkdir(o.WorkPath, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("--work-path: %w", err)
	}
	if m.work, err = openDir("--work-path", o.WorkPath); err == nil && create {
		if err = onlyOurs(m.work); err != nil {
			err = fmt.Errorf("--work-path: %w", err)
		}
	}
	return err
}

// onlyOurs refuses a directory that others may write to. CRIU opens files of an image by their names, through links, and takes those that are there: another
// would choose which of root's files it overwrites, or have the container's memory in a file of his own.
func onlyOurs(dir *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	switch mode := st.Mode & 0o777; {
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s is user %d's, who would have a say in what CRIU writes there: name a directory of your own, or one that is not there", dir.Name(), st.Uid)
	case mode&0o002 != 0 || mode&0o020 != 0 && st.Gid != 0 && int(st.Gid) != os.Getegid():
		return fmt.Errorf("%s has mode %04o, so that others would have a say in what CRIU writes there: chmod go-w, or name a directory that is not there", dir.Name(), mode)
	}
	return nil
}

func openDir(flag, path string) (*os.File, error) {
	if path == "" {
		return nil, fmt.Errorf("%s: a directory is needed", flag)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, &os.PathError{Op: "open", Path: path, Err: err})
	}
	return os.NewFile(uintptr(fd), path), nil
}

func (m *image) close() {
	if m.session != nil {
		m.session.Close() // what was to be known of it is known
	}
	for _, f := range []*os.File{m.dir, m.work} {
		if f != nil {
			f.Close()
		}
	}
}

// ask finds out CRIU's version.
func (m *image) ask(ctx context.Context, r *Runtime) error {
	a, err := m.session.Do(ctx, criu.Request{Type: criu.Version, KeepOpen: true}, nil)
	if err != nil {
		return fmt.Errorf("CRIU version check failed: %w", err)
	}
	if m.version = a.Version; m.version < oldestCRIU {
		return fmt.Errorf("CRIU version %d must be %d or higher", m.version, oldestCRIU)
	}
	r.debug("Using CRIU %d", m.version)
	return nil
}

// want asks for features of kernel and CRIU.
func (m *image) want(ctx context.Context, f criu.Features) error {
	a, err := m.session.Do(ctx, criu.Request{Type: criu.FeatureCheck, Features: &f, KeepOpen: true}, nil)
	if err != nil {
		return fmt.Errorf("CRIU feature check failed: %w", err)
	}
	var missing []string
	if f.MemTrack && !a.Features.MemTrack {
		missing = append(missing, "MemTrack")
	}
	if f.LazyPages && !a.Features.LazyPages {
		missing = append(missing, "LazyPages")
	}
	if len(missing) > 0 {
		return fmt.Errorf("CRIU is missing features: %v: its own check says why: criu check --feature %s", missing,
			map[string]string{"MemTrack": "mem_dirty_track", "LazyPages": "uffd-noncoop"}[missing[0]])
	}
	return nil
}

// do makes the request of the session, and explains a failure with what CRIU's log has.
func (m *image) do(ctx context.Context, r *Runtime, req criu.Request, notify func(criu.Notice) error) error {
	logs := m.dir
	if m.work != nil {
		logs = m.work
	}
	// What is found there afterwards is of this time. CRIU would follow links that an image brings in their place.
	for _, name := range []string{m.log, "stats-dump", "stats-restore"} {
		unix.Unlinkat(int(logs.Fd()), name, 0)
	}
	for _, x := range req.Opts.ExtMounts {
		r.debug("CRIU option ExtMnt with value %s:%s", x.Key, x.Name)
	}
	_, err := m.session.Do(ctx, req, func(n criu.Notice) error {
		r.debug("notify: %s", n.Script)
		return notify(n)
	})
	// A pre-dump has CRIU wait for the dump after it.
	if e := m.session.Close(); err == nil && req.Type != criu.PreDump {
		err = e
	}
	if err == nil {
		return nil
	}
	quoted, cause := errorsIn(logs, m.log)
	for _, line := range quoted {
		r.warn(line)
	}
	var failure *criu.Failure
	if errors.As(err, &failure) {
		if failure.Message = plan.OneLine(strings.TrimSpace(failure.Message)); cause != "" {
			failure.Message = cause // the message is the log's first error, whatever followed from it
		}
	}
	return fmt.Errorf("%w; see %s", err, filepath.Join(logs.Name(), m.log))
}

// maxLog bounds how much of a log is read, in bytes.
const maxLog = 16 << 20

// errorsIn quotes lines of a log that tell of errors, with a few lines before each, and gives the first of them.
func errorsIn(dir *os.File, name string) (quoted []string, first string) {
	data, err := readAt(dir, name, maxLog)
	if err != nil {
		return nil, ""
	}
	const before, most = 5, 60
	shown := 0
	lines := bytes.Split(data, []byte("\n"))
	for i, line := range lines {
		if !bytes.Contains(line, []byte("Error")) || doneWithout(line) {
			continue
		}
		if first == "" {
			_, text, _ := strings.Cut(string(line), "Error ")
			first = plan.OneLine(text)
		}
		for n := max(shown, i-before); n <= i && len(quoted) < most; n++ {
			if !doneWithout(lines[n]) {
				quoted = append(quoted, fmt.Sprintf("%s:%d: %s", name, n+1, plan.OneLine(string(lines[n]))))
			}
		}
		shown = i + 1
	}
	return quoted, first
}

// doneWithout reports whether a line tells of what CRIU would like to have, rights and a device, and does without: that is not what it failed for. Podman would take
// one that says "not permitted" for the error.
func doneWithout(line []byte) bool {
	return bytes.Contains(line, []byte("rlimit: ")) || bytes.Contains(line, []byte("tun: Unable to create tun"))
}

// readAt reads a regular file of a directory, whose names may be anybody's.
func readAt(dir *os.File, name string, most int64) ([]byte, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	path := filepath.Join(dir.Name(), name)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > most {
		return nil, fmt.Errorf("%s: it is no regular file of at most %d bytes", path, most)
	}
	data := make([]byte, st.Size())
	n, err := f.ReadAt(data, 0)
	if n == len(data) {
		err = nil
	}
	return data[:n], err
}

// Checkpoint writes the state of all processes of a running or paused container into a directory, and unless it is to go on
// takes the container away.
func (c *Container) Checkpoint(ctx context.Context, o CheckpointOptions) error {
	err := c.locked(func() error {
		if s := c.Status(); s != specs.StateRunning && s != StatusPaused {
			return fmt.Errorf("container cannot be checkpointed in %s state", s)
		}
		return c.dump(ctx, &o)
	})
	if err != nil || o.LeaveRunning || o.PreDump {
		return err
	}
	if err := c.Delete(context.WithoutCancel(ctx), true); err != nil && !errors.Is(err, ErrNotExist) {
		c.runtime.warn(err.Error()) // the image is whole
	}
	return nil
}

// dump has CRIU make the image.
func (c *Container) dump(ctx context.Context, o *CheckpointOptions) error {
	first := c.process()
	if first == nil {
		return ErrNotRunning
	}
	defer first.Close()
	if err := c.canBeDumped(); err != nil {
		return err
	}
	m := &image{log: "dump.log"}
	defer m.close()
	if err := o.openDirs(m, true); err != nil {
		return err
	}
	if err := checkParent(o.ParentPath, m.dir); err != nil {
		return err
	}
	x, streams, err := c.dumpOpts(first, m, o)
	if err != nil {
		return err
	}
	if m.session, err = startPrivate(); err != nil {
		return err
	}
	if err := m.ask(ctx, c.runtime); err != nil {
		return err
	}
	if o.PreDump || o.LazyPages {
		if err := m.want(ctx, criu.Features{MemTrack: o.PreDump, LazyPages: o.LazyPages}); err != nil {
			return err
		}
	}
	c.asVersionCan(m.version, x, o)
	req := criu.Request{Type: criu.Dump, Opts: x}
	if o.PreDump {
		req.Type = criu.PreDump
	} else if err := writeDescriptors(m.dir, streams); err != nil {
		return err
	}
	if err := c.noteCRIU(m.session.PID()); err != nil {
		return err
	}
	err = m.do(ctx, c.runtime, req, func(n criu.Notice) error { return c.dumpNotice(n, m, o) })
	c.state.CRIU = nil
	return errors.Join(err, c.save())
}

// startPrivate starts CRIU so that what it writes is for its owner alone: its files would be readable to all, who may have a way into a directory that
// was there before.
func startPrivate() (s *criu.Session, err error) {
	<-thread.Aside(func() {
		if err = os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_FS)); err != nil {
			return
		}
		unix.Umask(0o077) // of this thread
		s, err = criu.Start(criu.Options{})
	})
	return s, err
}

// dumpOpts are what CRIU is to be asked for, and the streams that are the container's from outside. What is not its own, namespaces, streams
// and mounts, the image only names.
func (c *Container) dumpOpts(first *Process, m *image, o *CheckpointOptions) (x *criu.Opts, streams []string, err error) {
	x, err = o.opts(m, c.state.Annotated)
	if err != nil {
		return nil, nil, err
	}
	x.PID, x.Root = c.state.PID, c.state.Rootfs
	x.LeaveRunning, x.TCPSkipInFlight, x.LinkRemap = o.LeaveRunning, o.TCPSkipInFlight, o.LinkRemap
	x.Parent, x.TrackMem = o.ParentPath, o.ParentPath != ""
	if x.PageServer, err = pageServer(o.PageServer); err != nil {
		return nil, nil, err
	}
	if o.LazyPages && o.StatusFD >= 0 {
		if err := checkStatusFD(o.StatusFD); err != nil {
			return nil, nil, err
		}
	}
	if x.External, err = c.externalNamespaces(first); err != nil {
		return nil, nil, err
	}
	inside, err := readMounts("/proc/" + strconv.Itoa(c.state.PID) + "/mountinfo")
	if err != nil {
		return nil, nil, err
	}
	streams = c.outsideStreams(first, inside)
	for _, s := range streams[firstFile:] {
		x.External = append(x.External, strings.TrimSuffix(s, nullSuffix))
	}
	if !o.PreDump {
		if x.ExtMounts, err = c.externalMounts(first, inside); err != nil {
			return nil, nil, err
		}
	}
	return x, streams, nil
}

// noteCRIU has others know who works on the container.
func (c *Container) noteCRIU(pid int) error {
	p := OpenProcess(pid)
	if p == nil {
		return fmt.Errorf("criu, process %d, went away", pid)
	}
	defer p.Close()
	w := p.Witness()
	c.state.CRIU = &w
	return c.save()
}

// canBeDumped refuses what would end in an image that nobody can restore.
func (c *Container) canBeDumped() error {
	if w := c.state.CRIU; w != nil {
		if p := w.Open(); p != nil {
			p.Close()
			return fmt.Errorf("criu, process %d, of a checkpoint that was killed is still at work on container %s", w.PID, c.ID)
		}
	}
	config, err := c.Spec()
	if err != nil {
		return err
	}
	if mapsUsers(config) {
		return errors.New("linux.namespaces: a container in a user namespace cannot be checkpointed: CRIU could not make its devices again, which it has from outside")
	}
	return nil
}

// mapsUsers reports whether a container has a user namespace named, of its own or by a path.
func mapsUsers(s *specs.Spec) bool {
	return s.Linux != nil && slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
}

// asVersionCan sets what depends on CRIU's version.
func (c *Container) asVersionCan(version int, x *criu.Opts, o *CheckpointOptions) {
	const statusByNotice, freezesVersion2 = 31500, 31400
	if dir := c.freezer(); dir != "" && (c.state.Cgroups["freezer"] != "" || version >= freezesVersion2) {
		x.FreezeCgroup = dir // else CRIU stops the processes one by one
	}
	if o.LazyPages && o.StatusFD >= 0 && version < statusByNotice {
		x.StatusFD = o.StatusFD
	}
}

// freezer is the directory by which the container's cgroup is stopped.
func (c *Container) freezer() string {
	if dir := c.state.Cgroups["freezer"]; dir != "" {
		return dir
	}
	return c.state.Cgroups[""]
}

// dumpNotice does what is to be done at a stage of a dump.
func (c *Container) dumpNotice(n criu.Notice, m *image, o *CheckpointOptions) error {
	switch n.Script {
	case "post-dump":
		return c.forgetRuntime(m.dir)
	case "status-ready":
		if err := c.forgetRuntime(m.dir); err != nil || o.StatusFD < 0 {
			return err
		}
		fd := o.StatusFD
		o.StatusFD = -1
		if _, err := unix.Write(fd, []byte{0}); err != nil {
			c.runtime.warn(fmt.Sprintf("--status-fd %d: %v", fd, err))
		}
		unix.Close(fd) // who waits for it must not wait for the last page
	}
	return nil
}

// forgetRuntime takes out of the image that the container is to end with the command that runs it in the foreground: that command is
// not there when it is restored.
func (c *Container) forgetRuntime(dir *os.File) error {
	if !c.state.Foreground {
		return nil
	}
	return criu.ForgetParentDeath(dir, pidInside(c.state.PID))
}

// checkParent wants a directory, named from that of the image: CRIU makes a link of it.
func checkParent(parent string, dir *os.File) error {
	if parent == "" {
		return nil
	}
	if filepath.IsAbs(parent) {
		return errors.New("--parent-path must be relative: it is from --image-path")
	}
	fd, err := unix.Openat(int(dir.Fd()), parent, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("invalid --parent-path: %w", &os.PathError{Op: "open", Path: filepath.Join(dir.Name(), parent), Err: err})
	}
	return unix.Close(fd)
}

// checkStatusFD wants a descriptor of the caller's that can be written to.
func checkStatusFD(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return fmt.Errorf("invalid --status-fd argument %d: %w", fd, err)
	}
	if flags&unix.O_ACCMODE == unix.O_RDONLY {
		return fmt.Errorf("invalid --status-fd argument %d: not writable", fd)
	}
	return nil
}

// pageServer reads ADDRESS:PORT, with brackets around an address of IPv6.
func pageServer(s string) (*criu.PageServer, error) {
	if s == "" {
		return nil, nil
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return nil, fmt.Errorf("--page-server %s: it is ADDRESS:PORT", s)
	}
	address, port := s[:i], s[i+1:]
	if in, ok := strings.CutPrefix(address, "["); ok && strings.HasSuffix(in, "]") {
		address = strings.TrimSuffix(in, "]")
	} else if strings.ContainsAny(address, ":[]") {
		address = ""
	}
	if address == "" || port == "" {
		return nil, fmt.Errorf("--page-server %s: it is ADDRESS:PORT", s)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return nil, fmt.Errorf("--page-server %s: the port is a number up to 65535", s)
	}
	return &criu.PageServer{Address: address, Port: uint16(n)}, nil
}

// firstFile is where the list in descriptors.json goes on, after the streams, with the files of the host that they are:
// "file[MOUNT:INODE]", CRIU's name for one, and nullSuffix where it is the null device.
const (
	firstFile  = 3
	nullSuffix = ":/dev/null"
)

// pipePrefix begins the name of a pipe in /proc/PID/fd: "pipe:[INODE]".
const pipePrefix = "pipe:["

// outsideStreams is what the container's streams are: pipes as they were at its creation, since the process
// may have moved them, and one that is among its streams by now may be its own: a restore that saw it here would
// give it the caller's. Files of the host, which are in none of the container's mounts, come after them.
func (c *Container) outsideStreams(first *Process, inside []mountPoint) []string {
	list := make([]string, firstFile)
	for i := range firstFile {
		fd := strconv.Itoa(i)
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(first.Dir(), "fd/"+fd, target)
		if name := string(target[:max(n, 0)]); err == nil && !strings.HasPrefix(name, pipePrefix) {
			list[i] = name
		}
		if i < len(c.state.Stdio) && c.state.Stdio[i] != "" {
			list[i] = c.state.Stdio[i]
		}
		var st unix.Stat_t
		if err != nil || unix.Fstatat(first.Dir(), "fd/"+fd, &st, 0) != nil {
			continue
		}
		null := isNull(&st)
		mount := mountOf(first, fd)
		if !null && st.Mode&unix.S_IFMT != unix.S_IFREG || mount == "" || slices.ContainsFunc(inside, func(m mountPoint) bool { return m.id == mount }) {
			continue
		}
		id, err := strconv.ParseUint(mount, 10, 32)
		if err != nil {
			continue
		}
		name := fmt.Sprintf("file[%x:%x]", id, st.Ino)
		if null {
			name += nullSuffix
		}
		if !slices.Contains(list[firstFile:], name) {
			list = append(list, name)
		}
	}
	return list
}

// mountOf is the id of the mount that a descriptor's file is on, empty when it cannot be read.
func mountOf(p *Process, fd string) string {
	f, err := unix.Openat(p.Dir(), "fdinfo/"+fd, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(f)
	buf := make([]byte, 4096)
	n, err := unix.Read(f, buf)
	if err != nil {
		return ""
	}
	return mountIn(buf[:n])
}

// mountIn finds the id of a mount in what fdinfo has of a descriptor: proc_pid_fdinfo(5).
func mountIn(data []byte) string {
	for line := range strings.Lines(string(data)) {
		if id, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			return strings.TrimSpace(id)
		}
	}
	return ""
}

// writeDescriptors puts the list of streams into the image.
func writeDescriptors(dir *os.File, list []string) error {
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err = criu.Replace(dir, descriptorsFile, data, 0o600); err != nil {
		return fmt.Errorf("--image-path: write %s: %w", filepath.Join(dir.Name(), descriptorsFile), err)
	}
	return nil
}

// streamPipes are this process's own streams that are pipes, by their names in /proc: what a container without a
// terminal has, too.
func streamPipes() []string {
	var list []string
	for fd := range 3 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
			continue
		}
		if link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); err == nil && strings.HasPrefix(link, "pipe:") {
			if list == nil {
				list = make([]string, 3)
			}
			list[fd] = link
		}
	}
	return list
}

// outsideNamespaces are the namespaces of a configuration that are joined by a path and that CRIU is not to look into, with the
// key by which image and restore name them.
func outsideNamespaces(config *specs.Spec) (list []outsideNamespace) {
	for _, n := range namespaces(config) {
		if n.Path == "" {
			continue
		}
		switch n.Type {
		case specs.NetworkNamespace:
			list = append(list, outsideNamespace{"net", "extRootNetNS", n.Path})
		case specs.PIDNamespace:
			list = append(list, outsideNamespace{"pid", "extRootPidNS", n.Path})
		}
	}
	return list
}

type outsideNamespace struct{ name, key, path string }

// externalNamespaces names those of the first process: the file that they were joined by may be gone.
func (c *Container) externalNamespaces(first *Process) (list []string, err error) {
	config, err := c.Spec()
	if err != nil {
		return nil, err
	}
	for _, n := range outsideNamespaces(config) {
		var st unix.Stat_t
		if err := unix.Fstatat(first.Dir(), "ns/"+n.name, &st, 0); err != nil {
			return nil, fmt.Errorf("/proc/%d/ns/%s: %w", c.state.PID, n.name, err)
		}
		list = append(list, fmt.Sprintf("%s[%d]:%s", n.name, st.Ino, n.key))
	}
	return list, nil
}

// A boundMount is one of the container's that is no file system of its own: CRIU does not make it again.
type boundMount struct {
	source, dest string
	recursive    bool
	mask         bool // the host's null device, where a file is hidden
	attrs        plan.Attrs
	only         bool // as in [plan.Bind]
	along        bool // by a recursive bind
	cause        plan.Cause
}

// nullDevice is what files are masked with, and what the image calls that.
const nullDevice = "/dev/null"

// boundMounts finds them in a plan.
func boundMounts(p plan.Plan) (list []boundMount, err error) {
	theirs := map[plan.Reg]bool{} // trees that were opened when the mounts were still the host's
	private := false
	for _, s := range p.Steps {
		switch op := s.Op.(type) {
		case *plan.Propagation:
			private = true
		case *plan.OpenTree:
			theirs[op.Out] = !private
		case *plan.Bind:
			if op.Source == "" || op.Inside {
				continue // of a file system of the container's: CRIU finds out by itself
			}
			if check, ok := s.Check.(*plan.MountCheck); ok && check.Set&abi.MountAttrIdmap != 0 {
				return nil, fmt.Errorf("the mount on %s is id-mapped: CRIU would restore it without its mapping", op.Dest)
			}
			if theirs[op.Tree] {
				return nil, fmt.Errorf("the mount on %s is shared with the host: CRIU would restore it without that", op.Dest)
			}
			list = append(list, boundMount{source: filepath.Clean(op.Source), dest: filepath.Clean("/" + op.Dest), recursive: op.Recursive, attrs: op.Attrs, only: op.Only, cause: s.Cause})
		case *plan.Device:
			if op.Bind != "" {
				list = append(list, boundMount{source: op.Bind, dest: filepath.Clean("/" + op.Path), cause: s.Cause})
			}
		case *plan.Mask:
			list = append(list, boundMount{source: nullDevice, dest: filepath.Clean("/" + op.Path), mask: true, attrs: op.Attrs(), cause: s.Cause})
		}
	}
	return list, nil
}

// A mountPoint is a line of mountinfo: proc_pid_mountinfo(5).
type mountPoint struct {
	id, parent, root, path, options, fsType string
	unbindable                              bool // a recursive bind leaves it out, with what is mounted on it: mount(2)
}

func readMounts(file string) ([]mountPoint, error) {
	data, err := files.Read(file)
	if err != nil {
		return nil, err
	}
	var list []mountPoint
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		i := slices.Index(f, "-")
		if len(f) < 7 || i < 0 || i+1 >= len(f) {
			continue
		}
		list = append(list, mountPoint{f[0], f[1], abi.UnescapeMount(f[3]), abi.UnescapeMount(f[4]), f[5], f[i+1], slices.Contains(f[6:i], "unbindable")})
	}
	return list, nil
}

// below are the mounts of a list that a recursive bind of source takes along, named from there: "/sub".
func below(mounts []mountPoint, source string) (list []string) {
	source = strings.TrimSuffix(source, "/")
	var all []mountPoint
	for _, m := range mounts {
		if within(m.path, source) && len(m.path) > len(source)+1 {
			all = append(all, m)
		}
	}
	out := map[string]bool{}
	for n := -1; n < len(out); { // a mount may be listed before the one that it is on
		n = len(out)
		for _, m := range all {
			if m.unbindable || out[m.parent] {
				out[m.id] = true
			}
		}
	}
	for _, m := range all {
		if !out[m.id] {
			list = append(list, m.path[len(source):])
		}
	}
	return list
}

// externalMounts are what CRIU is told of the container's mounts that it is not to dump.
func (c *Container) externalMounts(first *Process, inside []mountPoint) ([]criu.ExtMount, error) {
	config, err := c.Spec()
	if err != nil {
		return nil, err
	}
	facts, err := host.Read(needs(config))
	if err != nil {
		return nil, err
	}
	p, err := plan.Compile(config, facts, plan.Options{Bundle: c.state.Bundle, ID: c.ID, AllCPUs: true, Cgroup: &plan.Cgroup{Paths: c.state.Cgroups}})
	if err != nil {
		return nil, err
	}
	binds, err := boundMounts(p)
	if err != nil {
		return nil, err
	}
	ours, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	root, err := unix.Openat(first.Dir(), "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/proc/%d/root: %w", c.state.PID, err)
	}
	defer unix.Close(root)
	at := map[string]mountPoint{} // of several at a place the last, which is the one to be seen
	for _, m := range inside {
		at[m.path] = m
	}
	var list []criu.ExtMount
	for _, b := range binds {
		place := resolveIn(root, b.dest)
		m, ok := at[place]
		switch {
		case !ok || b.mask && m.fsType == "tmpfs" && m.root == "/":
			// It is not there, the container took it away, or it is an empty directory. The null device may be on a tmpfs, too: in a
			// container's /dev, in which this runtime may well run.
		case b.mask:
			list = append(list, criu.ExtMount{Key: place, Name: nullDevice})
		default:
			list = append(list, criu.ExtMount{Key: place, Name: b.dest})
			if !b.recursive {
				continue
			}
			for _, rest := range below(ours, b.source) {
				if _, ok := at[place+rest]; ok && !slices.ContainsFunc(list, func(x criu.ExtMount) bool { return x.Key == place+rest }) {
					list = append(list, criu.ExtMount{Key: place + rest, Name: b.dest + rest})
				}
			}
		}
	}
	return list, nil
}

// resolveIn follows the links of a path below root, as far as it is there.
func resolveIn(root int, path string) string {
	rest := ""
	for dir := path; ; {
		fd, err := unix.Openat2(root, "."+dir, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
		if err == nil {
			defer unix.Close(fd)
			top, err1 := os.Readlink("/proc/self/fd/" + strconv.Itoa(root))
			place, err2 := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
			if err1 != nil || err2 != nil {
				return path
			}
			return filepath.Join("/", strings.TrimPrefix(place, strings.TrimSuffix(top, "/")), rest)
		}
		if dir == "/" || dir == "." {
			return path
		}
		rest = filepath.Join("/", filepath.Base(dir), rest)
		dir = filepath.Dir(dir)
	}
}
