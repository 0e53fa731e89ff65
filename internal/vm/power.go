package main

import (
	"archive/tar"
	"bytes"
	"context"
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
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Power loss: a guest works with the engine, its data on a disk that remembers in which order it was written (nbd.go), and is killed.
// Then the disk is made as a power cut would have left it, at several moments and with what a disk may lose of its cache, and another guest has to
// find everything there that a command had said is there, and to go on with it.

// The files of the work image that say what is done. The guest's kernel command line names one of them.
const (
	powerWorkJobs  = "vm/power-work.json"
	powerCheckJobs = "vm/power-check.json"
	jobsArg        = "kakuri.jobs="
)

const (
	powerDisk = 96 << 20
	powerCuts = 12 // each is a disk, of which qemu's first bus has a place for some 28
)

// powerScript is both sides in guests.
func powerScript(name string, args ...string) job {
	return job{Name: name, Dir: "/", Argv: append([]string{"bash", "/" + workDir + "/internal/vm/power.sh"}, args...)}
}

func workJobs() []job { return []job{powerScript("work", "work")} }

func checkJobs() (jobs []job) {
	for i := range powerCuts {
		jobs = append(jobs, powerScript(cutName(i), "check", cutName(i), strconv.Itoa(powerDisk>>20)))
	}
	return jobs
}

func cutName(i int) string { return fmt.Sprintf("cut%02d", i) }

// powerLoss has one guest work, cuts, and has another one check.
func powerLoss(o options, m machine, k *kernel, root string, w *work) (v verdict, err error) {
	start := time.Now()
	defer func() { v.took = time.Since(start) }()
	seed := o.Seed
	if seed == 0 {
		seed = uint64(start.UnixNano())
	}
	fmt.Printf("power loss: the cuts are those of -seed %d\n", seed)
	modules, err := loadList(k, mustLoad, mayLoad)
	if err != nil {
		return v, err
	}
	initrd := filepath.Join(w.dir, "initrd")
	if err := os.WriteFile(initrd, initramfs(w.guest, modules), 0o644); err != nil {
		return v, err
	}
	logs := filepath.Join(o.Cache, "log")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return v, err
	}
	text, err := os.Create(filepath.Join(logs, k.version+"-power.log"))
	if err != nil {
		return v, err
	}
	defer text.Close()
	ctx, cancel := context.WithTimeout(context.Background(), o.Limit)
	defer cancel()
	console := filepath.Join(logs, k.version+"-power.console")
	line := func(jobs string, from int) []string {
		args := m.command(o, k, initrd, root, w, console, from)
		i := slices.Index(args, "-append")
		args[i+1] += " " + jobsArg + jobs
		return args
	}
	r, err := powerWork(ctx, line(powerWorkJobs, 0), w, text)
	if err != nil {
		return v, fmt.Errorf("%w; the console ends so:\n%s", err, tail(console, 20))
	}
	disks, err := r.cuts(w.dir, powerCuts, rand.New(rand.NewPCG(seed, 0)))
	if err != nil {
		return v, err
	}
	v, err = guests(ctx, checkJobs(), beatWithin, func(from int) []string {
		args := line(powerCheckJobs, from)
		for name, file := range disks {
			args = append(args, drive("file="+file+",format=raw,cache=unsafe,snapshot=on", name)...)
		}
		return args
	}, text, os.Stdout)
	return v, err
}

func drive(how, name string) []string {
	return []string{"-drive", how + ",if=none,id=" + name, "-device", "virtio-blk-pci,drive=" + name + ",serial=" + name}
}

