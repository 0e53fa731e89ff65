package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// A recorder serves a disk to qemu by NBD (the protocol's text is doc/proto.md of its project), and keeps each write and each
// flush in the order in which they came. Of that, what a power cut leaves can be made for any moment: a write is
// sure to be on the disk when a flush came after it, and else may be or not.
//
// A second export is for marks: what is written there is in the same order, and on no disk.
type recorder struct {
	base  []byte
	mu    sync.Mutex
	now   []byte
	log   []record
	ended chan struct{} // closed with the mark that says so
}

// A record is a write, a flush (no data), or a mark.
type record struct {
	at   int64
	data []byte
	mark string
}

// The exports, and the size of the one for marks.
const (
	diskExport = "disk"
	markExport = "marks"
	markSize   = 4096
	lastMark   = "end"
)

func newRecorder(base []byte) *recorder {
	return &recorder{base: base, now: append([]byte(nil), base...), ended: make(chan struct{})}
}

// Numbers of the protocol.
const (
	nbdMagic        = 0x4e42444d41474943
	nbdOptMagic     = 0x49484156454f5054
	nbdReplyMagic   = 0x3e889045565a9
	nbdRequestMagic = 0x25609513
	nbdSimpleMagic  = 0x67446698

	nbdOptExportName, nbdOptAbort        = 1, 2
	nbdRepUnsupported                    = 1<<31 + 1
	nbdFixedNewstyle, nbdNoZeroes        = 1, 2
	nbdHasFlags, nbdSendFlush            = 1, 4
	nbdSendFUA                           = 8
	nbdRead, nbdWrite, nbdDisc           = 0, 1, 2
	nbdFlush                             = 3
	nbdFlagFUA                           = 1
	nbdEIO, nbdEINVAL                    = 5, 22
	mostOfARequest                       = 64 << 20
	mostOfAnOption                       = 4096
	nbdTransmission               uint16 = nbdHasFlags | nbdSendFlush | nbdSendFUA
)

// serve takes connections until the listener is closed.
func (r *recorder) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			name, err := negotiate(c, func(name string) (int64, bool) {
				switch name {
				case diskExport:
					return int64(len(r.base)), true
				case markExport:
					return markSize, true
				}
				return 0, false
			})
			for err == nil {
				err = r.request(c, name == markExport)
			}
		}()
	}
}

// negotiate goes through the options, of which a client may have none but the name of the export.
func negotiate(c io.ReadWriter, size func(string) (int64, bool)) (string, error) {
	be := binary.BigEndian
	hello := be.AppendUint64(be.AppendUint64(nil, nbdMagic), nbdOptMagic)
	if _, err := c.Write(be.AppendUint16(hello, nbdFixedNewstyle|nbdNoZeroes)); err != nil {
		return "", err
	}
	var flags [4]byte
	if _, err := io.ReadFull(c, flags[:]); err != nil {
		return "", err
	}
	for {
		var head [16]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return "", err
		}
		option, long := be.Uint32(head[8:]), be.Uint32(head[12:])
		if be.Uint64(head[:]) != nbdOptMagic || long > mostOfAnOption {
			return "", errors.New("nbd: not an option")
		}
		text := make([]byte, long)
		if _, err := io.ReadFull(c, text); err != nil {
			return "", err
		}
		switch option {
		case nbdOptAbort:
			return "", io.EOF
		case nbdOptExportName:
			bytes, ok := size(string(text))
			if !ok {
				return "", fmt.Errorf("nbd: no export %q", text)
			}
			answer := be.AppendUint16(be.AppendUint64(nil, uint64(bytes)), nbdTransmission)
			if be.Uint32(flags[:])&nbdNoZeroes == 0 {
				answer = append(answer, make([]byte, 124)...)
			}
			_, err := c.Write(answer)
			return string(text), err
		}
		answer := be.AppendUint32(be.AppendUint64(nil, nbdReplyMagic), option)
		if _, err := c.Write(be.AppendUint32(be.AppendUint32(answer, nbdRepUnsupported), 0)); err != nil {
			return "", err
		}
	}
}

// request does one request, and answers.
func (r *recorder) request(c io.ReadWriter, marks bool) error {
	be := binary.BigEndian
	var head [28]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	flags, kind, at, long := be.Uint16(head[4:]), be.Uint16(head[6:]), int64(be.Uint64(head[16:])), be.Uint32(head[24:])
	if be.Uint32(head[:]) != nbdRequestMagic || long > mostOfARequest {
		return errors.New("nbd: not a request")
	}
	var data []byte
	if kind == nbdWrite {
		data = make([]byte, long)
		if _, err := io.ReadFull(c, data); err != nil {
			return err
		}
	}
	size := int64(len(r.base))
	if marks {
		size = markSize
	}
	code := uint32(0)
	inside := at >= 0 && at <= size && int64(long) <= size-at
	switch {
	case kind == nbdDisc:
		return io.EOF
	case kind == nbdFlush && !marks:
		r.note(record{})
	case kind == nbdFlush:
	case !inside || kind > nbdWrite:
		code = nbdEINVAL
	case kind == nbdRead:
		data = make([]byte, long)
		if !marks {
			r.mu.Lock()
			copy(data, r.now[at:])
			r.mu.Unlock()
		}
	case marks:
		r.note(record{mark: textOf(data)})
	default:
		r.note(record{at: at, data: data})
		if flags&nbdFlagFUA != 0 {
			r.note(record{}) // it says more than this write is on the disk: that is how a cache of blocks may do it
		}
	}
	answer := be.AppendUint32(be.AppendUint32(nil, nbdSimpleMagic), code)
	answer = append(answer, head[8:16]...) // the client's own number
	if kind == nbdRead && code == 0 {
		answer = append(answer, data...)
	}
	_, err := c.Write(answer)
	return err
}

// textOf is a mark as it was written: a line, and zeroes.
func textOf(data []byte) string {
	for i, b := range data {
		if b == 0 || b == '\n' {
			return string(data[:i])
		}
	}
	return string(data)
}

func (r *recorder) note(e record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	copy(r.now[e.at:], e.data)
	r.log = append(r.log, e)
	if e.mark == lastMark {
		close(r.ended)
	}
}
