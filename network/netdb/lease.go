package netdb

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/netip"
	"golang.org/x/sys/unix"
)

// An InUseError is an address that somebody has.
type InUseError struct {
	Addr  netip.Addr
	Owner string // id of the container; empty for the gateway, or an address that the network's options name
	Name  string // of the container, from who knows it
}

func (e *InUseError) Error() string {
	s := fmt.Sprintf("Address already in use: %s", e.Addr)
	if e.Owner != "" {
		s += " is that of container " + cmp.Or(e.Name, files.ShortID(e.Owner))
	}
	return s
}

// An ExhaustedError is a pool without a free address.
type ExhaustedError struct {
	Network string
	Pool    netip.Prefix
}

func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("no available IPv%s addresses on this network's address pools: %s of %s", map[bool]string{true: "4", false: "6"}[e.Pool.Addr().Is4()], e.Pool, e.Network)
}

// Lease takes an address of a network for a container: want, or where that is zero one that is free, and not the one that was given back last. Nobody else
// gets it until it is released, or the owner is swept. The error is an [*InUseError], an [*ExhaustedError], or a [*NoNetworkError] for a network
// that was removed.
func (db *DB) Lease(n Network, owner string, want netip.Addr, f netip.Family) (netip.Addr, error) {
	unlock, err := db.shared(n.ID)
	if errors.Is(err, os.ErrNotExist) {
		return netip.Addr{}, &NoNetworkError{n.Name}
	}
	if err != nil {
		return netip.Addr{}, err
	}
	defer unlock()
	a, err := db.lease(n, want, f, func(a netip.Addr) (bool, error) {
		err := files.Reserve(owner, db.leases(n.ID)+"/"+a.String())
		if errors.Is(err, os.ErrExist) {
			to, err := files.ReservedFor(db.leases(n.ID) + "/" + a.String())
			return want.IsValid() && err == nil && to == owner, nil
		}
		return err == nil, err
	})
	if err == nil && !want.IsValid() {
		db.remember(n.ID, db.hint(n.ID, f), a)
	}
	return a, err
}

// hint is the file that has the last address that was given.
func (db *DB) hint(id string, f netip.Family) string {
	return db.runDir(id) + "/" + map[netip.Family]string{netip.IPv4: "last4", netip.IPv6: "last6"}[f]
}

// Free is the address that Lease would give, which this does not take.
func (db *DB) Free(n Network, want netip.Addr, f netip.Family) (netip.Addr, error) {
	return db.lease(n, want, f, func(a netip.Addr) (bool, error) {
		_, err := os.Lstat(db.leases(n.ID) + "/" + a.String())
		return errors.Is(err, os.ErrNotExist), ignoreMissing(err)
	})
}

// lease finds an address that take says yes to.
func (db *DB) lease(n Network, want netip.Addr, f netip.Family, take func(netip.Addr) (bool, error)) (netip.Addr, error) {
	p, ok := n.Pool(f)
	if !ok {
		return netip.Addr{}, fmt.Errorf("network %s has no addresses of %s", n.Name, f)
	}
	if want.IsValid() {
		return want, db.leaseThis(n, p, want, take)
	}
	r := p.Subnet
	if p.Range.IsValid() {
		r = p.Range
	}
	low, high := p.bounds(r)
	if high.Less(low) {
		return netip.Addr{}, &ExhaustedError{n.Name, r}
	}
	from := low
	if text, err := files.Read(db.hint(n.ID, f)); err == nil {
		if a, err := netip.ParseAddr(string(text)); err == nil && !a.Less(low) && a.Less(high) {
			from = a.Next()
		}
	}
	// Round once: from what follows the last one to the end, and from the beginning to there.
	for a := from; ; {
		if !p.reserved(a) {
			ok, err := take(a)
			if err != nil {
				return netip.Addr{}, err
			}
			if ok {
				return a, nil
			}
		}
		if a == high {
			a = low
		} else {
			a = a.Next()
		}
		if a == from {
			return netip.Addr{}, &ExhaustedError{n.Name, r}
		}
	}
}

func (db *DB) leaseThis(n Network, p Pool, want netip.Addr, take func(netip.Addr) (bool, error)) error {
	if !p.Subnet.Contains(want) {
		return fmt.Errorf("invalid endpoint settings: no configured subnet or ip-range contain the IP address %s: network %s has %s", want, n.Name, p.Subnet)
	}
	low, high := p.bounds(p.Subnet)
	if want.Less(low) || high.Less(want) {
		return fmt.Errorf("IP address %s is the first or the last one of %s, which no container can have", want, p.Subnet)
	}
	if p.reserved(want) {
		return &InUseError{Addr: want}
	}
	ok, err := take(want)
	if err == nil && !ok {
		owner, _ := files.ReservedFor(db.leases(n.ID) + "/" + want.String())
		return &InUseError{Addr: want, Owner: owner}
	}
	return err
}

// remember notes the last address that was given, so that the next one is another one. It is a hint only, and lost with a boot.
func (db *DB) remember(id, file string, a netip.Addr) {
	text := []byte(a.String())
	if err := os.WriteFile(file, text, 0o600); errors.Is(err, os.ErrNotExist) && os.MkdirAll(db.runDir(id), 0o700) == nil {
		os.WriteFile(file, text, 0o600)
	}
}

// reserved reports whether an address is of the gateway, or named by the network's options.
func (p *Pool) reserved(a netip.Addr) bool {
	if a == p.Gateway {
		return true
	}
	for _, x := range p.Aux {
		if x == a {
			return true
		}
	}
	return false
}

func (db *DB) leases(id string) string { return db.dir(id) + "/leases" }

// Leases gives who has which address of a network.
func (db *DB) Leases(id string) (map[netip.Addr]string, error) {
	list, err := readNames(db.leases(id))
	if err != nil {
		return nil, err
	}
	out := make(map[netip.Addr]string, len(list))
	for _, name := range list {
		a, err := netip.ParseAddr(name)
		owner, err2 := files.ReservedFor(db.leases(id) + "/" + name)
		if err == nil && err2 == nil {
			out[a] = owner
		}
	}
	return out, nil
}

// Release gives back the addresses of a network that a container has.
func (db *DB) Release(id, owner string) error {
	list, err := db.Leases(id)
	if err != nil {
		return err
	}
	var errs []error
	for a, who := range list {
		if who == owner {
			errs = append(errs, ignoreMissing(os.Remove(db.leases(id)+"/"+a.String())))
		}
	}
	return errors.Join(errs...)
}

// fileName is the name of a file for a name that somebody asks for, who may mean harm: case does not count.
func fileName(name string) (string, bool) {
	if name == "" || len(name) > 255 || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return "", false
	}
	return lower(name), true
}

// lower changes letters of ASCII only, as DNS does.
func lower(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r >= 'A' && r <= 'Z' }) {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// shared is held while somebody takes an address or a name, and excludes who sweeps.
func (db *DB) shared(id string) (unlock func(), err error) {
	return db.lockRun(id, unix.LOCK_SH)
}
