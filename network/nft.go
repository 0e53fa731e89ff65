package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/network/netlink"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// Rules is the table inet kakuri of the network namespace that the caller is in, with what it is made again from when
// somebody flushed it: files of a directory, a bridge's and an owner's ports' each, written before the kernel is
// asked and gone after it. Each method is one transaction of nftables and can be called by many processes at once;
// each may be called again when it was cut off.
//
// Rules that are there are the same for all: bridges and ports are elements of sets, so that publishing costs the same
// with a thousand ports as with one. The table never takes what another table drops.
type Rules struct{ dir string }

// OpenRules gives the rules whose records are below a directory, which is made when there is something to write.
func OpenRules(dir string) *Rules { return &Rules{dir} }

// retries are of transactions that another one came before.
const retries = 1000

// transaction has work find out by s what to do, and does that unless the ruleset has changed meanwhile: then all again.
func transaction(s *nfSocket, work func() ([]nftMessage, error)) error {
	for range retries {
		generation, err := s.generation()
		if err != nil {
			return err
		}
		messages, err := work()
		if err != nil {
			return err
		}
		if err := s.commit(generation, messages); err != errAgain {
			return err
		}
	}
	return errors.New("nftables: the ruleset changes all the time; a transaction finds no place")
}

// AddBridge has the table be there, whole, with a bridge in it as b says, and the bridge let pass by dockerd's rules and firewalld, where
// they are. When all is so already it changes nothing.
func (r *Rules) AddBridge(b plan.Bridge) error {
	defer r.busy()()
	if err := r.write("bridges", b.Device, bridgeRecord(b)); err != nil {
		return err
	}
	s, err := openNetfilter()
	if err != nil {
		return ruleHint(b, err)
	}
	defer s.close()
	have, not := bridgeElements(b)
	requests := append(seemsRequests(), chainRequest(unix.NFPROTO_IPV4, dockerTable, dockerChain), chainRequest(unix.NFPROTO_IPV6, dockerTable, dockerChain))
	requests = append(requests, firewalldRequests()...)
	for _, e := range append(slices.Clone(have), not...) {
		requests = append(requests, elementRequest(e))
	}
	others := "" // firewalld's rules
	err = transaction(s, func() ([]nftMessage, error) {
		answers, err := s.ask(unix.NFNL_SUBSYS_NFTABLES, requests...)
		if err != nil {
			return nil, err
		}
		n := 1 + len(nftCounts)
		others = rulesOfFirewalld(answers[n+2 : n+4])
		if !seemsIntact(answers[:n]) {
			return r.whole(s)
		}
		var messages []nftMessage
		docker, elements := answers[n:n+2], answers[n+4:]
		for i, e := range have {
			if elements[i].err != nil {
				messages = append(messages, elementMessages(unix.NFT_MSG_NEWSETELEM, []nftElement{e})...)
			}
		}
		for i, e := range not {
			if elements[len(have)+i].err == nil {
				messages = append(messages, elementMessages(unix.NFT_MSG_DELSETELEM, []nftElement{e})...)
			}
		}
		if docker[0].err == nil || docker[1].err == nil {
			hooks, err := dockerUser(s, func(devices []string) []string { return append(devices, b.Device) })
			if err != nil {
				return nil, err
			}
			messages = append(messages, hooks...)
		}
		return messages, nil
	})
	if err != nil {
		return ruleHint(b, err)
	}
	return r.letPass(others, firewalldPatience, b.Device)
}

// ruleHint adds to the kernel's answer what the reader can do.
func ruleHint(b plan.Bridge, err error) error {
	way := tablesHint(err)
	if way != "" {
		way += ": run it with one, or with --network none"
	}
	return fmt.Errorf("rules of bridge %s: %w%s", b.Device, hint(err, ""), way)
}

// tablesHint says what a kernel has to have that does not know all that a table is made of.
func tablesHint(err error) string {
	for _, e := range []syscall.Errno{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP, unix.EINVAL, unix.ENOENT} {
		if errors.Is(err, e) {
			return ": networks take a kernel with nf_tables, its NAT, sets and fib (modprobe nf_tables nft_chain_nat nft_masq nft_fib_inet)"
		}
	}
	return ""
}

