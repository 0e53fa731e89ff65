package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// execFailed is the exit code of exec when there was no process, as callers of runc know it.
const execFailed = 255

var execVerb = verb{"exec", "ID COMMAND [ARGS]", "run another process in a container", func(c *command) ([]flag, func([]string) (int, error)) {
	var o oci.ExecOptions
	var x oci.ProcessChanges
	var user, file string
	var cgroups []string
	o.Keyring = true
	var given []origin
	flags := append(processFlags(&o.ProcessOptions),
		text("cwd", &x.Cwd, "DIR", "working directory"),
		texts("env e", &x.Env, "NAME=VALUE", "add to the environment; may be repeated"),
		yes("tty t", &x.Terminal, "give it a terminal"),
		text("user u", &user, "UID[:GID]", "who it runs as"),
		gids("additional-gids g", &x.Groups, "GID", "add a group; may be repeated"),
		text("process p", &file, "FILE", "read the process from a JSON file"),
		yes("detach d", &o.Detach, "return when the process runs"),
		text("process-label", &x.SELinuxLabel, "LABEL", "SELinux label"),
		text("apparmor", &x.AppArmor, "PROFILE", "AppArmor profile"),
		yes("no-new-privs", &x.NoNewPrivs, "no more rights by an execve"),
		texts("cap c", &x.Caps, "CAP", "add a capability; may be repeated"),
		texts("cgroup", &cgroups, "[CONTROLLERS:]PATH", "run it in a control group below the container's; on version 1 it may be repeated, with other controllers"),
		yes("ignore-paused", &o.IgnorePaused, "allow it in a paused container"),
	)
	flags = noting(flags, []origin{
		{"--cwd", "cwd"}, {"--env", "env"}, {"--user", "user.uid"}, {"--user", "user.gid"}, {"--additional-gids", "user.additionalGids"},
		{"--apparmor", "apparmorProfile"}, {"--process-label", "selinuxLabel"}, {"--cap", "capabilities"},
	}, &given)
	return flags, func(args []string) (int, error) {
		if len(args) == 0 {
			return 1, errors.New("exec: a container ID is needed, and a command: see kakuri-runtime exec --help")
		}
		code, err := func() (int, error) {
			container, err := c.runtime.Open(args[0])
			if err != nil {
				return 0, err
			}
			if err := subCgroups(cgroups, &o); err != nil {
				return 0, err
			}
			if file == "" {
				o.Causes = causes(given)
			}
			p, err := execProcess(container, file, user, args[1:], x)
			if err != nil {
				return 0, err
			}
			return container.Exec(background, p, o)
		}()
		if err != nil {
			return execFailed, fmt.Errorf("exec failed: %w", ofFlag(err, given))
		}
		return code, nil
	}
}}

// subCgroups reads "PATH", or "CONTROLLER,CONTROLLER:PATH" and more of that kind.
func subCgroups(args []string, o *oci.ExecOptions) error {
	o.Cgroups = map[string]string{}
	for _, arg := range args {
		controllers, path, ok := strings.Cut(arg, ":")
		if !ok {
			if len(args) > 1 {
				return fmt.Errorf("--cgroup %s: of several, each needs its controllers: CONTROLLER:PATH", arg)
			}
			o.Cgroup = arg
			return nil
		}
		for controller := range strings.SplitSeq(controllers, ",") {
			if _, twice := o.Cgroups[controller]; twice || controller == "" {
				return fmt.Errorf("--cgroup %s: each controller has a name, and one path", arg)
			}
			o.Cgroups[controller] = path
		}
	}
	return nil
}

// execProcess is the process of a file, or that of the container with changes.
func execProcess(c *oci.Container, file, user string, args []string, x oci.ProcessChanges) (*specs.Process, error) {
	if file != "" {
		return c.LoadProcess(file)
	}
	if len(args) == 0 {
		return nil, errors.New("process args cannot be empty")
	}
	x.Args = args
	if user != "" {
		uid, gid, both := strings.Cut(user, ":")
		var err error
		if x.UID, err = userID(user, uid); err != nil {
			return nil, err
		}
		if both {
			if x.GID, err = userID(user, gid); err != nil {
				return nil, err
			}
		}
	}
	return c.Process(x)
}

func userID(user, text string) (*uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("--user %s: it is UID or UID:GID, in digits", user)
	}
	id := uint32(n)
	return &id, nil
}
