package logread

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/kakuri/kakuri/monitor/log"
)

// A Line is an entry of a log: a line, or a part of one that was too long.
type Line struct {
	Stream log.Stream
	Time   time.Time
	Text   []byte // with its end, where it has one; to be used before the next one comes
	Attrs  map[string]string
}

// Options choose lines.
type Options struct {
	Since, Until time.Time // zero is without bound
	Tail         int       // the last ones only; negative is all, 0 none
	Follow       bool
	// More reports whether lines may come yet: it is asked when all have been read and something in the log's directory has changed. Nil is always.
	More func() bool
}

// ErrNoReading is what Docker says where a driver keeps nothing that could be read.
var ErrNoReading = errors.New("configured logging driver does not support reading")

// Read calls tell for the lines of a log, oldest first, until it returns an error. Following, it ends when More says so
// or ctx ends, which is no error.
func Read(ctx context.Context, driver, file string, o Options, tell func(Line) error) error {
	var form form
	switch driver {
	case "json-file", "":
		form = jsonForm{}
	case "local", "syslog": // of syslog there is a copy
		form = localForm{}
	default:
		return ErrNoReading
	}
	r := &reader{form: form, name: file, o: o, tell: tell}
	defer r.close()
	err := r.read(ctx)
	if errors.Is(err, errUntil) {
		err = nil
	}
	if err == nil && r.damaged > 0 {
		err = fmt.Errorf("%s: entries in %d places are damaged, and left out", file, r.damaged)
	}
	return err
}

// errUntil ends the reading at a line that is too new.
var errUntil = errors.New("newer than asked for")

type reader struct {
	form    form
	name    string
	o       Options
	tell    func(Line) error
	sources []*source // oldest first
	damaged int
	last    time.Time // of the newest line that was read
	same    int       // lines of that time that were read
	again   int       // of those, how many come once more, and are left out
	watch   *watch
}

func (r *reader) read(ctx context.Context) error {
	if r.o.Follow {
		// Before anything is read: what comes meanwhile is seen.
		var err error
		if r.watch, err = newWatch(r.name); err != nil {
			return err
		}
	}
	var err error
	if r.sources, err = openAll(r.name, r.o.Since); err != nil {
		return err
	}
	if r.o.Tail >= 0 {
		if err := r.tail(r.o.Tail); err != nil {
			return err
		}
	}
	for len(r.sources) > 0 {
		if err := r.drain(ctx, r.sources[0]); err != nil {
			return err
		}
		if len(r.sources) == 1 && r.o.Follow {
			break // the newest is followed
		}
		r.sources[0].close()
		r.sources = r.sources[1:]
	}
	if !r.o.Follow {
		return nil
	}
	return r.follow(ctx)
}

// drain tells of what a source has up to its present end.
func (r *reader) drain(ctx context.Context, s *source) error {
	for ctx.Err() == nil {
		l, err := s.next(r.form)
		switch {
		case err == io.EOF:
			return nil
		case err == errDamaged:
			r.damaged++
			continue
		case err != nil:
			return err
		}
		if s.skip > 0 {
			s.skip--
			continue
		}
		if !r.o.Until.IsZero() && l.Time.After(r.o.Until) {
			return errUntil
		}
		if l.Time.Before(r.o.Since) {
			continue
		}
		switch {
		case l.Time.After(r.last):
			r.last, r.same = l.Time, 1
		case l.Time.Equal(r.last) && r.again > 0:
			r.again--
			continue
		case l.Time.Equal(r.last):
			r.same++
		}
		if err := r.tell(l); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) close() {
	for _, s := range r.sources {
		s.close()
	}
	if r.watch != nil {
		r.watch.close()
	}
}

// openAll opens the files of a log, oldest first, as they are at one moment. Those without a line since that time are left out.
func openAll(name string, since time.Time) ([]*source, error) {
	for {
		list, err := openOnce(name, since)
		if err != nil || len(list) == 0 {
			return list, err
		}
		// Had the newest been renamed meanwhile, it would be among the older ones again, or packed.
		now, err := os.Stat(name)
		if newest := list[len(list)-1]; err == nil && os.SameFile(now, newest.info) {
			return list, nil
		}
		for _, s := range list {
			s.close()
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil // all removed, or between two names
		}
	}
}

func openOnce(name string, since time.Time) (list []*source, err error) {
	defer func() {
		if err != nil {
			for _, s := range list {
				s.close()
			}
			list = nil
		}
	}()
	for n := 0; ; n++ {
		s, err := openNth(name, n)
		if errors.Is(err, os.ErrNotExist) {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		// The kernel's time of a change is that of its last tick.
		if n > 0 && s.info.ModTime().Add(time.Second).Before(since) {
			s.close()
			return list, nil
		}
		list = append([]*source{s}, list...)
	}
}

func openNth(name string, n int) (*source, error) {
	if n == 0 {
		return openSource(name)
	}
	name += "." + strconv.Itoa(n)
	s, err := openSource(name)
	if !errors.Is(err, os.ErrNotExist) {
		return s, err
	}
	if s, err = openSource(name + ".gz"); err != nil {
		return nil, err
	}
	return s, s.unpack()
}

// A source is one file of a log.
type source struct {
	file   *os.File
	info   os.FileInfo
	r      io.Reader // of the file, or of what is packed in it
	packed bool
	offset int64 // in the file, of what comes next to buf; of one that is not packed
	skip   int   // entries
	buf    []byte
	lost   bool // within damage
}

func openSource(name string) (*source, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &source{file: f, info: info, r: f}, nil
}

// unpack reads from the begin of what is packed.
func (s *source) unpack() error {
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	z, err := gzip.NewReader(s.file)
	if err != nil {
		s.close()
		return fmt.Errorf("%s: %w", s.file.Name(), err)
	}
	s.r, s.packed, s.buf, s.lost = z, true, nil, false
	return nil
}

// seek goes on from there.
func (s *source) seek(offset int64) error {
	_, err := s.file.Seek(offset, io.SeekStart)
	s.offset, s.buf = offset, nil
	return err
}

// next returns the next whole entry; io.EOF when there is none yet, and errDamaged once for a place that is none.
func (s *source) next(f form) (Line, error) {
	for {
		l, n, err := f.decode(s.buf)
		s.buf = s.buf[n:]
		switch {
		case err != nil && s.lost:
			continue
		case err != nil:
			s.lost = true
			return Line{}, err
		case n > 0:
			s.lost = false
			return l, nil
		}
		if err := s.fill(); err != nil {
			return Line{}, err
		}
	}
}

// fill reads more.
func (s *source) fill() error {
	const block = 64 << 10
	buf := make([]byte, len(s.buf), max(2*len(s.buf), block)+block/2)
	copy(buf, s.buf)
	n, err := s.r.Read(buf[len(buf):cap(buf)])
	s.buf, s.offset = buf[:len(buf)+n], s.offset+int64(n)
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

func (s *source) close() { s.file.Close() }
