package cli

import (
	"bufio"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/cobra"
)

// stamp is RFC 3339 with nine digits, so that lines are below each other.
const stamp = "2006-01-02T15:04:05.000000000Z07:00"

func newLogs(io IO) *cobra.Command {
	var details, follow, stamps bool
	var since, until, tail string
	c := &cobra.Command{
		Use: "logs [OPTIONS] CONTAINER", Short: "Print what a container has written", Args: arguments(1, 1), ValidArgsFunction: names(containerNames(anyState), 1),
		Long: `Print what a container has written: its stdout to stdout, and its stderr to stderr.
A TIME is one as in 2026-11-24T10:00:00, how long ago as in 42m, or seconds since
1970.`,
	}
	s := c.Flags()
	s.BoolVar(&details, "details", false, "print the attributes that --log-opt asked for, too")
	s.BoolVarP(&follow, "follow", "f", false, "print what comes, too, until the container ends for good")
	s.StringVar(&since, "since", "", "only what was written since `TIME`")
	s.StringVarP(&tail, "tail", "n", "all", "only the last `NUMBER` of lines")
	s.BoolVarP(&stamps, "timestamps", "t", false, "print when each line was written")
	s.StringVar(&until, "until", "", "only what was written before `TIME`")
	c.RunE = func(c *cobra.Command, args []string) error {
		o := engine.LogOptions{Follow: follow}
		var err error
		if o.Since, err = timeFlag("since", since); err != nil {
			return err
		}
		if until == "0" {
			until = "" // without an end, as with Docker
		}
		if o.Until, err = timeFlag("until", until); err != nil {
			return err
		}
		if n, err := strconv.Atoi(tail); err == nil && n >= 0 {
			o.Tail = &n
		}
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		p := logPrinter{out: lineWriter{io.Out, nil}, err: lineWriter{io.Err, nil}, stamps: stamps, details: details}
		if !follow { // who does not follow gets all in large pieces
			p.out, p.err = buffered(io.Out), buffered(io.Err)
		}
		if err := e.Logs(c.Context(), args[0], o, p.print); err != nil {
			return err
		}
		if err := p.out.done(); err != nil {
			return err
		}
		return p.err.done()
	}
	return c
}

// A logPrinter prints lines of a log, those of each stream to its own.
type logPrinter struct {
	out, err        lineWriter
	last            *lineWriter
	stamps, details bool
}

func (p *logPrinter) print(l engine.LogLine) error {
	to := &p.out
	if l.Stream == engine.Stderr {
		to = &p.err
	}
	if p.last != nil && p.last != to {
		p.last.done() // in the order of the lines, where both are one place
	}
	p.last = to
	if p.stamps {
		fmt.Fprint(to, l.Time.UTC().Format(stamp), " ")
	}
	if p.details {
		fmt.Fprint(to, detailText(l.Attrs), " ")
	}
	_, err := to.Write(l.Text)
	return err
}

// A lineWriter is one of the streams, with a buffer or without.
type lineWriter struct {
	io.Writer
	flush func() error // nil: nothing waits
}

func buffered(w io.Writer) lineWriter {
	b := bufio.NewWriterSize(w, 1<<16)
	return lineWriter{b, b.Flush}
}

// done writes what still waits.
func (w *lineWriter) done() error {
	if w.flush == nil {
		return nil
	}
	return w.flush()
}

// detailText is attributes as K=V,K=V, escaped as in a URL.
func detailText(attrs map[string]string) string {
	var list []string
	for k, v := range attrs {
		list = append(list, url.QueryEscape(k)+"="+url.QueryEscape(v))
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}

// timeFlag reads a flag that has a time; empty is the zero time.
func timeFlag(name, value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	t, err := engine.ParseTime(value, time.Now())
	if err != nil {
		return t, fmt.Errorf(`invalid value for "%s": %w`, name, err)
	}
	return t, nil
}
