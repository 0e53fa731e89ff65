//go:build !thin

package engine

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	"github.com/kakuri/kakuri/image"
)

// wholeProgram is this one.
func wholeProgram() (string, error) { return os.Executable() }

// wholeChild does what a thin program has started this one for, and what a monitor has.
func wholeChild() (done bool, code int) {
	switch name := filepath.Base(os.Args[0]); {
	case name == tlsName && len(os.Args) == 2:
		return true, tlsChild(os.Args[1])
	case name == jobName && len(os.Args) == 1:
		return true, jobChild(os.Stdin, os.Stdout)
	}
	return false, 0
}

// jobChild does a job, and tells of it. Who has asked may have gone: then the first word ends this process.
func jobChild(in io.Reader, out io.Writer) int {
	var j wholeJob
	say := json.NewEncoder(out)
	err := json.NewDecoder(in).Decode(&j)
	a := wholeAnswer{Done: true}
	if err == nil {
		err = j.run(&a, func(e image.Event) { _ = say.Encode(wholeAnswer{Event: &e}) })
	}
	if err != nil {
		a.Error = err.Error()
	}
	if say.Encode(a) != nil {
		return 1
	}
	return 0
}

func (j *wholeJob) run(a *wholeAnswer, told image.Progress) error {
	switch {
	case j.Pull != nil:
		e, err := Open(Options{Dir: j.Pull.Dir, Data: j.Pull.Data})
		if err != nil {
			return err
		}
		j.Pull.Options.Progress = told
		_, err = e.Pull(context.Background(), j.Pull.Name, j.Pull.Options)
		return err
	case j.CDI != nil:
		spec, causes, err := j.CDI.run()
		a.Spec, a.Causes = &spec, causes
		return err
	case j.TLS != nil:
		return j.TLS.check()
	}
	return nil
}
