package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/ui"
	"github.com/spf13/cobra"
)

func newEvents(io IO) *cobra.Command {
	var layout, since, until string
	c := &cobra.Command{
		Use: "events [OPTIONS]", Short: "Print what happens, as it happens", Args: arguments(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Print what happens to containers, images, networks and volumes, from now on, or since a
TIME: one as in 2026-11-24T10:00:00, how long ago as in 42m, or seconds since
1970.`,
	}
	s := c.Flags()
	filters := filterFlag(s, "f", "container, event, image, label, network, scope, type, volume")
	s.StringVar(&layout, "format", "", "json, or a Go `TEMPLATE`")
	s.StringVar(&since, "since", "", "tell first what has happened since `TIME`")
	s.StringVar(&until, "until", "", "end at `TIME`")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o := engine.EventOptions{Filters: filters}
		var err error
		if o.Since, err = timeFlag("since", since); err != nil {
			return err
		}
		if o.Until, err = timeFlag("until", until); err != nil {
			return err
		}
		out := io.shown()
		if layout != "" { // a template that is wrong is told before the first event
			if err := format.Object(nobody{}, layout, engine.Event{}); err != nil {
				return &engine.ExitError{Code: 64, Err: err} // as with Docker
			}
		}
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		return e.Events(c.Context(), o, func(ev engine.Event) error {
			if layout != "" {
				return format.Object(out, layout, ev)
			}
			_, err := fmt.Fprintln(out, eventText(ev))
			return err
		})
	}
	return c
}

type nobody struct{}

func (nobody) Write(p []byte) (int, error) { return len(p), nil }

// eventText is one line: when, what kind, what, to whom, and its attributes, which an image's labels are among.
func eventText(e engine.Event) string {
	text := fmt.Sprintf("%s %s %s %s", time.Unix(0, e.TimeNano).Format(stamp), e.Type, e.Action, e.Actor.ID)
	var list []string
	for k, v := range e.Actor.Attributes {
		list = append(list, k+"="+v)
	}
	if list == nil {
		return ui.Escape(text)
	}
	slices.Sort(list)
	return ui.Escape(text + " (" + strings.Join(list, ", ") + ")")
}