// powerWork runs the guest that works until its last mark, and kills it.
func powerWork(ctx context.Context, line []string, w *work, text io.Writer) (*recorder, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	image := filepath.Join(w.dir, "power.img")
	if err := ext4(image, "", powerDisk); err != nil {
		return nil, err
	}
	base, err := os.ReadFile(image)
	if err != nil {
		return nil, err
	}
	r := newRecorder(base)
	socket := filepath.Join(w.dir, "nbd")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	go r.serve(l)
	for _, export := range []string{diskExport, markExport} {
		line = append(line, drive("driver=nbd,server.type=unix,server.path="+socket+",cache=writeback,export="+export, export)...)
	}
	c := exec.Command(line[0], line[1:]...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var events bytes.Buffer
	c.Stdout, c.Stderr = &events, os.Stderr
	if err := c.Start(); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	defer func() { io.Copy(text, &events) }()
	select {
	case <-r.ended:
		c.Process.Kill()
		<-done
		return r, nil
	case <-done:
		err = errors.New("the guest that works ended by itself")
	case <-ctx.Done():
		c.Process.Kill()
		<-done
		err = errors.New("the guest that works did not come to its end")
	}
	var out bytes.Buffer
	judge(&events, workJobs(), &out)
	return nil, fmt.Errorf("%w:\n%s", err, out.String())
}

// cuts makes disks as power cuts leave them, each with a list of what must be there behind its file system. It gives their files by the names that the
// guest finds them under.
func (r *recorder) cuts(dir string, n int, chance *rand.Rand) (map[string]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := slices.IndexFunc(r.log, func(e record) bool { return e.mark != "" })
	if first < 0 {
		return nil, errors.New("the guest made no mark")
	}
	files := map[string]string{}
	for i := range n {
		at := first + 1 + chance.IntN(len(r.log)-first)
		keep := []func() bool{
			func() bool { return true }, // the guest's memory alone is lost, as with a killed qemu
			func() bool { return false },
			func() bool { return chance.IntN(2) == 0 },
			func() bool { return chance.IntN(10) > 0 },
		}[i%4]
		have := held(r.log[:at])
		fmt.Printf("%s: after %d of %d writes and marks, %d things have to be there\n", cutName(i), at, len(r.log), len(have))
		image := filepath.Join(dir, cutName(i)+".img")
		list, err := lines(have)
		if err != nil {
			return nil, err
		}
		if err := sparse(image, append(cut(r.base, r.log[:at], keep), list...)); err != nil {
			return nil, err
		}
		files[cutName(i)] = image
	}
	return files, nil
}

const block = 4096

// cut is the disk after some writes, of those since the last flush only the blocks that keep has stay.
func cut(base []byte, log []record, keep func() bool) []byte {
	disk := append([]byte(nil), base...)
	sure := 0
	for i, e := range log {
		if e.data == nil && e.mark == "" {
			sure = i
		}
	}
	for i, e := range log {
		for from := 0; from < len(e.data); from += block {
			if i < sure || keep() {
				copy(disk[e.at+int64(from):], e.data[from:min(from+block, len(e.data))])
			}
		}
	}
	return disk
}

// held is what must be there by the marks: "has WHAT NAME" says that it is, "going WHAT NAME" that it may be gone from now on.
func held(log []record) []string {
	var have []string
	for _, e := range log {
		word, what, _ := strings.Cut(e.mark, " ")
		switch word {
		case "has":
			have = append(have, what)
		case "going":
			have = slices.DeleteFunc(have, func(s string) bool { return s == what })
		}
	}
	return have
}

// sparse writes a file with holes where there are zeroes.
func sparse(name string, data []byte) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	zero := make([]byte, block)
	for at := 0; at < len(data); at += block {
		if part := data[at:min(at+block, len(data))]; !bytes.Equal(part, zero[:len(part)]) {
			if _, err := f.WriteAt(part, int64(at)); err != nil {
				return err
			}
		}
	}
	return f.Truncate(int64(len(data)))
}

// lines are a file in a tar: an archive says itself where it ends.
func lines(list []string) ([]byte, error) {
	var b bytes.Buffer
	text := []byte(strings.Join(list, "\n") + "\n")
	t := tar.NewWriter(&b)
	err := errors.Join(t.WriteHeader(&tar.Header{Name: "have", Mode: 0o644, Size: int64(len(text))}), second(t.Write(text)), t.Close())
	return b.Bytes(), err
}

func second(_ int, err error) error { return err }

// serveRegistry is the guest's registry, for pulls.
func serveRegistry() error {
	return http.ListenAndServe("127.0.0.1:5000", registry.New(registry.Logger(log.New(io.Discard, "", 0))))
}
