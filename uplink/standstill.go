package uplink

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/process"
)

// A process of an uplink that was stopped by a signal takes what it is sent and does not answer: all commands of its user would wait without a word. So who waits for an
// answer looks whether one stands still, and has it go on. The processes are in a record, and not asked of a socket: one that ends has none any more, and still the lock.

var ( // but for tests
	// lookAgain is how often somebody who waits looks.
	lookAgain = 2 * time.Second
	// patience is how long an answer is waited for: whatever an uplink does it does in less, but for a start of pasta, which takes 20 s where it hangs.
	patience = 30 * time.Second
	// startPatience is how long one is waited for that begins.
	startPatience = time.Minute
)

// WriteProcesses has [LockName] name the processes of an uplink, whose lock the caller has.
func WriteProcesses(lock *os.File, of map[string]process.Witness) error {
	var text strings.Builder
	for name, w := range of {
		fmt.Fprintf(&text, "%d %d %s\n", w.PID, w.Begun, name)
	}
	// Who reads between the two finds a line that is no witness, or none.
	if err := lock.Truncate(0); err != nil {
		return err
	}
	_, err := lock.WriteAt([]byte(text.String()), 0)
	return err
}

// processes are those of the uplink in a directory, by their names, as far as they can be read.
func processes(run string) map[string]process.Witness {
	data, err := files.Read(filepath.Join(run, LockName))
	if err != nil {
		return nil
	}
	of := map[string]process.Witness{}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		pid, err1 := strconv.Atoi(f[0])
		begun, err2 := strconv.ParseUint(f[1], 10, 64)
		if err1 == nil && err2 == nil {
			of[f[2]] = process.Witness{PID: pid, Begun: begun}
		}
	}
	return of
}

// Wake has those processes of the uplink in a directory go on that were stopped by a signal, and tells warn of each; nil is told nothing. It is quick, and no error where no
// uplink runs.
func Wake(run string, warn func(text string)) {
	for name, w := range processes(run) {
		if p := w.Open(); p != nil {
			wake(p, name, warn)
			p.Close()
		}
	}
}

func wake(p *process.Process, name string, warn func(text string)) {
	p.Wake(fmt.Sprintf("the uplink of networks, process %d (%s)", p.Witness().PID, name), warn)
}

// Mind wakes now and for as long as done is not called: for who waits for something that an uplink holds, or does for another one.
func Mind(run string, warn func(text string)) (done func()) {
	Wake(run, warn)
	return process.Again(lookAgain, func() { Wake(run, warn) })
}

// silent is the error of an uplink that is there and does not answer.
func silent(run string) error {
	who, way := "it", "end it"
	if w, ok := processes(run)[Program]; ok && w.Alive() {
		who, way = fmt.Sprintf("%s, process %d,", Program, w.PID), fmt.Sprintf("`kill -KILL %d`", w.PID)
	}
	return fmt.Errorf("uplink in %s: %s does not answer within %v: %s, and the next command starts another one, with all ports: %w", run, who, patience, way, ErrSilent)
}

// ErrSilent says that an uplink did not answer in time.
var ErrSilent = errors.New("no answer")
