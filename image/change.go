package image

import (
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	spec "github.com/moby/docker-image-spec/specs-go/v1"
)

// A Config is the part of a config that says how an image runs.
type Config = spec.DockerOCIImageConfig

// Change applies lines of a Dockerfile to a config, as --change of import and commit does: CMD, ENTRYPOINT, ENV, EXPOSE,
// HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR.
func Change(c *Config, lines []string) error {
	for _, line := range lines {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		if rest == "" {
			return fmt.Errorf("change %q: want an instruction of a Dockerfile with its value, as in CMD [\"sh\"]", line)
		}
		if err := change(c, strings.ToUpper(verb), rest); err != nil {
			return fmt.Errorf("change %q: %w", line, err)
		}
	}
	return nil
}

func change(c *Config, verb, rest string) (err error) {
	switch verb {
	case "CMD":
		c.Cmd = command(rest, c.Shell)
	case "ENTRYPOINT":
		c.Entrypoint = command(rest, c.Shell)
	case "ENV":
		err = pairs(rest, func(k, v string) { c.Env = setEnv(c.Env, k, v) })
	case "LABEL":
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		err = pairs(rest, func(k, v string) { c.Labels[k] = v })
	case "EXPOSE":
		err = expose(c, rest)
	case "VOLUME":
		err = volumes(c, rest)
	case "WORKDIR":
		if !path.IsAbs(rest) {
			rest = path.Join("/", c.WorkingDir, rest)
		}
		c.WorkingDir = path.Clean(rest)
	case "USER":
		c.User = rest
	case "STOPSIGNAL":
		c.StopSignal = rest
	case "ONBUILD":
		c.OnBuild = append(c.OnBuild, rest)
	case "HEALTHCHECK":
		c.Healthcheck, err = healthcheck(rest)
	default:
		err = fmt.Errorf("%s is not one of CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR", verb)
	}
	return err
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

// words splits as a Dockerfile does: quotes and backslashes keep blanks.
func words(s string) ([]string, error) {
	var list []string
	var b strings.Builder
	var quote byte
	in := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quote != '\'' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
			in = true
		case quote != 0:
			if c == quote {
				quote = 0
			} else {
				b.WriteByte(c)
			}
		case c == '"' || c == '\'':
			quote, in = c, true
		case c == ' ' || c == '\t':
			if in {
				list = append(list, b.String())
				b.Reset()
				in = false
			}
		default:
			b.WriteByte(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote %c is not closed", quote)
	}
	if in {
		list = append(list, b.String())
	}
	return list, nil
}

// pairs reads KEY=VALUE..., or the old KEY VALUE.
func pairs(s string, set func(k, v string)) error {
	list, err := words(s)
	if err != nil {
		return err
	}
	if len(list) > 0 && !strings.Contains(list[0], "=") {
		k, v, ok := strings.Cut(s, " ")
		if !ok {
			return fmt.Errorf("%s has no value", k)
		}
		set(k, strings.TrimSpace(v))
		return nil
	}
	for _, w := range list {
		k, v, ok := strings.Cut(w, "=")
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
	list, err := words(s)
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
		if list, err = words(s); err != nil {
			return err
		}
	}
	if c.Volumes == nil {
		c.Volumes = map[string]struct{}{}
	}
	for _, v := range list {
		if strings.TrimSpace(v) == "" {
			return fmt.Errorf("an empty volume")
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
		option, s, _ = strings.Cut(s, " ")
		s = strings.TrimSpace(s)
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
	verb, rest, _ := strings.Cut(s, " ")
	switch strings.ToUpper(verb) {
	case "NONE":
		return &spec.HealthcheckConfig{Test: []string{"NONE"}}, nil
	case "CMD":
		rest = strings.TrimSpace(rest)
		var list []string
		if strings.HasPrefix(rest, "[") && json.Unmarshal([]byte(rest), &list) == nil {
			h.Test = append([]string{"CMD"}, list...)
		} else {
			h.Test = []string{"CMD-SHELL", rest}
		}
		return h, nil
	}
	return nil, fmt.Errorf("want NONE, or CMD and a command")
}
