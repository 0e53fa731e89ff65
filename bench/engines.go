package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/kakuri/kakuri/internal/testimage"
	"golang.org/x/sys/unix"
)

// engineArg is the whole command line of the inner process of -engines.
const engineArg = "inside-engines"

// An enginePeer is an engine with Docker's command line.
type enginePeer struct {
	Name    string
	Version string
	Failed  string // why it is not measured; else empty
	Prefix  []string
	Root    string // what its programs have as their root; empty is this machine's
	Uplink  string // its host's address, as another machine sees it
	seat    seat
	Pull    []string // flags of its pull from a registry without TLS
}

// An arena is where the engines are measured: namespaces of the bench's own, and a registry in them.
type arena struct {
	job
	Registry string             // HOST:PORT
	offer    func(net.Listener) // serves it there as well
	peers    []*enginePeer
	far      *enginePeer // the load on another machine
	null     *os.File
	quiet    settler
	mu       sync.Mutex
	n        int
}

// outsideEngines builds what is measured, images among it, and starts the inner process.
func outsideEngines(ctx context.Context, opts options, module string, stderr io.Writer) (err error) {
	if opts.Out == "" {
		opts.Out = filepath.Join(module, "bench", "RESULTS-engine.md")
	}
	if opts.Out, err = filepath.Abs(opts.Out); err != nil {
		return err
	}
	for _, image := range engineImages() {
		if _, err := testimage.Open(image); err != nil {
			return fmt.Errorf("image %s: %w", image, err)
		}
	}
	dir, err := os.MkdirTemp("/var/tmp", "kakuri-bench-") // a disk, where /tmp may be memory
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	j := job{Options: opts, Dir: dir, Binaries: buildAll(ctx, module, filepath.Join(dir, "bin")), Prefix: fmt.Sprintf("kkbench%d", os.Getpid()), Commit: commit(ctx, module)}
	if j.Outside, err = os.Readlink("/proc/self/ns/mnt"); err != nil {
		return err
	}
	// It is the first process of its pid namespace: daemons and containers end with it.
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS, Pdeathsig: syscall.SIGKILL}
	return reexec(ctx, j, engineArg, attr, time.Minute, stderr)
}

func insideEngines(ctx context.Context, stdin io.Reader, stderr io.Writer) error {
	var j job
	if err := json.NewDecoder(stdin).Decode(&j); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	images := map[string]v1.Image{}
	for _, image := range engineImages() {
		img, err := testimage.Open(image)
		if err != nil {
			return err
		}
		images[image] = img
	}
	a := &arena{job: j}
	if err := a.furnish(); err != nil {
		return err
	}
	facts := readFacts(j.Dir)
	if err := a.serve(images); err != nil {
		return err
	}
	if err := a.startPeers(ctx); err != nil {
		return err
	}
	rows, err := a.measure(ctx, stderr)
	if err != nil {
		return err
	}
	facts.Load[1], facts.Commit = loadAverage(), j.Commit
	text := engineReport(facts, j.Options, a.peers, rows, a.quiet.String())
	if err := writeFile(j.Options.Out, text); err != nil {
		return err
	}
	fmt.Println("written:", j.Options.Out)
	for _, r := range rows {
		if why := r.Failed["kakuri"]; why != "" {
			err = errors.Join(err, fmt.Errorf("%s: %s", r.Name, why))
		}
	}
	return err
}

// furnish makes the mounts: private, state of all engines on one disk, /run in memory, no cgroup2 beside version 1.
func (a *arena) furnish() error {
	mount := func(source, target, kind string, flags uintptr, data string) error {
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(source, target, kind, flags, data); err != nil {
			return fmt.Errorf("mount on %s: %w", target, err)
		}
		return nil
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := checkPrivate(a.Outside); err != nil {
		return err
	}
	steps := []func() error{
		func() error { return mount("proc", "/proc", "proc", 0, "") },
		func() error { return mount("tmpfs", "/run", "tmpfs", 0, "mode=755") },
		func() error { return os.MkdirAll(a.Dir+"/lib", 0o755) },
		func() error { return mount(a.Dir+"/lib", "/var/lib", "", syscall.MS_BIND, "") },
		loopbackUp, becomeReaper,
	}
	if root := a.Options.Peers; root != "" {
		// What is "/" for them has to be a mount.
		steps = append(steps, func() error { return mount(root, root, "", syscall.MS_BIND, "") })
		for _, d := range []string{"/proc", "/sys", "/dev", "/run", "/var/lib"} {
			steps = append(steps, func() error { return mount(d, root+d, "", syscall.MS_BIND|syscall.MS_REC, "") })
		}
	}
	for _, step := range steps[:4] {
		if err := step(); err != nil {
			return err
		}
	}
	if c, err := readCgroups(); err == nil && c.hybridControllers() {
		if err := replaceHybrid(filepath.Join(a.Dir, "cgroup"), c); err != nil {
			return err
		}
	}
	for _, step := range steps[4:] {
		if err := step(); err != nil {
			return err
		}
	}
	var err error
	a.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0)
	return err
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// serve starts a registry, with its blobs on the disk, and fills it.
func (a *arena) serve(images map[string]v1.Image) error {
	blobs := filepath.Join(a.Dir, "registry")
	if err := os.Mkdir(blobs, 0o700); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithBlobHandler(registry.NewDiskBlobHandler(blobs)))
	a.offer = func(l net.Listener) { go http.Serve(l, handler) }
	a.offer(l)
	a.Registry = l.Addr().String()
	for image, img := range images {
		ref, err := name.ParseReference(a.Registry+"/"+image+":1", name.Insecure)
		if err != nil {
			return err
		}
		if err := remote.Write(ref, img); err != nil {
			return fmt.Errorf("push %s: %w", image, err)
		}
	}
	return nil
}

