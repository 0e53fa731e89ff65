package engine

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
)

// What the filter refuses is told, with a way out, and answered as it would have been: as root and as an ordinary user, to who runs the
// container and in its log, of its own process and of one that exec starts.
func TestExplainDenials(t *testing.T) {
	user := nstest.User(t)
	root := nstest.RootFS(t)
	for name, place := range map[string]nstest.Place{"root": {}, "user": {User: user}} {
		t.Run(name, func(t *testing.T) {
			nstest.Inside(t, place, func(t *testing.T) { explained(t, root) })
		})
	}
}

func explained(t *testing.T, root string) {
	e := open(t)
	r := sh(root, "busybox unshare -U true; busybox unshare -U true; busybox arping -c1 127.0.0.1; busybox chroot / true && busybox hwclock; cat /dev/stdin; echo on")
	var plain string
	for _, opts := range [][]string{nil, {"seccomp=explain"}} {
		r.SecurityOpt = opts
		var stdout, stderr bytes.Buffer
		if _, err := e.Run(context.Background(), r, Streams{Out: &stdout, Err: &stderr}, RunOptions{}); err != nil {
			t.Fatal(err)
		}
		var told, others []string
		for line := range strings.Lines(stderr.String()) {
			if strings.HasPrefix(line, "kakuri: ") {
				told = append(told, strings.TrimSpace(line))
			} else {
				others = append(others, line)
			}
		}
		if stdout.String() != "on\n" {
			t.Errorf("%v: stdout %q", opts, stdout.String())
		}
		if opts == nil {
			plain = strings.Join(others, "")
			if len(told) > 0 {
				t.Errorf("told without being asked: %q", told)
			}
			continue
		}
		if got := strings.Join(others, ""); got != plain {
			t.Errorf("the program says %q, without the option %q", got, plain)
		}
		for _, want := range []string{
			"kakuri: seccomp: unshare(0x10000000) by busybox is refused with EPERM; --cap-add CAP_SYS_ADMIN allows it",
			"kakuri: seccomp: socket(0x11 0x2 0x0) by busybox is refused with EPERM; --cap-add CAP_NET_RAW allows it", // of a call that others of are let through
		} {
			if n := strings.Count(strings.Join(told, "\n")+"\n", want+"\n"); n != 1 {
				t.Errorf("%q, want once %q", told, want)
			}
		}
	}
}

// A process that exec starts is answered, too, by the monitor.
func TestExplainDenialsOfExec(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	r := sh(nstest.RootFS(t), "echo up; exec sleep 1000")
	r.SecurityOpt = []string{"seccomp=explain"}
	stop, c := running(t, e, r)
	defer stop()
	var stdout, stderr bytes.Buffer
	res, err := e.Exec(context.Background(), c.ID, ExecConfig{Command: []string{"busybox", "unshare", "-U", "true"}}, Streams{Out: &stdout, Err: &stderr})
	if err != nil || res.Code != 1 || !strings.Contains(stderr.String(), "Operation not permitted") {
		t.Errorf("%v, code %d, %q", err, res.Code, stderr.String())
	}
}
