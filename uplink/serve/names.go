package serve

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink"
	"golang.org/x/sys/unix"
)

// Servers for names that the machine has on its loopback are asked from inside at the same addresses, by who is in the namespace itself: the monitors of
// containers. So are those at link-local addresses, which mean something on a device of the machine alone: at another one ([uplink.NameServer.Inside]). What they send there, and
// no other port, goes on to the machine's. Containers have loopbacks of their own.

// passedServers are those that a resolv.conf(5) has the machine ask, and those that systemd-resolved asks, whom the monitors ask in its place.
func passedServers(conf []byte, read func(name string) []byte) (list []uplink.NameServer, behind bool) {
	named := uplink.ParseResolv(conf)
	all := named.Asked()
	real, behind := named.Behind(read)
	if behind {
		all = append(slices.Clone(all), real.Servers...)
	}
	for _, s := range all {
		if _, passed := s.Inside(); passed && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list, behind
}

// passNames passes on what comes to port 53 of such addresses inside. The machine may have got others since it was done last, as one that a laptop meets on
// its way. What cannot be done is said in the log, once: containers work without.
func (s *server) passNames() {
	conf, err := os.ReadFile(uplink.ResolvConf)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.say("servers for names: %v", err)
	}
	list, behind := passedServers(conf, func(name string) []byte { data, _ := files.Read(name); return data })
	s.passTo(list)
	if behind {
		go s.passLinks() // no start waits for D-Bus
	}
}

// passLinks does so for the servers of systemd-resolved's links, of which its file leaves out those that are for some domains alone.
func (s *server) passLinks() {
	routes, _ := s.links.Routes()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passTo(linkServers(routes))
}

// linkServers are those of links that are passed on.
func linkServers(routes uplink.NameRoutes) (list []uplink.NameServer) {
	for _, l := range routes {
		for _, to := range l.Servers {
			if to.Port == 53 {
				to.Port = 0
			}
			if _, passed := to.Inside(); passed && to.Port == 0 && !slices.Contains(list, to) {
				list = append(list, to)
			}
		}
	}
	return list
}

// passTo passes on to servers. The lock is held.
func (s *server) passTo(list []uplink.NameServer) {
	for _, to := range list {
		for _, proto := range []string{"udp", "tcp"} {
			key := fmt.Sprint(to, " ", proto)
			before, tried := s.passed[key]
			if tried && before == "" {
				continue
			}
			why := ""
			if err := s.passName(to, proto); err != nil {
				why = err.Error()
			}
			if s.passed[key] = why; why != before {
				s.say("server for names %v, %s: %s", to, proto, why)
			}
		}
	}
}

func (s *server) passName(to uplink.NameServer, proto string) (err error) {
	if s.names == nil {
		if s.names, err = network.NewRelay(files.Most() / 8); err != nil {
			return err
		}
	}
	at, _ := to.Inside()
	_, fd, err := s.in.ask(-1, wordListen, at, proto)
	if err != nil {
		return err
	}
	if err := s.names.ServeOn(fd, proto, to.Addr, 53, to.Device); err != nil {
		unix.Close(fd)
		return err
	}
	return nil
}

// listenForNames makes a socket at port 53 of a loopback address.
func listenForNames(a netip.Addr, proto string) (fd int, err error) {
	if !a.IsLoopback() {
		return -1, fmt.Errorf("%v is no loopback address", a)
	}
	h, err := network.TryPort(plan.Publish{Proto: proto, HostAddr: a, HostPort: 53, Addr: a, Port: 53, Strict: true})
	return h.FD, err
}