// RemoveBridge takes a bridge out of the table, and removes the table with the last one. It need not be there. With an alias it is the one that was made with that: what the
// table has of a bridge that another engine has by this name stays, see [Rules.ForgetBridge].
func (r *Rules) RemoveBridge(device, alias string) error {
	if err := checkName(device); err != nil {
		return err
	}
	defer r.busy()()
	if err := r.remove("bridges", device); err != nil {
		return err
	}
	s, err := openNetfilter()
	if err != nil {
		return err
	}
	defer s.close()
	have, not := bridgeElements(plan.Bridge{Device: device})
	theirs := false
	err = transaction(s, func() (messages []nftMessage, err error) {
		// Here, since another engine has a bridge before it has rules of it.
		if theirs, err = isOthers(device, networkOf(alias)); err != nil || theirs {
			return nil, err
		}
		hooks, err := dockerUser(s, func(devices []string) []string {
			return slices.DeleteFunc(devices, func(d string) bool { return d == device })
		})
		if err != nil {
			return nil, err
		}
		messages, err = r.without(s, append(have, not...))
		return append(messages, hooks...), err
	})
	if err != nil {
		err = fmt.Errorf("rules of bridge %s: %w", device, err)
	}
	if theirs {
		return errors.Join(err, r.remove("zones", device))
	}
	return errors.Join(err, r.passNoMore(device))
}

// ForgetBridge has the table be without a bridge when it is made anew. What the kernel has of it now stays: the bridge of that name is another engine's.
func (r *Rules) ForgetBridge(device string) error {
	if err := checkName(device); err != nil {
		return err
	}
	return r.remove("bridges", device)
}

// without deletes those of the elements that are there and have the owner given, and the table when nothing is left.
func (r *Rules) without(s *nfSocket, elements []nftElement) ([]nftMessage, error) {
	there, err := readElements(s)
	if err != nil {
		return nil, err
	}
	if len(there) == 0 {
		if here, err := tableIsThere(s); err != nil || !here || !r.unused() {
			return nil, err
		}
		return []nftMessage{deleteTable(NftTable)}, nil
	}
	var gone []nftElement
	for _, e := range elements {
		if slices.ContainsFunc(there, func(t nftElement) bool { return t.set == e.set && t.key == e.key && t.owner == e.owner }) {
			gone = append(gone, e)
		}
	}
	if len(gone) == len(there) && r.unused() {
		return []nftMessage{deleteTable(NftTable)}, nil
	}
	return elementMessages(unix.NFT_MSG_DELSETELEM, sortedBySet(gone)), nil
}

// unused tells that no record is left.
func (r *Rules) unused() bool {
	for _, kind := range []string{"bridges", "ports"} {
		names, _ := os.ReadDir(filepath.Join(r.dir, kind))
		for _, n := range names {
			if !strings.HasPrefix(n.Name(), ".") {
				return false
			}
		}
	}
	return true
}

// Publish has ports of the host lead to their containers. The owner, a container's ID, is shown as the elements' comment, and
// names them for [Rules.Unpublish]; what it had published before and has not now is gone. Ports that are [Relayed] lead nowhere, and are kept from internal networks. A port that somebody else published stays
// his, unless he has no record or the port is held: see [Rules.HoldPort], which comes before.
// Of UDP, what the kernel remembers of packets that came before is forgotten, and of ports that are published no more.
func (r *Rules) Publish(owner string, ports []plan.Publish) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("publish ports: %w", err)
		}
	}()
	if err := checkPublished(ports); err != nil {
		return err
	}
	if err := checkName(owner); err != nil {
		return err
	}
	defer r.busy()()
	before, err := r.readPorts(owner)
	if err != nil {
		return err
	}
	if err := r.write("ports", owner, PortRecord(ports)); err != nil {
		return err
	}
	elements := portElements(owner, ports)
	if len(elements) == 0 && len(before) == 0 {
		return nil
	}
	if err := routeLoopback(ports); err != nil {
		return err
	}
	s, err := openNetfilter()
	if err != nil {
		return err
	}
	defer s.close()
	if err := r.exchange(s, owner, before, elements); err != nil {
		return errors.Join(err, r.restorePorts(owner, before))
	}
	gone := slices.DeleteFunc(before, func(p plan.Publish) bool { return slices.Contains(ports, p) })
	return errors.Join(forgetUDP(s, ports), forgetSenders(s, gone))
}

func checkPublished(ports []plan.Publish) error {
	for _, p := range ports {
		if _, ok := protoNumber(p.Proto); !ok || !p.HostAddr.IsValid() || !p.Addr.IsValid() || (p.HostPort == 0) != p.Routed || p.Port == 0 {
			return fmt.Errorf("%s: %w", p, unix.EINVAL)
		}
	}
	return nil
}

