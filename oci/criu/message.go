package criu

import (
	"errors"
	"fmt"
	"strings"
)

// A Type is what a request asks for.
type Type int32

// Types of requests and answers: criu_req_type.
const (
	Dump         Type = 1
	Restore      Type = 2
	PreDump      Type = 4
	Notify       Type = 6
	FeatureCheck Type = 9
	Version      Type = 10
)

// String is the name of a type, in lower case.
func (t Type) String() string {
	switch t {
	case Dump:
		return "dump"
	case Restore:
		return "restore"
	case PreDump:
		return "pre-dump"
	case Notify:
		return "notify"
	case FeatureCheck:
		return "feature check"
	case Version:
		return "version"
	}
	return fmt.Sprintf("type %d", int32(t))
}

// A CgroupMode is what is dumped and restored of control groups: criu_cg_mode.
type CgroupMode int32

// Modes of --manage-cgroups-mode.
const (
	CgroupIgnore  CgroupMode = 0
	CgroupSoft    CgroupMode = 3
	CgroupFull    CgroupMode = 4
	CgroupStrict  CgroupMode = 5
	CgroupDefault CgroupMode = 6
)

// A Request is one message to CRIU.
type Request struct {
	Type     Type
	Opts     *Opts     // of a dump or a restore
	KeepOpen bool      // another request is to follow
	Features *Features // those that are asked for
}

// Opts are the options of a dump or a restore: criu_opts. The zero value of a field leaves it out. Descriptors are
// those of the process that made the session, but for Inherit, which are CRIU's own.
type Opts struct {
	ImagesDir, WorkDir int
	PID                int // whom to dump
	LeaveRunning       bool
	ExtUnixSk          bool
	TCPEstablished     bool
	TCPSkipInFlight    bool
	EvasiveDevices     bool
	ShellJob           bool
	FileLocks          bool
	LogLevel           int
	LogFile            string
	PageServer         *PageServer
	Notify             bool // ask at each stage
	Root               string
	Parent             string
	TrackMem           bool
	AutoDedup          bool
	LinkRemap          bool
	ExtMounts          []ExtMount
	CgroupRoots        []CgroupRoot
	Sibling            bool // what is restored becomes a child of the session's maker
	Inherit            []Inherit
	Cgroups            CgroupMode
	External           []string
	EmptyNS            uint32 // CLONE_NEW*
	Join               []Join
	FreezeCgroup       string
	LazyPages          bool
	StatusFD           int
	OrphanPts          bool // hand over the master side of a terminal
	ConfigFile         string
	LSMProfile         string
	LSMMountContext    string
}

// A PageServer is where pages are sent to.
type PageServer struct {
	Address string
	Port    uint16
}

// An ExtMount is a mount that is not CRIU's to make. At a dump Key is the place and Name what the image calls it; at a
// restore Key is that name and Name the directory or file to bind.
type ExtMount struct{ Key, Name string }

// keyEnd is where a key ends for CRIU, which keeps "mnt[KEY]:NAME" of each: of a key with that in it, it would take the rest for a part of the name, and the
// beginning for that of another mount. Places are where links of an image lead (CVE-2026-119101, 2026-115520).
const keyEnd = "]:"

// check refuses what CRIU would read as something else; nil is well.
func (o *Opts) check() error {
	if o == nil {
		return nil
	}
	for _, m := range o.ExtMounts {
		if strings.Contains(m.Key, keyEnd) {
			return fmt.Errorf("criu: the place of a mount is %q: CRIU takes %q for the end of it", m.Key, keyEnd)
		}
	}
	return nil
}

// A CgroupRoot is where what is restored has its control groups.
type CgroupRoot struct{ Controller, Path string }

// An Inherit is a descriptor of CRIU's that stands for something that was dumped as external.
type Inherit struct {
	Key string
	FD  int
}

// A Join is a namespace to enter by its file.
type Join struct{ NS, File string }

// Features are what a kernel and a CRIU can do together.
type Features struct{ MemTrack, LazyPages bool }

