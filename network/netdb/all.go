package netdb

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// LeaveAll is Leave of all networks that a container is on, which it returns.
func (db *DB) LeaveAll(container string) (left []Network, err error) {
	ids, err := db.ids()
	errs := []error{err}
	for _, id := range ids {
		if _, err := os.Lstat(db.runDir(id) + "/members/" + container); err != nil {
			continue
		}
		n, err := db.read(id)
		if errors.Is(err, os.ErrNotExist) {
			continue // it is being removed, and all that was on it with it
		}
		if errs = append(errs, db.Leave(id, container)); err == nil {
			left = append(left, n)
		}
	}
	return left, errors.Join(errs...)
}

// Would is what Create would make of n, which this does not do. The id is zeros.
func (db *DB) Would(n Network) (Network, error) {
	others, err := db.List()
	if err != nil {
		return n, err
	}
	n.ID = zeros
	return n, db.fillPools(&n, others)
}

// Filled is a network that there is, with pools in the place of those that were taken out of it, which this does not write down: see [DB.Move].
func (db *DB) Filled(n Network) (Network, error) {
	others, err := db.List()
	if err != nil {
		return n, err
	}
	n.Pools = slices.Clone(n.Pools)
	return n, db.fillPools(&n, slices.DeleteFunc(others, func(o Network) bool { return o.ID == n.ID }))
}

// Move writes down that a network has another device, or other pools. Nobody has an address of it: the caller has seen to that.
func (db *DB) Move(n Network) error {
	unlock, err := db.lock(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := db.read(n.ID); errors.Is(err, os.ErrNotExist) {
		return &NoNetworkError{n.Name}
	} else if err != nil {
		return err
	}
	return db.record(&n)
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