// startPeers finds the engines, and starts Docker's daemon. One that is not there says so.
func (a *arena) startPeers(ctx context.Context) error {
	kakuri := &enginePeer{Name: "kakuri", Prefix: []string{a.binary("kakuri").Path}, Failed: a.binary("kakuri").Err}
	docker := &enginePeer{Name: "docker", Root: a.Options.Peers, Prefix: []string{"docker", "-H", "unix:///run/d.sock"}}
	podman := &enginePeer{Name: "podman", Root: a.Options.Peers, Pull: []string{"--tls-verify=false"},
		Prefix: []string{"podman", "--root", "/var/lib/podman", "--runroot", "/run/podman", "--cgroup-manager", "cgroupfs", "--events-backend", "file"}}
	a.peers = []*enginePeer{kakuri, docker, podman}
	if err := a.layCables(); err != nil {
		return err
	}
	if why := a.startDockerd(ctx, docker); why != nil {
		docker.Failed = why.Error()
	}
	for p, args := range map[*enginePeer][]string{kakuri: {"--version"}, docker: {"version", "--format", "{{.Server.Version}}"}, podman: {"version", "--format", "{{.Client.Version}}"}} {
		if p.Failed != "" {
			continue
		}
		out, err := a.output(p, args...)
		if err != nil {
			p.Failed = err.Error()
		}
		p.Version = firstLine(out)
	}
	return nil
}

func (a *arena) binary(name string) binary {
	i := slices.IndexFunc(a.Binaries, func(b binary) bool { return b.Name == name })
	return a.Binaries[i]
}

func (a *arena) startDockerd(ctx context.Context, p *enginePeer) error {
	words, err := os.Create(filepath.Join(a.Dir, "dockerd.log"))
	if err != nil {
		return err
	}
	defer words.Close()
	c := a.command(p, []string{"dockerd", "--data-root", "/var/lib/docker", "--exec-root", "/run/e", "--pidfile", "/run/d.pid", "-H", "unix:///run/d.sock"})
	c.Stdout, c.Stderr = words, words
	if err := p.seat.do(c.Start); err != nil {
		return err
	}
	for range 300 {
		if _, err = a.output(p, "version"); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(100 * time.Millisecond)
	}
	said, _ := os.ReadFile(words.Name())
	lines := strings.Split(strings.TrimSpace(string(said)), "\n")
	return fmt.Errorf("dockerd does not answer: %s", oneLine(lines[len(lines)-1]))
}

// command is a program of a peer's root, looked up there.
func (a *arena) command(p *enginePeer, argv []string) *exec.Cmd {
	path := argv[0]
	if !filepath.IsAbs(path) {
		for _, d := range []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
			if _, err := os.Stat(p.Root + d + "/" + argv[0]); err == nil {
				path = d + "/" + argv[0]
				break
			}
		}
	}
	return &exec.Cmd{Path: path, Args: argv, Dir: "/", Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C", "PODMAN_IGNORE_CGROUPSV1_WARNING=1"}, Stdin: a.null}
}

// output runs a verb of a peer, and returns what it printed. An error has its words.
func (a *arena) output(p *enginePeer, args ...string) (string, error) {
	c := a.command(p, append(slices.Clone(p.Prefix), args...))
	file, err := os.CreateTemp(a.Dir, "words-")
	if err != nil {
		return "", err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	c.Stdout, c.Stderr = file, file // a pipe would be held open by what stays
	if err = p.seat.do(c.Start); err == nil {
		watch := time.AfterFunc(enginePatience, func() { c.Process.Kill() })
		err = c.Wait()
		if !watch.Stop() {
			err = fmt.Errorf("killed after %v", enginePatience)
		}
	}
	text, _ := os.ReadFile(file.Name())
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, oneLine(lines[len(lines)-1]))
	}
	return string(text), nil
}

