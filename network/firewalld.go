package network

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kakuri/kakuri/internal/dbus"
	"github.com/kakuri/kakuri/internal/files"
	"golang.org/x/sys/unix"
)

// firewalld rejects what is forwarded from devices of zones that do not accept it, and a bridge that nobody put into one is in
// the default zone. Its D-Bus interface is documented for programs that make devices: firewalld.dbus(5). A bridge goes into
// the zone "trusted", which is there always, as netavark has it; Docker makes a zone of the same meaning of its own, for which firewalld has
// to load everything anew. That holds until firewalld ends or loads its rules anew, and then until the next command of ours; an administrator's own choice for the bridge is left alone.
const (
	firewalldTable = "firewalld" // of nftables, by which it is seen that it is at work
	firewalldZone  = "trusted"
	firewalldName  = "org.fedoraproject.FirewallD1"

	// A chain of iptables that each version of firewalld has with that backend: that of zones, FORWARD_ZONES, is gone since 2.0.
	firewalldChain = "FORWARD_direct"

	nftaTableHandle = 4 // linux/netfilter/nf_tables.h
)

// How long firewalld is waited for: it may be loading its rules.
const (
	firewalldPatience = 30 * time.Second
	healPatience      = 2 * time.Second // by a command of whatever kind, which the next one may do as well
)

func tableRequest(name string) nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_GETTABLE, family: unix.NFPROTO_INET}
	m.body.str(unix.NFTA_TABLE_NAME, name)
	return m
}

// firewalldRequests ask what rulesOfFirewalld wants to know.
func firewalldRequests() []nftMessage {
	return []nftMessage{tableRequest(firewalldTable), chainRequest(unix.NFPROTO_IPV4, dockerTable, firewalldChain)}
}

// rulesOfFirewalld names the rules that firewalld has, empty where it has none: they have another name when they were loaded anew.
func rulesOfFirewalld(answers []nfAnswer) string {
	for i, attr := range []uint16{nftaTableHandle, unix.NFTA_CHAIN_HANDLE} {
		if answers[i].err == nil && len(answers[i].bodies) == 1 {
			return []string{"nftables ", "iptables "}[i] + hex.EncodeToString(attribute(answers[i].bodies[0], attr))
		}
	}
	return ""
}

// letPass has firewalld, where it is at work, let the packets of bridges pass. What it was told stands in a record, so that it is asked once for the
// rules that it has, and told again when it lost them. Who does not answer about one bridge is not asked about the others.
func (r *Rules) letPass(rules string, waits time.Duration, devices ...string) (err error) {
	devices = slices.DeleteFunc(slices.Clone(devices), func(d string) bool { known, _ := r.zoned(d); return rules == "" || known == rules })
	if len(devices) == 0 {
		return nil
	}
	f, e := openFirewalld(waits)
	if e != nil {
		return firewalldError(devices[0], e)
	}
	if f == nil { // nobody is there to be told: "port why" knows the rules
		for _, d := range devices {
			err = errors.Join(err, r.write("zones", d, rules+"\n"))
		}
		return err
	}
	defer f.Close()
	for _, d := range devices {
		e := r.zone(f, d, rules)
		err = errors.Join(err, e)
		if e != nil && !errors.As(e, new(*dbus.Error)) {
			break
		}
	}
	return err
}

// zone has firewalld know a bridge.
func (r *Rules) zone(f *firewalld, device, rules string) error {
	_, ours := r.zoned(device)
	zone, err := f.call("getZoneOfInterface", device)
	if err == nil && zone == "" {
		err, ours = r.enter(f, device), true
	}
	if err != nil {
		return firewalldError(device, err)
	}
	text := rules + "\n"
	if ours {
		text += firewalldZone + "\n"
	}
	return r.write("zones", device, text)
}

// enter has firewalld put a bridge into its zone. The record has it before: who answers too late, or nobody is left to hear it, has done it all the same, and then it has to be taken out
// with its network, or the next device of that name would be trusted.
func (r *Rules) enter(f *firewalld, device string) error {
	err := r.write("zones", device, "asked\n"+firewalldZone+"\n")
	if err == nil {
		_, err = f.call("addInterface", firewalldZone, device)
	}
	var e *dbus.Error
	switch {
	case said(err, "ALREADY_ENABLED") || said(err, "ZONE_ALREADY_SET"):
		return nil // by another one who starts a container
	case errors.As(err, &e) && strings.HasPrefix(e.Name, firewalldName): // it has not
		r.remove("zones", device)
	}
	return err
}

// zoned says for which rules of firewalld a bridge is in a zone, and whether it is there by this program.
func (r *Rules) zoned(device string) (rules string, ours bool) {
	data, _ := files.Read(filepath.Join(r.dir, "zones", device))
	rules, zone, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
	return rules, zone == firewalldZone
}

// passNoMore takes a bridge out of the zone that letPass put it into.
func (r *Rules) passNoMore(device string) error {
	rules, ours := r.zoned(device)
	if rules == "" {
		return nil
	}
	if ours {
		f, err := openFirewalld(firewalldPatience)
		if f != nil && err == nil {
			defer f.Close()
			if _, err = f.call("removeInterface", firewalldZone, device); said(err, "UNKNOWN_INTERFACE") || said(err, "ZONE_CONFLICT") {
				err = nil
			}
		}
		if err != nil {
			return firewalldError(device, err)
		}
	}
	return r.remove("zones", device)
}

func firewalldError(device string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("firewalld, which would reject what bridge %s forwards: %w: put it into a zone by hand: firewall-cmd --zone=%s --add-interface=%[1]s", device, err, firewalldZone)
}

// A firewalld is a connection to it.
type firewalld struct{ *dbus.Conn }

// openFirewalld connects; nil where it does not run, and has left its rules.
func openFirewalld(waits time.Duration) (*firewalld, error) {
	c, err := dbus.SystemService(firewalldName, waits)
	if c == nil || err != nil {
		return nil, err
	}
	return &firewalld{c}, nil
}

// call calls a method of its interface for zones.
func (f *firewalld) call(method string, args ...string) (string, error) {
	m := &dbus.Message{Destination: firewalldName, Path: "/org/fedoraproject/FirewallD1", Interface: firewalldName + ".zone", Member: method}
	for _, a := range args {
		m.Body = append(m.Body, a)
	}
	body, err := f.Call(m)
	if err != nil {
		return "", fmt.Errorf("%s: %w", method, err)
	}
	text, _ := first(body).(string)
	return text, nil
}

func first(body []any) any {
	if len(body) == 0 {
		return nil
	}
	return body[0]
}

// said tells that firewalld answered with an error of its own: "ALREADY_ENABLED: kakuri0".
func said(err error, code string) bool {
	var e *dbus.Error
	return errors.As(err, &e) && strings.HasPrefix(e.Text, code)
}