// exchange puts an owner's elements in the place of those of the ports before. Of who had none it is tried first that nobody is in the way, without a look.
func (r *Rules) exchange(s *nfSocket, owner string, before []plan.Publish, elements []nftElement) error {
	if len(before) == 0 {
		add := elementMessages(unix.NFT_MSG_NEWSETELEM, sortedBySet(elements))
		for i := range add {
			add[i].flags |= unix.NLM_F_EXCL
		}
		err := s.commit(0, add)
		if !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	var losers []string
	err := transaction(s, func() (messages []nftMessage, err error) {
		messages, losers, err = r.replace(s, owner, portElements(owner, before), elements)
		return messages, err
	})
	for _, l := range losers {
		if err == nil {
			err = r.lose(l, elements)
		}
	}
	return err
}

// lose takes ports that another owner has got out of a record.
func (r *Rules) lose(owner string, elements []nftElement) error {
	ports, err := r.readPorts(owner)
	if err != nil || ports == nil {
		return err
	}
	ports = slices.DeleteFunc(ports, func(p plan.Publish) bool {
		return slices.ContainsFunc(portElements(owner, []plan.Publish{p}), func(o nftElement) bool {
			return o.data != "" && slices.ContainsFunc(elements, func(e nftElement) bool { return e.set == o.set && e.key == o.key })
		})
	})
	return r.write("ports", owner, PortRecord(ports))
}

// replace puts an owner's elements in the place of those it had, and of those of owners that have gone: the losers.
func (r *Rules) replace(s *nfSocket, owner string, before, elements []nftElement) (messages []nftMessage, losers []string, err error) {
	_, all, err := rulesAreThere(s)
	if err != nil {
		return nil, nil, err
	}
	if !all {
		messages, err = r.whole(s)
		return messages, nil, err
	}
	list, err := readElements(s)
	if err != nil {
		return nil, nil, err
	}
	gone, more, losers, err := r.difference(owner, list, before, elements)
	if err != nil {
		return nil, nil, err
	}
	return append(elementMessages(unix.NFT_MSG_DELSETELEM, sortedBySet(gone)), elementMessages(unix.NFT_MSG_NEWSETELEM, sortedBySet(more))...), losers, nil
}

// difference is what goes and what comes so that of an owner's elements in the table those are left that it is to have: see replace.
func (r *Rules) difference(owner string, table, before, elements []nftElement) (gone, more []nftElement, losers []string, err error) {
	type name struct{ set, key string }
	there := make(map[name]nftElement, len(table))
	for _, e := range table {
		there[name{e.set, e.key}] = e
	}
	for _, e := range elements {
		t, ok := there[name{e.set, e.key}]
		if ok && t.data == e.data && t.owner == e.owner {
			continue
		}
		if ok && t.owner != owner {
			if err := r.mayTake(e, t); err != nil {
				return nil, nil, nil, err
			}
			if t.owner != "" && !slices.Contains(losers, t.owner) {
				losers = append(losers, t.owner)
			}
		}
		if ok {
			gone = append(gone, t)
		}
		more = append(more, e)
	}
	for _, e := range before {
		t, ok := there[name{e.set, e.key}]
		if ok && t.owner == owner && !slices.ContainsFunc(elements, func(n nftElement) bool { return n.set == e.set && n.key == e.key }) {
			gone = append(gone, t)
		}
	}
	return gone, more, losers, nil
}

// mayTake says whether an element can take the place of another owner's: of TCP and UDP the caller holds the port, so that the other one
// holds it no more. SCTP can be held only where the kernel has it.
func (r *Rules) mayTake(e, from nftElement) error {
	s := nftSetNamed(e.set)
	if len(s.data) == 0 || len(e.key) == 0 || e.key[0] != unix.IPPROTO_SCTP {
		return nil
	}
	if ports, err := r.readPorts(from.owner); err != nil || len(ports) == 0 {
		return err
	}
	return fmt.Errorf("%s is published by container %s: %w", nftValues(s.key, []byte(e.key)), from.owner, unix.EADDRINUSE)
}

// Unpublish takes an owner's ports out of the table, and removes the table when nobody else uses it. It need not have any.
func (r *Rules) Unpublish(owner string) error {
	if err := checkName(owner); err != nil {
		return err
	}
	defer r.busy()()
	ports, err := r.readPorts(owner)
	if err != nil {
		return err
	}
	// The record stays, by a name that says what is left to do: Sweep ends what is cut off here.
	path := filepath.Join(r.dir, "ports", owner)
	left := filepath.Join(r.dir, "ports", "."+owner)
	if err := os.Rename(path, left); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if ports == nil {
		if ports, err = r.readPorts("." + owner); err != nil || ports == nil {
			return err
		}
	}
	if elements := portElements(owner, ports); len(elements) > 0 || r.unused() {
		s, err := openNetfilter()
		if err != nil {
			return err
		}
		defer s.close()
		err = transaction(s, func() ([]nftMessage, error) {
			if len(elements) > 64 || r.unused() {
				return r.without(s, elements)
			}
			gone, err := ownedBy(s, owner, elements)
			if err != nil {
				return nil, err
			}
			more, err := r.others(gone)
			return append(elementMessages(unix.NFT_MSG_DELSETELEM, sortedBySet(gone)), elementMessages(unix.NFT_MSG_NEWSETELEM, more)...), err
		})
		if err != nil {
			return fmt.Errorf("ports of %s: %w", owner, err)
		}
		if err := forgetSenders(s, ports); err != nil {
			return fmt.Errorf("ports of %s: %w", owner, err)
		}
	}
	return removed(os.Remove(left))
}

// ownedBy are those of elements that the table has, and has as this owner's: it is asked for each, since to read all that it has takes the longer the more others have.
func ownedBy(s *nfSocket, owner string, elements []nftElement) (list []nftElement, err error) {
	requests := make([]nftMessage, len(elements))
	for i, e := range elements {
		requests[i] = elementRequest(e)
	}
	answers, err := s.ask(unix.NFNL_SUBSYS_NFTABLES, requests...)
	if err != nil {
		return nil, err
	}
	for i, a := range answers {
		for _, body := range a.bodies {
			for _, e := range elementsOf(body) {
				if e.owner == owner {
					list = append(list, elements[i])
				}
			}
		}
	}
	return list, nil
}

// others are elements of other owners in the place of those that go: a socket of the same port, at another address.
func (r *Rules) others(gone []nftElement) (list []nftElement, err error) {
	if !slices.ContainsFunc(gone, func(e nftElement) bool { return e.set == "relayed" }) {
		return nil, nil
	}
	elements, _, err := r.records()
	for _, e := range elements {
		if e.set == "relayed" && slices.ContainsFunc(gone, func(g nftElement) bool { return g.set == e.set && g.key == e.key }) {
			list = append(list, e)
		}
	}
	return list, err
}

// restorePorts writes an owner's record as it was before.
func (r *Rules) restorePorts(owner string, before []plan.Publish) error {
	if before == nil {
		return r.remove("ports", owner)
	}
	return r.write("ports", owner, PortRecord(before))
}

// Sweep unpublishes the ports of owners that are alive no more, and ends what was cut off. It gives their names.
func (r *Rules) Sweep(alive func(owner string) bool) (gone []string, err error) {
	for _, kind := range []string{"bridges", "zones"} {
		err = errors.Join(err, r.sweepTemporary(kind))
	}
	names, e := files.ListOwn(filepath.Join(r.dir, "ports"))
	err = errors.Join(err, removed(e)) // else there are bridges only
	for _, n := range names {
		owner := strings.TrimPrefix(n, ".")
		if strings.HasSuffix(owner, temporary) {
			r.dropTemporary("ports", n)
			continue
		}
		if owner == n && alive(owner) {
			continue
		}
		if e := r.Unpublish(owner); e != nil {
			err = errors.Join(err, e)
			continue
		}
		gone = append(gone, owner)
	}
	return gone, err
}

// sweepTemporary removes the records of a kind that were cut off while they were written.
func (r *Rules) sweepTemporary(kind string) error {
	names, err := files.ListOwn(filepath.Join(r.dir, kind))
	for _, name := range names {
		if strings.HasSuffix(name, temporary) {
			r.dropTemporary(kind, name)
		}
	}
	return removed(err)
}

// dropTemporary removes a record that is being written, unless its writer, who is in its name, is still there.
func (r *Rules) dropTemporary(kind, name string) {
	writer := strings.TrimSuffix(name, temporary)
	pid, err := strconv.Atoi(writer[strings.LastIndexByte(writer, '.')+1:])
	if err != nil || pid <= 0 || unix.Kill(pid, 0) == unix.ESRCH {
		os.Remove(filepath.Join(r.dir, kind, name))
	}
}

// Check says what the table has not that the records have, or that its rules are not those that belong there; nothing
// when all is as it should be, and on a kernel that can have none: no container is on a network there. A record comes before its elements and goes before them: who is at it meanwhile is waited for, but not for ever.
func (r *Rules) Check() (faults []string, err error) {
	faults, err = r.checkWithin(3 * time.Second)
	if errors.Is(err, errNoTables) {
		err = nil
	}
	return faults, err
}

var errChanging = errors.New("others change the rules all the time")

func (r *Rules) checkWithin(limit time.Duration) (faults []string, err error) {
	s, err := openNetfilter()
	if err != nil {
		return nil, err
	}
	defer s.close()
	for until := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		before, err := s.generation()
		if err != nil {
			return nil, err
		}
		if faults, err = r.check(s); err != nil || len(faults) == 0 {
			return nil, err
		}
		idle := r.idle() // first: who has come to the end has changed the rules
		after, err := s.generation()
		if err != nil {
			return nil, err
		}
		if idle && after == before {
			return faults, nil
		}
		if time.Now().After(until) {
			return nil, errChanging
		}
	}
}

