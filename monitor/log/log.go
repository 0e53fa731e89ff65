package log

import (
	"cmp"
	"fmt"
	"time"
)

// A Stream is one of a container's outputs. The numbers are those of Docker's frames.
type Stream uint8

// The streams that are kept.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

// A Sink keeps what a container writes. It may be used by a goroutine for each stream.
type Sink interface {
	// Write takes a piece of a stream as it was read at that time, and does not hold on to p. What cannot be kept is
	// counted, and told in the log as soon as something can be kept again.
	Write(s Stream, p []byte, at time.Time)
	// Close keeps what is left of lines without an end. The error is the last one of lines that were lost, and of
	// which the log does not tell.
	Close() error
}

// A Config is a log to be opened. The engine makes it: names are looked up, and templates filled in.
type Config struct {
	Driver  string            // json-file, local, journald, syslog or none; empty is json-file
	Options map[string]string `json:",omitempty"` // as in [Check], but for those that Attrs and Tag come from
	File    string            `json:",omitempty"` // of json-file and local, and of the copy that is kept beside syslog; absolute
	Attrs   map[string]string `json:",omitempty"` // what each line has beside its text
	Tag     string            `json:",omitempty"` // of syslog and journald
	Labels  Labels            `json:",omitzero"`
	Server  []byte            `json:",omitempty"` // the IP address of what [Host] names, 4 or 16 bytes
	// Relay is a program and its arguments, their first one included, that passes on what it reads from its stdin, a socket, to a server, [Encrypted]. When it is connected
	// it writes a byte of zero there, else why it is not. It ends when stdin does, after it has sent all.
	Relay []string `json:",omitempty"`
}

// Labels say of whom the lines are, where many containers write into one journal.
type Labels struct {
	ID, Name, Image string
}

// shortID is what people call the container by, and Docker's drivers.
func (l Labels) shortID() string { return l.ID[:min(12, len(l.ID))] }

// An entry is a line, or 16 KiB of one.
type entry struct {
	stream Stream
	at     time.Time
	line   []byte // without its end
	more   bool   // its line goes on in another entry
	part   int    // which part of a line that does not fit into one: 1, 2 …; 0 is a whole one
	serial uint32 // of that line
}

// A driver keeps entries.
type driver interface {
	// keep keeps entries in their order, and returns how many: fewer with an error only.
	keep([]entry) (int, error)
	close() error
}

// Open makes the sink of a configuration.
func Open(c Config) (Sink, error) {
	o, err := parse(c.Driver, c.Options)
	if err != nil {
		return nil, err
	}
	var d driver
	switch c.Driver {
	case "none":
		return nothing{}, nil
	case "", "json-file":
		d, err = openFile(c.File, o, &jsonForm{attrs: appendAttrs(nil, c.Attrs)})
	case "local":
		d, err = openFile(c.File, o, &localForm{})
	case "journald":
		d = newJournal(JournalSocket, c)
	case "syslog":
		d, err = openSyslog(o, c)
	}
	if err != nil {
		return nil, fmt.Errorf("log driver %s: %w", cmp.Or(c.Driver, "json-file"), err)
	}
	if o.nonBlocking {
		d = newRing(d, o.bufferSize)
	}
	return &lines{out: counter{driver: d}}, nil
}

// Reach reports why the server of syslog that a sink writes to cannot be had, nil for other sinks; a server by UDP can always be. It is asked before the first Write, whose wait
// for the server it has instead: two seconds for each of its sockets. The sink goes on trying at each line, and its copy has those that the server does not get.
func Reach(s Sink) error {
	if l, ok := s.(*lines); ok {
		return reach(l.out.driver)
	}
	return nil
}

func reach(d driver) error {
	switch d := d.(type) {
	case *ring:
		return reach(d.out.driver)
	case *tee:
		return reach(d[1].driver) // the first one is the copy
	case *syslog:
		_, err := d.connected()
		return err
	}
	return nil
}

// nothing is the sink of the driver none.
type nothing struct{}

func (nothing) Write(Stream, []byte, time.Time) {}
func (nothing) Close() error                    { return nil }
