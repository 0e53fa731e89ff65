package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"strings"
)

// paxXattr begins the PAX records that hold extended attributes: star(1), and all engines.
const paxXattr = "SCHILY.xattr."

// keptXattr reports whether an attribute belongs to a file, and not to the machine that
// the file lay on. Labels of security modules name rules of that machine; trusted.* and
// user.overlay.* would be orders to overlayfs, user.fuseoverlayfs.* to fuse-overlayfs.
func keptXattr(name string) bool {
	if strings.HasPrefix(name, "user.") {
		return !strings.HasPrefix(name, "user.overlay.") && !strings.HasPrefix(name, "user.fuseoverlayfs.") && name != "user."
	}
	return name == capXattr || isACL(name)
}

// xattrs are the attributes of an entry that are kept.
func xattrs(h *tar.Header, limit int) (map[string]string, error) {
	var kept map[string]string
	size := 0
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok {
			continue
		}
		if size += len(name) + len(value); size > limit {
			return nil, &LimitError{"bytes of extended attributes in an entry", int64(limit)}
		}
		if !keptXattr(name) {
			continue
		}
		if len(name) > 255 || len(value) > 64<<10 {
			return nil, fmt.Errorf("the extended attribute %.40q of %d bytes: the kernel takes names of 255 and values of 65536", name, len(value))
		}
		if strings.Contains(name, "\x00") {
			return nil, errors.New("an extended attribute with a NUL in its name")
		}
		if isACL(name) {
			if name == defaultACLXattr && h.Typeflag != tar.TypeDir || h.Typeflag == tar.TypeSymlink {
				continue // the kernel has none there
			}
			if err := checkACL(value); err != nil {
				return nil, fmt.Errorf("the extended attribute %s: %w", name, err)
			}
		}
		if kept == nil {
			kept = map[string]string{}
		}
		kept[name] = value
	}
	return kept, nil
}
