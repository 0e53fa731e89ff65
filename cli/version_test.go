package cli

import (
	"bytes"
	"context"
	"testing"
)

// TestVersionOfAPI: callers of the command that ask for a least version of the API find one.
func TestVersionOfAPI(t *testing.T) {
	for _, name := range []string{"Server.APIVersion", "Client.APIVersion", "Client.DefaultAPIVersion", "Server.MinAPIVersion"} {
		var out, errs bytes.Buffer
		if code := Main(context.Background(), []string{"version", "--format", "{{." + name + "}}"}, IO{Out: &out, Err: &errs}); code != 0 || out.String() != "1.51\n" {
			t.Errorf("%s: %d: %q, %s", name, code, out.String(), errs.String())
		}
	}
}
