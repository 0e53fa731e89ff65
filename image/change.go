package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/abi"
	spec "github.com/moby/docker-image-spec/specs-go/v1"
)

// A Config is the part of a config that says how an image runs.
type Config = spec.DockerOCIImageConfig

// Change applies lines of a Dockerfile to a config, as --change of import and commit does: CMD, ENTRYPOINT, ENV, EXPOSE,
// HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR. Variables in them are those of the config.
func Change(c *Config, lines []string) error {
	for _, line := range lines {
		if strings.TrimSpace(line) == "" {
			return noValue(line)
		}
	}
	asked := false // for a command
	for _, line := range instructions(strings.Join(lines, "\n")) {
		verb, rest := firstWord(line)
		if rest == "" {
			return noValue(line)
		}
		verb = strings.ToUpper(verb)
		if err := change(c, verb, rest); err != nil {
			return fmt.Errorf("change %q: %w", line, err)
		}
		// As in a Dockerfile, what the image had are arguments for another program.
		if asked = asked || verb == "CMD"; verb == "ENTRYPOINT" && !asked {
			c.Cmd = nil
		}
	}
	return nil
}

func noValue(line string) error {
	return fmt.Errorf("change %q: want an instruction of a Dockerfile with its value, as in CMD [\"sh\"]", line)
}

// firstWord splits a line behind what its first blank ends.
func firstWord(s string) (word, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimSpace(s[i:])
}

func change(c *Config, verb, rest string) (err error) {
	switch verb {
	case "CMD":
		c.Cmd = command(rest, c.Shell)
	case "ENTRYPOINT":
		c.Entrypoint = command(rest, c.Shell)
	case "ENV":
		env := slices.Clone(c.Env) // of one instruction, each value sees what was there before it
		err = pairs(rest, env, func(k, v string) { c.Env = setEnv(c.Env, k, v) })
	case "LABEL":
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		err = pairs(rest, c.Env, func(k, v string) { c.Labels[k] = v })
	case "EXPOSE":
		err = expose(c, rest)
	case "VOLUME":
		err = volumes(c, rest)
	case "WORKDIR":
		err = workDir(c, rest)
	case "USER":
		c.User, err = expand(rest, c.Env)
	case "STOPSIGNAL":
		err = stopSignal(c, rest)
	case "ONBUILD":
		err = onBuild(c, rest)
	case "HEALTHCHECK":
		c.Healthcheck, err = healthcheck(rest)
	default:
		err = fmt.Errorf("%s is not one of CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR", verb)
	}
	return err
}

func workDir(c *Config, s string) error {
	dir, err := expand(s, c.Env)
	switch {
	case err != nil:
		return err
	case dir == "":
		return errors.New("an empty directory")
	case !path.IsAbs(dir):
		dir = path.Join("/", c.WorkingDir, dir)
	}
	c.WorkingDir = path.Clean(dir)
	return nil
}

func stopSignal(c *Config, s string) error {
	signal, err := expand(s, c.Env)
	if err != nil {
		return err
	}
	if _, ok := abi.ParseSignal(signal); !ok {
		return fmt.Errorf("invalid signal: %s", signal)
	}
	c.StopSignal = signal
	return nil
}

// onBuild keeps an instruction as it is: it is for the image that is built from this one.
func onBuild(c *Config, s string) error {
	switch verb, _ := firstWord(strings.ToUpper(s)); verb {
	case "ONBUILD", "FROM", "MAINTAINER":
		return fmt.Errorf("%s is no instruction for ONBUILD", verb)
	}
	c.OnBuild = append(c.OnBuild, s)
	return nil
}

// command reads the form with brackets, or else a line for the shell.
func command(s string, shell []string) []string {
	var list []string
	if strings.HasPrefix(s, "[") && json.Unmarshal([]byte(s), &list) == nil {
		return list
	}
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(append([]string(nil), shell...), s)
}

