package engine

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/monitor"
)

// Check refuses keys that are not in the list, and says what is.
func (f Filters) Check(keys ...string) error { return image.Filters(f).Check(keys...) }

// any reports whether one of a key's values matches; a key that is not there does.
func (f Filters) any(key string, match func(value string) bool) bool {
	return len(f[key]) == 0 || slices.ContainsFunc(f[key], match)
}

// fit reports whether each key that has a rule fits it by one of its values.
func (f Filters) fit(rules map[string]func(value string) bool) bool {
	for key := range f {
		if rule, ok := rules[key]; ok && !f.any(key, rule) {
			return false
		}
	}
	return true
}

// Labels reports whether an object's labels pass the filters label and label!.
func (f Filters) Labels(labels map[string]string) bool {
	has := func(want string) bool {
		key, value, both := strings.Cut(want, "=")
		got, ok := labels[key]
		return ok && (!both || got == value)
	}
	return !slices.ContainsFunc(f["label"], func(l string) bool { return !has(l) }) && !slices.ContainsFunc(f["label!"], has)
}

// Until is the time that the filter until names, zero without one: "2h" ago, a time of RFC
// 3339 or a part of it, or seconds since 1970.
func (f Filters) Until() (time.Time, error) {
	switch len(f["until"]) {
	case 0:
		return time.Time{}, nil
	case 1:
	default:
		return time.Time{}, fmt.Errorf("more than one until filter specified")
	}
	t, err := ParseTime(f["until"][0], time.Now())
	if err != nil {
		return t, fmt.Errorf("invalid filter 'until=%s': %w", f["until"][0], err)
	}
	return t, nil
}

// ParseTime reads a time as Docker's flags have it: how long before now ("1h30m"), a time
// of RFC 3339 or a part of it, the rest of which is zero, in the local zone unless it has
// one, or seconds since 1970 with a fraction or not.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && s != "0" { // which are seconds
		return now.Add(-d), nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02T15:04Z07:00", "2006-01-02T15Z07:00", "2006-01-02Z07:00", "2006-01-02",
		"2006-01-02 15:04:05.999999999", "2006-01-02 15:04:05.999999999 -0700 MST",
	} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	whole, part, _ := strings.Cut(s, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	nanos, err2 := strconv.ParseUint((part + "000000000")[:9], 10, 32)
	if err != nil || err2 != nil || len(part) > 9 {
		return time.Time{}, fmt.Errorf("%q is no time: want one as in 2026-11-24T10:00:00, how long ago as in 1h30m, or seconds since 1970", s)
	}
	return time.Unix(seconds, int64(nanos)), nil
}

// patterns makes a question of a key whose values are regular expressions, as Docker has them for names and ids: whether one of them
// matches one of the texts. A key that is not there does.
func (f Filters) patterns(key string) (func(texts ...string) bool, error) {
	var list []*regexp.Regexp
	for _, value := range f[key] {
		r, err := regexp.Compile(value)
		if err != nil {
			return nil, fmt.Errorf("invalid filter '%s=%s': %w", key, value, err)
		}
		list = append(list, r)
	}
	return func(texts ...string) bool {
		return len(list) == 0 || slices.ContainsFunc(list, func(r *regexp.Regexp) bool { return slices.ContainsFunc(texts, r.MatchString) })
	}, nil
}

// truth is the value of a key that is true or false, nil without one.
func (f Filters) truth(key string) (*bool, error) { return image.Filters(f).Truth(key) }

// checkStates refuses states of containers, of their health and of their end that there are not, and what no is-task is.
func (f Filters) checkStates() error {
	for _, s := range f["status"] {
		states := []string{monitor.Created, monitor.Running, paused, monitor.Restarting, monitor.Removing, monitor.Exited, monitor.Dead}
		if !slices.Contains(states, s) {
			return fmt.Errorf("invalid filter 'status=%s': invalid value for state (%s): must be one of %s", s, s, strings.Join(states, ", "))
		}
	}
	for _, s := range f["health"] {
		if states := []string{"none", monitor.Starting, monitor.Healthy, monitor.Unhealthy}; !slices.Contains(states, s) {
			return fmt.Errorf("invalid filter 'health=%s': invalid value for health (%s): must be one of %s", s, s, strings.Join(states, ", "))
		}
	}
	for _, s := range f["exited"] {
		if _, err := strconv.Atoi(s); err != nil {
			return fmt.Errorf("invalid filter 'exited=%s'", s)
		}
	}
	_, err := f.truth("is-task")
	return err
}

