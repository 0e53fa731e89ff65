package sandbox

import (
	"errors"
	"strings"
	"syscall"
	"testing"
)

// Who built the program by "go install" where a C compiler is learns why it unpacks nothing.
func TestBuiltWithCgo(t *testing.T) {
	err := capsetError(syscall.ENOTSUP)
	if !errors.Is(err, syscall.ENOTSUP) || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
		t.Error(err)
	}
	if err := capsetError(syscall.EPERM); err != syscall.EPERM {
		t.Error(err)
	}
}
