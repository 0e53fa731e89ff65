package logread

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/monitor/log"
	"golang.org/x/sys/unix"
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
	return read(ctx, form, file, o, tell)
}

// ReadLines is Read of a file of lines that are not of a container's log, and whose time parse tells: such as events. A line that it
// has an error for is damaged. The line that tell gets has its text alone.
func ReadLines(ctx context.Context, file string, o Options, parse func([]byte) (time.Time, error), tell func([]byte) error) error {
	return read(ctx, lineForm(parse), file, o, func(l Line) error { return tell(l.Text) })
}

func read(ctx context.Context, form form, file string, o Options, tell func(Line) error) error {
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
	if !r.o.Follow {
		// Who is read to while it writes faster would never come to an end, and the last lines would be more than were asked for.
		for _, s := range r.sources {
			s.bound()
		}
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
		case err != nil && s.packed:
			r.damaged++
			return nil
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
		names, err := older(name)
		if err != nil {
			return nil, err
		}
		list, err := openThese(append(names, name), since)
		if err == nil && settled(list) {
			if now, err := older(name); err == nil && slices.Equal(names, now) {
				return list, nil
			}
		}
		for _, s := range list {
			s.close()
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) { // one got another name
			return nil, err
		}
	}
}

// settled reports whether the files still have the names by which they were opened.
func settled(list []*source) bool {
	for _, s := range list {
		now, err := os.Stat(s.file.Name())
		if err != nil || !os.SameFile(now, s.info) {
			return false
		}
	}
	return true
}

func openThese(names []string, since time.Time) (list []*source, err error) {
	for i, n := range names {
		newest := i == len(names)-1
		s, err := openSource(n)
		if errors.Is(err, os.ErrNotExist) && newest {
			continue // it is about to be made
		}
		if s != nil {
			list = append(list, s)
		}
		if err != nil {
			return list, err
		}
		// The kernel's time of a change is that of its last tick.
		if !newest && s.info.ModTime().Add(time.Second).Before(since) {
			s.close()
			list = list[:len(list)-1]
		}
	}
	return list, nil
}

// older lists the older files of a log, oldest first. One that is there plain and packed is about to be removed plain.
func older(name string) ([]string, error) {
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	files, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var numbers []int
	packed := map[int]bool{}
	for _, f := range files {
		rest, ok := strings.CutPrefix(f, filepath.Base(name)+".")
		digits, gz := strings.CutSuffix(rest, ".gz")
		n, err := strconv.Atoi(digits)
		if ok && err == nil && n > 0 && strconv.Itoa(n) == digits {
			if !slices.Contains(numbers, n) {
				numbers = append(numbers, n)
			}
			packed[n] = packed[n] || gz
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	var list []string
	for _, n := range numbers {
		file := name + "." + strconv.Itoa(n)
		if packed[n] {
			file += ".gz"
		}
		list = append(list, file)
	}
	return list, nil
}

// A source is one file of a log.
type source struct {
	file   *os.File
	info   os.FileInfo
	r      io.Reader // of the file, or of what is packed in it
	packed bool
	offset int64 // in the file, of what comes next to buf; of one that is not packed
	end    int64 // in the file: what comes after it is not read
	skip   int   // entries
	buf    []byte
	lost   bool // within damage
}

func openSource(name string) (*source, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0) // a FIFO would have it wait for who writes, and a link nowhere look for ever for a name that a file has by now
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
	s := &source{file: f, info: info, r: f, end: math.MaxInt64}
	if strings.HasSuffix(name, ".gz") {
		return s, s.unpack()
	}
	return s, nil
}

// unpack reads from the begin of what is packed.
func (s *source) unpack() error {
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	s.packed, s.buf, s.lost = true, nil, false
	z, err := gzip.NewReader(s.file)
	if err != nil {
		s.r = broken{fmt.Errorf("no packed file: %v", err)} // an empty one, too
		return nil
	}
	s.r = z
	return nil
}

// broken is what is no packed file.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// bound has what was written since it was opened left out. One that is packed is written no more.
func (s *source) bound() {
	if !s.packed {
		s.end = s.info.Size()
	}
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
	room := buf[len(buf):cap(buf)]
	if room = room[:min(int64(len(room)), max(0, s.end-s.offset))]; len(room) == 0 {
		return io.EOF
	}
	n, err := s.r.Read(room)
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
