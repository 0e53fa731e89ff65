package serve

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/network/netip"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// Servers for names that the machine has on its loopback are asked from inside at the same addresses, by who is in the namespace itself: the monitors of
// containers. What they send there, and no other port, goes on to the machine's. Containers have loopbacks of their own.

// loopbackServers are those that a resolv.conf(5) names. Without any server that is one of this machine, as 0.0.0.0 is.
func loopbackServers(conf string) (list []netip.Addr) {
	named := false
	for line := range strings.Lines(conf) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		text, _, _ := strings.Cut(f[1], "%")
		a, err := netip.ParseAddr(text)
		if err != nil {
			continue
		}
		named = true
		if a = a.OrLoopback(); a.IsLoopback() && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	if !named {
		list = append(list, netip.IPv4Unspecified().OrLoopback())
	}
	return list
}

// passNames passes on what comes to port 53 of such addresses inside. The machine may have got others since it was done last, as one that a laptop meets on
// its way. What cannot be done is said in the log, once: containers work without.
func (s *server) passNames() {
	conf, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.say("servers for names: %v", err)
	}
	for _, a := range loopbackServers(string(conf)) {
		for _, proto := range []string{"udp", "tcp"} {
			key := a.String() + " " + proto
			before, tried := s.passed[key]
			if tried && before == "" {
				continue
			}
			why := ""
			if err := s.passName(a, proto); err != nil {
				why = err.Error()
			}
			if s.passed[key] = why; why != before {
				s.say("server for names %v, %s: %s", a, proto, why)
			}
		}
	}
}

func (s *server) passName(a netip.Addr, proto string) (err error) {
	if s.names == nil {
		if s.names, err = network.NewRelay(files.Most() / 8); err != nil {
			return err
		}
	}
	_, fd, err := s.in.ask(-1, wordListen, a, proto)
	if err != nil {
		return err
	}
	if err := s.names.Serve(fd, proto, a, 53); err != nil {
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
