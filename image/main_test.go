package image

import (
	"os"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
)

func TestMain(m *testing.M) {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"} {
		_ = os.Unsetenv(name) // package net/http reads them once; tests have servers of their own
	}
	if os.Getenv(killMe) != "" { // a process of TestKilled, in the namespaces of that
		os.Exit(m.Run())
	}
	os.Exit(nstest.Main(m, nstest.Options{}))
}
