package fakebus

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/kakuri/kakuri/internal/dbus"
)

// Serve has a system bus be where the environment says; io.EOF is no answer.
func Serve(t testing.TB, answer func(*dbus.Message) (any, error)) {
	path := t.TempDir() + "/bus"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+path)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go talk(c, answer)
		}
	}()
}

func talk(c net.Conn, answer func(*dbus.Message) (any, error)) {
	defer c.Close()
	r := bufio.NewReader(c)
	for line := ""; line != "BEGIN\r\n"; {
		var err error
		if line, err = r.ReadString('\n'); err != nil {
			return
		}
		switch strings.TrimLeft(line, "\x00") {
		case "AUTH EXTERNAL\r\n":
			io.WriteString(c, "DATA\r\n")
		case "DATA\r\n":
			io.WriteString(c, "OK 0123456789abcdef0123456789abcdef\r\n")
		}
	}
	for {
		head, err := r.Peek(16)
		if err != nil {
			return
		}
		n, err := dbus.Length(head)
		if err != nil {
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		m, err := dbus.Decode(b)
		if err != nil {
			return
		}
		reply := &dbus.Message{Kind: dbus.KindReturn, Serial: m.Serial, Reply: m.Serial, Sender: m.Destination}
		if body, err := answer(m); err == io.EOF {
			io.Copy(io.Discard, r)
			return
		} else if err != nil {
			reply.Kind, reply.ErrorName, reply.Body = dbus.KindError, "org.fedoraproject.FirewallD1.Exception", []any{err.Error()}
		} else {
			reply.Body = []any{body}
		}
		b, _ = reply.Encode()
		c.Write(b)
	}
}

// Names of systemd-resolved.
const (
	resolvedName = "org.freedesktop.resolve1"
	resolvedPath = "/org/freedesktop/resolve1"
)

// A Resolved is systemd-resolved at a bus. What is in it is changed with its lock.
type Resolved struct {
	sync.Mutex
	Props    map[string]any // by object, below its own, and name: "/link/_32 DefaultRoute"
	Silent   bool
	Away     bool
	Asked    int
	Autoload []string // destinations that were called without anybody there
}

// ServeResolved has it on the system bus.
func ServeResolved(t testing.TB, props map[string]any) *Resolved {
	f := &Resolved{Props: props}
	Serve(t, f.answer)
	return f
}

func (f *Resolved) answer(m *dbus.Message) (any, error) {
	f.Lock()
	defer f.Unlock()
	switch m.Member {
	case "Hello":
		f.Asked++
		return ":1.1", nil
	case "NameHasOwner":
		return !f.Away && m.Body[0] == resolvedName, nil
	}
	if f.Away {
		f.Autoload = append(f.Autoload, m.Destination)
	}
	if f.Silent {
		return nil, io.EOF
	}
	if m.Destination != resolvedName || m.Interface != "org.freedesktop.DBus.Properties" || m.Member != "Get" {
		return nil, errors.New("what?")
	}
	v, ok := f.Props[fmt.Sprint(strings.TrimPrefix(m.Path, resolvedPath), " ", m.Body[1])]
	if !ok {
		return nil, errors.New("no such property")
	}
	return dbus.Variant{Value: v}, nil
}
