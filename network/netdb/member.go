package netdb

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/leanjson"
	"github.com/kakuri/kakuri/netip"
	"golang.org/x/sys/unix"
)

// A Member is a container on a network.
type Member struct {
	Container string       // its id
	Name      string       // which reverse look-ups give
	Aliases   []string     `json:",omitempty"` // further names: the short id, what --network-alias says
	Addrs     []netip.Addr `json:",omitempty"`
	Endpoint  string       `json:",omitempty"` // an id of its own, which inspect shows
	MAC       string       `json:",omitempty"`
}

// Join has a member's names found on a network. One that is there already gets these names in the place of those it had.
func (db *DB) Join(id string, m Member) error {
	unlock, err := db.shared(id)
	if err != nil {
		return err
	}
	defer unlock()
	dir := db.runDir(id)
	if err := mkdirs(dir+"/members", dir+"/names", dir+"/addrs"); err != nil {
		return err
	}
	old, _ := db.Member(id, m.Container)
	// First of all, so that what a killed command has done is known, and what it has not done.
	both := m.with(old)
	if err := db.note(id, both); err != nil {
		return err
	}
	for _, name := range old.names() {
		if !slices.Contains(m.names(), name) {
			if err := db.unname(id, name, m.Container); err != nil {
				return err
			}
		}
	}
	for _, a := range old.Addrs {
		if !slices.Contains(m.Addrs, a) {
			if err := db.unaddr(id, a, m.Container); err != nil {
				return err
			}
		}
	}
	if err := db.link(id, m); err != nil || len(both.Aliases) == len(m.Aliases) && len(both.Addrs) == len(m.Addrs) {
		return err
	}
	return db.note(id, m)
}

// with is m with the names and addresses that it had before, too.
func (m Member) with(old Member) Member {
	m.Aliases, m.Addrs = slices.Clone(m.Aliases), slices.Clone(m.Addrs)
	for _, name := range old.names() {
		if name != "" && !slices.Contains(m.names(), name) {
			m.Aliases = append(m.Aliases, name)
		}
	}
	for _, a := range old.Addrs {
		if !slices.Contains(m.Addrs, a) {
			m.Addrs = append(m.Addrs, a)
		}
	}
	return m
}

// note writes a member's record.
func (db *DB) note(id string, m Member) error {
	data, err := leanjson.Marshal(&m)
	if err != nil {
		return err
	}
	return files.Replace(db.runDir(id)+"/members", m.Container, append(data, '\n'), false)
}

// link has a member's names lead to its addresses, and these to its name.
func (db *DB) link(id string, m Member) error {
	dir := db.runDir(id)
	var addrs []string
	for _, a := range m.Addrs {
		addrs = append(addrs, a.String())
		if err := link(m.Name, dir+"/addrs/"+a.String()); err != nil {
			return err
		}
	}
	if len(addrs) == 0 {
		return nil
	}
	for _, name := range m.names() {
		file, ok := fileName(name)
		if !ok {
			return fmt.Errorf("%q cannot be a name on a network", name)
		}
		if err := linkIn(strings.Join(addrs, ","), dir+"/names/"+file, m.Container); err != nil {
			return err
		}
	}
	return nil
}

// linkIn is link in a directory that another one removes when it finds it empty.
func linkIn(to, dir, name string) error {
	for {
		if err := mkdirs(dir); err != nil {
			return err
		}
		if err := link(to, dir+"/"+name); !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
}

// link makes a symbolic link, in the place of one that is there.
func link(to, name string) error {
	for {
		err := os.Symlink(to, name)
		if !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := ignoreMissing(os.Remove(name)); err != nil {
			return err
		}
	}
}

func mkdirs(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// Leave takes a container's names from a network, and gives back its addresses. A container that is not there is no error.
func (db *DB) Leave(id, container string) error {
	unlock, err := db.shared(id)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the network was removed
	}
	if err != nil {
		return err
	}
	defer unlock()
	return db.leave(id, container)
}

func (db *DB) leave(id, container string) error {
	m, err := db.Member(id, container)
	if errors.Is(err, os.ErrNotExist) {
		return db.Release(id, container)
	}
	if err != nil {
		return err
	}
	var errs []error
	dir := db.runDir(id)
	for _, name := range m.names() {
		errs = append(errs, db.unname(id, name, container))
	}
	for _, a := range m.Addrs {
		errs = append(errs, db.unaddr(id, a, container))
	}
	return errors.Join(append(errs, ignoreMissing(os.Remove(dir+"/members/"+container)))...)
}

// unaddr takes an address from a container. It may be another one's by now, if this is done a second time.
func (db *DB) unaddr(id string, a netip.Addr, container string) error {
	lease := db.leases(id) + "/" + a.String()
	if owner, err := files.ReservedFor(lease); err == nil && owner != container {
		return nil
	}
	return errors.Join(ignoreMissing(os.Remove(db.runDir(id)+"/addrs/"+a.String())), ignoreMissing(os.Remove(lease)))
}

// names are all that it is found by.
func (m *Member) names() []string { return append([]string{m.Name}, m.Aliases...) }

// unname takes a name from a container.
func (db *DB) unname(id, name, container string) error {
	file, ok := fileName(name)
	if !ok {
		return nil
	}
	dir := db.runDir(id) + "/names/" + file
	err := os.Remove(dir + "/" + container)
	os.Remove(dir) // unless another one has it, too
	return ignoreMissing(err)
}

// Member is what a container is on a network; the error is ErrNotExist where it is not there.
func (db *DB) Member(id, container string) (Member, error) {
	var m Member
	file := db.runDir(id) + "/members/" + container
	data, err := files.Read(file)
	if err != nil {
		return m, err
	}
	if err := leanjson.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("%s: %w", file, err)
	}
	return m, nil
}