// busy says, until done, that records and the table are not the same.
func (r *Rules) busy() (done func()) {
	fd, err := files.LockDir(r.dir, unix.LOCK_SH)
	if errors.Is(err, fs.ErrNotExist) && os.MkdirAll(r.dir, 0o700) == nil {
		fd, err = files.LockDir(r.dir, unix.LOCK_SH)
	}
	if err != nil {
		return func() {} // a look may tell too much
	}
	return func() { unix.Close(fd) }
}

// idle reports whether nobody has said so.
func (r *Rules) idle() bool {
	fd, err := files.LockDir(r.dir, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		unix.Close(fd)
	}
	return !errors.Is(err, unix.EWOULDBLOCK)
}

// check is one look of Check.
func (r *Rules) check(s *nfSocket) (faults []string, err error) {
	wanted, devices, err := r.records()
	if err != nil || len(wanted) == 0 {
		return nil, err
	}
	if faults, err = lacks(s, wanted, nil); err != nil {
		return nil, err
	}
	missing, err := notInDocker(s, devices)
	if err != nil {
		return nil, err
	}
	for _, d := range missing {
		faults = append(faults, "Docker's chain "+dockerChain+" has not the rules of bridge "+d)
	}
	others, err := s.ask(unix.NFNL_SUBSYS_NFTABLES, firewalldRequests()...)
	if err != nil {
		return nil, err
	}
	if rules := rulesOfFirewalld(others); rules != "" {
		for _, d := range devices {
			if known, _ := r.zoned(d); known != rules {
				faults = append(faults, "firewalld was loaded anew, and not told of bridge "+d)
			}
		}
	}
	return faults, nil
}

