package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// The attributes of POSIX ACLs: linux/posix_acl_xattr.h. Their users and groups are those of the archive, as owners of its files are.
const (
	aclXattr        = "system.posix_acl_access"
	defaultACLXattr = "system.posix_acl_default"

	aclVersion = 2
	aclHeader  = 4
	aclEntry   = 8 // tag, permissions, id
	aclUser    = 0x02
	aclGroup   = 0x08
)

func isACL(name string) bool { return name == aclXattr || name == defaultACLXattr }

// checkACL refuses what the kernel would: an index of a layer has the bytes as they are, and a file with an ACL that cannot be read is nobody's.
func checkACL(value string) error {
	b := []byte(value)
	if len(b) < aclHeader || len(b)%aclEntry != aclHeader || binary.LittleEndian.Uint32(b) != aclVersion {
		return errors.New("it is no POSIX ACL of version 2")
	}
	order := []uint16{0x01, aclUser, 0x04, aclGroup, 0x10, 0x20} // owner, users, group, groups, mask, others
	var seen [6]int
	last := 0
	for e := range slices.Chunk(b[aclHeader:], aclEntry) {
		at := slices.Index(order, binary.LittleEndian.Uint16(e))
		if at < last || binary.LittleEndian.Uint16(e[2:]) > 7 {
			return errors.New("it is a POSIX ACL with an entry that is none, or out of order")
		}
		last = at
		seen[at]++
	}
	named := seen[1]+seen[3] > 0
	if seen[0] != 1 || seen[2] != 1 || seen[5] != 1 || seen[4] > 1 || named && seen[4] == 0 {
		return errors.New("it is a POSIX ACL that lacks an entry, or has one twice")
	}
	return nil
}

// mapACL gives an ACL other users and groups. It has been checked, or comes from the kernel.
func mapACL(value string, uid, gid func(uint32) (uint32, error)) (string, error) {
	b := []byte(value)
	for at := aclHeader; at+aclEntry <= len(b); at += aclEntry {
		var to func(uint32) (uint32, error)
		switch binary.LittleEndian.Uint16(b[at:]) {
		case aclUser:
			to = uid
		case aclGroup:
			to = gid
		}
		if to == nil {
			continue
		}
		id, err := to(binary.LittleEndian.Uint32(b[at+4:]))
		if err != nil {
			return "", fmt.Errorf("POSIX ACL: %w", err)
		}
		binary.LittleEndian.PutUint32(b[at+4:], id)
	}
	return string(b), nil
}
