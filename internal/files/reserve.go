package files

import (
	"encoding/base64"
	"encoding/hex"
	"os"
)

// Reserve links a name to the id of who has it, in one step; an error of os.ErrExist is that somebody has. A link of fewer than 60 bytes lies in its
// inode, without a block of its own (ext4, xfs, btrfs), so it is not the id's 64 digits: their 32 bytes are written with 64 signs.
func Reserve(id, link string) error {
	if raw, err := hex.DecodeString(id); err == nil && len(raw) == 32 {
		id = base64.RawURLEncoding.EncodeToString(raw)
	}
	return os.Symlink(id, link)
}

// ReservedFor is the id that a name is reserved for, by [Reserve] or by a link that has the digits.
func ReservedFor(link string) (id string, err error) {
	to, err := os.Readlink(link)
	if err != nil {
		return "", err
	}
	if raw, err := base64.RawURLEncoding.DecodeString(to); err == nil && len(raw) == 32 {
		return hex.EncodeToString(raw), nil
	}
	return to, nil
}