// CheckTable says what the table of the network namespace that the caller is in has not, or has and should not, of bridges and an owner's ports, and
// whether its rules are those that belong there; nothing when all is as it should be. Of ports that are [Relayed] a socket is looked for.
func CheckTable(bridges []plan.Bridge, owner string, ports []plan.Publish) (faults []string, err error) {
	s, err := openNetfilter()
	if err != nil {
		return nil, err
	}
	defer s.close()
	wanted := portElements(owner, ports)
	var unwanted []nftElement
	for _, b := range bridges {
		have, not := bridgeElements(b)
		wanted, unwanted = append(wanted, have...), append(unwanted, not...)
	}
	if len(wanted) > 0 {
		if faults, err = lacks(s, wanted, unwanted); err != nil {
			return nil, err
		}
	}
	for _, p := range ports {
		if Relayed(p) && !taken(p) {
			faults = append(faults, "no socket of "+p.String())
		}
	}
	return faults, nil
}

// taken tells that a socket of this machine takes what comes to a port.
func taken(p plan.Publish) bool {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		if len(socketsAt(family, p, netlink.Listening|netlink.Unconnected)) > 0 {
			return true
		}
	}
	return false
}

// lacks is what the table has not of some elements, or has of others, and that its rules are not those that belong there.
func lacks(s *nfSocket, wanted, unwanted []nftElement) (faults []string, err error) {
	some, all, err := rulesAreThere(s)
	if err != nil {
		return nil, err
	}
	if !some {
		return []string{"table inet " + NftTable + " has no rules"}, nil
	}
	if !all {
		faults = append(faults, "table inet "+NftTable+" has other rules than it should")
	}
	list, err := readElements(s)
	if err != nil {
		return nil, err
	}
	there := make(map[nftElement]bool, len(list))
	for _, e := range list {
		there[whoseMatters(e)] = true
	}
	for _, e := range wanted {
		if !there[whoseMatters(e)] {
			faults = append(faults, "table inet "+NftTable+" has not "+e.String())
		}
	}
	for _, e := range unwanted {
		if there[whoseMatters(e)] {
			faults = append(faults, "table inet "+NftTable+" has "+e.String())
		}
	}
	return faults, nil
}

