package monitor

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/netip"
	"golang.org/x/sys/unix"
)

// What was refused to a container with --egress is a file of its directory, of records in fixed places: each is written by one pwrite(2), so that a
// killed monitor leaves all that it knew, and the file has an end, whatever the container asks for.

// Kinds of a [Refusal].
const (
	RefusedName   = "name"   // was asked for, and may not be
	RefusedAnswer = "answer" // is an address that a name leads to and may not
	RefusedPacket = "packet" // to an address and port
)

// A Refusal is what a container with --egress was refused.
type Refusal struct {
	Kind  string
	Name  string     `json:",omitempty"` // as far as it is known
	Addr  netip.Addr `json:",omitzero"`
	Proto string     `json:",omitempty"` // tcp, udp, …, or a number
	Port  uint16     `json:",omitempty"`
	Count uint64
	First time.Time `json:",omitzero"` // as far as it is known
	Last  time.Time
	// Allowed is a name that the list has, and that no container of its networks had.
	Allowed bool `json:",omitempty"`
}

// refusalsFile is its name.
const refusalsFile = "refusals"

// Of the file: a header, with the number of refusals that found no place, and the places.
const (
	refusalPlaces = 1024
	refusalTries  = 16 // places that one may be in, from the one that its hash says
	refusalSize   = 320
	refusalHeader = 64
	refusalMagic  = "kakuri refusals 1"
)

// refusals writes the file of a directory.
type refusals struct {
	mu  sync.Mutex
	dir string
}

// add counts a refusal. What cannot be written is not told.
func (r *refusals) add(x Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := r.open()
	if err != nil {
		return
	}
	defer f.Close()
	if len(x.Name) > maxRefusedName {
		x.Name = x.Name[:maxRefusedName]
	}
	h := fnv.New32a()
	h.Write([]byte(x.key()))
	first := int(h.Sum32() % refusalPlaces)
	buf := make([]byte, refusalTries*refusalSize)
	for i := range refusalTries {
		place := buf[i*refusalSize:][:refusalSize]
		at := int64(refusalHeader + (first+i)%refusalPlaces*refusalSize)
		f.ReadAt(place, at) // behind the end there is nothing
		have, ok := decodeRefusal(place)
		if ok && have.key() != x.key() {
			continue
		}
		if ok {
			x.Count, x.First = x.Count+have.Count, have.First
			if x.Name == "" {
				x.Name = have.Name
			}
			if have.Last.After(x.Last) {
				x.Last = have.Last
			}
		}
		f.WriteAt(encodeRefusal(x), at)
		return
	}
	uncounted(f, x.Count)
}

// addOthers counts refusals that nobody told apart.
func (r *refusals) addOthers(n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f, err := r.open(); err == nil {
		uncounted(f, n)
		f.Close()
	}
}

func uncounted(f *os.File, n uint64) {
	var b [8]byte
	f.ReadAt(b[:], refusalHeader-8)
	binary.LittleEndian.PutUint64(b[:], binary.LittleEndian.Uint64(b[:])+n)
	f.WriteAt(b[:], refusalHeader-8)
}

func (r *refusals) open() (*os.File, error) {
	f, err := os.OpenFile(r.dir+"/"+refusalsFile, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteAt([]byte(refusalMagic), 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// key is what makes two refusals the same.
func (x *Refusal) key() string {
	if x.Kind == RefusedPacket { // whose name is a guess
		return x.Proto + " " + x.Addr.String() + " " + string(binary.BigEndian.AppendUint16(nil, x.Port))
	}
	if x.Kind == RefusedAnswer {
		return x.Addr.String() + " " + x.Name
	}
	return "  " + x.Name
}

var refusalKinds = [...]string{1: RefusedName, RefusedAnswer, RefusedPacket}

const maxRefusedName = 255

// A place is: kind, length of the address, of the protocol, of the name; port; count, first and last in nanoseconds since 1970; the three texts.
func encodeRefusal(x Refusal) []byte {
	b := make([]byte, refusalSize)
	for i, k := range refusalKinds {
		if k == x.Kind {
			b[0] = byte(i)
		}
	}
	addr := x.Addr.AsSlice()
	b[1], b[2], b[3] = byte(len(addr)), byte(len(x.Proto)), byte(len(x.Name))
	le := binary.LittleEndian
	le.PutUint16(b[4:], x.Port)
	le.PutUint64(b[8:], x.Count)
	le.PutUint64(b[16:], uint64(x.First.UnixNano()))
	le.PutUint64(b[24:], uint64(x.Last.UnixNano()))
	n := copy(b[32:], addr)
	n += copy(b[32+n:], x.Proto)
	copy(b[32+n:], x.Name)
	return b
}

func decodeRefusal(b []byte) (x Refusal, ok bool) {
	addr, proto, name := int(b[1]), int(b[2]), int(b[3])
	if b[0] == 0 || int(b[0]) >= len(refusalKinds) || 32+addr+proto+name > refusalSize {
		return x, false
	}
	le := binary.LittleEndian
	x = Refusal{Kind: refusalKinds[b[0]], Port: le.Uint16(b[4:]), Count: le.Uint64(b[8:]), First: time.Unix(0, int64(le.Uint64(b[16:]))), Last: time.Unix(0, int64(le.Uint64(b[24:])))}
	x.Addr, _ = netip.AddrFromSlice(b[32 : 32+addr])
	text := b[32+addr:]
	x.Proto, x.Name = string(text[:proto]), string(text[proto:proto+name])
	return x, true
}

// ReadRefusals reads what was refused to the container in a directory, as far as it was written down, and how many refusals found no place there.
func ReadRefusals(dir string) (list []Refusal, others uint64, err error) {
	data, err := files.Read(dir + "/" + refusalsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	if len(data) < refusalHeader {
		return nil, 0, nil
	}
	others = binary.LittleEndian.Uint64(data[refusalHeader-8:])
	for at := refusalHeader; at+refusalSize <= len(data); at += refusalSize {
		if x, ok := decodeRefusal(data[at:]); ok {
			list = append(list, x)
		}
	}
	return list, others, nil
}