// Members are the containers on a network, by id.
func (db *DB) Members(id string) ([]Member, error) {
	list, err := readNames(db.runDir(id) + "/members")
	if err != nil {
		return nil, err
	}
	slices.Sort(list)
	var out []Member
	for _, container := range list {
		if !files.IsID(container) {
			continue
		}
		m, err := db.Member(id, container)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// A named is what a directory of a name had, as long as the directory is the same.
type named struct {
	dir   *files.Seen
	addrs []netip.Addr
}

// A nameOf is a name of a network.
type nameOf struct{ id, file string }

// maxNamed is how many names Resolve remembers, and holds open.
const maxNamed = 64

// Resolve gives the addresses that have a name on a network, in no order; known is false where nobody has it. Case does not count. The list stays the database's,
// which remembers it until [DB.Forget]; but not while its directory changed a moment ago, as it may have changed once more in the same one.
func (db *DB) Resolve(id, name string) (addrs []netip.Addr, known bool) {
	file, ok := fileName(name)
	if !ok {
		return nil, false
	}
	key := nameOf{id, file}
	db.mu.Lock()
	defer db.mu.Unlock()
	if was, ok := db.named[key]; ok {
		if was.dir.Same() {
			return was.addrs, true
		}
		was.dir.Close()
		delete(db.named, key)
	}
	path := db.runDir(id) + "/names/" + file
	dir, err := files.See(path)
	if err != nil {
		return nil, false
	}
	if addrs, known = readNamed(path); !known || !dir.Settled() {
		dir.Close()
		return addrs, known
	}
	if len(db.named) >= maxNamed {
		db.forget()
	}
	if db.named == nil {
		db.named = map[nameOf]named{}
	}
	db.named[key] = named{dir, addrs}
	return addrs, true
}

// Forget lets go of what Resolve remembers.
func (db *DB) Forget() {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.forget()
}

func (db *DB) forget() {
	for _, n := range db.named {
		n.dir.Close()
	}
	db.named = nil
}

// readNamed is what a name's directory has: a link for each container, which leads to its addresses.
func readNamed(dir string) (addrs []netip.Addr, known bool) {
	list, err := readNames(dir)
	if err != nil {
		return nil, false
	}
	for _, container := range list {
		to, err := os.Readlink(dir + "/" + container)
		if err != nil {
			continue
		}
		known = true
		for text := range strings.SplitSeq(to, ",") {
			if a, err := netip.ParseAddr(text); err == nil {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs, known
}

// Reverse gives the name of the container that has an address on a network.
func (db *DB) Reverse(id string, a netip.Addr) (name string, known bool) {
	name, err := os.Readlink(db.runDir(id) + "/addrs/" + a.String())
	return name, err == nil
}

// lockRun locks what of a network does not outlive a boot. The error is ErrNotExist for a network that there is not.
func (db *DB) lockRun(id string, how int) (unlock func(), err error) {
	gone := func() error {
		if _, err := os.Lstat(db.dir(id) + "/network.json"); err != nil && !db.used(id, anybody) {
			return err
		}
		return nil
	}
	for {
		if err := gone(); err != nil {
			return nil, err
		}
		if err := mkdirs(db.runDir(id)); err != nil {
			return nil, err
		}
		fd, err := files.LockDir(db.runDir(id), how)
		if errors.Is(err, os.ErrNotExist) {
			continue // it was removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		if !files.Same(fd, db.runDir(id)) {
			unix.Close(fd)
			continue
		}
		if err := gone(); err != nil { // it was removed before the directory was made
			unix.Rmdir(db.runDir(id))
			unix.Close(fd)
			return nil, err
		}
		return func() { unix.Close(fd) }, nil
	}
}
