package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/ui"
	"golang.org/x/term"
)

// A progress shows how a transfer goes on: on a terminal a line for each blob, with a bar,
// written over and over; elsewhere a line for each thing that is new. (A library for bars
// compiles expressions at each start of kakuri, which transfers nothing most times.)
type progress struct {
	out      io.Writer
	terminal *os.File // nil where there is none

	mu    sync.Mutex
	ids   []string // in the order in which they came
	lines map[string]image.Event
	drawn int // lines that are on the terminal, with the cursor below them
	last  time.Time
	tail  []string // what is said when the bars are done
	ended bool
}

// showProgress begins to show. Of a pull and a push it is the answer, on stdout as with Docker: scripts
// look there for "Image is up to date" and for the digest. Beside another answer it is on stderr.
func showProgress(out io.Writer) *progress {
	p := &progress{out: out, lines: map[string]image.Event{}}
	if width(out) > 0 {
		p.terminal = file(out)
	}
	return p
}

// tell is an [image.Progress].
func (p *progress) tell(e image.Event) {
	e.ID, e.Status = ui.Escape(e.ID), ui.Escape(e.Status)
	p.mu.Lock()
	defer p.mu.Unlock()
	before, known := p.lines[e.ID]
	news := !known || before.Status != e.Status
	switch {
	case e.Status == "" && e.Total == 0:
	case p.terminal == nil:
		if e.Current == 0 && news {
			p.lines[e.ID] = e
			fmt.Fprintln(p.out, labelled(e))
		}
	case e.ID == "":
		p.tail = append(p.tail, e.Status)
	default:
		if !known {
			p.ids = append(p.ids, e.ID)
		}
		p.lines[e.ID] = e
		if now := time.Now(); news || now.Sub(p.last) >= 100*time.Millisecond {
			p.last = now
			p.draw()
		}
	}
}

// draw writes the lines anew over those that are there: the last ones, where the terminal
// is not high enough for all.
func (p *progress) draw() {
	columns, rows, err := term.GetSize(int(p.terminal.Fd()))
	if err != nil {
		return
	}
	ids := p.ids[max(0, len(p.ids)-max(rows-1, 1)):]
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", p.drawn)
	}
	for _, id := range ids {
		b.WriteString("\r" + progressText(p.lines[id], columns) + "\x1b[K\n")
	}
	p.drawn = len(ids)
	io.WriteString(p.out, b.String())
}

// done draws the end, and says what came beside the bars.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal == nil || p.ended {
		return
	}
	p.ended = true
	if len(p.ids) > 0 {
		p.draw()
	}
	for _, text := range p.tail {
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
