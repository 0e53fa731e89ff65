package dbus

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFlood: everybody may send signals on a bus. Large ones are not kept, of many only some are, and one of somebody else than
// who was asked is not taken for an answer.
func TestFlood(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	b, other := &Conn{fd: pair[0]}, &Conn{fd: pair[1]}
	defer unix.Close(pair[1])
	sent := make(chan error, 1)
	signal := func(sender, text string) *Message {
		return &Message{Kind: KindSignal, Serial: 1, Sender: sender, Path: "/job", Interface: "a.b", Member: "Done", Body: []any{text}}
	}
	go func() {
		deadline := time.Now().Add(patience)
		call, err := other.next(deadline)
		if err != nil {
			sent <- err
			return
		}
		list := []*Message{signal(":1.9", strings.Repeat("x", 1<<20))}
		for range 2 * mostSignals {
			list = append(list, signal(":1.9", "forged"))
		}
		list = append(list, signal(":1.2", "true"), &Message{Kind: KindReturn, Serial: 2, Reply: call.Serial, Sender: ":1.2", Body: []any{"yes"}})
		for _, m := range list {
			data, err := m.Encode()
			if err == nil {
				err = other.write(data, deadline)
			}
			if err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	body, err := b.Call(&Message{Path: "/a", Interface: "a.b", Member: "C", Destination: "a.b"})
	if err := errors.Join(err, <-sent); err != nil || len(body) != 1 {
		t.Fatalf("%v: %v", body, err)
	}
	if len(b.signals) != mostSignals {
		t.Errorf("%d signals are kept, want %d", len(b.signals), mostSignals)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var said string
	if err := b.Signal(ctx, func(m *Message) bool { said, _ = m.Body[0].(string); return true }); err != nil || said != "true" {
		t.Errorf("%v: %q", err, said)
	}
}

// TestEndlessFlood: who sends faster than is read, and never what is waited for, is listened to until the deadline, and no longer.
func TestEndlessFlood(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	signal, err := (&Message{Kind: KindSignal, Serial: 1, Path: "/job", Interface: "a.b", Member: "Done", Body: []any{"x"}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Send(pair[1], bytes.Repeat(signal, 1000), unix.MSG_NOSIGNAL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	heard := 0
	if err := (&Conn{fd: pair[0]}).Signal(ctx, func(*Message) bool { heard++; return false }); err == nil || heard > 0 {
		t.Errorf("after the deadline %d signals were heard: %v", heard, err)
	}
}

// TestStoppedPeer: who listens and takes no connection, as one that is stopped, has a full queue soon: who comes then gives up in time, too.
func TestStoppedPeer(t *testing.T) {
	name := t.TempDir() + "/bus"
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: name}), unix.Listen(fd, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		refused := make(chan error, 1)
		go func() {
			_, err := dial(name, time.Now().Add(100*time.Millisecond))
			refused <- err
		}()
		select {
		case err := <-refused:
			if err == nil {
				t.Error("it is connected")
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("connection %d waits for ever", i)
		}
	}
}

// TestWhichBus: who names buses means no other one, and there is none only where nobody is at any of the addresses: one that is silent is a bus.
func TestWhichBus(t *testing.T) {
	dir := t.TempDir()
	silent := dir + "/silent"
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: silent}), unix.Listen(fd, 5))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		addresses, usual string
		none             bool
	}{
		{"", dir + "/none", true},
		{"", silent, false},
		{"unix:path=" + dir + "/none", silent, true},
		{"unix:path=" + silent, dir + "/none", false},
		{"unix:path=" + silent + ";unix:path=" + dir + "/none", silent, false},
		{"unix:path=" + dir + "/a;unix:path=" + dir + "/b", silent, true},
		{"tcp:host=localhost", dir + "/none", false},
	} {
		b, err := dialBus(c.addresses, c.usual, time.Now().Add(100*time.Millisecond))
		if err == nil {
			b.Close()
			t.Errorf("%+v: it is connected", c)
		}
		if errors.Is(err, ErrNoBus) != c.none {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
