package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/leanjson"
	"github.com/kakuri/kakuri/internal/process"
	"github.com/kakuri/kakuri/internal/seqpacket"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/network/netlink"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink"
	"golang.org/x/sys/unix"
)

// deviceName is that of the device that leads out.
const deviceName = "uplink"

// The link between the namespace and the uplink, the same with either carrier. 198.18.0.0/15 is for networks that are nobody's (RFC 2544); of the
// other kind there are so many that this one is nobody else's (RFC 4193).
var (
	linkAddr4    = netip.MustParsePrefix("198.19.255.254/30")
	linkGateway4 = netip.MustParseAddr("198.19.255.253")
	linkAddr6    = netip.MustParsePrefix("fd6b:616b:7572:6900::2/64")
	linkGateway6 = netip.MustParseAddr("fd6b:616b:7572:6900::1")
)

// A Stack carries packets between a device tun(4), whose descriptor is the callee's from then on, and sockets of this process, until it is closed. The
// gateways are addresses of its own. It calls refused for each request for a connection that it leaves unanswered, since who asks has its share.
type Stack func(tun, mtu int, gateways []netip.Addr, refused func(from netip.Addr)) (io.Closer, error)

// Main is the program: see its manual page. It gives the exit code.
func Main(args []string, stack Stack) int {
	err := errUsage
	switch {
	case len(args) == 2 && (args[1] == "--help" || args[1] == "-h"):
		fmt.Print(usage)
		return 0
	case len(args) > 1 && args[1] == "serve":
		var o options
		if o, err = parse(args[2:]); err == nil {
			err = serve(o, stack)
		}
	case len(args) == 3 && args[1] == "inside":
		var fd int
		if fd, err = strconv.Atoi(args[2]); err == nil {
			err = runInside(fd)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, uplink.Program+":", err)
		return 1
	}
	return 0
}

const usage = `Usage: kakuri-uplink serve --run DIRECTORY [--mode builtin|pasta|auto] [--pasta PROGRAM] [--used FILE]

Connects a network namespace of a user with the machine's network. kakuri starts it
when containers of an ordinary user have a network, and ends it after the last one.

Descriptor 3 is the user namespace, 4 the network namespace; to 5 it writes what
became of it, when packets pass.
`

var errUsage = errors.New("it is started by kakuri: " + uplink.Program + " --help says more")

type options struct{ run, mode, pasta, used string }

func parse(args []string) (o options, err error) {
	for i := 0; i < len(args); i += 2 {
		to := map[string]*string{"--run": &o.run, "--mode": &o.mode, "--pasta": &o.pasta, "--used": &o.used}[args[i]]
		if to == nil || i+1 == len(args) {
			return o, errUsage
		}
		*to = args[i+1]
	}
	if o.mode == "" {
		o.mode = uplink.DefaultMode
	}
	if err := uplink.CheckMode(o.mode); err != nil {
		return o, err
	}
	if o.run == "" {
		return o, errUsage
	}
	return o, nil
}

// serve is the process in the machine's network namespace. It tells on descriptor 5 what became of it, and goes on until it is told to end.
func serve(o options, stack Stack) error {
	for fd := 3; fd <= 5; fd++ {
		unix.CloseOnExec(fd)
	}
	if err := closeInherited(); err != nil {
		return err
	}
	said := os.NewFile(5, "ready")
	s := &server{o: o, stack: stack, user: os.NewFile(3, "user"), net: os.NewFile(4, "net"), end: make(chan struct{}), owners: map[string][]taken{}, passed: map[string]string{}}
	err := s.begin()
	text, e := leanjson.Marshal(uplink.AnswerOf(err, s.status))
	if e == nil {
		said.Write(text)
	}
	said.Close()
	if err == nil {
		s.run()
	}
	s.finish()
	return err
}

// closeInherited closes what the command's caller had open by chance, a lock or the end of a pipe: it would be held for as long as there are containers on
// networks. Descriptors of this program, and of its library, are those that an execve closes.
func closeInherited() error {
	fds, err := files.Inherited()
	for _, fd := range fds {
		unix.Close(fd)
	}
	return err
}

// A server is an uplink that runs.
type server struct {
	o         options
	stack     Stack
	user, net *os.File
	dir, log  *os.File
	lock      *os.File
	users     *os.File // whoever needs the uplink has a lock of it; nil where it ends when it is told to
	control   *os.File
	names     *network.Relay       // nil where no server for names is on the machine's loopback
	passed    map[string]string    // by address and protocol of a server for names: why it is not passed on, empty when it is
	links     uplink.ResolvedLinks // whose servers are among them
	once      sync.Once
	end       chan struct{} // closed when it is to end

	mu      sync.Mutex
	status  uplink.Status
	in      *side
	carrier carrier
	owners  map[string][]taken
	next    int // for IDs

	counting     sync.Mutex // what the stack refused
	count, sayAt uint64
	countLast    netip.Addr
}

