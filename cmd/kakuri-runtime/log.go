package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kakuri/kakuri/oci"
)

// A log is where errors and warnings go, in the forms that a runtime's callers parse: the last line of level error
// is why a command failed.
type log struct {
	file  *os.File // of --log; stderr without it
	json  bool
	debug bool
}

// open takes the values of --log and --log-format.
func (l *log) open(name, format string) error {
	switch format {
	case "", "text":
	case "json":
		l.json = true
	default:
		return fmt.Errorf("invalid log-format: %s: it is text or json", format)
	}
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	l.file = f
	return nil
}

func (l *log) line(level, msg string) {
	now := time.Now().Format(time.RFC3339)
	to := l.file
	if to == nil {
		to = os.Stderr
	}
	if l.json {
		quoted, _ := json.Marshal(msg)
		fmt.Fprintf(to, `{"level":"%s","msg":%s,"time":"%s"}`+"\n", level, quoted, now)
		return
	}
	fmt.Fprintf(to, "time=%q level=%s msg=%q\n", now, level, msg)
}

// fail writes the error that ends the command: to the log, and for a person to stderr.
func (l *log) fail(err error) {
	// What the container's own process failed with is no fault of the runtime: runc's prints it bare.
	var exec *oci.ExecError
	if !errors.As(err, &exec) || l.file != nil {
		l.line("error", err.Error())
	}
	if exec != nil || l.file != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func (l *log) warn(s string) { l.line("warning", s) }

// debugf writes a line of level debug, where --debug asks for them.
func (l *log) debugf(format string, args ...any) {
	if l.debug {
		l.line("debug", fmt.Sprintf(format, args...))
	}
}