// whoseMatters leaves out whose an element is where it leads nowhere: an address that went to another container may have both as its owners.
func whoseMatters(e nftElement) nftElement {
	if e.data == "" {
		e.owner = ""
	}
	return e
}

// Repair puts the table back as the records have it, if it is not so, and says whether it did. Elements of owners that the
// records do not know, another engine's, stay.
func (r *Rules) Repair() (bool, error) {
	s, err := openNetfilter()
	if err != nil {
		return false, err
	}
	defer s.close()
	if faults, err := r.check(s); err != nil || len(faults) == 0 {
		return false, err
	}
	if err := transaction(s, func() ([]nftMessage, error) { return r.whole(s) }); err != nil {
		return false, fmt.Errorf("table inet %s: %w", NftTable, err)
	}
	_, devices, err := r.records()
	if err != nil {
		return false, err
	}
	others, err := s.ask(unix.NFNL_SUBSYS_NFTABLES, firewalldRequests()...)
	if err != nil {
		return false, err
	}
	err = r.letPass(rulesOfFirewalld(others), healPatience, devices...)
	return err == nil, err
}

// Any reports whether there are bridges whose rules may have to be healed.
func (r *Rules) Any() bool {
	devices, err := r.names("bridges")
	return err == nil && len(devices) > 0
}

// Heal repairs what a quick look finds: a table that somebody flushed, one that another engine made again after that, which does not know of our bridges, Docker's chain for others without
// our rules, a firewalld that was started anew and has forgotten our bridges. It reports whether there was something.
func (r *Rules) Heal() (bool, error) {
	devices, err := r.names("bridges")
	if err != nil || len(devices) == 0 {
		return false, err
	}
	s, err := openNetfilter()
	if err != nil {
		return false, err
	}
	defer s.close()
	requests := append(seemsRequests(), firewalldRequests()...)
	for _, d := range devices {
		requests = append(requests, elementRequest(nftElement{set: "bridges", key: nftKey(nftDeviceKey(d))}))
	}
	answers, err := s.ask(unix.NFNL_SUBSYS_NFTABLES, requests...)
	if err != nil {
		return false, err
	}
	dropped, err := notInDocker(s, devices)
	if err != nil {
		return false, err
	}
	m := len(answers) - len(devices)
	n := m - len(firewalldRequests())
	rules := rulesOfFirewalld(answers[n:m])
	unknown := slices.ContainsFunc(answers[m:], func(a nfAnswer) bool { return a.err != nil })
	told := func(device string) bool { known, _ := r.zoned(device); return rules == "" || known == rules }
	if seemsIntact(answers[:n]) && !unknown && len(dropped) == 0 && !slices.ContainsFunc(devices, func(d string) bool { return !told(d) }) {
		return false, nil
	}
	return r.Repair()
}

// whole makes the table anew, of the records and what it has besides. A newer version's gets what it lacks of the records.
func (r *Rules) whole(s *nfSocket) ([]nftMessage, error) {
	elements, devices, err := r.records()
	if err != nil {
		return nil, err
	}
	theirs, err := newerTable(s)
	if err != nil {
		return nil, err
	}
	there, err := readElements(s)
	if err != nil {
		return nil, err
	}
	type name struct{ set, key string }
	ours := make(map[name]bool, len(elements))
	for _, e := range elements {
		ours[name{e.set, e.key}] = true
	}
	for _, e := range there {
		if nftSetNamed(e.set) != nil && !ours[name{e.set, e.key}] && !ofDevices(e, devices) {
			elements = append(elements, e)
		}
	}
	messages := tableMessages(elements)
	if theirs {
		messages = elementMessages(unix.NFT_MSG_NEWSETELEM, sortedBySet(elements))
	}
	hooks, err := dockerUser(s, func(have []string) []string { return append(have, devices...) })
	return append(messages, hooks...), err
}

// ofDevices tells elements of bridges that have records: what the records have not of them is not so.
func ofDevices(e nftElement, devices []string) bool {
	s := nftSetNamed(e.set)
	return s.key[0] == nftDevice && slices.Contains(devices, unix.ByteSliceToString([]byte(e.key[:unix.IFNAMSIZ])))
}
