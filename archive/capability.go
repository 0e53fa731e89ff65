package archive

import "encoding/binary"

// The attribute of file capabilities: capabilities(7), "File capability extended attribute versioning". Version 2
// is good for root of the first user namespace; version 3 is the same with the id behind it of the root that it is good for. In
// an archive it is version 2, for root of wherever the archive comes to.
const (
	capXattr  = "security.capability"
	capV2     = 0x02000000
	capV3     = 0x03000000
	capV2Size = 20
	capV3Size = 24
)

// capabilityFor makes file capabilities of an archive those of a root with another id.
func capabilityFor(value string, root uint32) string {
	if root == 0 || len(value) != capV2Size || binary.LittleEndian.Uint32([]byte(value))&0xff000000 != capV2 {
		return value
	}
	b := binary.LittleEndian.AppendUint32([]byte(value), root)
	binary.LittleEndian.PutUint32(b, binary.LittleEndian.Uint32(b)&0x00ffffff|capV3)
	return string(b)
}

// capabilityOf is the reverse, for a root that is root in the archive.
func capabilityOf(value string, inArchive func(uint32) (uint32, error)) string {
	if inArchive == nil || len(value) != capV3Size || binary.LittleEndian.Uint32([]byte(value))&0xff000000 != capV3 {
		return value
	}
	if root, err := inArchive(binary.LittleEndian.Uint32([]byte(value[capV2Size:]))); err != nil || root != 0 {
		return value
	}
	b := []byte(value[:capV2Size])
	binary.LittleEndian.PutUint32(b, binary.LittleEndian.Uint32(b)&0x00ffffff|capV2)
	return string(b)
}
