package logread

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/monitor/log"
)

// Journal is Read of the lines of a container that are in systemd's journal, by journalctl(1).
func Journal(ctx context.Context, id string, o Options, tell func(Line) error) error {
	program, err := exec.LookPath("journalctl")
	if err != nil {
		return errors.New("the log is in systemd's journal, and there is no program journalctl to read it")
	}
	args := []string{"--output=json", "--no-pager", "--quiet", "--all", "CONTAINER_ID_FULL=" + id}
	if o.Tail >= 0 {
		args = append(args, "--lines="+strconv.Itoa(o.Tail))
	}
	for flag, at := range map[string]time.Time{"--since": o.Since, "--until": o.Until} {
		if !at.IsZero() {
			args = append(args, fmt.Sprintf("%s=@%d.%06d", flag, at.Unix(), at.Nanosecond()/1000))
		}
	}
	if o.Follow {
		if args = append(args, "--follow"); o.Tail < 0 {
			args = append(args, "--no-tail")
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cmd := exec.CommandContext(ctx, program, args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if o.Follow {
		go func() {
			for o.More() && ctx.Err() == nil {
				time.Sleep(200 * time.Millisecond)
			}
			time.Sleep(200 * time.Millisecond) // what was written last is on its way
			stop()
		}()
	}
	if err := journalLines(out, tell); err != nil {
		stop()
		cmd.Wait()
		return err
	}
	if err := cmd.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("journalctl: %w: %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	return nil
}

// journalLines reads journalctl's output=json: an object a line, whose fields are strings, or lists of bytes where they are no text.
func journalLines(r io.Reader, tell func(Line) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 4<<20)
	for s.Scan() {
		var x map[string]json.RawMessage
		if err := json.Unmarshal(s.Bytes(), &x); err != nil {
			return fmt.Errorf("journalctl: %w", err)
		}
		l := Line{Stream: log.Stdout, Text: journalField(x["MESSAGE"])}
		if string(journalField(x["PRIORITY"])) == "3" {
			l.Stream = log.Stderr
		}
		at, err := time.Parse(time.RFC3339Nano, string(journalField(x["SYSLOG_TIMESTAMP"])))
		if err != nil {
			micro, _ := strconv.ParseInt(string(journalField(x["__REALTIME_TIMESTAMP"])), 10, 64)
			at = time.UnixMicro(micro).UTC()
		}
		l.Time = at
		if string(journalField(x["CONTAINER_PARTIAL_MESSAGE"])) != "true" {
			l.Text = append(l.Text, '\n')
		}
		l.Attrs = journalAttrs(x)
		if err := tell(l); err != nil {
			return err
		}
	}
	return s.Err()
}

func journalField(raw json.RawMessage) []byte {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return []byte(text)
	}
	var numbers []int // a list of uint8 would be base64
	if json.Unmarshal(raw, &numbers) != nil {
		return nil
	}
	data := make([]byte, len(numbers))
	for i, n := range numbers {
		data[i] = byte(n)
	}
	return data
}

// journalAttrs are the fields that are neither the journal's own nor of every container.
func journalAttrs(x map[string]json.RawMessage) map[string]string {
	var attrs map[string]string
	for k, v := range x {
		usual := slices.Contains([]string{"MESSAGE", "PRIORITY", "IMAGE_NAME", "SYSLOG_IDENTIFIER", "SYSLOG_TIMESTAMP"}, k)
		if usual || strings.HasPrefix(k, "_") || strings.HasPrefix(k, "CONTAINER_") {
			continue
		}
		if attrs == nil {
			attrs = map[string]string{}
		}
		attrs[k] = string(journalField(v))
	}
	return attrs
}
