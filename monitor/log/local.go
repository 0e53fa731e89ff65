package log

import "encoding/binary"

// localForm is that of Docker's driver local: a message of protocol buffers between two copies of its length, so that a file can be read from
// either end. The message is its LogEntry: source (1), time in nanoseconds (2), line (3), partial (4).
type localForm struct{}

// maxLocal bounds a message: a piece of a line, and what stands around it.
const maxLocal = pieceSize + 64

func (localForm) append(buf []byte, e *entry) []byte {
	start := len(buf)
	buf = append(buf, 0, 0, 0, 0)
	source := e.stream.String()
	buf = append(buf, 1<<3|2, byte(len(source)))
	buf = append(buf, source...)
	buf = append(buf, 2<<3)
	buf = binary.AppendUvarint(buf, uint64(e.at.UnixNano()))
	buf = append(buf, 3<<3|2)
	buf = binary.AppendUvarint(buf, uint64(len(e.line)))
	buf = append(buf, e.line...)
	if e.more {
		buf = append(buf, 4<<3, 1)
	}
	n := uint32(len(buf) - start - 4)
	binary.BigEndian.PutUint32(buf[start:], n)
	return binary.BigEndian.AppendUint32(buf, n)
}

// torn: the file ends with a length, and as far before that is the same length, unless the last entry is not whole. Then the next
// place that says so is looked for.
func (localForm) torn(tail []byte, size int64) int64 {
	for end := len(tail); end >= 8; end-- {
		n := int(binary.BigEndian.Uint32(tail[end-4:]))
		if n <= maxLocal && n >= 4 && end-8-n >= 0 && int(binary.BigEndian.Uint32(tail[end-8-n:])) == n && tail[end-4-n] == 1<<3|2 {
			return int64(len(tail) - end)
		}
	}
	return int64(len(tail))
}
