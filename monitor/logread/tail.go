package logread

import "io"

// tail has the sources begin with the last n entries of the log.
func (r *reader) tail(n int) error {
	for i := len(r.sources) - 1; i >= 0; i-- {
		s := r.sources[i]
		count := s.tail
		if s.packed {
			count = s.tailPacked
		}
		got, err := count(r.form, n)
		if err != nil {
			return err
		}
		if n -= got; n > 0 {
			continue
		}
		for _, older := range r.sources[:i] {
			older.close()
		}
		r.sources = r.sources[i:]
		return nil
	}
	return nil
}

// tail goes to the place from which on there are n entries, or to the begin where there are fewer, and returns how many. It
// reads from the end.
func (s *source) tail(f form, n int) (got int, err error) {
	info, err := s.file.Stat()
	if err != nil {
		return 0, err
	}
	end := min(info.Size(), s.end)
	if end, err = s.wholeEnd(f, end); err != nil {
		return 0, err
	}
	buf, from := []byte{}, end // what of the file is in buf: from up to end
	for got < n && end > 0 {
		b := buf[:end-from]
		begin, err := f.before(b)
		switch {
		case err == nil && begin >= 0:
			got++
			end = from + int64(begin)
		case from == 0:
			// The first entry of the file, or damage: either begins there.
			return got + 1, s.seek(0)
		case err != nil:
			return got, s.forward(f, n)
		default:
			more := min(from, int64(max(64<<10, len(b))))
			buf = make([]byte, more+int64(len(b)))
			copy(buf[more:], b)
			from -= more
			if _, err := s.file.ReadAt(buf[:more], from); err != nil {
				return got, err
			}
		}
	}
	return got, s.seek(end)
}

// wholeEnd is the end of the file's last whole entry, where that can be told.
func (s *source) wholeEnd(f form, size int64) (int64, error) {
	if _, local := f.(localForm); local || size == 0 {
		return size, nil
	}
	tail := make([]byte, min(size, maxEntry))
	if _, err := s.file.ReadAt(tail, size-int64(len(tail))); err != nil && err != io.EOF {
		return 0, err
	}
	for i := len(tail); i > 0; i-- {
		if tail[i-1] == '\n' {
			return size - int64(len(tail)-i), nil
		}
	}
	return size, nil
}

// forward is for a file that is damaged: it is read from the begin.
func (s *source) forward(f form, n int) error {
	if err := s.seek(0); err != nil {
		return err
	}
	total, err := s.count(f)
	if err != nil {
		return err
	}
	s.skip = max(0, total-n)
	return s.seek(0)
}

// tailPacked skips all but the last n entries of a packed file.
func (s *source) tailPacked(f form, n int) (int, error) {
	total, err := s.count(f)
	if err != nil {
		return 0, err
	}
	s.skip = max(0, total-n)
	return min(total, n), s.unpack()
}

func (s *source) count(f form) (n int, err error) {
	for {
		_, err := s.next(f)
		switch err {
		case nil:
			n++
		case io.EOF:
			return n, nil
		case errDamaged:
		default:
			if s.packed {
				return n, nil // what comes before the damage
			}
			return n, err
		}
	}
}
