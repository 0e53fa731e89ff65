package reach

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
)

func TestMain(m *testing.M) {
	if slices.ContainsFunc(os.Args[1:], func(a string) bool { return strings.TrimLeft(a, "-") == "update" }) {
		os.Exit(m.Run()) // nstest's files are read-only
	}
	os.Exit(nstest.Main(m, nstest.Options{Parts: map[string]func([]string) int{"listen": listen, "hear": hear}}))
}

// listen plays a program in a container: it listens at an address, says so, and waits for
// its end.
func listen(args []string) int {
	l, err := net.Listen("tcp4", args[0])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("up")
	for {
		c, err := l.Accept()
		if err != nil {
			return 1
		}
		c.Close()
	}
}

// hear plays a program of UDP: it listens at an address, says so, and answers or, with a second argument, does not.
func hear(args []string) int {
	l, err := net.ListenPacket("udp", args[0])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("up")
	b := make([]byte, 9)
	for {
		_, from, err := l.ReadFrom(b)
		if err != nil {
			return 1
		}
		if len(args) == 1 {
			l.WriteTo([]byte("yes"), from)
		}
	}
}
