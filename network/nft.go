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

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/network/netip"
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
	return r.letPass(b.Device, others)
}

// ruleHint adds to the kernel's answer what the reader can do.
func ruleHint(b plan.Bridge, err error) error {
	way := ""
	for _, e := range []syscall.Errno{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP, unix.EINVAL, unix.ENOENT} {
		if errors.Is(err, e) {
			way = ": networks take a kernel with nf_tables, its NAT, sets and fib (modprobe nf_tables nft_chain_nat nft_masq nft_fib_inet): run it with one, or with --network none"
		}
	}
	return fmt.Errorf("rules of bridge %s: %w%s", b.Device, hint(err, ""), way)
}

// RemoveBridge takes a bridge out of the table, and removes the table with the last one. It need not be there.
func (r *Rules) RemoveBridge(device string) error {
	if err := checkName(device); err != nil {
		return err
	}
	if err := r.remove("bridges", device); err != nil {
		return err
	}
	s, err := openNetfilter()
	if err != nil {
		return err
	}
	defer s.close()
	have, not := bridgeElements(plan.Bridge{Device: device})
	err = transaction(s, func() ([]nftMessage, error) {
		hooks, err := dockerUser(s, func(devices []string) []string {
			return slices.DeleteFunc(devices, func(d string) bool { return d == device })
		})
		if err != nil {
			return nil, err
		}
		messages, err := r.without(s, append(have, not...))
		return append(messages, hooks...), err
	})
	if err != nil {
		err = fmt.Errorf("rules of bridge %s: %w", device, err)
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
// Of UDP, what the kernel remembers of packets that came before is forgotten.
func (r *Rules) Publish(owner string, ports []plan.Publish) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("publish ports: %w", err)
		}
	}()
	for _, p := range ports {
		if _, ok := protoNumber(p.Proto); !ok || !p.HostAddr.IsValid() || !p.Addr.IsValid() || (p.HostPort == 0) != p.Routed || p.Port == 0 {
			return fmt.Errorf("%s: %w", p, unix.EINVAL)
		}
	}
	if err := checkName(owner); err != nil {
		return err
	}
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
	add := elementMessages(unix.NFT_MSG_NEWSETELEM, sortedBySet(elements))
	for i := range add {
		add[i].flags |= unix.NLM_F_EXCL
	}
	if len(before) == 0 {
		err = s.commit(0, add)
	}
	if len(before) != 0 || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOENT) {
		var losers []string
		err = transaction(s, func() (messages []nftMessage, err error) {
			messages, losers, err = r.replace(s, owner, portElements(owner, before), elements)
			return messages, err
		})
		for _, l := range losers {
			if err == nil {
				err = r.lose(l, elements)
			}
		}
	}
	if err != nil {
		return errors.Join(err, r.restorePorts(owner, before))
	}
	return forgetUDP(s, ports)
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
	rules, err := s.dump(unix.NFNL_SUBSYS_NFTABLES, rulesOfTable(unix.NFPROTO_INET, NftTable, ""))
	if err != nil {
		return nil, nil, err
	}
	if !intact(rules) {
		messages, err = r.whole(s)
		return messages, nil, err
	}
	list, err := readElements(s)
	if err != nil {
		return nil, nil, err
	}
	type name struct{ set, key string }
	there := make(map[name]nftElement, len(list))
	for _, e := range list {
		there[name{e.set, e.key}] = e
	}
	var gone, more []nftElement
	for _, e := range elements {
		t, ok := there[name{e.set, e.key}]
		if ok && t.data == e.data && t.owner == e.owner {
			continue
		}
		if ok && t.owner != owner {
			if err := r.mayTake(e, t); err != nil {
				return nil, nil, err
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
	return append(elementMessages(unix.NFT_MSG_DELSETELEM, sortedBySet(gone)), elementMessages(unix.NFT_MSG_NEWSETELEM, sortedBySet(more))...), losers, nil
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
	names, err := os.ReadDir(filepath.Join(r.dir, "ports"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // there are bridges only
	}
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		owner := strings.TrimPrefix(n.Name(), ".")
		if strings.HasSuffix(owner, temporary) {
			r.sweepTemporary(n.Name())
			continue
		}
		if owner == n.Name() && alive(owner) {
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

// sweepTemporary removes a record that was cut off while it was written: its writer is in its name, and is no more.
func (r *Rules) sweepTemporary(name string) {
	name = strings.TrimSuffix(name, temporary)
	pid, err := strconv.Atoi(name[strings.LastIndexByte(name, '.')+1:])
	if err != nil || pid <= 0 || unix.Kill(pid, 0) == unix.ESRCH {
		os.Remove(filepath.Join(r.dir, "ports", name+temporary))
	}
}

// Check says what the table has not that the records have, or that its rules are not those that belong there; nothing
// when all is as it should be.
func (r *Rules) Check() (faults []string, err error) {
	s, err := openNetfilter()
	if err != nil {
		return nil, err
	}
	defer s.close()
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
	rules, err := s.dump(unix.NFNL_SUBSYS_NFTABLES, rulesOfTable(unix.NFPROTO_INET, NftTable, ""))
	if err != nil {
		return nil, err
	}
	if len(rules) == 0 {
		return []string{"table inet " + NftTable + " has no rules"}, nil
	}
	if !intact(rules) {
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
	faults, err := r.Check()
	if err != nil || len(faults) == 0 {
		return false, err
	}
	s, err := openNetfilter()
	if err != nil {
		return false, err
	}
	defer s.close()
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
	for _, d := range devices {
		err = errors.Join(err, r.letPass(d, rulesOfFirewalld(others)))
	}
	return err == nil, err
}

// Heal repairs what a quick look finds: a table that somebody flushed, Docker's chain for others without our rules, a firewalld that was started anew and has forgotten
// our bridges. It reports whether there was something.
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
	answers, err := s.ask(unix.NFNL_SUBSYS_NFTABLES, append(seemsRequests(), firewalldRequests()...)...)
	if err != nil {
		return false, err
	}
	dropped, err := notInDocker(s, devices)
	if err != nil {
		return false, err
	}
	n := len(answers) - len(firewalldRequests())
	rules := rulesOfFirewalld(answers[n:])
	told := func(device string) bool { known, _ := r.zoned(device); return rules == "" || known == rules }
	if seemsIntact(answers[:n]) && len(dropped) == 0 && !slices.ContainsFunc(devices, func(d string) bool { return !told(d) }) {
		return false, nil
	}
	return r.Repair()
}

// whole makes the table anew, of the records and what it has besides.
func (r *Rules) whole(s *nfSocket) ([]nftMessage, error) {
	elements, devices, err := r.records()
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
	hooks, err := dockerUser(s, func(have []string) []string { return append(have, devices...) })
	return append(messages, hooks...), err
}

// ofDevices tells elements of bridges that have records: what the records have not of them is not so.
func ofDevices(e nftElement, devices []string) bool {
	s := nftSetNamed(e.set)
	return s.key[0] == nftDevice && slices.Contains(devices, unix.ByteSliceToString([]byte(e.key[:unix.IFNAMSIZ])))
}

// Requests.

func rulesOfTable(family byte, table, chain string) nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_GETRULE, family: family}
	m.body.str(unix.NFTA_RULE_TABLE, table)
	if chain != "" {
		m.body.str(unix.NFTA_RULE_CHAIN, chain)
	}
	return m
}

func elementRequest(e nftElement) nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_GETSETELEM, family: unix.NFPROTO_INET}
	w := &m.body
	w.str(unix.NFTA_SET_ELEM_LIST_TABLE, NftTable)
	w.str(unix.NFTA_SET_ELEM_LIST_SET, e.set)
	w.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
		w.nest(unix.NFTA_LIST_ELEM, func() {
			w.nest(unix.NFTA_SET_ELEM_KEY, func() { w.bytes(unix.NFTA_DATA_VALUE, []byte(e.key)) })
		})
	})
	return m
}

