package dbus

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"
)

// TestHello pins the bytes of a message that every bus takes.
func TestHello(t *testing.T) {
	m := &Message{Kind: KindCall, Serial: 1, Destination: "org.freedesktop.DBus", Path: "/org/freedesktop/DBus", Interface: "org.freedesktop.DBus", Member: "Hello"}
	got, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := "l\x01\x00\x01" + "\x00\x00\x00\x00" + "\x01\x00\x00\x00" + "\x6e\x00\x00\x00" +
		"\x01\x01o\x00\x15\x00\x00\x00/org/freedesktop/DBus\x00\x00\x00" +
		"\x02\x01s\x00\x14\x00\x00\x00org.freedesktop.DBus\x00\x00\x00\x00" +
		"\x03\x01s\x00\x05\x00\x00\x00Hello\x00\x00\x00" +
		"\x06\x01s\x00\x14\x00\x00\x00org.freedesktop.DBus\x00\x00\x00\x00"
	// The length of the fields leaves out what aligns the body.
	want = want[:12] + string(binary.LittleEndian.AppendUint32(nil, uint32(len(want)-16-3))) + want[16:]
	if string(got) != want {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	m := &Message{
		Kind: KindReturn, Serial: 7, Reply: 6, Sender: ":1.2", Path: "/a", Interface: "b.c", Member: "d", ErrorName: "e.f", Destination: "g.h",
		Body: []any{
			"text", byte(1), true, int16(-2), uint16(3), int32(-4), uint32(5), int64(-6), uint64(7), 1.5, ObjectPath("/x"), Signature("a(sv)"),
			[]byte{1, 2}, []uint32{3, 4}, []string{"x", ""}, [][2]string{{"p", "q"}}, []bool{true, false}, []int64{-1}, []float64{0.5},
			Properties{{"A", uint64(1)}, {"B", []string{"z"}}}, Auxiliary{}, Variant{[][2]string{}}, Variant{Rows{{int32(2), []byte{10, 0}, "x", false}, {int32(3), []byte{}, "", true}}}, "end",
		},
	}
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	want := *m
	want.Body = []any{
		"text", byte(1), true, int16(-2), uint16(3), int32(-4), uint32(5), int64(-6), uint64(7), 1.5, ObjectPath("/x"), Signature("a(sv)"),
		[]any{byte(1), byte(2)}, []any{uint32(3), uint32(4)}, []any{"x", ""}, []any{[]any{"p", "q"}}, []any{true, false}, []any{int64(-1)}, []any{0.5},
		[]any{[]any{"A", Variant{uint64(1)}}, []any{"B", Variant{[]any{"z"}}}}, []any{}, Variant{[]any{}},
		Variant{[]any{[]any{int32(2), []any{byte(10), byte(0)}, "x", false}, []any{int32(3), []any{}, "", true}}}, "end",
	}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v\nwant\n%+v", *got, want)
	}
	for n := range data {
		if _, err := Decode(data[:n]); err == nil {
			t.Errorf("the first %d bytes of %d are taken for the whole", n, len(data))
		}
	}
	for _, bad := range []any{struct{}{}, "a\x00b", Variant{struct{}{}}, uint(1)} {
		if _, err := (&Message{Body: []any{bad}}).Encode(); err == nil {
			t.Errorf("%#v is encoded", bad)
		}
	}
}

func TestUnixAddresses(t *testing.T) {
	got := unixAddresses("tcp:host=a;unix:path=/run/a%20b,guid=12;unix:abstract=/tmp/x;unix:tmpdir=/tmp")
	if want := []string{"/run/a b", "@/tmp/x"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// FuzzDecode: what a socket sends is read to an end or refused.
func FuzzDecode(f *testing.F) {
	m := &Message{Kind: KindSignal, Serial: 1, Path: "/a", Interface: "b.c", Member: "D", Body: []any{uint32(1), ObjectPath("/x"), "s", Properties{{"A", uint64(1)}}}}
	data, err := m.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(bytes.Replace(data, []byte("uosa(sv)"), []byte("aaaaaaau"), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := Length(data)
		if err == nil && n > most {
			t.Fatalf("length %d", n)
		}
		if m, err := Decode(data); err == nil && m == nil {
			t.Fatal("neither a message nor an error")
		}
	})
}