// enginePatience is the longest that one command of an engine may take.
const enginePatience = 3 * time.Minute

// An engineRow is what the rounds gave for one thing that engines do.
type engineRow struct {
	Name, Note string
	Times      map[string][]time.Duration // by engine, by round
	Failed     map[string]string
	Bytes      map[string]int64 // instead of times
}

func newEngineRow(name, note string) *engineRow {
	return &engineRow{Name: name, Note: note, Times: map[string][]time.Duration{}, Failed: map[string]string{}, Bytes: map[string]int64{}}
}

// measure runs the scenarios: in each round each engine, in another order each.
func (a *arena) measure(ctx context.Context, log io.Writer) ([]*engineRow, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	only, err := regexp.Compile(a.Options.Only)
	if err != nil {
		return nil, err
	}
	for _, p := range a.peers {
		if p.Failed == "" {
			if err := a.verb(p, "{pull} {busybox}"); err != nil {
				p.Failed = err.Error()
			}
		}
	}
	shuffle := rand.New(rand.NewPCG(1, 2))
	var rows []*engineRow
	for _, s := range scenarios() {
		if !only.MatchString(s.Name) {
			continue
		}
		began := time.Now()
		own, byName := s.rowsOf()
		if err := a.play(ctx, s, byName, shuffle); err != nil {
			return nil, err
		}
		rows = append(rows, own...)
		fmt.Fprintf(log, "%s: %v\n", s.Name, time.Since(began).Round(time.Second))
	}
	return rows, nil
}

// rowsOf makes the rows that a scenario fills, in the table's order and by name.
func (s *scenario) rowsOf() (rows []*engineRow, byName map[string]*engineRow) {
	byName = map[string]*engineRow{}
	add := func(name string) {
		if name != "" {
			byName[name] = newEngineRow(name, s.Note)
			rows = append(rows, byName[name])
		}
	}
	for _, ph := range s.Phases {
		add(ph.Row)
	}
	for _, name := range []string{s.First, s.Last, s.Memory} {
		add(name)
	}
	return rows, byName
}

// play runs one scenario with all its peers, and fills its rows.
func (a *arena) play(ctx context.Context, s scenario, rows map[string]*engineRow, shuffle *rand.Rand) error {
	peers := a.peers
	if s.Alone {
		peers = peers[:1]
	}
	failed := map[*enginePeer]error{}
	held := map[*enginePeer][]string{}
	for _, p := range peers {
		if p.Failed != "" {
			failed[p] = errors.New(p.Failed)
			continue
		}
		held[p], failed[p] = a.before(p, s, rows)
		// A crowd comes and goes in each round, so that what else goes on meanwhile is not taken for its cost.
		for n := 1; s.Last != "" && n < a.Options.Rounds && failed[p] == nil && ctx.Err() == nil; n++ {
			if failed[p] = a.after(p, s, rows, held[p]); failed[p] == nil {
				held[p], failed[p] = a.before(p, s, rows)
			}
		}
	}
	for round := range s.rounds(a.Options.Rounds) + 1 { // the first does not count
		for _, i := range shuffle.Perm(len(peers)) {
			p := peers[i]
			if ctx.Err() != nil {
				return errors.New("interrupted: nothing written")
			}
			if failed[p] == nil {
				failed[p] = a.round(p, s, rows, round > 0)
			}
		}
	}
	for _, p := range peers {
		if failed[p] == nil && s.Memory != "" {
			rows[s.Memory].Bytes[p.Name] = p.memory(s)
		}
		failed[p] = errors.Join(failed[p], a.after(p, s, rows, held[p]))
		if failed[p] != nil {
			for _, r := range rows {
				r.Failed[p.Name] = firstLine(failed[p].Error())
			}
		}
	}
	return nil
}

// after takes away the containers that a scenario held, and what it has left. Where their starts are timed, the first ones are
// timed once more when the others are gone, so that a machine that got slower meanwhile is not taken for a crowd's cost.
func (a *arena) after(p *enginePeer, s scenario, rows map[string]*engineRow, held []string) (err error) {
	a.release(p, held)
	if first := rows[s.First]; first != nil && len(held) == s.Held {
		var again []string
		for i := range heldTimed {
			name, failed := a.hold(p, s, i, first)
			if failed != nil {
				err = failed
				break
			}
			again = append(again, name)
		}
		a.release(p, again)
	}
	for _, words := range s.After {
		a.verb(p, words)
	}
	return err
}