func tableIsThere(s *nfSocket) (bool, error) {
	answers, err := s.ask(unix.NFNL_SUBSYS_NFTABLES, tableRequest(NftTable))
	if err != nil {
		return false, err
	}
	if answers[0].err != nil && !errors.Is(answers[0].err, unix.ENOENT) {
		return false, fmt.Errorf("nftables: table inet %s: %w", NftTable, answers[0].err)
	}
	return answers[0].err == nil, nil
}

// readElements reads all sets of the table; none when it is not there.
func readElements(s *nfSocket) (list []nftElement, err error) {
	for _, set := range nftSets {
		m := nftMessage{kind: unix.NFT_MSG_GETSETELEM, family: unix.NFPROTO_INET}
		m.body.str(unix.NFTA_SET_ELEM_LIST_TABLE, NftTable)
		m.body.str(unix.NFTA_SET_ELEM_LIST_SET, set.name)
		bodies, err := s.dump(unix.NFNL_SUBSYS_NFTABLES, m)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("nftables: set %s: %w", set.name, err)
		}
		for _, b := range bodies {
			list = append(list, elementsOf(b)...)
		}
	}
	return list, nil
}

// elementsOf reads a message of elements.
func elementsOf(body []byte) (list []nftElement) {
	name := unix.ByteSliceToString(attribute(body, unix.NFTA_SET_ELEM_LIST_SET))
	set := nftSetNamed(name)
	if set == nil {
		return nil
	}
	netlink.Attributes(attribute(body, unix.NFTA_SET_ELEM_LIST_ELEMENTS), func(_ uint16, b []byte) {
		e := nftElement{set: name, key: string(attribute(b, unix.NFTA_SET_ELEM_KEY, unix.NFTA_DATA_VALUE))}
		if len(set.data) > 0 {
			e.data = string(attribute(b, unix.NFTA_SET_ELEM_DATA, unix.NFTA_DATA_VALUE))
		}
		e.owner, _ = readComment(attribute(b, unix.NFTA_SET_ELEM_USERDATA))
		if len(e.key) == nftSize(set.key) && len(e.data) == nftSize(set.data) {
			list = append(list, e)
		}
	})
	return list
}

