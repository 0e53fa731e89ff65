package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Lines are read as getopt_long(3) reads them with the options of unshare(1) and nsenter(1).
func TestGetopt(t *testing.T) {
	unshare := func() *cobra.Command { return unshareCommand(&unshareFlags{}, nil) }
	enter := func() *cobra.Command { return enterCommand(&enterFlags{}, nil) }
	for _, c := range []struct {
		command    func() *cobra.Command
		line       string
		want, args string // or the end of an error, after "!"
	}{
		{unshare, "-Urf id -u", "--user --map-root-user --fork", "id -u"},
		{unshare, "-mu -R/a -w /b -S5 -l :x:", "--mount --uts --root=/a --wd=/b --setuid=5 --load-interp=:x:", ""},
		{unshare, "--mount-p=/x --mo --setgr deny --prop=slave", "!--mo is one of --mount, --mount-proc, --mount-binfmt, --monotonic", ""},
		{unshare, "--mount-p=/x --mount --setgr deny --prop=slave", "--mount-proc=/x --mount --setgroups=deny --propagation=slave", ""},
		{unshare, "--mount /x", "--mount", "/x"},
		{unshare, "-f -- -x", "--fork", "-x"},
		{unshare, "-f - -x", "--fork", "- -x"},
		{unshare, "--fork=1", "!--fork takes no value", ""},
		{unshare, "--root", "!--root needs a value", ""},
		{unshare, "-fR", "!-R needs a value", ""},
		{unshare, "-fZ", "!unknown shorthand flag: -Z in -fZ", ""},
		{unshare, "--none", "!unknown flag: --none", ""},
		{enter, "-t123 -S0 -G 7 -r/usr -w/dir -W/x -m/path sh", "--target=123 --setuid=0 --setgid=7 --root=/usr --wd=/dir --wdns=/x --mount=/path", "sh"},
		{enter, "-m=/path -r -w -W", "--mount=/path --root --wd --wdns", ""},
		{enter, "-W /etc pwd", "--wdns", "/etc pwd"},
		{enter, "-at 1 -mu", "--all --target=1 --mount=u", ""},
		{enter, "-FecN3 --user-p --user=/f", "--no-fork --env --join-cgroup --net-socket=3 --user-parent --user=/f", ""},
	} {
		options, args, err := getopt(c.command().Flags(), strings.Fields(c.line), c.command().Flags().Lookup("target") != nil)
		if want, ok := strings.CutPrefix(c.want, "!"); ok {
			if err == nil || err.Error() != want {
				t.Errorf("%s: %v, want %s", c.line, err, want)
			}
			continue
		}
		if err != nil || !slices.Equal(options, strings.Fields(c.want)) || !slices.Equal(args, strings.Fields(c.args)) {
			t.Errorf("%s: %q %q, %v", c.line, options, args, err)
		}
	}
}
