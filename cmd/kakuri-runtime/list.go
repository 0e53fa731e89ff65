package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kakuri/kakuri/oci"
)

// shown is a container in state and list, field for field as runc gives it.
type shown struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	PID         int               `json:"pid"`
	Status      string            `json:"status"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       string            `json:"owner"`
}

func show(x *oci.Container) shown {
	s := x.State()
	out := shown{
		Version: s.Version, ID: s.ID, PID: s.Pid, Status: string(s.Status), Bundle: s.Bundle, Rootfs: x.Rootfs(), Created: x.Created(), Annotations: s.Annotations,
	}
	return out
}

// owner is the name of who created a container, or the uid where it has none.
func owner(x *oci.Container) string {
	uid := strconv.Itoa(int(x.Owner()))
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return "#" + uid
}

var stateVerb = verb{"state", "ID", "print the state of a container as JSON", func(c *command) ([]flag, func([]string) (int, error)) {
	return nil, func(args []string) (int, error) {
		id, err := one("state", args)
		if err != nil {
			return 1, err
		}
		x, err := c.runtime.Open(id)
		if err == nil {
			err = x.Settle()
		}
		if err != nil {
			return 1, err
		}
		data, err := json.MarshalIndent(show(x), "", "  ")
		if err != nil {
			return 1, err
		}
		_, err = os.Stdout.Write(data)
		return 0, err
	}
}}

var listVerb = verb{"list", "", "list the containers", func(c *command) ([]flag, func([]string) (int, error)) {
	var quiet bool
	format := "table"
	flags := []flag{text("format f", &format, "FORMAT", "table (default) or json"), yes("quiet q", &quiet, "print IDs only")}
	return flags, func(args []string) (int, error) {
		if err := none("list", args); err != nil {
			return 1, err
		}
		if c.runtime.Root != oci.DefaultRoot() {
			// The default one is made by the first container; another one that is not there is a mistake.
			if _, err := os.Stat(c.runtime.Root); err != nil {
				return 1, err
			}
		}
		list, err := c.runtime.List()
		if err != nil {
			return 1, err
		}
		if quiet {
			for _, x := range list {
				fmt.Println(x.ID)
			}
			return 0, nil
		}
		var all []shown
		for _, x := range list {
			s := show(x)
			s.Owner = owner(x)
			all = append(all, s)
		}
		switch format {
		case "table":
			w := tabwriter.NewWriter(os.Stdout, 12, 1, 3, ' ', 0)
			fmt.Fprintln(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER")
			for _, s := range all {
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", s.ID, s.PID, s.Status, s.Bundle, s.Created.Format(time.RFC3339Nano), s.Owner)
			}
			return 0, w.Flush()
		case "json":
			return 0, json.NewEncoder(os.Stdout).Encode(all)
		}
		return 1, fmt.Errorf("invalid format option: %s: it is table or json", format)
	}
}}

var psVerb = verb{"ps", "ID [OPTIONS OF PS]", "list the processes of a container", func(c *command) ([]flag, func([]string) (int, error)) {
	format := "table"
	flags := []flag{text("format f", &format, "FORMAT", "table (default) or json")}
	return flags, func(args []string) (int, error) {
		if len(args) == 0 {
			return 1, errors.New("ps: a container ID is needed: see kakuri-runtime ps --help")
		}
		x, err := c.runtime.Open(args[0])
		if err != nil {
			return 1, err
		}
		pids, err := x.Processes() // there may be some when the first one has ended
		if err != nil {
			return 1, err
		}
		switch format {
		case "json":
			return 0, json.NewEncoder(os.Stdout).Encode(pids)
		case "table":
			return 0, table(os.Stdout, pids, args[1:])
		}
		return 1, fmt.Errorf("invalid format option: %s: it is table or json", format)
	}
}}

// table runs ps(1), and prints its heading and the lines of the container's processes.
func table(w io.Writer, pids []int, options []string) error {
	if len(options) == 0 {
		options = []string{"-ef"}
	}
	out, err := exec.Command("ps", options...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ps: %w: %s", err, out)
	}
	lines := strings.Split(string(out), "\n")
	column := slices.Index(strings.Fields(lines[0]), "PID")
	if column < 0 {
		return errors.New("ps: couldn't find PID field in ps output")
	}
	fmt.Fprintln(w, lines[0])
	for _, l := range lines[1:] {
		f := strings.Fields(l)
		if len(f) <= column {
			continue
		}
		pid, err := strconv.Atoi(f[column])
		if err != nil {
			return fmt.Errorf("ps: unable to convert %q to a pid", f[column])
		}
		if slices.Contains(pids, pid) {
			fmt.Fprintln(w, l)
		}
	}
	return nil
}
