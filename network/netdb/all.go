package netdb

import (
	"errors"
	"os"
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

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
