package hostile

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// entry is one entry of a tar that is made without asking whether it makes sense.
type entry struct {
	name    string
	kind    byte // of tar.Type*; 0 is a regular file
	link    string
	content string
	mode    int64
	uid     int64
	mtime   int64
	major   int64
	minor   int64
	pax     map[string]string // records of an extended header before it
	size    string            // in place of the content's, as in the header
	sum     bool              // a wrong checksum
	special func(block []byte)
}

// bytes writes the entry: ustar, with an extended header where the names need one.
func (e entry) bytes() []byte {
	var b bytes.Buffer
	pax := maps.Clone(e.pax)
	if pax == nil {
		pax = map[string]string{}
	}
	if len(e.name) > 100 {
		pax["path"] = e.name
	}
	if len(e.link) > 100 {
		pax["linkpath"] = e.link
	}
	if len(pax) > 0 {
		b.Write(paxHeader('x', pax))
	}
	kind := e.kind
	if kind == 0 {
		kind = tar.TypeReg
	}
	mode := e.mode
	if mode == 0 {
		mode = 0o644
	}
	h := make([]byte, 512)
	copy(h[0:100], e.name)
	copy(h[100:], number(mode, 8))
	copy(h[108:], number(e.uid, 8))
	copy(h[116:], number(e.uid, 8))
	copy(h[124:], number(int64(len(e.content)), 12))
	if e.size != "" {
		copy(h[124:136], e.size)
	}
	copy(h[136:], number(e.mtime, 12))
	h[156] = kind
	copy(h[157:257], e.link)
	copy(h[257:], "ustar\x0000")
	copy(h[329:], number(e.major, 8))
	copy(h[337:], number(e.minor, 8))
	if e.special != nil {
		e.special(h)
	}
	checksum(h)
	if e.sum {
		h[150] ^= 1
	}
	b.Write(h)
	b.WriteString(e.content)
	b.Write(make([]byte, (512-len(e.content)%512)%512))
	return b.Bytes()
}

// number is a field of a header: octal, or base 256 where that is too small.
func number(n int64, width int) []byte {
	if s := fmt.Sprintf("%0*o\x00", width-1, n); n >= 0 && len(s) == width {
		return []byte(s)
	}
	b := make([]byte, width)
	for i := width - 1; i >= 0; i-- {
		b[i] = byte(n)
		n >>= 8
	}
	b[0] |= 0x80
	return b
}

func checksum(h []byte) {
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

// paxHeader is an extended header of one entry ('x') or of all that follow ('g').
func paxHeader(kind byte, records map[string]string) []byte {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(records)) {
		b.WriteString(paxRecord(k, records[k]))
	}
	return entry{name: "PaxHeaders.0/x", kind: kind, content: b.String()}.bytes()
}

func paxRecord(k, v string) string {
	body := " " + k + "=" + v + "\n"
	n := len(body)
	for len(fmt.Sprint(n))+len(body) != n {
		n = len(fmt.Sprint(n)) + len(body)
	}
	return fmt.Sprint(n) + body
}

// archive is a whole tar.
func archive(list ...entry) func() io.Reader {
	return func() io.Reader {
		var b bytes.Buffer
		for _, e := range list {
			b.Write(e.bytes())
		}
		b.Write(make([]byte, 1024))
		return &b
	}
}
