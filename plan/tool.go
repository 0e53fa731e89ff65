package plan

import (
	"errors"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

// A tool makes the plan of a command such as unshare(1) or nsenter(1), whose options stand behind the steps.
type tool struct {
	verb    string // for what no option asked for
	because func(part string) string
	host    Facts
	plan    Plan
}

var errNoCommand = errors.New("no command")

// flag is the option behind a part, empty for none.
func (t *tool) flag(part string) string {
	if part == "" || t.because == nil {
		return ""
	}
	return t.because(part)
}

// add adds a step; part names the option behind it, empty is none.
func (t *tool) add(side Side, op Op, part string, check Check) {
	cause := because("what %s does", t.verb)
	if flag := t.flag(part); flag != "" {
		cause = because("%s", flag)
	}
	t.plan.Steps = append(t.plan.Steps, Step{Op: op, Side: side, Cause: cause, Check: check})
}

// A user is what a program is executed as: nil leaves an id as it is.
type user struct {
	uid, gid  *uint32
	keepCaps  bool
	tryGroups bool // the user namespace may deny setgroups(2)
}

func (t *tool) become(who user) {
	if who.gid != nil {
		t.add(Container, &Setgroups{Try: who.tryGroups}, "setgid", nil)
		t.add(Container, &Setresgid{GID: *who.gid}, "setgid", nil)
	}
	if who.uid != nil {
		if who.keepCaps {
			t.add(Container, &KeepCaps{On: true}, "keep-caps", nil)
		}
		t.add(Container, &Setresuid{UID: *who.uid}, "setuid", nil)
	}
	if who.keepCaps {
		all := abi.CapSet(1)<<(t.host.LastCap+1) - 1
		t.add(Container, &Capset{Effective: all, Permitted: all, Inheritable: all}, "keep-caps", nil)
		t.add(Container, &Ambient{Caps: all}, "keep-caps", nil)
	}
}

// dieWithParent comes after all changes of user, which take the request back, and before
// a last meeting: there a parent is missed that ended before the request.
func (t *tool) dieWithParent(sig abi.Signal, part string) {
	if sig == abi.SIGKILL {
		sig = 0
	}
	t.add(Container, &DieWithParent{Signal: sig}, part, nil)
	t.add(Runtime, &Sync{From: Runtime, What: StartWord}, part, nil)
}

// exec ends the container's side.
func (t *tool) exec(file string, args, env []string, signals Sigmask, stub bool) {
	t.add(Container, &signals, "", nil)
	e := &Exec{File: file, Args: args, Env: env, Stub: stub}
	if file == "" { // a shell that nobody named is not searched for
		e.Path = searchEnv(args[0], env)
	}
	t.add(Container, e, "command", nil)
}

// searchEnv gives the directories of PATH in env, for a name without a slash.
func searchEnv(name string, env []string) []string {
	if strings.Contains(name, "/") || name == "" {
		return nil
	}
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			return strings.Split(v, ":")
		}
	}
	return []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
}
