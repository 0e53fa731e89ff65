package oci

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// environment is a process's, as runc makes it: of variables with one name the last, and HOME
// from home where it is missing or empty.
func environment(env []string, home func() string) []string {
	out := make([]string, 0, len(env)+1)
	has := false
	last := make(map[string]int, len(env)) // an image may have a hundred thousand
	for i, e := range env {
		name, _, _ := strings.Cut(e, "=")
		last[name] = i
	}
	for i, e := range env {
		name, value, _ := strings.Cut(e, "=")
		if name == "HOME" && value == "" || last[name] != i {
			continue
		}
		has = has || name == "HOME"
		out = append(out, e)
	}
	if !has {
		out = append(out, "HOME="+home())
	}
	return out
}

// passwdFile is where a container's users are.
const passwdFile = "/etc/passwd"

// homeOf finds a home directory in the container that runs.
func (c *Container) homeOf(uid uint32) func() string {
	return func() string {
		root, err := unix.Open("/proc/"+strconv.Itoa(c.state.PID)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return "/"
		}
		defer unix.Close(root)
		return homeBelow(root, passwdFile, uid)
	}
}

// home finds a home directory in the bundle's root file system, or in what is mounted there.
func (b *Bundle) home(uid uint32) func() string {
	return func() string {
		dir, name := rootfs(b), passwdFile
		for _, m := range b.Spec.Mounts {
			bind := m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
			if to := path.Clean("/" + m.Destination); bind && (to == passwdFile || to == path.Dir(passwdFile)) {
				source := m.Source
				if !path.IsAbs(source) {
					source = path.Join(b.Dir, source)
				}
				dir, name = path.Dir(source), path.Base(source)
				if to != passwdFile {
					dir, name = source, path.Base(passwdFile)
				}
			}
		}
		root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return "/"
		}
		defer unix.Close(root)
		return homeBelow(root, name, uid)
	}
}

// maxPasswd bounds how much of a container's file is read, in bytes.
const maxPasswd = 1 << 20

// homeBelow reads a passwd(5) file of a container; "/" is the answer where it has none. Its
// links lead nowhere outside.
func homeBelow(root int, name string, uid uint32) string {
	const none = "/"
	data, err := files.ReadBelow(root, name, maxPasswd)
	if err != nil {
		return none
	}
	for line := range strings.Lines(string(data)) {
		field := strings.Split(strings.TrimSpace(line), ":")
		if len(field) < 6 || strings.IndexByte(field[5], 0) >= 0 {
			continue
		}
		if n, err := strconv.ParseUint(field[2], 10, 32); err == nil && uint32(n) == uid {
			return field[5]
		}
	}
	return none
}

// withHome is the bundle's configuration with the environment that its process gets.
func (b *Bundle) withHome() *specs.Spec {
	if b.Spec.Process == nil {
		return b.Spec
	}
	spec, process := *b.Spec, *b.Spec.Process
	process.Env = environment(process.Env, b.home(process.User.UID))
	spec.Process = &process
	return &spec
}
