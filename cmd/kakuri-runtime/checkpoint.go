package main

import (
	"os"
	"path/filepath"
	"strconv"

	"github.com/kakuri/kakuri/oci"
)

// imageFlags are those of checkpoint and restore.
func imageFlags(o *oci.ImageOptions) []flag {
	return []flag{
		text("image-path", &o.ImagePath, "DIR", "the directory of the image, default ./checkpoint"),
		text("work-path", &o.WorkPath, "DIR", "where CRIU keeps its log, default the image"),
		yes("tcp-established", &o.TCPEstablished, "allow open TCP connections"),
		yes("ext-unix-sk", &o.ExtUnixSk, "allow unix sockets to the outside"),
		yes("shell-job", &o.ShellJob, "allow a terminal of the outside"),
		yes("file-locks", &o.FileLocks, "allow file locks"),
		text("manage-cgroups-mode", &o.CgroupsMode, "MODE", "soft (CRIU's default), full, strict or ignore"),
		texts("empty-ns", &o.EmptyNS, "NS", "make a namespace and leave it as it is: network, which always is"),
		yes("auto-dedup", &o.AutoDedup, "keep each page of memory once"),
		yes("lazy-pages", &o.LazyPages, "restore memory as it is used: userfaultfd(2)"),
	}
}

// imagePath fills in the default.
func imagePath(o *oci.ImageOptions) error {
	if o.ImagePath != "" {
		return nil
	}
	wd, err := os.Getwd()
	o.ImagePath = filepath.Join(wd, "checkpoint")
	return err
}

// warnRootless says what to expect of an ordinary user's attempt.
func (c *command) warnRootless(verb string) {
	if os.Geteuid() != 0 {
		c.log.warn(verb + " without root: CRIU needs rights that an ordinary user has not")
	}
}

var checkpointVerb = verb{"checkpoint", "ID", "write a running container to disk, and end it", func(c *command) ([]flag, func([]string) (int, error)) {
	o := oci.CheckpointOptions{StatusFD: -1}
	flags := append(imageFlags(&o.ImageOptions),
		text("parent-path", &o.ParentPath, "DIR", "the image of an earlier --pre-dump, from --image-path"),
		yes("leave-running", &o.LeaveRunning, "let the container go on"),
		yes("tcp-skip-in-flight", &o.TCPSkipInFlight, "leave out TCP connections that are being made"),
		yes("link-remap", &o.LinkRemap, "give deleted files that are open a name for the while"),
		flag{names: "status-fd", arg: "FD", help: "gets a null byte when --lazy-pages can be asked for pages", value: func(s string) (err error) {
			o.StatusFD, err = strconv.Atoi(s)
			return err
		}},
		text("page-server", &o.PageServer, "ADDRESS:PORT", "send memory there"),
		yes("pre-dump", &o.PreDump, "write memory alone, and let the container go on"),
	)
	return flags, func(args []string) (int, error) {
		id, err := one("checkpoint", args)
		if err != nil {
			return 1, err
		}
		c.warnRootless("checkpoint")
		if err := imagePath(&o.ImageOptions); err != nil {
			return 1, err
		}
		x, err := c.runtime.Open(id)
		if err == nil {
			err = x.Checkpoint(background, o)
		}
		if err != nil {
			return 1, err
		}
		return 0, nil
	}
}}

var restoreVerb = verb{"restore", "ID", "make a container of what checkpoint wrote", func(c *command) ([]flag, func([]string) (int, error)) {
	var o oci.RestoreOptions
	dir := "."
	var ignored bool
	flags := append(imageFlags(&o.ImageOptions),
		text("bundle b", &dir, "DIR", "the bundle, default the working directory"),
		text("console-socket", &o.ConsoleSocket, "PATH", "unix socket that gets the terminal's master side, and takes it within 30 s"),
		text("pid-file", &o.PIDFile, "FILE", "file that gets the process's pid"),
		yes("detach d", &o.Detach, "return when the processes run"),
		text("lsm-profile", &o.LSMProfile, "TYPE:NAME", "another profile of apparmor or selinux"),
		text("lsm-mount-context", &o.LSMMountContext, "CONTEXT", "another context for mounts"),
		yes("no-subreaper", &ignored, "not needed: this program adopts no processes"),
		yes("no-pivot", &ignored, "not needed, as for run"),
	)
	return flags, func(args []string) (int, error) {
		id, err := one("restore", args)
		if err != nil {
			return 1, err
		}
		c.warnRootless("restore")
		if err := imagePath(&o.ImageOptions); err != nil {
			return 1, err
		}
		b, err := c.load(place{dir: dir})
		if err != nil {
			return 1, err
		}
		code, err := c.runtime.Restore(background, id, b, o)
		if err != nil {
			return 1, err
		}
		return code, nil
	}
}}
