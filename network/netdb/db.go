package netdb

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/leanjson"
	"github.com/kakuri/kakuri/netip"
	"golang.org/x/sys/unix"
)

// A Network is the record of one.
type Network struct {
	ID      string
	Name    string
	Driver  string // bridge, macvlan, ipvlan
	Created time.Time
	Device  string `json:",omitempty"` // of the host: the bridge, or what a macvlan is made on

	Options    map[string]string `json:",omitempty"` // of the driver
	IPAM       map[string]string `json:",omitempty"` // options of who gives addresses: kept, and nothing else
	Labels     map[string]string `json:",omitempty"`
	Internal   bool              `json:",omitempty"` // nothing but the network is reachable
	Attachable bool              `json:",omitempty"`
	IPv4, IPv6 bool
	Pools      []Pool

	// Of these families no address is set aside for a gateway that nobody asked for: there would be none that has it.
	Gateless4 bool `json:",omitempty"`
	Gateless6 bool `json:",omitempty"`
}

// gateless reports whether a family has no gateway but one that was asked for.
func (n *Network) gateless(f netip.Family) bool {
	if f == netip.IPv6 {
		return n.Gateless6
	}
	return n.Gateless4
}

// A Pool is a range of addresses of a network.
type Pool struct {
	Subnet  netip.Prefix
	Range   netip.Prefix          `json:",omitzero"`  // of addresses that are given out; zero is all of Subnet
	Gateway netip.Addr            `json:",omitzero"`  // zero is none
	Aux     map[string]netip.Addr `json:",omitempty"` // addresses that others have, by name
}

// Pool is the network's of a family.
func (n *Network) Pool(f netip.Family) (Pool, bool) {
	for _, p := range n.Pools {
		if p.Subnet.Addr().Family() == f {
			return p, true
		}
	}
	return Pool{}, false
}

// DefaultName is the network that there always is, and defaultDevice its bridge.
const (
	DefaultName   = "bridge"
	defaultDevice = "kakuri0"
)

// A NoNetworkError is a reference to a network that there is not.
type NoNetworkError struct{ Ref string }

func (e *NoNetworkError) Error() string { return "network " + e.Ref + " not found" }

// A NameError is a name that another network has.
type NameError struct{ Name string }

func (e *NameError) Error() string { return "network with name " + e.Name + " already exists" }

// An AmbiguousError is the beginning of several ids.
type AmbiguousError struct{ Ref string }

func (e *AmbiguousError) Error() string {
	return "network " + e.Ref + " is ambiguous: several ids begin so"
}

