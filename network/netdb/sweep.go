package netdb

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"golang.org/x/sys/unix"
)

// A Left is something in the database that belongs to nobody any more.
type Left struct {
	Network string // id
	Text    string // what it is
	mend    func() error
}

// Sweep takes away what containers left that are not alive, and halves of networks. What somebody is at just now is left for the next time.
func (db *DB) Sweep(alive func(container string) bool) error {
	left, unlock, err := db.left(alive)
	defer unlock()
	errs := []error{err}
	for _, l := range left {
		errs = append(errs, l.mend())
	}
	return errors.Join(errs...)
}

// Left finds what Sweep would take away.
func (db *DB) Left(alive func(container string) bool) ([]Left, error) {
	left, unlock, err := db.left(alive)
	unlock()
	return left, err
}

// left finds what is left, and holds the locks under which it may be taken away.
func (db *DB) left(alive func(string) bool) (left []Left, unlock func(), err error) {
	var unlocks []func()
	unlock = func() {
		for _, u := range unlocks {
			u()
		}
	}
	ids, err := db.ids()
	if err != nil || len(ids) == 0 {
		return nil, unlock, err
	}
	for _, id := range ids {
		u, err := db.lockRun(id, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return left, unlock, err
		}
		unlocks = append(unlocks, u)
		list, err := db.dead(id, alive)
		if err != nil {
			return left, unlock, err
		}
		left = append(left, list...)
	}
	u, err := db.lock(unix.LOCK_EX | unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return left, unlock, nil
	}
	if err != nil {
		return left, unlock, err
	}
	unlocks = append(unlocks, u)
	if ids, err = db.ids(); err != nil { // until now networks came and went
		return left, unlock, err
	}
	halves, err := db.halves(ids, alive)
	return append(left, halves...), unlock, err
}

// dead finds what containers left on a network that are not alive. It is looked for at each start, so what belongs to a network's members, who are alive as a
// rule, is not read one by one.
func (db *DB) dead(id string, alive func(string) bool) (left []Left, err error) {
	gone := map[string]bool{}
	isGone := func(container string) bool {
		if _, known := gone[container]; !known {
			gone[container] = !alive(container)
		}
		return gone[container]
	}
	dir := db.runDir(id)
	members, err := readNames(dir + "/members")
	if err != nil {
		return nil, err
	}
	for _, name := range members {
		// A file that was being written has a further ending.
		container, _, _ := strings.Cut(name, ".")
		switch {
		case files.IsID(container) && !isGone(container):
		case files.IsID(name):
			left = append(left, Left{id, fmt.Sprintf("the names of container %s are there, which does not run", files.ShortID(name)), func() error { return db.leave(id, name) }})
		case files.IsID(container):
			left = append(left, Left{id, "half of a file is left: " + name, func() error { return ignoreMissing(os.Remove(dir + "/members/" + name)) }})
		}
	}
	known := map[string]bool{}
	if len(left) == 0 {
		// An address that is known is of a member.
		names, err := readNames(dir + "/addrs")
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			known[name] = true
		}
	}
	leases, err := readNames(db.leases(id))
	for _, name := range leases {
		if known[name] {
			continue
		}
		if owner, err := files.ReservedFor(db.leases(id) + "/" + name); err == nil && isGone(owner) {
			left = append(left, Left{id, fmt.Sprintf("the address %s is taken by container %s, which does not run", name, files.ShortID(owner)), func() error {
				return ignoreMissing(os.Remove(db.leases(id) + "/" + name))
			}})
		}
	}
	return left, err
}

// halves finds networks that were being made or removed, names of networks that there are not, and networks whose name is not reserved for them.
func (db *DB) halves(ids []string, alive func(string) bool) (left []Left, err error) {
	there := map[string]bool{}
	for _, id := range ids {
		if _, err := os.Lstat(db.dir(id) + "/network.json"); !errors.Is(err, os.ErrNotExist) || db.used(id, alive) {
			there[id] = true
			continue
		}
		left = append(left, Left{id, "the network is half made, or half removed", func() error { return db.remove(id, "") }})
	}
	names, err := readNames(db.names())
	named := map[string]bool{}
	for _, name := range names {
		id, err := os.Readlink(db.names() + "/" + name)
		switch {
		case err != nil: // it is no link, and taken away with the next name that is reserved in its place
		case there[id]:
			named[id] = true
		default:
			left = append(left, Left{id, "the name " + name + " is that of a network that there is not", func() error { return ignoreMissing(os.Remove(db.names() + "/" + name)) }})
		}
	}
	if err != nil || len(named) == len(there) {
		return left, err
	}
	for _, id := range ids {
		if n, err := db.read(id); err == nil && there[id] && !named[id] && ValidName(n.Name) {
			left = append(left, Left{id, "its name " + n.Name + " is not reserved", func() error { return db.name(&n) }})
		}
	}
	return left, nil
}