// An Answer is one message from CRIU.
type Answer struct {
	Type     Type
	Success  bool
	Pid      int // of what was restored
	Notice   Notice
	Errno    int
	Message  string
	Features Features
	Version  int // 10000 times the major number, 100 times the minor one, and the last: 40201
}

// A Notice is a stage that CRIU has come to, in which it waits.
type Notice struct {
	Script string
	PID    int
	FDs    []int // that came with it; they are closed when it has been answered
}

// Wire types of protocol buffers.
const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wire32     = 5
)

// An encoder appends fields to a message.
type encoder struct{ b []byte }

func (e *encoder) varint(v uint64) {
	for ; v >= 0x80; v >>= 7 {
		e.b = append(e.b, byte(v)|0x80)
	}
	e.b = append(e.b, byte(v))
}

// number writes an integer or an enumeration; negative ones take ten bytes.
func (e *encoder) number(field int, v int64) {
	e.varint(uint64(field)<<3 | wireVarint)
	e.varint(uint64(v))
}

func (e *encoder) numberUnlessZero(field int, v int64) {
	if v != 0 {
		e.number(field, v)
	}
}

func (e *encoder) bool(field int, v bool) {
	if v {
		e.number(field, 1)
	}
}

func (e *encoder) must(field int, s string) {
	e.varint(uint64(field)<<3 | wireBytes)
	e.varint(uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) text(field int, s string) {
	if s != "" {
		e.must(field, s)
	}
}

func (e *encoder) message(field int, fill func(e *encoder)) {
	var sub encoder
	fill(&sub)
	e.must(field, string(sub.b))
}

// encode is the request as criu_req.
func (r Request) encode() []byte {
	var e encoder
	e.number(1, int64(r.Type))
	if r.Opts != nil {
		e.message(2, r.Opts.encode)
	}
	e.bool(4, r.KeepOpen)
	if f := r.Features; f != nil {
		e.message(5, func(e *encoder) {
			e.bool(1, f.MemTrack)
			e.bool(2, f.LazyPages)
		})
	}
	return e.b
}

// notified is the answer to a notice.
func notified(ok bool) []byte {
	var e encoder
	e.number(1, int64(Notify))
	v := int64(0)
	if ok {
		v = 1
	}
	e.number(3, v)
	return e.b
}

func (o *Opts) encode(e *encoder) {
	e.number(1, int64(o.ImagesDir))
	e.numberUnlessZero(2, int64(o.PID))
	e.bool(3, o.LeaveRunning)
	e.bool(4, o.ExtUnixSk)
	e.bool(5, o.TCPEstablished)
	e.bool(6, o.EvasiveDevices)
	e.bool(7, o.ShellJob)
	e.bool(8, o.FileLocks)
	e.numberUnlessZero(9, int64(o.LogLevel))
	e.text(10, o.LogFile)
	if ps := o.PageServer; ps != nil {
		e.message(11, func(e *encoder) {
			e.text(1, ps.Address)
			e.number(2, int64(ps.Port))
		})
	}
	e.bool(12, o.Notify)
	e.text(13, o.Root)
	e.text(14, o.Parent)
	e.bool(15, o.TrackMem)
	e.bool(16, o.AutoDedup)
	e.numberUnlessZero(17, int64(o.WorkDir))
	e.bool(18, o.LinkRemap)
	for _, m := range o.ExtMounts {
		e.message(23, func(e *encoder) {
			e.must(1, m.Key)
			e.must(2, m.Name)
		})
	}
	e.bool(24, true) // manage_cgroups, of which the mode is the newer form
	for _, r := range o.CgroupRoots {
		e.message(25, func(e *encoder) {
			e.must(1, r.Controller) // empty is version 2
			e.must(2, r.Path)
		})
	}
	e.bool(26, o.Sibling)
	for _, i := range o.Inherit {
		e.message(27, func(e *encoder) {
			e.must(1, i.Key)
			e.number(2, int64(i.FD))
		})
	}
	e.number(34, int64(o.Cgroups))
	for _, x := range o.External {
		e.must(37, x)
	}
	e.numberUnlessZero(38, int64(o.EmptyNS))
	for _, j := range o.Join {
		e.message(39, func(e *encoder) {
			e.must(1, j.NS)
			e.must(2, j.File)
		})
	}
	e.text(44, o.FreezeCgroup)
	e.bool(46, o.TCPSkipInFlight)
	e.bool(48, o.LazyPages)
	e.numberUnlessZero(49, int64(o.StatusFD))
	e.bool(50, o.OrphanPts)
	e.text(51, o.ConfigFile)
	e.text(53, o.LSMProfile)
	e.text(63, o.LSMMountContext)
}

// errWire is a message that is none.
var errWire = errors.New("criu: a message that is no protocol buffer")

// fields calls f for each field of a message: with a number, or with bytes.
func fields(b []byte, f func(field int, n uint64, data []byte) error) error {
	return eachField(b, func(field, kind int, n uint64, data, _ []byte) error {
		if kind == wire64 || kind == wire32 {
			return nil // no field of the messages here is one
		}
		return f(field, n, data)
	})
}

// eachField calls f for each field of a message with its wire type, its number or bytes, and all of it as it is written.
func eachField(b []byte, f func(field, kind int, n uint64, data, whole []byte) error) error {
	for len(b) > 0 {
		start := b
		key, rest, ok := varint(b)
		if !ok || key>>3 == 0 || key>>3 > 1<<29-1 {
			return errWire
		}
		b = rest
		var n uint64
		var data []byte
		kind := int(key & 7)
		switch kind {
		case wireVarint:
			if n, b, ok = varint(b); !ok {
				return errWire
			}
		case wireBytes:
			size, rest, ok := varint(b)
			if !ok || size > uint64(len(rest)) {
				return errWire
			}
			data, b = rest[:size], rest[size:]
		case wire64, wire32:
			size := 8
			if kind == wire32 {
				size = 4
			}
			if len(b) < size {
				return errWire
			}
			b = b[size:]
		default:
			return errWire
		}
		if err := f(int(key>>3), kind, n, data, start[:len(start)-len(b)]); err != nil {
			return err
		}
	}
	return nil
}

func varint(b []byte) (v uint64, rest []byte, ok bool) {
	const longest = 10 // bytes of 64 bits
	for i := 0; i < len(b) && i < longest; i++ {
		v |= uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return v, b[i+1:], i < longest-1 || b[i] <= 1
		}
	}
	return 0, nil, false
}

