//go:build thin

package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/kakuri/kakuri/image"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// wholeProgram finds the whole one: beside this one, or in PATH.
func wholeProgram() (string, error) {
	if exe, err := os.Executable(); err == nil {
		if p := filepath.Join(filepath.Dir(exe), WholeName); exists(p) {
			return p, nil
		}
	}
	if p, err := exec.LookPath(WholeName); err == nil {
		return filepath.Abs(p)
	}
	return "", fmt.Errorf("%s is neither beside this program nor in PATH: it is the part of kakuri that has registries, archives and all other commands", WholeName)
}

// BecomeWhole has the whole program take this one's place, with the same command line. It comes back on error only.
func BecomeWhole() error {
	program, err := wholeProgram()
	if err != nil {
		return err
	}
	return &os.PathError{Op: "exec", Path: program, Err: unix.Exec(program, os.Args, os.Environ())}
}

// wholeChild becomes the whole program where this one is called for what it lacks.
func wholeChild() (done bool, code int) {
	if name := filepath.Base(os.Args[0]); name != tlsName && name != jobName {
		return false, 0
	}
	fmt.Fprintln(os.Stderr, BecomeWhole())
	return true, 1
}

// do has the whole program do a job.
func (j *wholeJob) do(ctx context.Context, told image.Progress) (a wholeAnswer, err error) {
	program, err := wholeProgram()
	if err != nil {
		return a, err
	}
	text, err := json.Marshal(j)
	if err != nil {
		return a, err
	}
	c := exec.CommandContext(ctx, program)
	c.Args = []string{jobName}
	c.Stdin, c.Stderr = bytes.NewReader(text), os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return a, err
	}
	if err := c.Start(); err != nil {
		return a, err
	}
	for d := json.NewDecoder(out); !a.Done && err == nil; {
		a = wholeAnswer{}
		if err = d.Decode(&a); a.Event != nil && told != nil {
			told(*a.Event)
		}
	}
	_, _ = io.Copy(io.Discard, out)
	err = errors.Join(err, c.Wait())
	switch {
	case ctx.Err() != nil:
		return a, context.Cause(ctx)
	case !a.Done:
		return a, fmt.Errorf("%s: %w", WholeName, err)
	case a.Error != "":
		return a, errors.New(a.Error)
	}
	return a, nil
}

func (e *Engine) pull(ctx context.Context, s *image.Store, name string, o image.PullOptions) (image.Image, error) {
	r, err := image.ParseReference(name)
	if err != nil {
		return image.Image{}, err
	}
	told := o.Progress
	o.Progress = nil
	j := wholeJob{Pull: &pullJob{Dir: e.dir, Data: e.data, Name: name, Options: o}}
	if _, err := j.do(ctx, told); err != nil {
		return image.Image{}, err
	}
	return s.Get(r.Tagged().Kept(), o.Platform)
}

func (j *cdiJob) run() (specs.Spec, []cdiCause, error) {
	a, err := (&wholeJob{CDI: j}).do(context.Background(), nil)
	if err != nil {
		return j.Spec, nil, err
	}
	return *a.Spec, a.Causes, nil
}

func (r *tlsRelay) check() error {
	_, err := (&wholeJob{TLS: r}).do(context.Background(), nil)
	return err
}

// PutBlob is for who speaks to registries.
func (keeper) PutBlob(context.Context, io.Reader, v1.Descriptor, func(io.Reader) (io.ReadCloser, error), digest.Digest) (int64, error) {
	return 0, errors.ErrUnsupported
}
