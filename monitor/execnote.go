package monitor

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/oci"
	"golang.org/x/sys/unix"
)

// An ExecNote is a process that was started in a container beside its own, noted in the place of the container's monitor, which goes with the container's end: a link exec.ID
// that leads to the process's number and the time it began at, and says whether it is the monitor's child.
type ExecNote struct {
	ID      string // what events call it
	Process oci.Witness
	Own     bool // the monitor's: it tells of its end, and takes the note away
}

const (
	execPrefix = "exec."
	execOwn    = ":monitor"
)

// Write notes a process in a monitor's place; one that is noted already stays so.
func (n ExecNote) Write(place string) error {
	if !files.IsID(n.ID) {
		return os.ErrInvalid
	}
	to := fmt.Sprintf("%d:%d", n.Process.PID, n.Process.Begun)
	if n.Own {
		to += execOwn
	}
	if err := os.Symlink(to, n.name(place)); !os.IsExist(err) {
		return err
	}
	return nil
}

// Remove takes the note away.
func (n ExecNote) Remove(place string) { os.Remove(n.name(place)) }

func (n ExecNote) name(place string) string { return place + "/" + execPrefix + n.ID }

// ExecNotes are those in a monitor's place.
func ExecNotes(place string) (list []ExecNote) {
	names, _ := files.List(place) // it has ended
	for _, name := range names {
		id, is := strings.CutPrefix(name, execPrefix)
		to, err := os.Readlink(place + "/" + name)
		if !is || err != nil {
			continue
		}
		n := ExecNote{ID: id}
		to, n.Own = strings.CutSuffix(to, execOwn)
		fmt.Sscanf(to, "%d:%d", &n.Process.PID, &n.Process.Begun) // of none it is a process that has ended
		list = append(list, n)
	}
	return list
}

// adoptExecs goes on with what the monitor that was killed had started in the container: it tells of their ends, with their exit codes where the kernel tells those (since Linux
// 6.15) and they have not ended yet, else 255.
func (m *monitor) adoptExecs() {
	for _, n := range ExecNotes(m.place) {
		if n.Own {
			go m.parted(n, m.execBegins())
		}
	}
}

// parted waits for the end of a process that is somebody else's child by now.
func (m *monitor) parted(n ExecNote, told func()) {
	defer told()
	code := 255
	if p := n.Process.Open(); p != nil {
		defer p.Close()
		for !p.Wait(time.Hour) {
		}
		if status, err := exitOfOther(p); err == nil {
			code = launch.ExitCode(status)
		}
	}
	m.execDied(n, code)
}

// execBegins has a container's end wait until told is called: when the end of a process is told of that runs in it beside its own.
func (m *monitor) execBegins() (told func()) {
	ended := make(chan struct{})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.execed = append(m.execed, ended)
	return func() { m.execEnds(ended) }
}

// execDied tells of such an end.
func (m *monitor) execDied(n ExecNote, code int) {
	m.event("exec_die", map[string]string{"execID": n.ID, "exitCode": strconv.Itoa(code)})
	n.Remove(m.place)
}

// exitOfOther is how a process ended that is not this one's child. Who its parent is has to have waited for it before the kernel tells.
func exitOfOther(p *oci.Process) (status syscall.WaitStatus, err error) {
	for range 500 { // five seconds: some machines' first process waits for others' children once in a while only
		if status, err = launch.ExitOf(p.FD()); err != unix.EAGAIN {
			return status, err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return status, err
}