// A DamagedError is a network whose record cannot be read: it can be removed by force, and nothing else.
type DamagedError struct {
	ID, Name string // Name is the one that is reserved for it; empty for none
	Err      error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("network %s: its record cannot be read: %v: kakuri network rm -f %[1]s removes it", cmp.Or(e.Name, files.ShortID(e.ID)), e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// A DB is the database in two directories. Any number of processes may use the same one at once.
type DB struct {
	data, run string
	// Busy gives the subnets of the machine that a new network must not take; nil is [Busy].
	Busy func() ([]netip.Prefix, error)

	mu    sync.Mutex
	named map[nameOf]named // see Resolve
}

// Open returns the database of two directories, which need not exist yet: data outlives a boot, run does not.
func Open(data, run string) *DB { return &DB{data: data + "/networks", run: run + "/networks"} }

func (db *DB) dir(id string) string    { return db.data + "/" + id }
func (db *DB) runDir(id string) string { return db.run + "/" + id }
func (db *DB) names() string           { return db.data + "/names" }

// lock waits for, or with LOCK_NB asks for, the lock of what names and subnets there are.
func (db *DB) lock(how int) (unlock func(), err error) {
	if err := os.MkdirAll(db.names(), 0o700); err != nil {
		return nil, err
	}
	fd, err := files.LockDir(db.data, how)
	if err != nil {
		return nil, err
	}
	return func() { unix.Close(fd) }, nil
}

// Create makes a network of what is given: id, time and device, and the pools of the families that it is to have and that are not there, are filled
// in. The error is a [*NameError], or one that tells which subnet cannot be. check, unless nil, is asked before anything is written, about the
// network as it would be and those there are.
func (db *DB) Create(n Network, check func(n *Network, others []Network) error) (Network, error) {
	if !ValidName(n.Name) {
		return n, fmt.Errorf("%q includes invalid characters for a network name: it is of a-z, A-Z, 0-9, and after the first _ . -", n.Name)
	}
	unlock, err := db.lock(unix.LOCK_EX)
	if err != nil {
		return n, err
	}
	defer unlock()
	return db.create(n, check)
}

func (db *DB) create(n Network, check func(n *Network, others []Network) error) (Network, error) {
	others, err := db.List()
	if err != nil {
		return n, err
	}
	if slices.ContainsFunc(others, func(o Network) bool { return o.Name == n.Name }) {
		return n, &NameError{n.Name}
	}
	if id, err := os.Readlink(db.names() + "/" + n.Name); err == nil && files.IsID(id) {
		if _, err := db.read(id); errors.As(err, new(*DamagedError)) {
			return n, err
		}
	}
	n.ID, n.Created, n.Pools = files.NewID(), time.Now(), slices.Clone(n.Pools)
	if n.Device == "" {
		n.Device = DeviceOf(&n)
	}
	if err := db.fillPools(&n, others); err != nil {
		return n, err
	}
	if check != nil {
		if err := check(&n, others); err != nil {
			return n, err
		}
	}
	return n, db.write(&n)
}

// DeviceOf is the device that a network has where nobody gave it a name.
func DeviceOf(n *Network) string {
	if n.Name == DefaultName {
		return defaultDevice
	}
	// Of the others it is one that leads nowhere, with Docker's name.
	return map[string]string{"bridge": "bk-", "macvlan": "dm-", "ipvlan": "di-"}[n.Driver] + files.ShortID(n.ID)
}

// write puts a new network in its place: the record last, since without it there is none.
func (db *DB) write(n *Network) error {
	dir := db.dir(n.ID)
	if err := os.MkdirAll(dir+"/leases", 0o700); err != nil {
		return err
	}
	err := db.name(n)
	if err == nil {
		err = db.record(n)
	}
	if err != nil {
		return errors.Join(err, db.remove(n.ID, n.Name))
	}
	return nil
}

func (db *DB) record(n *Network) error {
	data, err := leanjson.Marshal(n)
	if err != nil {
		return err
	}
	return files.Replace(db.dir(n.ID), "network.json", append(data, '\n'), true)
}

// name reserves the network's name, which a killed command may have done before: the caller holds the lock, and there is no network of that name.
func (db *DB) name(n *Network) error {
	if err := files.RemoveAll(db.names() + "/" + n.Name); err != nil {
		return err
	}
	return os.Symlink(n.ID, db.names()+"/"+n.Name)
}

// Default returns the network [DefaultName], and makes it where it is not there.
func (db *DB) Default() (Network, error) {
	n, err := db.Lookup(DefaultName)
	if !errors.As(err, new(*NoNetworkError)) {
		return n, err
	}
	n, err = db.Create(DefaultConfig(), nil)
	if errors.As(err, new(*NameError)) {
		return db.Lookup(DefaultName) // another command was faster
	}
	return n, err
}

// DefaultConfig is what the network [DefaultName] is made of.
func DefaultConfig() Network {
	return Network{Name: DefaultName, Driver: "bridge", Device: defaultDevice, IPv4: true, IPv6: HasIPv6()}
}

// HasIPv6 reports whether the kernel has IPv6, and has not been told to have none.
func HasIPv6() bool {
	data, err := files.Read("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	return err == nil && strings.TrimSpace(string(data)) == "0"
}

// Lookup returns the network of that name or id, or of the only id that starts so. The error is a [*NoNetworkError] or an [*AmbiguousError].
func (db *DB) Lookup(ref string) (Network, error) {
	if files.IsID(ref) { // before a network whose name that is
		if n, err := db.read(ref); !errors.Is(err, os.ErrNotExist) {
			return n, err
		}
	}
	if ValidName(ref) {
		if id, err := os.Readlink(db.names() + "/" + ref); err == nil && files.IsID(id) {
			if n, err := db.read(id); !errors.Is(err, os.ErrNotExist) {
				return n, err
			}
		}
	}
	found, err := db.byPrefix(ref)
	if err != nil {
		return Network{}, err
	}
	if found == "" {
		return db.unnamed(ref)
	}
	n, err := db.read(found)
	if errors.Is(err, os.ErrNotExist) {
		err = &NoNetworkError{ref}
	}
	return n, err
}

// byPrefix returns the only id that starts as ref, or none.
func (db *DB) byPrefix(ref string) (found string, err error) {
	if ref == "" || strings.Trim(ref, "0123456789abcdef") != "" {
		return "", nil
	}
	ids, err := db.ids()
	if err != nil {
		return "", err
	}
	for _, id := range ids {
		if !strings.HasPrefix(id, ref) {
			continue
		}
		if found != "" {
			return "", &AmbiguousError{ref}
		}
		found = id
	}
	return found, nil
}

// unnamed returns the network whose record has a name that is not reserved for it, which a sweep mends.
func (db *DB) unnamed(name string) (Network, error) {
	list, err := db.List()
	if err != nil {
		return Network{}, err
	}
	if i := slices.IndexFunc(list, func(n Network) bool { return n.Name == name }); i >= 0 {
		return list[i], nil
	}
	return Network{}, &NoNetworkError{name}
}

// List returns all networks whose record can be read, the oldest first: see [DB.Damaged].
func (db *DB) List() ([]Network, error) {
	list, _, err := db.list()
	return list, err
}

// Damaged are the networks that [DB.List] leaves out.
func (db *DB) Damaged() ([]*DamagedError, error) {
	_, damaged, err := db.list()
	return damaged, err
}

func (db *DB) list() (list []Network, damaged []*DamagedError, err error) {
	ids, err := db.ids()
	if err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		n, err := db.read(id)
		var hurt *DamagedError
		switch {
		case err == nil:
			list = append(list, n)
		case errors.As(err, &hurt):
			damaged = append(damaged, hurt)
		case errors.Is(err, os.ErrNotExist): // it is being made, or removed, or was left so
		default:
			return nil, nil, err
		}
	}
	slices.SortFunc(list, func(a, b Network) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return list, damaged, nil
}

// Remove removes a network. used, unless nil, is asked before, when nobody can join it or take an address any more; who comes later is refused. Of one whose
// record cannot be read, which is removed with force only, used is told the id and the name that is reserved for it.
func (db *DB) Remove(id string, force bool, used func(Network) error) error {
	return db.alone(id, force, func(n Network) error {
		if used != nil {
			if err := used(n); err != nil {
				return err
			}
		}
		return db.remove(n.ID, n.Name)
	})
}

// Alone calls do with a network that nobody can join or take an address of meanwhile.
func (db *DB) Alone(id string, do func(Network) error) error { return db.alone(id, false, do) }

func (db *DB) alone(id string, damagedToo bool, do func(Network) error) error {
	unlock, err := db.lock(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	n, err := db.read(id)
	if errors.Is(err, os.ErrNotExist) {
		return &NoNetworkError{id}
	}
	var damaged *DamagedError
	if errors.As(err, &damaged) && damagedToo {
		n, err = Network{ID: id, Name: damaged.Name}, nil
	}
	if err != nil {
		return err
	}
	alone, err := db.lockRun(id, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer alone()
	return do(n)
}

// remove takes away what is left of a network. The record goes first, and its directory, by which a sweep finds the rest, after that. The name is last.
func (db *DB) remove(id, name string) error {
	errs := []error{files.RemoveAll(db.dir(id) + "/network.json"), files.RemoveAll(db.runDir(id))}
	if errors.Join(errs...) == nil {
		errs = append(errs, files.RemoveAll(db.dir(id)))
	}
	if to, err := os.Readlink(db.names() + "/" + name); name != "" && err == nil && to == id {
		errs = append(errs, ignoreMissing(os.Remove(db.names()+"/"+name)))
	}
	return errors.Join(errs...)
}

// used reports whether one of those containers is on a network, or has an address of it: it is neither half made nor half removed then.
func (db *DB) used(id string, by func(container string) bool) bool {
	leases, _ := readNames(db.leases(id))
	members, _ := readNames(db.runDir(id) + "/members")
	return slices.ContainsFunc(members, by) || slices.ContainsFunc(leases, func(name string) bool {
		owner, err := files.ReservedFor(db.leases(id) + "/" + name)
		return err == nil && by(owner)
	})
}

func anybody(string) bool { return true }

// read reads a record. The error is ErrNotExist for a network that there is not, and else a [*DamagedError], unless it is [files.Scarce].
func (db *DB) read(id string) (Network, error) {
	n, err := db.readWhole(id)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, os.ErrNotExist) && db.used(id, anybody):
		err = errors.New("it is gone, and containers are on the network")
	case errors.Is(err, os.ErrNotExist), files.Scarce(err):
		return Network{}, err
	}
	return Network{}, &DamagedError{id, db.nameOf(id), err}
}

func (db *DB) readWhole(id string) (n Network, err error) {
	file := db.dir(id) + "/network.json"
	data, err := files.Read(file)
	if err != nil {
		return n, err
	}
	if err := leanjson.Unmarshal(data, &n); err != nil {
		return n, fmt.Errorf("%s: %w", file, err)
	}
	if n.ID != id {
		return n, fmt.Errorf("%s: it is not that of network %s", file, files.ShortID(id))
	}
	return n, nil
}

// nameOf is the name that is reserved for a network; empty for none.
func (db *DB) nameOf(id string) string {
	list, _ := readNames(db.names())
	for _, name := range list {
		if to, err := os.Readlink(db.names() + "/" + name); err == nil && to == id {
			return name
		}
	}
	return ""
}

func (db *DB) ids() ([]string, error) {
	list, err := readNames(db.data)
	return slices.DeleteFunc(list, func(s string) bool { return !files.IsID(s) }), err
}

// ValidName reports whether a network can have that name.
func ValidName(name string) bool { return files.IsName(name, 200) }

// readNames lists a directory, which need not be there.
func readNames(dir string) ([]string, error) {
	list, err := files.ListOwn(dir)
	return list, ignoreMissing(err)
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
