package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/monitor/logread"
)

// An Event is something that happened to an object: see [monitor.Event].
type Event = monitor.Event

// Filters choose objects by Docker's keys: one of a key's values has to fit, and of every key one.
type Filters map[string][]string

// EventOptions say which events [Engine.Events] tells of.
type EventOptions struct {
	Since, Until time.Time // zero: from now on; for ever
	Filters      Filters   // container, event, image, label, network, scope, type, volume
}

// Events tells of what happens, until an error of tell, the end of ctx, or the time Until. With Since it tells first of what has
// happened since then, as far as that is still known: the last thousands.
func (e *Engine) Events(ctx context.Context, o EventOptions, tell func(Event) error) error {
	err := o.Filters.Check("container", "event", "image", "label", "network", "scope", "status", "type", "volume", "config", "daemon", "node", "plugin", "secret", "service")
	if err != nil {
		return err
	}
	if !o.Until.IsZero() && o.Since.After(o.Until) {
		return fmt.Errorf("`since` time (%d) cannot be after `until` time (%d)", o.Since.Unix(), o.Until.Unix())
	}
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return err
	}
	read := logread.Options{Since: o.Since, Until: o.Until, Tail: -1, Follow: o.Until.IsZero() || o.Until.After(time.Now())}
	if o.Since.IsZero() {
		read.Tail = 0
		if !read.Follow {
			read.Tail = -1 // of which none is so old
		}
	}
	var event Event
	parse := func(line []byte) (time.Time, error) {
		event = Event{}
		err := json.Unmarshal(line, &event)
		return time.Unix(0, event.TimeNano), err
	}
	return logread.ReadLines(ctx, e.events(), read, parse, func([]byte) error {
		if !o.Filters.event(&event) {
			return nil
		}
		return tell(event)
	})
}

// events is the file that who acts writes to.
func (e *Engine) events() string { return e.dir + "/events" }

// event tells of a container. That it cannot be told is no reason not to do it.
func (e *Engine) event(c *Container, action string, more map[string]string) {
	monitor.Tell(e.events(), "container", action, c.ID, eventOf(c, more))
}

// Tell writes an event of another object than a container: an image, a volume.
func (e *Engine) tell(kind, action, id string, attributes map[string]string) {
	monitor.Tell(e.events(), kind, action, id, attributes)
}

// eventOf are the attributes of a container's events: its labels, its name and its image.
func eventOf(c *Container, more map[string]string) map[string]string {
	m := map[string]string{}
	for _, list := range []map[string]string{c.Config.Labels, more} {
		for k, v := range list {
			m[k] = v
		}
	}
	m["name"], m["image"] = c.Name, c.Image
	return m
}

// event reports whether filters let an event pass, by Docker's rules: one value of each key has to fit, of labels all.
func (f Filters) event(e *Event) bool {
	object := func(kind string) func(string) bool {
		return func(v string) bool {
			if e.Type != kind {
				return false
			}
			return v != "" && (e.Actor.Attributes["name"] == strings.TrimPrefix(v, "/") || strings.HasPrefix(e.Actor.ID, v))
		}
	}
	ofImage := func(v string) bool {
		name := e.Actor.Attributes["image"]
		if e.Type == "image" {
			name = e.Actor.Attributes["name"]
		}
		if v == name || e.Type == "image" && v == e.Actor.ID {
			return v != ""
		}
		r, err := image.ParseReference(name) // a repository is all of its tags
		return err == nil && v == r.FamiliarName()
	}
	did := func(v string) bool {
		action, _, _ := strings.Cut(e.Action, ":")
		return v == e.Action || v == action || strings.HasPrefix(e.Action, v) && strings.HasSuffix(v, ":")
	}
	rules := map[string]func(string) bool{
		"event": did, "status": did, // podman's and nerdctl's word for it, after the key that it has in JSON
		"type":      func(v string) bool { return v == e.Type },
		"scope":     func(v string) bool { return v == e.Scope },
		"container": object("container"), "volume": object("volume"), "network": object("network"),
		"image": ofImage,
	}
	for _, kind := range []string{"config", "daemon", "node", "plugin", "secret", "service"} { // of which there are none here
		rules[kind] = func(string) bool { return false }
	}
	return f.fit(rules) && f.Labels(e.Actor.Attributes)
}