// A taken is a port of the machine that is passed on.
type taken struct {
	plan.Publish
	fd int
	id string
}

func (s *server) begin() (err error) {
	if err := uplink.MakeDir(s.o.run); err != nil {
		return err
	}
	if s.dir, err = os.Open(s.o.run); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(s.o.run, uplink.LockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	// To the end of the process.
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("an uplink runs in %s already: %w", s.o.run, err)
	}
	s.lock = lock
	s.note()
	// A FIFO would have it wait for who reads, with the lock.
	if s.log, err = os.OpenFile(filepath.Join(s.o.run, "log"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND|unix.O_NONBLOCK, 0o600); err != nil {
		return err
	}
	unix.Dup3(int(s.log.Fd()), 2, 0)
	signal.Ignore(unix.SIGHUP) // and no other one: pasta of 2023 does not start where SIGPIPE is
	if err := s.enter(); err != nil {
		return err
	}
	if err := s.carry(); err != nil {
		return err
	}
	s.mu.Lock()
	s.passNames()
	s.takeUp()
	s.mu.Unlock()
	return s.listen()
}

func (s *server) say(format string, args ...any) {
	fmt.Fprintf(s.log, "%s "+format+"\n", append([]any{time.Now().UTC().Format(time.RFC3339)}, args...)...)
}

// enter makes the process in the namespaces.
func (s *server) enter() (err error) {
	_, err = enter(context.Background(), s.user, s.net, s.log, func(in *side) { s.in = in; s.note() })
	return err
}

// note writes down which processes there are, for who waits for one that was stopped by a signal.
func (s *server) note() {
	of := map[string]process.Witness{}
	add := func(name string, pid int) {
		if p := process.Open(pid); p != nil {
			of[name] = p.Witness()
			p.Close()
		}
	}
	add(uplink.Program, os.Getpid())
	if s.in != nil {
		add(uplink.Program+"-inside", s.in.pid)
	}
	if p, ok := s.carrier.(*pasta); ok {
		add(uplink.Pasta, p.cmd.Process.Pid)
	}
	if err := uplink.WriteProcesses(s.lock, of); err != nil {
		s.say("%s: %v", s.lock.Name(), err)
	}
}

// carry begins to carry packets, as it was asked for.
func (s *server) carry() (err error) {
	s.status = uplink.Status{PID: os.Getpid(), Mode: s.o.mode, Device: deviceName, MTU: uplink.MTU, Addr4: linkAddr4, Addr6: linkAddr6, Gateway4: linkGateway4, Gateway6: linkGateway6, Ping: whyNoPing()}
	program := s.o.pasta
	if program == "" {
		program = uplink.InPath(uplink.Pasta)
	}
	switch {
	case s.o.mode == uplink.Builtin:
		s.status.Why = "the default"
		if os.Getenv(uplink.ModeVariable) != "" {
			_, s.status.Why = uplink.Choice()
		}
	case program == "":
		err = errors.New("pasta is not installed (package passt)")
	default:
		s.status.Program = program
		if err = startPasta(context.Background(), program, s.in, &s.status, s.log, func(p *pasta) { s.carrier = p; s.note() }); err == nil {
			s.status.Mode, s.status.Why = uplink.Pasta, program+" is installed"
			return nil
		}
		err = fmt.Errorf("%s: %w", program, err)
	}
	if s.o.mode == uplink.Pasta && err != nil {
		return fmt.Errorf("%w: %s=%s has the stack of %s in its place", err, uplink.ModeVariable, uplink.Builtin, uplink.Program)
	}
	if err != nil {
		s.say("%v", err)
		s.status.Why = err.Error()
	}
	return s.carryItself()
}

func (s *server) carryItself() error {
	s.status.Mode, s.status.Program, s.status.Addr4, s.status.Addr6 = uplink.Builtin, "", linkAddr4, linkAddr6
	_, fd, err := s.in.ask(-1, wordTUN, deviceName, uplink.MTU, linkAddr4, linkGateway4, linkAddr6, linkGateway6)
	if err != nil {
		return err
	}
	c, err := s.stack(fd, uplink.MTU, []netip.Addr{linkGateway4, linkGateway6}, s.refused)
	if err != nil {
		return err
	}
	s.carrier = builtin{c}
	return nil
}

// refused counts, and says so each time that there are ten times as many: the log has an end.
func (s *server) refused(from netip.Addr) {
	s.counting.Lock()
	defer s.counting.Unlock()
	s.count++
	s.countLast = from
	if s.count >= s.sayAt {
		s.say("requests for a connection that were left unanswered: %d, the last one from %v, which had as many connections as were free", s.count, from)
		s.sayAt = 10 * s.count
	}
}

// now is the status as it is now.
func (s *server) now() uplink.Status {
	s.counting.Lock()
	defer s.counting.Unlock()
	st := s.status
	st.Refused, st.RefusedLast = s.count, s.countLast
	return st
}

// A builtin is a [Stack] at work, which does not end by itself.
type builtin struct{ io.Closer }

func (b builtin) stop()                  { b.Close() }
func (b builtin) ended() <-chan struct{} { return nil }

// whyNoPing is empty where the user may have sockets for ping: icmp(7).
func whyNoPing() string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return "net.ipv4.ping_group_range has none of the user's groups"
	}
	unix.Close(fd)
	return ""
}

