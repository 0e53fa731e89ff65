package systemd

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/internal/dbus"
	"github.com/kakuri/kakuri/namespace"
)

// A Bus is a connection to a systemd manager. It is not for use by several goroutines at once.
type Bus struct {
	*dbus.Conn
	User    bool // the manager is a user's own, and not the machine's
	version int
}

// An Error is an answer of the manager's: its name is "org.freedesktop.systemd1.NoSuchUnit", for one.
type Error = dbus.Error

// patience is how long a manager may take for a job.
const patience = 30 * time.Second

// System connects to the machine's manager: by its own socket, which needs root and no bus daemon; else by the system bus.
func System() (*Bus, error) {
	c, err := dbus.Dial("/run/systemd/private")
	if err == nil {
		return newBus(c, false)
	}
	c, err2 := dbus.System()
	if err2 != nil {
		return nil, fmt.Errorf("systemd: %w: is the machine run by systemd? The other cgroup driver needs none", dbus.Both(err, err2))
	}
	return newBus(c, false)
}

// newBus refuses a manager of another pid namespace, as a container has it whose /run is the machine's: the number of a container's process is another process there,
// which would get the limits, and end with the container.
func newBus(c *dbus.Conn, user bool) (*Bus, error) {
	pid, err := c.Peer()
	if err == nil && pid == 0 {
		err = errors.New("systemd: it is of another pid namespace, and knows processes by other numbers")
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return &Bus{Conn: c, User: user}, nil
}

// User connects to the manager of the calling user, who may be in a user namespace: by the session bus, else by the manager's own
// socket. Both are where a login has them, also for who has come by su(1) or cron(8).
func User() (*Bus, error) {
	address, dir := os.Getenv("DBUS_SESSION_BUS_ADDRESS"), os.Getenv("XDG_RUNTIME_DIR")
	c, err := dialUser(address, dir)
	if usual := loginDir(); err != nil && dir != usual {
		var err2 error
		if c, err2 = dialUser("", usual); err2 == nil {
			err = nil
		} else {
			err = dbus.Both(err, err2)
		}
	}
	if err != nil {
		return nil, err
	}
	return newBus(c, true)
}

// loginDir is where a login of this user has its sockets: pam_systemd(8). In a user namespace the user is known by the number outside.
func loginDir() string {
	uids, _ := os.ReadFile("/proc/self/uid_map")
	return fmt.Sprintf("/run/user/%d", namespace.OnHost(uint32(os.Getuid()), uids))
}

func dialUser(address, dir string) (*dbus.Conn, error) {
	if dir == "" && address == "" {
		return nil, errors.New("systemd: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set: log in anew, by machinectl shell for one")
	}
	c, err := dbus.DialBus(address, path.Join(dir, "bus"))
	if err == nil {
		return c, nil
	}
	if dir != "" {
		c, err2 := dbus.Dial(path.Join(dir, "systemd/private"))
		if err2 == nil {
			return c, nil
		}
		err = dbus.Both(err, err2)
	}
	return nil, fmt.Errorf("systemd of the user: %w: is dbus-user-session installed?", err)
}

// subscribe has a bus daemon pass on the end of jobs. A manager's own socket does so anyway.
func (b *Bus) subscribe() error {
	if !b.Broker {
		return nil
	}
	const daemon = "org.freedesktop.DBus"
	rule := "type='signal',sender='" + manager + "',interface='" + managerInterface + "',member='JobRemoved'"
	_, err := b.Call(&dbus.Message{Destination: daemon, Path: "/org/freedesktop/DBus", Interface: daemon, Member: "AddMatch", Body: []any{rule}})
	if err == nil {
		_, err = b.manager("Subscribe")
	}
	var e *Error
	if errors.As(err, &e) && e.Name == "org.freedesktop.systemd1.AlreadySubscribed" {
		return nil
	}
	return err
}

// The manager: org.freedesktop.systemd1(5).
const (
	manager          = "org.freedesktop.systemd1"
	managerPath      = "/org/freedesktop/systemd1"
	managerInterface = "org.freedesktop.systemd1.Manager"
)

func (b *Bus) manager(method string, args ...any) ([]any, error) {
	body, err := b.Call(&dbus.Message{Destination: manager, Path: managerPath, Interface: managerInterface, Member: method, Body: args})
	if err != nil {
		return nil, fmt.Errorf("systemd: %s: %w", method, err)
	}
	return body, nil
}

// property reads a property of the manager.
func (b *Bus) property(name string) (any, error) {
	body, err := b.Call(&dbus.Message{
		Destination: manager, Path: managerPath, Interface: "org.freedesktop.DBus.Properties", Member: "Get", Body: []any{managerInterface, name},
	})
	if err != nil {
		return nil, fmt.Errorf("systemd: property %s: %w", name, err)
	}
	if len(body) == 1 {
		if v, ok := body[0].(dbus.Variant); ok {
			return v.Value, nil
		}
	}
	return nil, fmt.Errorf("systemd: property %s: no value", name)
}

// Version is the manager's version: 252.
func (b *Bus) Version() (int, error) {
	if b.version > 0 {
		return b.version, nil
	}
	v, err := b.property("Version")
	if err != nil {
		return 0, err
	}
	b.version, err = parseVersion(fmt.Sprint(v))
	return b.version, err
}

// parseVersion takes the number out of "252.38-1~deb12u1", "v245.4" and the like.
func parseVersion(s string) (int, error) {
	digits := strings.TrimLeft(s, `"v`)
	end := strings.IndexFunc(digits, func(c rune) bool { return c < '0' || c > '9' })
	if end >= 0 {
		digits = digits[:end]
	}
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0, fmt.Errorf("systemd: version %q has no number", s)
	}
	return n, nil
}
