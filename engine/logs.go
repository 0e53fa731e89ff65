package engine

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"regexp"
	"strings"
	"text/template"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/monitor/log"
	"github.com/kakuri/kakuri/monitor/logread"
)

// A LogLine is a line of a container's output, or a part of one that is longer than 16 KiB.
type LogLine = logread.Line

// The streams that a LogLine may be of.
const (
	Stdout = log.Stdout
	Stderr = log.Stderr
)

// LogOptions choose lines of a container's output.
type LogOptions struct {
	Since, Until time.Time // zero is without bound
	Tail         *int      // the last ones only; nil is all
	Follow       bool      // and those that come, as long as the container runs or is being started again
}

// Logs tells what a container has written, oldest first, until an error of tell. A line is valid during the call only.
func (e *Engine) Logs(ctx context.Context, ref string, o LogOptions, tell func(LogLine) error) error {
	c, err := e.Find(ref)
	if err != nil {
		return err
	}
	read := logread.Options{Since: o.Since, Until: o.Until, Tail: -1, Follow: o.Follow, More: func() bool {
		now, err := e.Find(c.ID)
		return err == nil && (now.Active() || monitor.Marked(c.dir))
	}}
	if o.Tail != nil && *o.Tail >= 0 {
		read.Tail = *o.Tail
	}
	switch driver := c.Config.Log.Driver; {
	case driver == "journald":
		return logread.Journal(ctx, c.ID, read, tell)
	case driver == "none", driver == "syslog" && c.Config.Log.Options["cache-disabled"] == "true":
		return logread.ErrNoReading
	default:
		return logread.Read(ctx, driver, c.logFile(), read, tell)
	}
}

func (c *Container) logFile() string { return c.dir + "/container.log" }

// checkLog reports what is wrong with a container's log, before it is made.
func checkLog(l LogConfig) error {
	if err := log.Check(l.Driver, l.Options); err != nil {
		return err
	}
	if l.Options["compress"] == "true" && log.Gzip() == "" {
		return errors.New("--log-opt compress=true: there is no program gzip")
	}
	for _, key := range []string{"labels-regex", "env-regex"} {
		if _, err := regexp.Compile(l.Options[key]); err != nil {
			return fmt.Errorf("--log-opt %s=%s: %w", key, l.Options[key], err)
		}
	}
	_, err := tagTemplate(l.Options["tag"])
	return err
}

// inMemory are the options of a log that lies with its container in the directory of what does not outlive a boot: that is memory, often a tenth of it for
// all programs of the machine, so it takes 10 MB unless another bound is asked for.
func inMemory(l LogConfig) map[string]string {
	if l.Driver != "" && l.Driver != "json-file" && l.Driver != "local" || l.Options["max-size"] != "" {
		return l.Options
	}
	options := map[string]string{"max-size": "5m", "max-file": "2"}
	maps.Copy(options, l.Options)
	return options
}

