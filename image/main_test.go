package image

import (
	"os"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
)

func TestMain(m *testing.M) {
	if os.Getenv(killMe) != "" { // a process of TestKilled, in the namespaces of that
		os.Exit(m.Run())
	}
	os.Exit(nstest.Main(m, nstest.Options{}))
}
