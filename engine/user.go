package engine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// maxEtc bounds the passwd and group files that are read: they are the image's.
const maxEtc = 1 << 20

// readInRoot reads a file below root, never leaving it, and only a regular one:
// a fifo or a device in its place would block or never end.
func readInRoot(root, name string) ([]byte, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	return files.ReadBelow(dir, name, maxEtc)
}

// entries gives the lines of a passwd or group file, split, of at least n fields.
func entries(data []byte, n int) [][]string {
	var list [][]string
	for line := range strings.Lines(string(data)) {
		if f := strings.Split(strings.TrimRight(line, "\r\n"), ":"); len(f) >= n {
			list = append(list, f)
		}
	}
	return list
}

// parseID parses a numeric id: decimal digits only, and no more than 2^31-1, as
// Docker has it. Anything else never becomes 0.
func parseID(s string) (uint32, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 31)
	return uint32(n), err == nil
}

// numberLike reports whether s is meant as a number, with a sign or too large as it
// may be: an account that an image calls so is not what was asked for (CVE-2024-40635).
func numberLike(s string) bool { return strings.Trim(s, "+-0123456789") == "" }

// A reader reads a small file of a container's root file system.
type reader func(name string) ([]byte, error)

// inRoot reads files below a directory.
func inRoot(root string) reader {
	return func(name string) ([]byte, error) { return readInRoot(root, name) }
}

// resolveUser looks up NAME|UID[:NAME|GID] in a root file system and gives the home
// directory too. A number is a number, whatever passwd says of it as a name. "UID:" is UID, as for Docker: a shell makes it of $UID:$GID, since
// it has no GID. ":GROUP" is refused: that would be root.
func resolveUser(read reader, spec string) (specs.User, string, error) {
	var u specs.User
	if spec == "" {
		spec = "0"
	}
	name, group, _ := strings.Cut(spec, ":")
	if name == "" {
		return u, "", fmt.Errorf("-u %s: a user is NAME, UID, NAME:GROUP or UID:GID", spec)
	}
	id, numeric := parseID(name)
	if !numeric && numberLike(name) {
		return u, "", fmt.Errorf("-u %s: uids and gids must be in range 0-2147483647", spec)
	}
	passwd, err := read("etc/passwd")
	u, home, found := findUser(passwd, func(uid uint32, login string) bool {
		if numeric {
			return uid == id
		}
		return login == name
	})
	switch {
	case numeric:
		u.UID = id
	case !found && err != nil:
		return u, "", fmt.Errorf("-u %s: the name cannot be looked up: %w", spec, err)
	case !found:
		return u, "", fmt.Errorf("-u %s: unable to find user %s: no matching entries in passwd file", spec, name)
	}
	if group != "" {
		gid, err := resolveGroup(read, group)
		if err != nil {
			return u, "", fmt.Errorf("-u %s: %w", spec, err)
		}
		u.GID = gid
		u.AdditionalGids = []uint32{gid}
		return u, home, nil
	}
	u.AdditionalGids = memberships(read, u)
	return u, home, nil
}

// findUser is the first entry of a passwd file that is wanted, with its home directory, which is / where it has none.
func findUser(passwd []byte, want func(uid uint32, login string) bool) (u specs.User, home string, found bool) {
	for _, f := range entries(passwd, 6) {
		uid, ok1 := parseID(f[2])
		gid, ok2 := parseID(f[3])
		if !ok1 || !ok2 || !want(uid, f[0]) {
			continue
		}
		home = "/"
		if strings.HasPrefix(f[5], "/") && !strings.ContainsAny(f[5], "\x00") {
			home = f[5]
		}
		return specs.User{UID: uid, GID: gid, Username: f[0]}, home, true
	}
	return u, "/", false
}

// memberships lists u's own group and those that name u as a member. The own one is among them, as login(1) has it: else a set-group-id program of
// the image, which changes the effective gid, would take away the group, and what files deny to it (CVE-2022-36109, 2989, 2990, 2995).
func memberships(read reader, u specs.User) []uint32 {
	gids := []uint32{u.GID}
	if u.Username == "" {
		return gids
	}
	data, err := read("etc/group")
	if err != nil {
		return gids
	}
	has := map[uint32]bool{u.GID: true} // an image's file may have a hundred thousand
	for _, f := range entries(data, 4) {
		gid, ok := parseID(f[2])
		if ok && !has[gid] && slices.Contains(strings.Split(f[3], ","), u.Username) {
			has[gid], gids = true, append(gids, gid)
		}
	}
	return gids
}

// addGroups gives u those of --group-add, too.
func addGroups(read reader, u *specs.User, groups []string) error {
	for _, g := range groups {
		gid, err := resolveGroup(read, g)
		if err != nil {
			return err
		}
		if !slices.Contains(u.AdditionalGids, gid) {
			u.AdditionalGids = append(u.AdditionalGids, gid)
		}
	}
	return nil
}

// resolveGroup looks up a group by name or number.
func resolveGroup(read reader, group string) (uint32, error) {
	if gid, ok := parseID(group); ok {
		return gid, nil
	}
	if numberLike(group) {
		return 0, fmt.Errorf("group %s: uids and gids must be in range 0-2147483647", group)
	}
	data, err := read("etc/group")
	if err != nil {
		return 0, fmt.Errorf("group %s cannot be looked up: %w", group, err)
	}
	for _, f := range entries(data, 3) {
		if gid, ok := parseID(f[2]); ok && f[0] == group {
			return gid, nil
		}
	}
	return 0, fmt.Errorf("unable to find group %s: no matching entries in group file", group)
}
