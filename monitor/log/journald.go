package log

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// JournalSocket is where systemd's journal takes messages: its native protocol.
const JournalSocket = "/run/systemd/journal/socket"

// A journal writes to systemd's journal, with Docker's fields.
type journal struct {
	socket socket
	fields []byte // of every line
	buf    []byte
}

func newJournal(path string, c Config) *journal {
	j := &journal{socket: socket{kind: unix.SOCK_DGRAM, sa: &unix.SockaddrUnix{Name: path}, fd: -1}}
	for _, f := range [][2]string{
		{"CONTAINER_ID", c.Labels.shortID()}, {"CONTAINER_ID_FULL", c.Labels.ID}, {"CONTAINER_NAME", c.Labels.Name},
		{"CONTAINER_TAG", c.Tag}, {"IMAGE_NAME", c.Labels.Image}, {"SYSLOG_IDENTIFIER", c.Tag},
	} {
		j.fields = appendField(j.fields, f[0], []byte(f[1]))
	}
	names := make([]string, 0, len(c.Attrs))
	for k := range c.Attrs {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, k := range names {
		if f := fieldName(k); f != "" {
			j.fields = appendField(j.fields, f, []byte(c.Attrs[k]))
		}
	}
	return j
}

// fieldName makes a journal's field of a label's name, as Docker does: upper case, all but letters and digits becomes "_", and
// none of those comes first, since such fields are the journal's own.
func fieldName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(s))
	return strings.TrimLeft(s, "_")
}

// appendField adds a field: NAME=VALUE, or where the value has several lines NAME, its length in 8 bytes and the value.
func appendField(buf []byte, name string, value []byte) []byte {
	buf = append(buf, name...)
	if bytes.IndexByte(value, '\n') < 0 {
		buf = append(append(buf, '='), value...)
	} else {
		buf = binary.LittleEndian.AppendUint64(append(buf, '\n'), uint64(len(value)))
		buf = append(buf, value...)
	}
	return append(buf, '\n')
}

func (j *journal) keep(list []entry) (int, error) {
	for i := range list {
		if err := j.socket.send(j.message(&list[i])); err != nil {
			return i, err
		}
	}
	return len(list), nil
}

func (j *journal) message(e *entry) []byte {
	priority := "6" // info
	if e.stream == Stderr {
		priority = "3" // err
	}
	j.buf = append(j.buf[:0], j.fields...)
	j.buf = appendField(j.buf, "PRIORITY", []byte(priority))
	j.buf = appendField(j.buf, "SYSLOG_TIMESTAMP", e.at.UTC().AppendFormat(nil, time.RFC3339Nano))
	if e.part > 0 {
		j.buf = appendField(j.buf, "CONTAINER_PARTIAL_ID", strconv.AppendUint(nil, uint64(e.serial), 16))
		j.buf = appendField(j.buf, "CONTAINER_PARTIAL_ORDINAL", strconv.AppendInt(nil, int64(e.part), 10))
		j.buf = appendField(j.buf, "CONTAINER_PARTIAL_LAST", strconv.AppendBool(nil, !e.more))
		if e.more {
			j.buf = appendField(j.buf, "CONTAINER_PARTIAL_MESSAGE", []byte("true"))
		}
	}
	j.buf = appendField(j.buf, "MESSAGE", e.line)
	return j.buf
}

func (j *journal) close() error { return j.socket.close() }
