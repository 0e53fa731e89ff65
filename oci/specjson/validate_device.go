package specjson

import (
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The greatest device numbers of Linux: 12 and 20 bits, see makedev(3) and mknod(2).
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

func (c *checker) devices(list []specs.LinuxDevice) {
	if len(list) == 0 {
		return
	}
	paths := make(map[string]int, len(list))
	for i := range list {
		d := &list[i]
		c.absolute(place{"devices", i, "path"}, d.Path)
		if first, met := paths[d.Path]; met {
			if f := &list[first]; f.Type != d.Type || f.Major != d.Major || f.Minor != d.Minor {
				c.refuse(place{"devices", i, "path"}.String(), "a place of its own", quote(d.Path)+" as devices"+element(first), "remove one of them")
			}
		}
		paths[d.Path] = i
		switch d.Type {
		case "c", "u", "b":
			c.deviceNumbers("devices", i, d.Major, d.Minor)
		case "p":
		default:
			c.refuse(place{"devices", i, "type"}.String(), "one of c, u, b and p", quote(d.Type), "see mknod(1)")
		}
		c.deviceMode(i, d)
		if d.UID != nil {
			c.id(place{"devices", i, "uid"}, *d.UID)
		}
		if d.GID != nil {
			c.id(place{"devices", i, "gid"}, *d.GID)
		}
	}
}

func (c *checker) deviceNumbers(base string, i int, major, minor int64) {
	if major < 0 || major > maxMajor || minor < 0 || minor > maxMinor {
		c.refuse(place{base, i, ""}.String(), "major up to "+strconv.Itoa(maxMajor)+" and minor up to "+strconv.Itoa(maxMinor),
			decimal(major)+" and "+decimal(minor), "ls -l /dev shows the numbers")
	}
}

// deviceMode wants permission bits. Podman writes the bits of the file's type as
// well, which is fine as long as they say what type does. Others are worth a word and ignored, as by runc: who writes what
// Go's os.Stat says, in the type that specs-go has for the field, gives os.ModeDevice with it.
func (c *checker) deviceMode(i int, d *specs.LinuxDevice) {
	if d.FileMode == nil {
		return
	}
	const permissions, format = 0o7777, 0o170000
	mode := uint32(*d.FileMode)
	if mode&^(permissions|format) != 0 || mode&format != 0 && mode&format != formatOf(d.Type) {
		c.warn(place{"devices", i, "fileMode"}.String(), "permissions, at most 4095 which is 07777", natural(mode), "only these bits are taken; the number is decimal: 438 is 0666")
	}
}

// formatOf returns the bits of st_mode for a type of device, see inode(7).
func formatOf(device string) uint32 {
	switch device {
	case "c", "u":
		return 0o020000
	case "b":
		return 0o060000
	}
	return 0o010000
}
