package files

import (
	"os"

	"golang.org/x/sys/unix"
)

// LabelXattr is the extended attribute that a file's label of SELinux is: xattr(7).
const LabelXattr = "security.selinux"

// Label gives a file, itself if it is a link, a label of SELinux. A file system that was mounted with a label has none of files, and keeps it: that is no error.
func Label(path, label string) error {
	if err := unix.Lsetxattr(path, LabelXattr, []byte(label), 0); err != nil && err != unix.ENOTSUP {
		return &os.PathError{Op: "label " + label, Path: path, Err: err}
	}
	return nil
}
