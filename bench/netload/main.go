// Command netload is the load of the bench's rows for networks, inside containers and beside them:
//
//	netload serve                      takes what comes at port 5001, and gives back what comes at port 5002
//	netload send ADDRESS MB            sends that many megabytes, ten at a time, until the other side has them
//	netload trips ADDRESS N            sends 64 bytes and waits until they are back, N times
//	netload names SERVER NAME N MANY   asks a server N times for a name's IPv4 address, so many questions at a time; "-" is the server in /etc/resolv.conf
//
// All but the first print how many nanoseconds it took, from after the connection. The ends of a connection share a processor: whether the scheduler
// puts two that wait for each other on one, or on two of which each has to be woken, makes more of a difference than the networks do.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// What is sent is so many bytes at a time, and the other side says that it has them after so many times.
const piece, pieces = 250_000, 40

// patience is the longest that a load may take: more is a hang, not a time.
const patience = 60 * time.Second

func main() {
	took, err := run(os.Args[1:])
	if err != nil {
		fmt.Println("netload:", err)
		os.Exit(1)
	}
	fmt.Println(took.Nanoseconds())
}

func run(args []string) (time.Duration, error) {
	if len(args) > 0 && args[0] != "names" {
		if err := onOneProcessor(); err != nil {
			return 0, err
		}
	}
	if len(args) == 1 && args[0] == "serve" {
		return 0, serve()
	}
	numbers := map[string]int{"send": 1, "trips": 1, "names": 2}
	if len(args) < 1 || numbers[args[0]] == 0 || len(args) != map[string]int{"send": 3, "trips": 3, "names": 5}[args[0]] {
		return 0, fmt.Errorf("arguments %q: want serve, send ADDRESS MB, trips ADDRESS N, or names SERVER NAME N MANY", args)
	}
	var n []int
	for _, word := range args[len(args)-numbers[args[0]]:] {
		v, err := strconv.Atoi(word)
		if err != nil || v < 1 {
			return 0, fmt.Errorf("%q is no number of things to do", word)
		}
		n = append(n, v)
	}
	switch args[0] {
	case "send":
		return send(args[1], n[0])
	case "trips":
		return trips(args[1], n[0])
	}
	return names(args[1], args[2], n[0], n[1])
}

// onOneProcessor executes the program anew on the first of the processors that it may use, where these are several: all of its threads are there then.
func onOneProcessor() error {
	runtime.LockOSThread()
	var may, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	if may.Count() == 1 {
		runtime.UnlockOSThread()
		return nil
	}
	for i := 0; one.Count() == 0; i++ {
		if may.IsSet(i) {
			one.Set(i)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("sched_setaffinity: %w", err)
	}
	return fmt.Errorf("execve: %w", unix.Exec("/proc/self/exe", os.Args, os.Environ()))
}

func serve() error {
	sink, err := net.Listen("tcp", ":5001")
	if err != nil {
		return err
	}
	echo, err := net.Listen("tcp", ":5002")
	if err != nil {
		return err
	}
	accept := func(l net.Listener, with func(net.Conn)) error {
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			go func() {
				defer c.Close()
				with(c)
			}()
		}
	}
	go accept(echo, func(c net.Conn) {
		buf := make([]byte, 64)
		for {
			if _, err := io.ReadFull(c, buf); err != nil {
				return
			}
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	})
	return accept(sink, func(c net.Conn) {
		buf := make([]byte, piece)
		for i := 1; ; i++ {
			if _, err := io.ReadFull(c, buf); err != nil {
				return
			}
			if i%pieces != 0 {
				continue
			}
			if _, err := c.Write(buf[:1]); err != nil {
				return
			}
		}
	})
}

// dial connects, and waits for a server that is not there yet.
func dial(address string) (*net.TCPConn, error) {
	for until := time.Now().Add(10 * time.Second); ; {
		c, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err == nil {
			return c.(*net.TCPConn), c.SetDeadline(time.Now().Add(patience))
		}
		if time.Now().After(until) {
			return nil, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func send(address string, megabytes int) (time.Duration, error) {
	buf := make([]byte, piece)
	return times(address, megabytes*1_000_000/(piece*pieces), func(c net.Conn) error {
		for range pieces {
			if _, err := c.Write(buf); err != nil {
				return err
			}
		}
		_, err := io.ReadFull(c, buf[:1])
		return err
	})
}

func trips(address string, n int) (time.Duration, error) {
	buf := make([]byte, 64)
	return times(address, n, func(c net.Conn) error {
		if _, err := c.Write(buf); err != nil {
			return err
		}
		_, err := io.ReadFull(c, buf)
		return err
	})
}

// times does something n times by a connection, and gives what that takes at the pace of the twentieth part that was the fastest: what else the processor does makes some of
// them longer, and none shorter.
func times(address string, n int, do func(net.Conn) error) (time.Duration, error) {
	if n == 0 {
		return 0, errors.New("too little to be timed")
	}
	c, err := dial(address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	each := make([]time.Duration, n)
	for i := range each {
		begin := time.Now()
		if err := do(c); err != nil {
			return 0, err
		}
		each[i] = time.Since(begin)
	}
	slices.Sort(each)
	return each[n/20] * time.Duration(n), nil
}

func names(server, name string, n, many int) (time.Duration, error) {
	if server == "-" {
		data, err := os.ReadFile("/etc/resolv.conf")
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); len(f) == 2 && f[0] == "nameserver" && server == "-" {
				server = net.JoinHostPort(f[1], "53")
			}
		}
	}
	of, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return 0, err
	}
	conns := make([]net.Conn, many)
	for i := range conns {
		if conns[i], err = net.Dial("udp", server); err != nil {
			return 0, err
		}
		defer conns[i].Close()
		if err := ask(conns[i], of, 0); err != nil { // and waits for a server that is not there yet
			return 0, err
		}
	}
	errs := make([]error, many)
	var all sync.WaitGroup
	begin := time.Now()
	for i, c := range conns {
		all.Go(func() {
			for k := i; k < n && errs[i] == nil; k += many {
				errs[i] = ask(c, of, uint16(k))
			}
		})
	}
	all.Wait()
	return time.Since(begin), errors.Join(errs...)
}

// ask sends a question, once more each second, and checks the answer.
func ask(c net.Conn, of dnsmessage.Name, id uint16) error {
	question := dnsmessage.Question{Name: of, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: id, RecursionDesired: true}, Questions: []dnsmessage.Question{question}}
	data, err := m.Pack()
	if err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for range 10 {
		if _, err = c.Write(data); err != nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		var got int
		for {
			if got, err = c.Read(buf); err != nil || got > 2 && binary.BigEndian.Uint16(buf) == id {
				break
			}
		}
		if err != nil {
			continue
		}
		var answer dnsmessage.Message
		if err := answer.Unpack(buf[:got]); err != nil {
			return err
		}
		if answer.RCode != dnsmessage.RCodeSuccess || len(answer.Answers) == 0 {
			return fmt.Errorf("the answer for %v is %v with %d records", of, answer.RCode, len(answer.Answers))
		}
		return nil
	}
	return fmt.Errorf("no answer for %v: %w", of, err)
}
