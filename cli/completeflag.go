package cli

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/tour"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// completeFlags has the flags of c, and of all commands below it, complete their values: those of which only a few can be are named, and files stand only
// where a flag is for one. It is called for a line that is to be completed, and for no other: it would cost each start.
func completeFlags(c *cobra.Command) {
	each := func(f *pflag.Flag) {
		value, _ := pflag.UnquoteUsage(f)
		f.Usage = flagText(f) // shells show it beside the flag, as it is
		if _, has := c.GetFlagCompletionFunc(f.Name); has || f.NoOptDefVal != "" {
			return
		}
		if keys := filterKeys(f); keys != nil {
			c.RegisterFlagCompletionFunc(f.Name, completeFilter(keys))
		} else if f.Name == "cap-add" || f.Name == "cap-drop" {
			c.RegisterFlagCompletionFunc(f.Name, completeCapability)
		} else if list := flagValues(c.Name(), f); list != nil {
			c.RegisterFlagCompletionFunc(f.Name, names(list, -1))
		} else if !ofFile(value, f.Name) {
			c.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions)
		}
	}
	c.InitDefaultHelpFlag()
	c.PersistentFlags().VisitAll(each)
	c.LocalFlags().VisitAll(each)
	for _, below := range c.Commands() {
		completeFlags(below)
	}
}

// filterKeys are the keys that a --filter takes, as its help has them; nil for another flag.
func filterKeys(f *pflag.Flag) []string {
	_, keys, is := strings.Cut(f.Usage, withKey)
	if f.Name != "filter" || !is {
		return nil
	}
	return strings.Split(keys, ", ")
}

// completeFilter completes the key of a filter; its value follows without a space.
func completeFilter(keys []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, begun string) (fit []string, _ cobra.ShellCompDirective) {
		for _, key := range keys {
			if strings.HasPrefix(key+"=", begun) {
				fit = append(fit, key+"=")
			}
		}
		return fit, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// completeCapability completes capabilities as people write them, without CAP_, and with it where the word has that.
func completeCapability(_ *cobra.Command, _ []string, begun string) (fit []string, _ cobra.ShellCompDirective) {
	list := []string{"ALL"}
	for _, c := range abi.AllCaps.List() {
		list = append(list, strings.TrimPrefix(c.String(), "CAP_"))
		if begun != "" {
			list = append(list, c.String())
		}
	}
	for _, name := range list {
		if strings.HasPrefix(name, begun) {
			fit = append(fit, name)
		}
	}
	return fit, cobra.ShellCompDirectiveNoFileComp
}

// ofFile reports whether what a flag wants may be a path of this machine.
func ofFile(value, flag string) bool {
	if strings.HasPrefix(value, "FILE") || strings.HasPrefix(value, "DIR") && value != "DRIVER" {
		return true
	}
	return slices.Contains([]string{"device", "entrypoint", "mount", "volume", "workdir"}, flag)
}

// flagValues are what a flag can be; nil where that is no short list.
func flagValues(command string, f *pflag.Flag) completer {
	fixed := func(list string) completer {
		return func(context.Context) []string { return strings.Fields(list) }
	}
	joined := func(list string) completer {
		return func(ctx context.Context) []string {
			all := strings.Fields(list)
			for _, name := range containerNames(up)(ctx) {
				all = append(all, "container:"+name)
			}
			return all
		}
	}
	switch f.Name {
	case "attach":
		return fixed("stdin stdout stderr")
	case "cgroupns":
		return fixed("private host")
	case "driver":
		if command == "create" && f.DefValue == "bridge" {
			return fixed("bridge macvlan ipvlan")
		}
		return fixed("local")
	case "format":
		return fixed(formats(f.Usage))
	case "ipc":
		return joined("none private shareable host")
	case "lang":
		return fixed("en ja")
	case "link", "volumes-from":
		return containerNames(anyState)
	case "log-driver":
		return fixed("json-file local journald syslog none")
	case "pid", "uts":
		return joined("host")
	case "propagation":
		return fixed("private slave shared unchanged")
	case "pull":
		return fixed("always missing never")
	case "restart":
		return fixed("no always unless-stopped on-failure")
	case "security-opt":
		return fixed("apparmor=unconfined label=disable level=default level=docker level=strict no-new-privileges seccomp=builtin seccomp=docker seccomp=debug seccomp=i386 seccomp=explain seccomp=unconfined systempaths=unconfined writable-cgroups")
	case "setgroups":
		return fixed("allow deny")
	case "signal", "stop-signal":
		return fixed("HUP INT QUIT KILL USR1 USR2 TERM CONT STOP WINCH")
	case "type":
		return typesOf(command)
	case "userns":
		return joined("auto keep-id host")
	}
	return nil
}

// typesOf are the kinds of object that --type of a command chooses among.
func typesOf(command string) completer {
	list := "pid user"
	switch command {
	case "inspect":
		list = "container image network volume"
	case "ls":
		list = "pid user mnt net uts ipc cgroup time"
	}
	return func(context.Context) []string { return strings.Fields(list) }
}

// formats are the words of a --format, as its help has them.
func formats(usage string) string {
	var list []string
	for _, word := range []string{"text", "table", "json", "svg", "docker-archive", "oci-archive", "oci-layout"} {
		if strings.Contains(usage, word) {
			list = append(list, word)
		}
	}
	return strings.Join(list, " ")
}

// experimentNames are those of the tour.
func experimentNames(context.Context) (list []string) {
	all, _ := tour.Find(nil)
	for _, e := range all {
		list = append(list, e.ID)
	}
	return list
}

// completeQuestion completes what port why is asked: a port that is published, or one of a container.
func completeQuestion(c *cobra.Command, args []string, begun string) (fit []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	e, err := lookEngine()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	boxes, err := e.Summaries(c.Context(), engine.SummaryOptions{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	add := func(question string) bool {
		fits := strings.HasPrefix(question, begun) && !slices.Contains(fit, question)
		if fits {
			fit = append(fit, question)
		}
		return fits
	}
	rest := cobra.ShellCompDirectiveNoFileComp
	for _, b := range boxes {
		name := nameText(b.Names, true) + ":"
		if !strings.HasPrefix(begun, name) && add(name) {
			rest |= cobra.ShellCompDirectiveNoSpace // its ports follow, at the next key
		}
		for _, p := range b.Ports {
			proto := ""
			if p.Type != "tcp" {
				proto = "/" + p.Type
			}
			if strings.HasPrefix(begun, name) {
				add(name + strconv.Itoa(int(p.PrivatePort)) + proto)
			}
			if p.PublicPort != 0 {
				add(strconv.Itoa(int(p.PublicPort)) + proto)
			}
		}
	}
	return fit, rest
}

// completeTarget completes a line of enter, whose options cobra does not read: the containers that can be entered, then programs.
func completeTarget(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	last := ""
	if len(args) > 0 {
		last = args[len(args)-1]
	}
	if len(args) == 0 && !strings.HasPrefix(begun, "-") || last == "-t" || last == "--target" {
		return names(containerNames(up), -1)(c, nil, begun)
	}
	return nil, cobra.ShellCompDirectiveDefault
}