// takeUp takes the ports that the records have, of an uplink that was killed.
func (s *server) takeUp() {
	owners, err := uplink.Owners(s.o.run)
	if err != nil {
		s.say("records of ports: %v", err)
	}
	until := time.Now().Add(3 * time.Second) // for all: who starts this program waits
	for _, owner := range owners {
		err := s.publish(owner)
		// The processes of the one that was killed may have them for a moment still.
		for ; errors.Is(err, unix.EADDRINUSE) && time.Now().Before(until); err = s.publish(owner) {
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			s.say("ports of %s: %v", owner, err)
		}
	}
}

func (s *server) listen() (err error) {
	if s.control, err = seqpacket.Listen(int(s.dir.Fd()), uplink.ControlName); err != nil {
		return fmt.Errorf("socket %s: %w", filepath.Join(s.o.run, uplink.ControlName), err)
	}
	if s.o.used != "" { // before anybody knows of this uplink: the name may be another file's soon after
		if s.users, err = os.OpenFile(s.o.used, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
			s.say("%v", err)
		}
	}
	return nil
}

// run goes on until somebody says that it is to end.
func (s *server) run() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	go func() { <-signals; s.stop() }()
	if s.users != nil {
		go s.endUnused(s.users)
	}
	go s.watchInside(s.in)
	go s.watchCarrier(s.carrier)
	go func() {
		slots := make(chan struct{}, 64) // connections at once; more wait
		for {
			slots <- struct{}{}
			c, err := seqpacket.Accept(s.control)
			if err != nil {
				if !s.ending() {
					s.say("control: %v", err)
				}
				return
			}
			go func() {
				defer func() { c.Close(); <-slots }()
				s.talk(c)
			}()
		}
	}()
	<-s.end
}

func (s *server) stop() { s.once.Do(func() { close(s.end) }) }

func (s *server) ending() bool {
	select {
	case <-s.end:
		return true
	default:
		return false
	}
}

// finish leaves nothing: what is passed on ends, and so do the other processes.
func (s *server) finish() {
	s.mu.Lock() // and never again
	if s.dir != nil && s.control != nil {
		unix.Unlinkat(int(s.dir.Fd()), uplink.ControlName, 0) // another directory may have the name by now, and an uplink of its own
		s.control.Close()
	}
	if s.carrier != nil {
		s.carrier.stop()
	}
	if s.names != nil {
		s.names.Close()
	}
	if s.in != nil {
		s.in.end()
	}
}

// watchInside makes the process in the namespaces anew when it ends: somebody killed it.
func (s *server) watchInside(in *side) {
	for {
		<-in.gone
		s.mu.Lock()
		if s.ending() {
			s.mu.Unlock()
			return
		}
		s.say("the process in the namespaces ended, and is made anew")
		in.conn.Close()
		if in.proc != nil {
			in.proc.Close()
		}
		if err := s.enter(); err != nil {
			s.say("%v", err)
			s.mu.Unlock()
			s.stop()
			return
		}
		in = s.in
		for owner, list := range s.owners {
			for _, p := range list {
				if err := s.pass(p); err != nil {
					s.say("port %v of %s: %v", p.Publish, owner, err)
				}
			}
		}
		s.mu.Unlock()
	}
}

// watchCarrier starts pasta anew when it ends, and goes on without it where it ends again and again.
func (s *server) watchCarrier(c carrier) {
	for fails := 0; c.ended() != nil; {
		began := time.Now()
		select {
		case <-s.end:
			return
		case <-c.ended():
		}
		if fails++; time.Since(began) > time.Minute {
			fails = 1
		}
		s.mu.Lock()
		if s.ending() {
			s.mu.Unlock()
			return
		}
		s.say("pasta ended, for the %d. time", fails)
		var err error
		if fails < 5 || s.o.mode == uplink.Pasta {
			err = s.carry()
		} else {
			s.status.Why = s.status.Program + " ended again and again"
			err = s.carryItself()
		}
		if err == nil {
			c = s.carrier
		} else {
			s.say("%v", err)
		}
		s.mu.Unlock()
		select {
		case <-s.end:
			return
		case <-time.After(time.Duration(min(fails, 50)-1) * 100 * time.Millisecond):
		}
	}
}

