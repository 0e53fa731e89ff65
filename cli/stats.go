package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/image"
	"github.com/spf13/cobra"
)

func newStats(io IO) *cobra.Command {
	var all, once, noTrunc bool
	var layout string
	c := &cobra.Command{
		Use: "stats [OPTIONS] [CONTAINER...]", Short: "Show what containers use, anew each second", Args: arguments(0, -1), ValidArgsFunction: names(containerNames(up), -1),
		Long: `Show what containers use, anew each second: those that are named, or all that
run.`,
	}
	s := c.Flags()
	s.BoolVarP(&all, "all", "a", false, "show those that do not run, too")
	formatFlag(s, &layout)
	s.BoolVar(&once, "no-stream", false, "show it once")
	s.BoolVar(&noTrunc, "no-trunc", false, "do not cut ids")
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		layout = orSetting(io, layout, func(s image.DockerSettings) string { return s.StatsFormat })
		if noContainer(io, e, args) { // which is told before anything is shown
			return exitCode(1)
		}
		m := meter{e: e, refs: args, all: all, cut: !noTrunc, before: map[string]engine.Stats{}}
		if _, err := m.rows(c.Context()); err != nil { // a share of time needs two readings
			return err
		}
		for {
			select {
			case <-c.Context().Done():
				return nil
			case <-time.After(time.Second):
			}
			rows, err := m.rows(c.Context())
			if err != nil {
				return err
			}
			if err := printStats(io, layout, rows, once); err != nil || once {
				return err
			}
		}
	}
	return c
}

// noContainer tells of the containers that there are not, and reports whether there are any.
func noContainer(io IO, e *engine.Engine, refs []string) (one bool) {
	for _, ref := range refs {
		if _, err := e.Find(ref); err != nil {
			io.report(err)
			one = true
		}
	}
	return one
}

// printStats prints one reading: a table on a terminal takes the place of the one before.
func printStats(io IO, layout string, rows []statsRow, once bool) error {
	var page bytes.Buffer
	if err := format.Rows(&page, statsSpec(), format.Options{Format: layout, Terminal: io.onTerminal()}, rows); err != nil {
		return err
	}
	text := page.String()
	if table := layout == "" || strings.HasPrefix(layout, "table"); table && !once && io.onTerminal() {
		// From the top, each line to its end, and nothing below.
		text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
	}
	_, err := fmt.Fprint(io.Out, text)
	return err
}

// A meter reads the counters of containers again and again.
type meter struct {
	e      *engine.Engine
	refs   []string // none: all
	all    bool
	cut    bool
	before map[string]engine.Stats
}

type statsRow struct {
	BlockIO, CPUPerc, Container, ID, MemPerc, MemUsage, Name, NetIO, PIDs string
}

func statsSpec() format.Spec {
	return format.Spec{
		Table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
		Heads: map[string]string{
			"BlockIO": "BLOCK I/O", "CPUPerc": "CPU %", "Container": "CONTAINER", "ID": "CONTAINER ID", "MemPerc": "MEM %", "MemUsage": "MEM USAGE / LIMIT", "Name": "NAME", "NetIO": "NET I/O", "PIDs": "PIDS",
		},
	}
}

func (m *meter) rows(ctx context.Context) ([]statsRow, error) {
	refs := m.refs
	if len(refs) == 0 {
		list, err := m.e.List(engine.ListOptions{All: m.all})
		if err != nil {
			return nil, err
		}
		for _, c := range slices.Backward(list) {
			refs = append(refs, c.ID)
		}
	}
	rows := []statsRow{}
	for _, ref := range refs {
		s, err := m.e.Stats(ctx, ref)
		if errors.As(err, new(engine.ErrNoSuchContainer)) {
			continue // it is gone
		}
		if err != nil {
			return nil, err
		}
		rows = append(rows, m.row(ref, s))
		m.before[s.ID] = s
	}
	return rows, nil
}

func (m *meter) row(ref string, s engine.Stats) statsRow {
	percent := func(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) + "%" }
	pair := func(a, b uint64) string { return format.Short(float64(a)) + " / " + format.Short(float64(b)) }
	r := statsRow{Container: shortened(ref, m.cut), ID: shortened(s.ID, m.cut), Name: s.Name}
	if ref == s.Name {
		r.Container = ref
	}
	if !s.Running {
		r.BlockIO, r.CPUPerc, r.MemPerc, r.MemUsage, r.NetIO, r.PIDs = "0B / 0B", "0.00%", "0.00%", "0B / 0B", "0B / 0B", "0"
		return r
	}
	r.CPUPerc, r.MemPerc = percent(s.CPUPercent(m.before[s.ID])), percent(s.MemoryPercent())
	r.MemUsage = format.Binary(float64(s.Memory)) + " / " + format.Binary(float64(s.MemoryLimit))
	r.NetIO, r.BlockIO, r.PIDs = pair(s.NetRead, s.NetWritten), pair(s.BlockRead, s.BlockWritten), strconv.FormatUint(s.Pids, 10)
	return r
}