// logConfig is what the monitor has to know of a container's log: templates are filled in, names looked up.
func (c *Container) logConfig(ctx context.Context) (log.Config, error) {
	l := c.Config.Log
	out := log.Config{Driver: l.Driver, Options: l.Options, File: c.logFile(), Labels: log.Labels{ID: c.ID, Name: c.Name, Image: c.Image}}
	if err := checkLog(l); err != nil {
		return out, err
	}
	if c.Config.AutoRemove {
		out.Options = inMemory(l)
	}
	var err error
	if out.Attrs, err = c.logAttrs(); err != nil {
		return out, err
	}
	tag := l.Options["tag"]
	if out.Tag, err = c.logTag(cmp.Or(tag, "{{.ID}}"), out.Attrs); err != nil {
		return out, err
	}
	if tag != "" && (l.Driver == "" || l.Driver == "json-file") {
		if out.Attrs == nil {
			out.Attrs = map[string]string{}
		}
		out.Attrs["tag"] = out.Tag
	}
	if server := log.Encrypted(l.Driver, l.Options); server != "" {
		out.Relay, err = relayOf(server, l.Options) // which looks the name up itself, each time
		return out, err
	}
	host := log.Host(l.Driver, l.Options)
	if host == "" {
		return out, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(addrs) == 0 {
		return out, fmt.Errorf("--log-opt syslog-address=%s: %w", l.Options["syslog-address"], err)
	}
	out.Server = addrs[0].Unmap().AsSlice()
	return out, nil
}

// logAttrs are the labels and variables that each line is to have, by --log-opt labels, env and their -regex.
func (c *Container) logAttrs() (map[string]string, error) {
	attrs := map[string]string{}
	env := map[string]string{}
	for _, e := range c.Config.Env {
		if k, v, set := strings.Cut(e, "="); set {
			env[k] = v
		}
	}
	for _, from := range []struct {
		key string
		has map[string]string
	}{{"labels", c.Config.Labels}, {"env", env}} {
		for _, name := range strings.Split(c.Config.Log.Options[from.key], ",") {
			if v, ok := from.has[name]; ok {
				attrs[name] = v
			}
		}
		pattern := c.Config.Log.Options[from.key+"-regex"]
		if pattern == "" {
			continue
		}
		r, err := regexp.Compile(pattern)
		if err != nil {
			return nil, err
		}
		for k, v := range from.has {
			if r.MatchString(k) {
				attrs[k] = v
			}
		}
	}
	if len(attrs) == 0 {
		return nil, nil
	}
	return attrs, nil
}

// A logInfo is what --log-opt tag=TEMPLATE may name: Docker's fields.
type logInfo struct {
	Config                               map[string]string
	ContainerID, ContainerName           string
	ContainerEntrypoint                  string
	ContainerArgs                        []string
	ContainerImageID, ContainerImageName string
	ContainerCreated                     time.Time
	ContainerEnv                         []string
	ContainerLabels                      map[string]string
	LogPath, DaemonName                  string
	Attributes                           map[string]string
	ID, FullID, Name, Command            string
	ImageID, ImageFullID, ImageName      string
}

// ExtraAttributes are those of the lines.
func (l logInfo) ExtraAttributes() map[string]string { return l.Attributes }

// Hostname is that of the machine.
func (l logInfo) Hostname() (string, error) { return os.Hostname() }

// tagTemplate is a template of log tags, with Docker's functions that make sense of what one has.
func tagTemplate(text string) (*template.Template, error) {
	t, err := template.New("tag").Funcs(template.FuncMap{
		"json": func(v any) (string, error) { b, err := json.Marshal(v); return string(b), err },
		"join": strings.Join, "split": strings.Split, "lower": strings.ToLower, "upper": strings.ToUpper,
	}).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("--log-opt tag=%s: %w", text, err)
	}
	return t, nil
}

func (c *Container) logTag(text string, attrs map[string]string) (string, error) {
	image := strings.TrimPrefix(c.ImageID, "sha256:")
	info := logInfo{
		Config: c.Config.Log.Options, ContainerID: c.ID, ContainerName: "/" + c.Name, ContainerImageID: c.ImageID, ContainerImageName: c.Image, ContainerCreated: c.Created,
		ContainerEnv: c.Config.Env, ContainerLabels: c.Config.Labels, LogPath: c.logFile(), DaemonName: "kakuri", Attributes: attrs,
		ID: files.ShortID(c.ID), FullID: c.ID, Name: c.Name, Command: strings.Join(c.Command, " "),
		ImageID: files.ShortID(image), ImageFullID: c.ImageID, ImageName: c.Image,
	}
	if len(c.Command) > 0 {
		info.ContainerEntrypoint, info.ContainerArgs = c.Command[0], c.Command[1:]
	}
	t, err := tagTemplate(text)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, info); err != nil {
		return "", fmt.Errorf("--log-opt tag=%s: %w", text, err)
	}
	return b.String(), nil
}