// decode reads criu_resp. Fields that it does not know it leaves out.
func decode(b []byte) (Answer, error) {
	var a Answer
	typed := false
	err := fields(b, func(field int, n uint64, data []byte) error {
		switch field {
		case 1:
			a.Type, typed = Type(n), true
		case 2:
			a.Success = n != 0
		case 4:
			return fields(data, func(field int, n uint64, _ []byte) error {
				if field == 1 {
					a.Pid = int(int32(n))
				}
				return nil
			})
		case 5:
			return fields(data, func(field int, n uint64, data []byte) error {
				switch field {
				case 1:
					a.Notice.Script = string(data)
				case 2:
					a.Notice.PID = int(int32(n))
				}
				return nil
			})
		case 7:
			a.Errno = int(int32(n))
		case 8:
			return fields(data, func(field int, n uint64, _ []byte) error {
				switch field {
				case 1:
					a.Features.MemTrack = n != 0
				case 2:
					a.Features.LazyPages = n != 0
				}
				return nil
			})
		case 9:
			a.Message = string(data)
		case 10:
			return a.version(data)
		}
		return nil
	})
	if err == nil && !typed {
		err = errWire
	}
	return a, err
}

// version reads criu_version. A build between two versions counts as the next one, as runc does it.
func (a *Answer) version(b []byte) error {
	var major, minor, sub int
	git := false
	err := fields(b, func(field int, n uint64, data []byte) error {
		switch v := int(int32(n)); field {
		case 1:
			major = v
		case 2:
			minor = v
		case 3:
			git = len(data) > 0
		case 4:
			sub = v
		}
		return nil
	})
	a.Version = major*10000 + minor*100 + sub
	if git {
		a.Version = major*10000 + (minor+1)*100
	}
	return err
}