// seemsRequests ask what seemsIntact wants to know.
func seemsRequests() []nftMessage {
	list := []nftMessage{tableRequest(NftTable)}
	for _, c := range nftCounts {
		list = append(list, chainRequest(unix.NFPROTO_INET, NftTable, c.chain))
	}
	return list
}

// seemsIntact tells that the table is this version's, and that its chains have as many rules as they should: what somebody flushed
// is found so, in a quarter of the time that reading all rules takes. [Rules.Check] reads them.
func seemsIntact(answers []nfAnswer) bool {
	for i, a := range answers {
		if a.err != nil || len(a.bodies) != 1 {
			return false
		}
		if i == 0 {
			if comment, _ := readComment(attribute(a.bodies[0], nftaTableUserdata)); comment != nftLayout {
				return false
			}
		} else if bigEndian32(attribute(a.bodies[0], unix.NFTA_CHAIN_USE)) != nftCounts[i-1].rules {
			return false
		}
	}
	return true
}

// intact tells that rules are those of [nftChains], in their order.
func intact(rules [][]byte) bool { return sameRules(rules, nftChains()) }

func sameRules(rules [][]byte, chains []nftChain) bool {
	i := 0
	for _, c := range chains {
		for _, r := range c.rules {
			if i == len(rules) || unix.ByteSliceToString(attribute(rules[i], unix.NFTA_RULE_CHAIN)) != c.name {
				return false
			}
			if _, hash := readComment(attribute(rules[i], unix.NFTA_RULE_USERDATA)); string(hash) != string(r.hash(c.name)) {
				return false
			}
			i++
		}
	}
	return i == len(rules)
}

// Records: one line a port, words between spaces.

const temporary = ".new"

func checkName(name string) error {
	if name == "" || name[0] == '.' || strings.ContainsRune(name, '/') || strings.HasSuffix(name, temporary) {
		return fmt.Errorf("record of rules for %q: %w", name, unix.EINVAL)
	}
	return nil
}

func (r *Rules) write(kind, name, text string) error {
	if err := checkName(name); err != nil {
		return err
	}
	path := filepath.Join(r.dir, kind, name)
	if have, err := files.Read(path); err == nil && string(have) == text {
		return nil
	}
	file := filepath.Join(r.dir, kind, "."+name+"."+strconv.Itoa(os.Getpid())+temporary)
	err := os.WriteFile(file, []byte(text), 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		err = os.WriteFile(file, []byte(text), 0o600)
	}
	if err == nil {
		err = os.Rename(file, path)
	}
	if err != nil {
		os.Remove(file)
	}
	return err
}

func (r *Rules) remove(kind, name string) error {
	return removed(os.Remove(filepath.Join(r.dir, kind, name)))
}

