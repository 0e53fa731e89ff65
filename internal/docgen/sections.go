package docgen

import (
	"strings"

	"github.com/spf13/cobra"
)

// A section is one that cobra has no place for.
type section struct{ title, text string }

// sections gives what a page has beside its command's own texts.
func sections(page string) []section {
	const (
		runs = `The exit code is that of the program, or 128 plus the number of the signal that ended
it. It is 125 when kakuri refuses or fails, 126 when the program is there and cannot be
executed, 127 when it is not there.`
		stands = `As with util-linux: the exit code is that of the program, and a signal that ended it ends this
command as well. It is 1 when kakuri refuses or fails, 126 when the program is there and cannot be
executed, 127 when it is not there.`
		looks = `0, or 1 when something is wrong, and 125 for a command line that cannot be understood.`
	)
	switch page {
	case "kakuri":
		return []section{
			{"EXIT STATUS", `Of run, unshare and enter: the exit code of the program, or 128 plus the number of the
signal that ended it; 125 when kakuri refuses or fails, 126 when the program cannot be
executed, 127 when it is not there. Of verify and tour: 1 when a property differs or an
observation does not hold.`},
			{"ENVIRONMENT", `LC_ALL, LC_MESSAGES and LANG choose the language of tour, ns, verify and port why (English or Japanese).
KAKURI_STORAGE_DRIVER is the storage driver to use: erofs, dirs or fuse-overlayfs. KAKURI_UPLINK is what carries an ordinary
user's networks outside: builtin, pasta, or auto for pasta where it is installed. NO_COLOR, or TERM=dumb, leaves colours away. SHELL is the program of unshare and enter when none
is named. KAKURI_RUNTIME is the program kakuri-runtime, in place of that beside kakuri or in PATH. XDG_DATA_HOME, XDG_RUNTIME_DIR and
XDG_CONFIG_HOME are where the files of an ordinary user are, see below.`},
			{"FILES", `/var/lib/kakuri has root's containers, images, volumes and networks; for an ordinary user it is
$XDG_DATA_HOME/kakuri, or ~/.local/share/kakuri where that variable is not set. It may be a symbolic link, or something mounted there: to move it, stop the containers.

/run/kakuri has what a boot ends, such as the states of running containers, in containers; for an ordinary user it
is $XDG_RUNTIME_DIR/kakuri, or /tmp/kakuri-UID, and stays that of a data directory where a later command has another XDG_RUNTIME_DIR or none, as
by su or cron. Of a second XDG_DATA_HOME in the same boot it is that name with -HASH: the two know nothing of each other, and have a network world each.

/etc/kakuri/registries.json, and then $XDG_CONFIG_HOME/kakuri/registries.json (else ~/.config), say how registries are reached.`},
		}
	case "kakuri-run":
		return []section{{"EGRESS", `--egress has entries between commas, and can be given several times: none, alone, for nothing at all;
NAME[@CIDR][:PORTS][/PROTO] for a name, *.NAME for all names below it; ADDRESS or CIDR, of IPv6 in brackets,
with the same behind it; :PORTS[/PROTO] for any address that is not of the link alone. PORTS is one, or a range as in
8000-8010. PROTO is tcp, udp, sctp or icmp, which is ping. Without it an entry with ports is for tcp, and
one without ports for tcp, udp and ping. Names are those of DNS, and of containers. Names of others lead to public
addresses only, unless @CIDR says where else. All else is refused at once, and listed by kakuri
network log. The container gets neither NET_ADMIN nor NET_RAW.`}, {"EXIT STATUS", runs}}
	case "kakuri-unshare":
		return []section{{"EXIT STATUS", stands}, {"BESIDE UNSHARE(1)", `Without --fork, unshare(1) becomes the program. kakuri stays as its parent and stands in for it:
signals are passed on, but for those that the terminal sent to both; it stops when the program
stops; when it is killed, the program is. Of the signals that the caller ignores, SIGHUP and SIGINT
stay ignored. --setgroups=deny is no error beside a map of one group, and is one without a user namespace.
For root, --map-auto wants a line for root in /etc/subuid. --kill-child takes numbers, too.
--mount=FILE tries each processor where the kernel takes a new mount namespace for an older one.`}}
	case "kakuri-enter":
		return []section{{"EXIT STATUS", stands}, {"BESIDE NSENTER(1)", `kakuri stays as the program's parent and stands in for it, as kakuri unshare does without --fork; so
a signal that the program handles does not end the command. An optional value follows its option
without a space: -r/usr, -W/etc. Without a target, the first argument is a container's name. No
namespace need be given. With --root and no --wd the working directory is the new root. A user
namespace that denies setgroups(2) can be entered; --all leaves out what is shared and could not be
joined. --follow-context is refused where SELinux is on.`}}
	case "kakuri-ns", "kakuri-ps", "kakuri-explain":
		return []section{{"EXIT STATUS", looks}}
	}
	return nil
}

// seeAlso names the pages around a command's, and those of the kernel and of the
// tools that it resembles.
func seeAlso(root, c *cobra.Command) string {
	var pages []string
	if c != root {
		pages = append(pages, title(root)+"(1)")
	}
	if c == root {
		for _, sub := range shown(root) {
			pages = append(pages, title(sub)+"(1)")
		}
	}
	pages = append(pages, "kakuri-runtime(8)")
	switch c.Name() {
	case "unshare":
		pages = append(pages, "unshare(1)")
	case "enter":
		pages = append(pages, "nsenter(1)")
	case "ns":
		pages = append(pages, "lsns(8)")
	}
	pages = append(pages, "namespaces(7)")
	return strings.Join(pages, ", ")
}