// containers checks the filters of lists of containers, and gives what decides about one.
func (f Filters) containers(e *Engine) (func(*Container) bool, error) {
	err := f.Check("ancestor", "before", "exited", "expose", "health", "id", "label", "label!", "name", "network", "publish", "since", "status", "until", "volume", "is-task")
	if err != nil {
		return nil, err
	}
	if len(f) == 0 {
		return func(*Container) bool { return true }, nil
	}
	hasID, err := e.prefixes(f["id"])
	if err != nil {
		return nil, err
	}
	hasName, err := f.patterns("name")
	if err != nil {
		return nil, err
	}
	if err := f.checkStates(); err != nil {
		return nil, err
	}
	published, err := f.ports("publish")
	if err != nil {
		return nil, err
	}
	exposes, err := f.ports("expose")
	if err != nil {
		return nil, err
	}
	ancestors, err := e.ancestors(f["ancestor"])
	if err != nil {
		return nil, err
	}
	inTime, err := f.created(e)
	if err != nil {
		return nil, err
	}
	r := e.runtime()
	return func(c *Container) bool {
		return hasID(c.ID) && hasName(c.Name, "/"+c.Name) && f.Labels(c.Config.Labels) && inTime(c.Created) &&
			(len(ancestors) == 0 || slices.ContainsFunc(ancestors, c.descends)) && published(c, false) && exposes(c, true) &&
			f.fit(map[string]func(string) bool{
				"status":  func(s string) bool { return s == statusOf(r, c) },
				"health":  func(s string) bool { return s == c.health() },
				"exited":  func(s string) bool { return !c.Active() && !c.Finished.IsZero() && s == strconv.Itoa(c.ExitCode) },
				"volume":  c.mounts,
				"network": c.connected,
				"is-task": func(s string) bool { is, _ := strconv.ParseBool(s); return !is },
			})
	}, nil
}

// created makes a question of the filters before and since, which name containers, and until.
func (f Filters) created(e *Engine) (func(time.Time) bool, error) {
	limits := map[string]time.Time{}
	for _, key := range []string{"before", "since"} {
		for _, ref := range f[key] {
			c, err := e.Find(ref)
			if err != nil {
				return nil, err
			}
			limits[key] = c.Created
		}
	}
	until, err := f.Until()
	before, since := limits["before"], limits["since"]
	return func(t time.Time) bool {
		return (before.IsZero() || t.Before(before)) && (since.IsZero() || t.After(since)) && (until.IsZero() || t.Before(until))
	}, err
}

// prefixes makes a question of the filter id, whose values are the beginnings of ids, other than those of networks: what is in the middle of
// an id is no name for it. A beginning that several have is nobody's, as with Docker, so that no script ends another container.
func (e *Engine) prefixes(values []string) (func(id string) bool, error) {
	if len(values) == 0 {
		return func(string) bool { return true }, nil
	}
	var ids []string
	for _, value := range values {
		id, err := e.byPrefix(value)
		if errors.As(err, new(ErrAmbiguous)) || errors.As(err, new(ErrNoSuchContainer)) {
			continue
		}
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return func(id string) bool { return slices.Contains(ids, id) }, nil
}

// An ancestor is an image that containers are looked for of: as it was written, and the id that it has now, if there is one.
type ancestor struct{ name, id string }

func (e *Engine) ancestors(names []string) (list []ancestor, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	s, err := e.Images()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		a := ancestor{name: name}
		if img, err := s.Get(name, image.Platform{}); err == nil {
			a.id = img.ID.String()
		}
		list = append(list, a)
	}
	return list, nil
}

// descends reports whether a container is of an image, by a name or an id of it.
func (c *Container) descends(a ancestor) bool {
	if a.id != "" {
		return c.ImageID == a.id
	}
	// The image is gone, or has lost its name since.
	id := strings.TrimPrefix(c.ImageID, "sha256:")
	short := strings.TrimPrefix(a.name, "sha256:")
	return strings.TrimSuffix(c.Image, ":latest") == strings.TrimSuffix(a.name, ":latest") || len(short) >= 4 && strings.HasPrefix(id, short)
}

// mounts reports whether a volume of that name, a directory of the machine, or something at that place is in a container.
func (c *Container) mounts(volume string) bool {
	return slices.ContainsFunc(c.Volumes, func(m MountPoint) bool {
		return m.Name == volume || m.Type == "bind" && m.Source == path.Clean(volume) || m.Destination == path.Clean(volume)
	})
}

// connected reports whether a container is on a network of that name, or whose id begins so, or has it as its mode.
func (c *Container) connected(network string) bool {
	mode := c.Config.networkMode()
	if isNetworkMode(mode) {
		return mode == network
	}
	return slices.ContainsFunc(c.Connections, func(x Connection) bool {
		return x.Network == network || len(network) >= 4 && strings.HasPrefix(x.NetworkID, network)
	}) ||
		slices.ContainsFunc(c.Config.attachments(), func(a Attachment) bool { return a.Network == network })
}

// ports makes a question of the filter publish or expose.
func (f Filters) ports(key string) (func(c *Container, exposed bool) bool, error) {
	var fits []func(uint16, string) bool
	for _, value := range f[key] {
		one, err := portFilter(key, value)
		if err != nil {
			return nil, err
		}
		fits = append(fits, one)
	}
	return func(c *Container, exposed bool) bool {
		return len(fits) == 0 || slices.ContainsFunc(c.summaryPorts(), func(p SummaryPort) bool {
			return (exposed || p.PublicPort != 0) && slices.ContainsFunc(fits, func(one func(uint16, string) bool) bool {
				return one(p.PrivatePort, p.Type) || !exposed && one(p.PublicPort, p.Type)
			})
		})
	}, nil
}

// health is what the last checks said, none where there are none. One that does not run is not well, by Docker's rule, whatever they said.
func (c *Container) health() string {
	switch {
	case c.Health == nil:
		return "none"
	case c.Status != monitor.Running:
		return monitor.Unhealthy
	}
	return c.Health.Status
}