// words are those of a line, each as it is meant.
func words(s string, env []string) ([]string, error) {
	list := fields(s)
	for i, w := range list {
		var err error
		if list[i], err = expand(w, env); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// pairs reads KEY=VALUE..., or the old KEY VALUE.
func pairs(s string, env []string, set func(k, v string)) error {
	list := fields(s)
	if len(list) > 0 && !strings.Contains(list[0], "=") {
		k, v := firstWord(s)
		if v == "" {
			return fmt.Errorf("%s has no value", k)
		}
		list = []string{k + "=" + v}
	}
	for _, w := range list {
		k, v, ok := strings.Cut(w, "=")
		k, err := expand(k, env)
		if err != nil {
			return err
		}
		if v, err = expand(v, env); err != nil {
			return err
		}
		if !ok || k == "" {
			return fmt.Errorf("%q: want KEY=VALUE", w)
		}
		set(k, v)
	}
	return nil
}

func setEnv(env []string, k, v string) []string {
	for i, e := range env {
		if strings.HasPrefix(e, k+"=") {
			env[i] = k + "=" + v
			return env
		}
	}
	return append(env, k+"="+v)
}

// expose reads PORT[-PORT][/PROTOCOL]...
func expose(c *Config, s string) error {
	list, err := words(s, c.Env)
	if err != nil {
		return err
	}
	if c.ExposedPorts == nil {
		c.ExposedPorts = map[string]struct{}{}
	}
	for _, w := range list {
		ports, proto, ok := strings.Cut(w, "/")
		if !ok {
			proto = "tcp"
		}
		from, to, ok := strings.Cut(ports, "-")
		if !ok {
			to = from
		}
		a, err1 := strconv.ParseUint(from, 10, 16)
		b, err2 := strconv.ParseUint(to, 10, 16)
		proto = strings.ToLower(proto)
		if err1 != nil || err2 != nil || b < a || proto != "tcp" && proto != "udp" && proto != "sctp" {
			return fmt.Errorf("%q: want PORT, PORT/udp or PORT-PORT", w)
		}
		for p := a; p <= b; p++ {
			c.ExposedPorts[fmt.Sprintf("%d/%s", p, proto)] = struct{}{}
		}
	}
	return nil
}

func volumes(c *Config, s string) error {
	var list []string
	if !strings.HasPrefix(s, "[") || json.Unmarshal([]byte(s), &list) != nil {
		var err error
		if list, err = words(s, c.Env); err != nil {
			return err
		}
	}
	if c.Volumes == nil {
		c.Volumes = map[string]struct{}{}
	}
	for _, v := range list {
		if strings.TrimSpace(v) == "" {
			return errors.New("an empty volume")
		}
		c.Volumes[v] = struct{}{}
	}
	return nil
}

// healthcheck reads NONE, or options and CMD.
func healthcheck(s string) (*spec.HealthcheckConfig, error) {
	h := &spec.HealthcheckConfig{}
	for strings.HasPrefix(s, "--") {
		var option string
		option, s = firstWord(s)
		name, value, _ := strings.Cut(option[2:], "=")
		if name == "retries" {
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 {
				return nil, fmt.Errorf("%s: want a number from 1 on", option)
			}
			h.Retries = n
			continue
		}
		to := map[string]*time.Duration{"interval": &h.Interval, "timeout": &h.Timeout, "start-period": &h.StartPeriod, "start-interval": &h.StartInterval}[name]
		if to == nil {
			return nil, fmt.Errorf("%s is no option of HEALTHCHECK", option)
		}
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 || d > 0 && d < time.Millisecond {
			return nil, fmt.Errorf("%s: want a duration of 1ms at least, as in 30s", option)
		}
		*to = d
	}
	verb, rest := firstWord(s)
	switch strings.ToUpper(verb) {
	case "NONE":
		return &spec.HealthcheckConfig{Test: []string{"NONE"}}, nil
	case "CMD":
		var list []string
		if strings.HasPrefix(rest, "[") && json.Unmarshal([]byte(rest), &list) == nil {
			h.Test = append([]string{"CMD"}, list...)
		} else {
			h.Test = []string{"CMD-SHELL", rest}
		}
		return h, nil
	}
	return nil, errors.New("want NONE, or CMD and a command")
}
