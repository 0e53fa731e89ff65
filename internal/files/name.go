package files

import (
	"encoding/hex"
	"strings"

	"golang.org/x/sys/unix"
)

// IsName reports whether s is of the characters that Docker has for names of containers, networks and volumes,
// "[a-zA-Z0-9][a-zA-Z0-9_.-]*", and not longer than most. Such a name is a file's, too, and leads nowhere else.
func IsName(s string, most int) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || !strings.ContainsRune("_.-", r)) {
			return false
		}
	}
	return s != "" && len(s) <= most
}

// IsID reports whether s is an id as [NewID] makes them.
func IsID(s string) bool { return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" }

// ShortID is what people call an id by: its first twelve digits.
func ShortID(id string) string { return id[:min(12, len(id))] }

// NewID returns 64 hexadecimal digits. The first twelve are never all decimal, since some programs take such a host name
// for a number.
func NewID() string {
	for {
		var b [32]byte
		Random(b[:])
		id := hex.EncodeToString(b[:])
		if strings.Trim(ShortID(id), "0123456789") != "" {
			return id
		}
	}
}

// Random fills b from the kernel: getrandom(2). Package crypto/rand does the same behind two dozen packages, which every
// start would pay for.
func Random(b []byte) {
	for n := 0; n < len(b); {
		got, err := unix.Getrandom(b[n:], 0)
		if err != nil && err != unix.EINTR {
			panic("getrandom: " + err.Error()) // no error but EINTR exists for a buffer of this process
		}
		n += max(got, 0)
	}
}