func (a *arena) release(p *enginePeer, held []string) {
	for some := range slices.Chunk(held, 20) {
		a.verb(p, "rm -f "+strings.Join(some, " "))
	}
}

// before makes ready what a scenario needs, and times the starts that have a row. It returns the names of the held containers.
func (a *arena) before(p *enginePeer, s scenario, rows map[string]*engineRow) (held []string, err error) {
	for _, words := range s.Before {
		if err := a.verb(p, words); err != nil {
			return nil, err
		}
	}
	for i := range s.Held {
		row := ""
		switch { // the first of all does not count
		case i > 0 && i <= heldTimed:
			row = s.First
		case i >= s.Held-heldTimed:
			row = s.Last
		}
		name, err := a.hold(p, s, i, rows[row])
		if err != nil {
			return held, err
		}
		held = append(held, name)
	}
	return held, nil
}

// hold starts a container that stays, the number-th of its scenario, and times that for a row, if there is one.
func (a *arena) hold(p *enginePeer, s scenario, number int, row *engineRow) (name string, err error) {
	if row != nil {
		a.quiet.settle()
	}
	name = fmt.Sprintf("h%d", number)
	begin := time.Now()
	if err := a.verb(p, "run -d --network "+cmp.Or(s.HeldOn, "none")+" --name "+name+" {busybox} sleep 100000"); err != nil {
		return "", err
	}
	if took := time.Since(begin); row != nil {
		row.Times[p.Name] = append(row.Times[p.Name], took)
	}
	return name, nil
}

// round runs the phases of a scenario once.
func (a *arena) round(p *enginePeer, s scenario, rows map[string]*engineRow, counts bool) error {
	for _, ph := range s.Phases {
		if ph.Row != "" {
			a.quiet.settle()
		}
		begin := time.Now()
		err := a.phase(p, ph)
		took := time.Since(begin)
		if err == nil && ph.Load != "" {
			took, err = a.load(p, ph.Load)
		}
		if err != nil {
			return err
		}
		if r := rows[ph.Row]; r != nil && counts {
			r.Times[p.Name] = append(r.Times[p.Name], took)
		}
	}
	return nil
}

func (a *arena) phase(p *enginePeer, ph phase) error {
	if ph.Many == 0 {
		for _, words := range ph.Words {
			if err := a.verb(p, words); err != nil {
				return err
			}
		}
		return nil
	}
	work := make(chan string, ph.Many)
	for range ph.Many {
		work <- ph.Words[0]
	}
	close(work)
	errs := make([]error, manyWorkers)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			for words := range work {
				if errs[i] == nil {
					errs[i] = a.verb(p, words)
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// verb runs a line of words, with names and images filled in.
func (a *arena) verb(p *enginePeer, line string) error {
	a.mu.Lock()
	a.n++
	n := fmt.Sprint(a.n)
	a.mu.Unlock()
	fill := strings.NewReplacer("{n}", n, "{busybox}", a.Registry+"/busybox:1", "{big}", a.Registry+"/big:1", "{deep}", a.Registry+"/deep:1", "{flat}", a.Registry+"/flat:1")
	var args []string
	for _, w := range strings.Fields(line) {
		if w == "{pull}" {
			args = append(append(args, "pull"), p.Pull...)
			continue
		}
		args = append(args, fill.Replace(w))
	}
	_, err := a.output(p, args...)
	return err
}

// memory is what each held container costs: of all processes but the containers' own, the share in memory, divided by their number.
func (p *enginePeer) memory(s scenario) int64 {
	var sum int64
	files, _ := filepath.Glob("/proc/[0-9]*/smaps_rollup")
	for _, f := range files {
		exe, _ := os.ReadFile(filepath.Dir(f) + "/cmdline")
		if helper := strings.Split(string(exe), "\x00")[0]; !slices.Contains(perContainer(), filepath.Base(helper)) {
			continue
		}
		data, _ := os.ReadFile(f)
		for line := range strings.Lines(string(data)) {
			var kb int64
			if n, _ := fmt.Sscanf(line, "Pss: %d kB", &kb); n == 1 {
				if p.owns(filepath.Base(strings.Split(string(exe), "\x00")[0])) {
					sum += kb << 10
				}
			}
		}
	}
	return sum / int64(s.Held)
}

// perContainer are the programs of which each container has one.
func perContainer() []string {
	return []string{"kakuri-runtime", "containerd-shim-runc-v2", "conmon"}
}

func (p *enginePeer) owns(program string) bool {
	return map[string]string{"kakuri-runtime": "kakuri", "containerd-shim-runc-v2": "docker", "conmon": "podman"}[program] == p.Name
}
