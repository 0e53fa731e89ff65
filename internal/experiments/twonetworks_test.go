package experiments

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
)

// E13: two applications that want the same names, paths and ports run side by side, by the script that readers are given, as root and as an ordinary user.
func TestTwoNetworks(t *testing.T) {
	nstest.Root(t)
	nstest.Loopback(t)
	nstest.NoLeaks(t, "/run/kakuri/containers")
	t.Run("root", func(t *testing.T) { twoNetworks(t, nil) })
	t.Run("user", func(t *testing.T) {
		nstest.TUN(t, 0o666)
		u := nstest.User(t)
		twoNetworks(t, u)
		u.UplinkEnds(t)
	})
}

func twoNetworks(t *testing.T, user *nstest.Account) {
	script, err := filepath.Abs("../../examples/two-networks.sh")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "sh", script)
	c.Env = os.Environ()
	if user != nil {
		c = user.Command("timeout", "180", "sh", script)
	}
	c.Env = append(c.Env, "PATH="+filepath.Dir(nstest.Binary(t, "kakuri"))+":"+os.Getenv("PATH"))
	c.WaitDelay = time.Second
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %s%s", err, out, errs.String())
	}
	for _, want := range []string{
		"web 1 of database 1\nweb 2 of database 2\n",
		"web-v1 does not know the name db-v2\nweb-v1 does not reach the address of db-v2\n",
		"127.0.0.1:8081->80/tcp\n", "127.0.0.1:8082->80/tcp\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it does not say %q:\n%s%s", want, out, errs.String())
		}
	}
	// The example's own network devices and rules are gone.
	if left, err := exec.Command("sh", "-c", "{ ip -br link; nft list ruleset; } | grep bk- || :").CombinedOutput(); err != nil || len(left) > 0 {
		t.Errorf("left on the machine: %s %v", left, err)
	}
}
