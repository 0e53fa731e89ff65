package verify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/thread"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
)

// inside calls read in the process's namespace of a type, on a thread that ends afterwards.
func (r *reader) inside(t abi.Namespace, read func() (string, error)) (string, error) {
	its := r.its.Inodes[t]
	if its == 0 {
		return "", errUnreadable
	}
	if its == r.self.Inodes[t] {
		return read()
	}
	ns, err := namespace.Open(nil, r.pid, t)
	if err != nil {
		return "", err
	}
	defer ns.Close()
	var value string
	<-thread.Aside(func() {
		if err = unix.Setns(int(ns.Fd()), int(t.CloneFlag())); err != nil {
			if errors.Is(err, fs.ErrPermission) {
				err = fmt.Errorf("it shows only in the %s namespace, which this command enters as root only: see there by kakuri enter", t)
			}
			return
		}
		value, err = read()
	})
	return value, err
}

func (r *reader) hostname(c *plan.HostnameCheck) answer {
	got, err := r.inside(abi.NSUTS, func() (string, error) {
		var uts unix.Utsname
		if err := unix.Uname(&uts); err != nil {
			return "", err
		}
		if c.Domain {
			return unix.ByteSliceToString(uts.Domainname[:]), nil
		}
		return unix.ByteSliceToString(uts.Nodename[:]), nil
	})
	if err != nil {
		return cannot(err)
	}
	return answer{measured: got, ok: got == c.Value}
}

func (r *reader) sysctl(c *plan.SysctlCheck) answer {
	if !filepath.IsLocal(c.Path()) {
		return unknown("it is no parameter's name")
	}
	read := func() (string, error) {
		data, err := os.ReadFile("/proc/" + c.Path())
		return strings.TrimSpace(string(data)), err
	}
	var got string
	var err error
	switch t, namespaced := sysctlNamespace(c.Path()); {
	case !namespaced:
		got, err = read()
	case t == abi.NSPID || t == abi.NSUser:
		if r.its.Inodes[t] == 0 || r.its.Inodes[t] != r.self.Inodes[t] {
			return unknown(fmt.Sprintf("it shows only in the %s namespace, which a reader cannot join", t))
		}
		got, err = read()
	default:
		got, err = r.inside(t, read)
	}
	if c.Optional && errors.Is(err, fs.ErrNotExist) {
		return answer{measured: "this kernel has no such parameter", ok: true}
	}
	if err != nil {
		return cannot(err)
	}
	if c.Path() == "sys/net/ipv4/ping_group_range" {
		_, gids, err := r.maps()
		if err != nil {
			return cannot(err)
		}
		got = insideIDs(got, gids)
	}
	return judgeSysctl(c, got)
}

// sysctlNamespace returns the type of namespace that the parameter at path (below /proc)
// is of; false for one of the whole machine.
func sysctlNamespace(path string) (abi.Namespace, bool) {
	name := strings.TrimPrefix(path, "sys/")
	switch dir, _, _ := strings.Cut(name, "/"); dir {
	case "net":
		return abi.NSNetwork, true
	case "user":
		return abi.NSUser, true
	}
	switch name {
	case "kernel/hostname", "kernel/domainname":
		return abi.NSUTS, true
	case "kernel/pid_max", "kernel/ns_last_pid", "vm/memfd_noexec":
		return abi.NSPID, true
	case "kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/msg_next_id", "kernel/sem", "kernel/sem_next_id", "kernel/auto_msgmni",
		"kernel/shmall", "kernel/shmmax", "kernel/shmmni", "kernel/shm_next_id", "kernel/shm_rmid_forced":
		return abi.NSIPC, true
	}
	return abi.NSIPC, strings.HasPrefix(name, "fs/mqueue/")
}