// talk answers one connection.
func (s *server) talk(c *os.File) {
	for buf := make([]byte, 1<<10); ; {
		n, fds, err := seqpacket.Receive(c, buf, 1)
		for _, fd := range fds {
			unix.Close(fd)
		}
		if err != nil {
			return
		}
		what, owner, _ := strings.Cut(string(buf[:n]), " ")
		var send []int
		own := false
		s.mu.Lock()
		switch what {
		case uplink.AskStatus: // which is what a start asks
			s.giveBack()
			s.passNames()
		case uplink.AskNamespaces:
			send = []int{int(s.user.Fd()), int(s.net.Fd())}
		case uplink.AskPublish:
			s.giveBack()
			err = s.publish(owner)
		case uplink.AskUnpublish:
			s.unpublish(owner)
		case uplink.AskOwn:
			own, err = isOwn(owner)
		case uplink.AskEnd:
			s.stop()
		default:
			err = fmt.Errorf("%q is nothing that an uplink does", what)
		}
		a := uplink.AnswerOf(err, s.now())
		a.Own = own
		text, e := leanjson.Marshal(a)
		s.mu.Unlock()
		if e != nil || seqpacket.Send(c, text, send...) != nil {
			return
		}
	}
}

// isOwn reports whether the machine has an address.
func isOwn(text string) (bool, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return false, err
	}
	s, err := netlink.Open()
	if err != nil {
		return false, err
	}
	defer s.Close()
	return s.Own(a)
}

// publish takes what an owner's record has, in the place of what the owner has.
func (s *server) publish(owner string) (err error) {
	ports, err := uplink.ReadPorts(s.o.run, owner)
	if err != nil {
		return err
	}
	s.unpublish(owner)
	defer func() {
		if err != nil {
			s.unpublish(owner)
		}
	}()
	chosen := false
	for i, p := range ports {
		s.next++
		t := taken{Publish: p, id: strconv.Itoa(s.next)}
		if t.fd, t.HostPort, err = s.take(p); err != nil {
			return err
		}
		s.owners[owner] = append(s.owners[owner], t)
		if err := s.pass(t); err != nil {
			return err
		}
		chosen = chosen || p.HostPort == 0
		ports[i].HostPort = t.HostPort
	}
	if chosen {
		return uplink.WritePorts(s.o.run, owner, ports)
	}
	return nil
}

// take listens at a port of the machine.
func (s *server) take(p plan.Publish) (fd int, port uint16, err error) {
	where := func(err error) error {
		return fmt.Errorf("port %d/%s of %v: %w", p.HostPort, p.Proto, p.HostAddr, err)
	}
	if p.Proto == "sctp" {
		return -1, 0, where(fmt.Errorf("%w: an ordinary user's ports are of TCP and UDP: run the container as root", unix.EPROTONOSUPPORT))
	}
	for other, list := range s.owners {
		for _, o := range list {
			if p.HostPort != 0 && o.Proto == p.Proto && o.HostPort == p.HostPort && o.HostAddr.Is4() == p.HostAddr.Is4() &&
				(o.HostAddr == p.HostAddr || o.HostAddr.IsUnspecified() || p.HostAddr.IsUnspecified()) {
				return -1, 0, &network.TakenError{Port: p, Who: network.PublishedBy(other)}
			}
		}
	}
	listens := p
	listens.Strict = true // by a socket, as all are here
	h, err := network.OpenRules(filepath.Join(s.o.run, "rules")).HoldPort(listens)
	if errors.Is(err, unix.EACCES) {
		first, _ := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
		return -1, 0, where(fmt.Errorf("%w: ports below %s are root's: publish another one, or have root set net.ipv4.ip_unprivileged_port_start=%d (sysctl)", unix.EACCES, strings.TrimSpace(string(first)), p.HostPort))
	}
	if err != nil {
		return -1, 0, err
	}
	return h.FD, h.Port, nil
}

// pass has what comes to a port passed on.
func (s *server) pass(t taken) error {
	_, _, err := s.in.ask(t.fd, wordServe, t.id, t.Proto, t.Addr, t.Port)
	return err
}

// giveBack gives ports back that have no record any more: who took that away was killed, or did not wait for an answer.
func (s *server) giveBack() {
	for owner := range s.owners {
		if _, err := uplink.ReadPorts(s.o.run, owner); errors.Is(err, os.ErrNotExist) {
			s.unpublish(owner)
		}
	}
}

func (s *server) unpublish(owner string) {
	for _, t := range s.owners[owner] {
		if _, _, err := s.in.ask(-1, wordStop, t.id); err != nil {
			s.say("port %v of %s: %v", t.Publish, owner, err)
		}
		unix.Close(t.fd)
	}
	delete(s.owners, owner)
}
