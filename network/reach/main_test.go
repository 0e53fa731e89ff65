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
	os.Exit(nstest.Main(m, nstest.Options{Parts: map[string]func([]string) int{"listen": listen}}))
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
