package dirs

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// Of the data directory and the runtime directory of an ordinary user's engine each says by a symbolic link which the other one is, for as long as both are there.
const (
	runOfData     = "/run" // in the data directory
	runOfDataLock = runOfData + ".lock"
	dataOfRun     = "/of" // in the runtime directory
)

// Run is the directory of what does not outlive a boot, of an engine that has its records in data. An ordinary user's data directory and it belong
// together, whatever XDG_RUNTIME_DIR is when a command begins, in a session or by su or cron: another runtime directory would have its running containers
// for ended, and start them once more. And the engine of another data directory knows nothing of the containers here: it would take their ports, addresses
// and rules for left over, and their network world for its own. So the first one has the plain name, another one's has a hash of its path.
// With look nothing is made or written.
func Run(f plan.Facts, data string, look bool) (string, error) {
	if f.UID == 0 && f.AllIDs {
		return "/run/kakuri", nil
	}
	data = physical(data)
	if dir := partner(data); dir != "" {
		return dir, nil
	}
	if look {
		return chooseRun(f, data, true)
	}
	// Who cannot make it, or write there, is told so by what is to be made in it; on a full disk a removal goes on without.
	if makeOwn(f, data) == nil {
		if lock, err := files.LockFile(data + runOfDataLock); err == nil { // the directory itself may be open to others, who could hold its lock for ever
			defer lock.Close()
			defer os.Remove(lock.Name())
		}
		if dir := partner(data); dir != "" {
			return dir, nil // of another command, meanwhile
		}
	}
	dir, err := chooseRun(f, data, false)
	if err != nil {
		return "", err
	}
	os.Remove(data + runOfData)
	os.Symlink(dir, data+runOfData)
	return dir, nil
}

// partner is the runtime directory that a data directory has already; empty where there is none, or it went with its session or boot.
func partner(data string) string {
	dir, err := os.Readlink(data + runOfData)
	if err != nil || !filepath.IsAbs(dir) || !files.OwnDir(dir, 0o022) {
		return ""
	}
	if of, err := os.Readlink(dir + dataOfRun); err != nil || of != data {
		return ""
	}
	return dir
}

// chooseRun is the runtime directory for a data directory that has none. Who only looks takes none.
func chooseRun(f plan.Facts, data string, look bool) (string, error) {
	for _, suffix := range []string{"", fmt.Sprintf("-%.6x", sha256.Sum256([]byte(data)))} {
		dir, err := privateDir(f, suffix, look)
		if err != nil {
			return "", err
		}
		if !look {
			os.Symlink(data, dir+dataOfRun) // unless it is another's: one of several at once
		}
		// Where nothing can be made, what is to be made in it says why.
		if of, err := os.Readlink(dir + dataOfRun); err != nil || of == data {
			return dir, nil
		}
	}
	return "", fmt.Errorf("the runtime directory of %s is another's", data)
}

// privateDir is a directory of the boot that nobody else can have made: in /tmp without a session manager, and where XDG_RUNTIME_DIR says so.
func privateDir(f plan.Facts, suffix string, look bool) (string, error) {
	dir, others := filepath.Join("/tmp", "kakuri-"+strconv.Itoa(int(f.UID)))+suffix, uint32(0o077)
	run := os.Getenv("XDG_RUNTIME_DIR")
	if filepath.IsAbs(run) {
		dir, others = filepath.Join(run, "kakuri")+suffix, 0o022
	}
	if !look {
		if err := makeOwn(f, dir); errors.Is(err, os.ErrPermission) && filepath.IsAbs(run) {
			return "", fmt.Errorf("XDG_RUNTIME_DIR: %w: it is another user's, as behind su or sudo, or went with its session: unset it", err)
		}
	}
	// Where there is none, who is to make something in it says why that cannot be.
	if _, err := os.Lstat(dir); err == nil && !files.OwnDir(dir, others) {
		return "", fmt.Errorf("%s is not a directory of this user alone: set XDG_RUNTIME_DIR", dir)
	}
	return dir, nil
}

// makeOwn makes a directory where there is none, of the user's own group: one made in a directory of a shared group (set-group-ID) has that one, which is no group of
// the user's namespace, and the kernel lays no directories over each other that are of such a group.
func makeOwn(f plan.Facts, dir string) error {
	if _, err := os.Lstat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); errors.Is(err, os.ErrExist) {
		return nil // whose it is, is looked at by who takes it
	} else if err != nil {
		return err
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	// Where others may rename what they do not own, it may be another one by now, which stays as it is.
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Uid != uint32(os.Geteuid()) || st.Mode&0o077 != 0 {
		return fmt.Errorf("%s: somebody else has put something in its place", dir)
	}
	return errors.Join(unix.Fchown(fd, -1, int(f.GID)), unix.Fchmod(fd, 0o700))
}

// physical is a path without symbolic links, as far as it is there.
func physical(path string) string {
	for dir, rest := path, ""; ; dir, rest = filepath.Dir(dir), filepath.Join(filepath.Base(dir), rest) {
		if fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0); err == nil {
			real, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
			unix.Close(fd)
			if err == nil {
				return filepath.Join(real, rest)
			}
		}
		if dir == filepath.Dir(dir) {
			return path
		}
	}
}
