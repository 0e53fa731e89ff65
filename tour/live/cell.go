package live

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kakuri/kakuri/engine"
)

// A cell is a running container with a shell in it that does what it is sent.
type cell struct {
	box    engine.Container
	took   time.Duration // from the call until the shell ran
	in     *io.PipeWriter
	out    *io.PipeReader
	lines  *bufio.Reader
	asked  int
	cancel context.CancelFunc

	done   chan struct{} // closed when all of the container is gone
	err    error         // why it ended, after done
	stderr note
}

// patience is how long a container may take to answer or to end: much longer than it
// needs, so that a fault ends the tour instead of hanging it.
const patience = 30 * time.Second

// start runs a shell in a container. ctx is the container's life.
func start(ctx context.Context, e *engine.Engine, r engine.Config) (*cell, error) {
	r.Image, r.Command, r.Interactive, r.Network = "host", []string{"sh"}, true, "none"
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	c := &cell{in: inW, out: outR, lines: bufio.NewReader(outR), done: make(chan struct{})}
	ctx, c.cancel = context.WithCancel(ctx)
	r.AutoRemove = true
	running := make(chan time.Duration, 1)
	began := time.Now()
	go func() {
		defer close(c.done)
		res, err := e.Run(ctx, r, engine.Streams{In: inR, Out: outW, Err: &c.stderr, Started: func(box engine.Container) {
			c.box = box
			running <- time.Since(began)
		}}, engine.RunOptions{})
		if err == nil && res.Code != 0 {
			err = fmt.Errorf("the container's shell ended with code %d", res.Code)
		}
		c.err = err
		outW.CloseWithError(c.ending())
		inR.CloseWithError(c.ending())
	}()
	select {
	case c.took = <-running:
		return c, nil
	case <-c.done:
		c.end()
		return nil, c.ending()
	}
}

// ending is why the container ended, with what it said last. Only after its end.
func (c *cell) ending() error {
	err := c.err
	if err == nil {
		err = errors.New("the container's shell ended")
	}
	if said := c.stderr.String(); said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return err
}

// ask has the shell do script, and returns what it printed, line by line.
func (c *cell) ask(ctx context.Context, script string) ([]string, error) {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	// A shell that does not answer is ended: that unblocks the pipes.
	defer context.AfterFunc(ctx, func() {
		c.out.CloseWithError(fmt.Errorf("the container does not answer: %w", context.Cause(ctx)))
		c.cancel()
	})()
	c.asked++
	mark := fmt.Sprintf("--%s-%d--", c.box.ID, c.asked)
	if _, err := fmt.Fprintf(c.in, "%s\necho %s $?\n", script, mark); err != nil {
		return nil, c.why(err)
	}
	var lines []string
	for {
		line, err := c.lines.ReadString('\n')
		if err != nil {
			return nil, c.why(err)
		}
		line = strings.TrimSuffix(line, "\n")
		if code, ok := strings.CutPrefix(line, mark+" "); ok {
			if code != "0" {
				return nil, fmt.Errorf("inside, %q ended with code %s: %s", script, code, c.stderr.String())
			}
			return lines, nil
		}
		lines = append(lines, line)
	}
}

// why is the reason for a broken pipe: the container's end says more than the pipe.
func (c *cell) why(err error) error {
	select {
	case <-c.done:
		return c.ending()
	default:
		return err
	}
}

// line is ask for scripts that print one line.
func (c *cell) line(ctx context.Context, script string) (string, error) {
	lines, err := c.ask(ctx, script)
	if err != nil {
		return "", err
	}
	if len(lines) != 1 {
		return "", fmt.Errorf("inside, %q printed %d lines, not one", script, len(lines))
	}
	return lines[0], nil
}

// number is ask for scripts that print one number.
func (c *cell) number(ctx context.Context, script string) (int, error) {
	line, err := c.line(ctx, script)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(line)
	if err != nil {
		return 0, fmt.Errorf("inside, %q printed %q, not a number", script, line)
	}
	return n, nil
}

// end ends the shell, and with it the container, and waits until nothing of it is left.
func (c *cell) end() {
	// Nobody reads any more: what is still written must not block its writer.
	c.out.Close()
	c.in.Close()
	select {
	case <-c.done:
	case <-time.After(patience / 10):
		c.cancel()
		<-c.done
	}
	c.cancel()
}

// A note keeps the beginning of what is written to it, for error messages.
type note struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (n *note) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if room := 1024 - n.buf.Len(); room > 0 {
		n.buf.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

func (n *note) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(strings.Fields(n.buf.String()), " ")
}