func removed(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// PortRecord is ports as a text that is kept, a line each: tcp 0.0.0.0 8080 172.17.0.2 80 rule kakuri0. The device may be missing.
func PortRecord(ports []plan.Publish) string {
	var b strings.Builder
	for _, p := range ports {
		how := "rule"
		if p.Strict {
			how = "strict"
		}
		if p.Routed {
			how = "routed"
		}
		fmt.Fprintln(&b, p.Proto, p.HostAddr, p.HostPort, p.Addr, p.Port, how, p.Bridge)
	}
	return b.String()
}

// ParsePortRecord is the reverse.
func ParsePortRecord(text string) ([]plan.Publish, error) {
	ports := []plan.Publish{}
	for line := range strings.Lines(text) {
		p, err := parsePort(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, err
		}
		ports = append(ports, p)
	}
	return ports, nil
}

func parsePort(line string) (p plan.Publish, err error) {
	f := strings.Split(line, " ")
	if len(f) != 7 || !slices.Contains([]string{"tcp", "udp", "sctp"}, f[0]) || !slices.Contains([]string{"rule", "strict", "routed"}, f[5]) {
		return p, fmt.Errorf("%q is no port", line)
	}
	host, err1 := netip.ParseAddr(f[1])
	hostPort, err2 := strconv.ParseUint(f[2], 10, 16)
	addr, err3 := netip.ParseAddr(f[3])
	port, err4 := strconv.ParseUint(f[4], 10, 16)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return p, fmt.Errorf("%q is no port: %w", line, err)
	}
	return plan.Publish{Proto: f[0], HostAddr: host, HostPort: uint16(hostPort), Addr: addr, Port: uint16(port), Strict: f[5] == "strict", Routed: f[5] == "routed", Bridge: f[6]}, nil
}

// readPorts reads an owner's record; nil: there is none.
func (r *Rules) readPorts(owner string) ([]plan.Publish, error) {
	path := filepath.Join(r.dir, "ports", owner)
	data, err := files.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ports, err := ParsePortRecord(string(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ports, nil
}

func bridgeRecord(b plan.Bridge) string {
	var words []string
	for _, w := range []struct {
		is   bool
		word string
	}{{b.Internal, "internal"}, {b.ICC, "icc"}, {b.Masquerade4, "masquerade4"}, {b.Masquerade6, "masquerade6"}, {b.Routed4, "routed4"}, {b.Routed6, "routed6"},
		{b.Unprotected4, "unprotected4"}, {b.Unprotected6, "unprotected6"}} {
		if w.is {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, " ") + "\n"
}

// records gives the elements of all records, and the bridges' devices. Of a port that two have it is the newer one's.
func (r *Rules) records() (elements []nftElement, devices []string, err error) {
	names, err := r.names("bridges")
	if err != nil {
		return nil, nil, err
	}
	for _, device := range names {
		data, err := files.Read(filepath.Join(r.dir, "bridges", device))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		b := plan.Bridge{Device: device}
		for _, w := range strings.Fields(string(data)) {
			switch w {
			case "internal":
				b.Internal = true
			case "icc":
				b.ICC = true
			case "masquerade4":
				b.Masquerade4 = true
			case "masquerade6":
				b.Masquerade6 = true
			case "routed4":
				b.Routed4 = true
			case "routed6":
				b.Routed6 = true
			case "unprotected4":
				b.Unprotected4 = true
			case "unprotected6":
				b.Unprotected6 = true
			}
		}
		have, _ := bridgeElements(b)
		elements, devices = append(elements, have...), append(devices, device)
	}
	if names, err = r.names("ports"); err != nil {
		return nil, nil, err
	}
	type name struct{ set, key string }
	at := map[name]int{}
	for _, owner := range names {
		ports, err := r.readPorts(owner)
		if err != nil {
			return nil, nil, err
		}
		for _, e := range portElements(owner, ports) {
			n := name{e.set, e.key}
			if i, twice := at[n]; twice {
				elements[i] = e
				continue
			}
			at[n] = len(elements)
			elements = append(elements, e)
		}
	}
	return elements, devices, nil
}

// names lists records, the oldest first.
func (r *Rules) names(kind string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(r.dir, kind))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	type record struct {
		name string
		time int64
	}
	var list []record
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if info, err := e.Info(); err == nil {
			list = append(list, record{e.Name(), info.ModTime().UnixNano()})
		}
	}
	slices.SortStableFunc(list, func(a, b record) int { return int(min(max(a.time-b.time, -1), 1)) })
	names := make([]string, len(list))
	for i, l := range list {
		names[i] = l.name
	}
	return names, nil
}
