package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/ui"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// A progress shows how a transfer goes on: on a terminal a line for each blob with a bar,
// elsewhere a line for each thing that is new.
type progress struct {
	out  io.Writer
	bars *mpb.Progress // nil where there is no terminal

	mu    sync.Mutex
	lines map[string]*progressLine
	last  []string // what is said when the bars are done
	ended bool
}

type progressLine struct {
	bar *mpb.Bar
	now image.Event
}

// showProgress begins to show, on stderr: what it prints is no answer.
func showProgress(io IO) *progress {
	p := &progress{out: io.Err, lines: map[string]*progressLine{}}
	if width(io.Err) > 0 {
		p.bars = mpb.New(mpb.WithOutput(io.Err))
	}
	return p
}

// tell is an [image.Progress].
func (p *progress) tell(e image.Event) {
	e.ID, e.Status = ui.Escape(e.ID), ui.Escape(e.Status)
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lines[e.ID]
	switch {
	case e.Status == "" && e.Total == 0:
	case p.bars == nil:
		if e.Current == 0 && (l == nil || l.now.Status != e.Status) {
			p.lines[e.ID] = &progressLine{now: e}
			fmt.Fprintln(p.out, labelled(e))
		}
	case e.ID == "":
		p.last = append(p.last, e.Status)
	case l == nil:
		l = &progressLine{now: e}
		p.lines[e.ID] = l
		l.bar, _ = p.bars.Add(0, mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			_, err := io.WriteString(w, progressText(l.now, s.AvailableWidth))
			return err
		}))
	default:
		l.now = e
	}
}

// done ends the bars, and says what came beside them.
func (p *progress) done() {
	if p.bars == nil {
		return
	}
	p.mu.Lock()
	lines, ended := p.lines, p.ended
	p.ended = true
	p.mu.Unlock()
	if ended {
		return
	}
	for _, l := range lines { // no event comes any more
		l.bar.SetTotal(-1, true)
	}
	p.bars.Wait()
	for _, text := range p.last {
		fmt.Fprintln(p.out, text)
	}
}

func labelled(e image.Event) string {
	if e.ID == "" {
		return e.Status
	}
	return e.ID + ": " + e.Status
}

// progressText is a line of so many columns: what is done, a bar where its end is known,
// and how much of how much.
func progressText(e image.Event, columns int) string {
	text := labelled(e)
	amount := ""
	switch {
	case e.Total > 0:
		amount = format.Short(float64(min(e.Current, e.Total))) + "/" + format.Short(float64(e.Total))
	case e.Current > 0:
		amount = format.Short(float64(e.Current))
	}
	room := min(columns-len(text)-len(amount)-4, 50)
	if e.Total > 0 && room >= 10 {
		full := int(int64(room) * min(e.Current, e.Total) / e.Total)
		bar := strings.Repeat("=", full)
		if full < room {
			bar += ">" + strings.Repeat(" ", room-full-1)
		}
		text += " [" + bar + "] " + amount
	} else if amount != "" {
		text += " " + amount
	}
	return ui.Cut(text, columns, "…")
}
