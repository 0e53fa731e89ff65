package engine

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network/netdb"
	"golang.org/x/sys/unix"
)

// splitLink divides what --link says: CONTAINER[:ALIAS].
func splitLink(l string) (ref, alias string) {
	ref, alias, ok := strings.Cut(l, ":")
	if !ok {
		alias = ref
	}
	return ref, alias
}

// linked are the lines of --link on the default network, where nobody is known by name otherwise.
func (b *builder) linked(w *wire) (string, error) {
	text := ""
	for _, l := range w.asked.Links {
		ref, alias := splitLink(l)
		c, err := b.engine.Find(ref)
		if err != nil {
			return "", fmt.Errorf("could not get container for %s: %w", ref, err)
		}
		c = b.engine.networkOwner(c)
		if c.Config.networkMode() == "host" {
			return "", errors.New("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
		}
		has := c.connection(w.network.ID)
		if has == nil || !c.Active() {
			if b.look {
				continue
			}
			return "", cannotLink(&c, "/"+b.rec.Name+"/"+alias)
		}
		text += linkLines(&c, has.Addrs, alias)
		if !b.look {
			if err := c.linkedBy(b.rec.ID); err != nil {
				return "", err
			}
		}
	}
	return text, nil
}

// cannotLink says why there is no address of c by which a link could name it.
func cannotLink(c *Container, as string) error {
	if c.Active() {
		return fmt.Errorf("cannot link to /%s, as it does not belong to the default network: on one that both are connected to, a link is a name for it", c.Name)
	}
	return fmt.Errorf("cannot link to a non running container: /%s AS %s", c.Name, as)
}

// ownerNetwork is the network mode of a container's network namespace.
func (e *Engine) ownerNetwork(c Container) string {
	owner := e.networkOwner(c)
	return owner.Config.networkMode()
}

// networkOwner is the container whose network namespace one has: its own, but with --network container:NAME.
func (e *Engine) networkOwner(c Container) Container {
	for range 100 { // a record that was made by hand may lead in a circle
		ref, joins := strings.CutPrefix(c.Config.networkMode(), "container:")
		owner, err := e.Find(ref)
		if !joins || err != nil {
			break
		}
		c = owner
	}
	return c
}

// linkLines are the lines by which another container knows c.
func linkLines(c *Container, addrs []netip.Prefix, alias string) string {
	names := alias + " " + files.ShortID(c.ID)
	if c.Name != alias {
		names += " " + c.Name
	}
	text := ""
	for _, p := range addrs {
		text += p.Addr().String() + "\t" + names + "\n"
	}
	return text
}

// linkedBy notes that a container has c's address in its /etc/hosts: at c's next start, which may give it another one, it is told.
func (c *Container) linkedBy(id string) error {
	data, err := files.Read(c.dir + "/linkers")
	if err := ignoreMissing(err); err != nil || strings.Contains(string(data), id) {
		return err
	}
	file, err := os.OpenFile(c.dir+"/linkers", os.O_CREATE|os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.WriteString(id + "\n")
	return err
}

// tellLinkers has the containers that know one by a link, and run, learn the addresses that a start gave it. The caller does not hold its lock: two may know each
// other.
func (e *Engine) tellLinkers(c *Container) error {
	data, err := files.Read(c.dir + "/linkers")
	if err != nil {
		return ignoreMissing(err)
	}
	var errs []error
	for _, id := range strings.Fields(string(data)) {
		err := e.relink(id, c)
		if !errors.As(err, new(ErrNoSuchContainer)) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// relink writes the addresses of a container into the /etc/hosts of one that has a link to it.
func (e *Engine) relink(id string, to *Container) error {
	c, lock, err := e.lock(id)
	if err != nil {
		return err
	}
	defer lock.Close()
	n, err := e.netdb().Default()
	has := to.connection(n.ID)
	if err != nil || has == nil || !c.Active() {
		return err
	}
	return c.rewriteHosts(func(text string) string {
		lines := ""
		for line := range strings.Lines(text) {
			_, names, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			alias, more, _ := strings.Cut(names, " ")
			if short, _, _ := strings.Cut(more, " "); short != files.ShortID(to.ID) {
				lines += line
			} else if now := linkLines(to, has.Addrs, alias); !strings.Contains(lines, now) {
				lines += now
			}
		}
		return lines
	})
}

// linkVariables are what a container's environment says of those that it has links to on the default network.
func (b *builder) linkVariables() (env []string, err error) {
	err = b.engine.legacyLinks(&b.run, func(n netdb.Network, to Container, alias string) {
		has := to.connection(n.ID)
		if has == nil || len(has.Addrs) == 0 {
			return // who starts it says that the other one does not run
		}
		ports, _ := to.Config.exposedPorts() // they were looked at when it was made
		env = append(env, variablesOf("/"+b.rec.Name+"/"+alias, has.Addrs[0].Addr(), ports, to.Config.Env)...)
	})
	return env, err
}

// variablesOf are the variables by which a container knows another one, whose link has a name like /WEB/DB: DB_NAME, DB_PORT for its first port, DB_PORT_80_TCP and
// others for each port and for each row of ports, and its own variables as DB_ENV_…
func variablesOf(link string, addr netip.Addr, ports []exposed, own []string) (env []string) {
	alias := strings.ReplaceAll(strings.ToUpper(path.Base(link)), "-", "_")
	set := func(name, format string, v ...any) { env = append(env, alias+name+"="+fmt.Sprintf(format, v...)) }
	url := func(p exposed) string {
		return p.proto + "://" + net.JoinHostPort(addr.String(), strconv.Itoa(int(p.port)))
	}
	of := func(p exposed) string { return fmt.Sprintf("_PORT_%d_%s", p.port, strings.ToUpper(p.proto)) }
	ports = slices.Clone(ports)
	slices.SortFunc(ports, func(a, b exposed) int {
		other := func(x exposed) int { // TCP comes first
			if x.proto == "tcp" {
				return 0
			}
			return 1
		}
		return cmp.Or(other(a)-other(b), strings.Compare(a.proto, b.proto), int(a.port)-int(b.port))
	})
	for i, p := range ports {
		if i == 0 {
			set("_PORT", "%s", url(p))
		}
		set(of(p), "%s", url(p))
		set(of(p)+"_ADDR", "%s", addr)
		set(of(p)+"_PORT", "%d", p.port)
		set(of(p)+"_PROTO", "%s", p.proto)
	}
	for len(ports) > 0 {
		n := 1
		for n < len(ports) && ports[n].proto == ports[0].proto && int(ports[n].port) == int(ports[0].port)+n {
			n++
		}
		if first, last := ports[0], ports[n-1]; n > 1 {
			set(of(first)+"_START", "%s", url(first))
			set(of(first)+"_PORT_START", "%d", first.port)
			set(of(first)+"_END", "%s", url(last))
			set(of(first)+"_PORT_END", "%d", last.port)
		}
		ports = ports[n:]
	}
	set("_NAME", "%s", link)
	for _, v := range own {
		if name, value, ok := strings.Cut(v, "="); ok && name != "PATH" && name != "HOME" {
			set("_ENV_"+name, "%s", value)
		}
	}
	return env
}

// legacyLinks calls back for each link that a container has on the default network, with that network and the container that it leads to. On other networks names are enough.
func (e *Engine) legacyLinks(c *Config, found func(n netdb.Network, to Container, alias string)) error {
	for _, a := range c.attachments() {
		if len(a.Links) == 0 {
			continue
		}
		n, err := e.lookupNetwork(a.Network, true)
		if err != nil || n.Name != netdb.DefaultName {
			continue // who starts it says what is wrong
		}
		for _, l := range a.Links {
			ref, alias := splitLink(l)
			to, err := e.Find(ref)
			if errors.As(err, new(ErrNoSuchContainer)) {
				continue
			}
			if err != nil {
				return err
			}
			found(n, e.networkOwner(to), alias)
		}
	}
	return nil
}

// noteLinks has those that a container has links to know of it, as soon as it is there.
func (e *Engine) noteLinks(c *Container) error {
	var errs []error
	err := e.legacyLinks(&c.Config, func(_ netdb.Network, to Container, _ string) { errs = append(errs, to.linkedBy(c.ID)) })
	return errors.Join(append(errs, err)...)
}

// linkNames are the names that a container has for others by their links, as Docker writes them: /OTHER/ALIAS.
func (e *Engine) linkNames(c *Container) (names []string) {
	data, err := files.Read(c.dir + "/linkers")
	if err != nil {
		return nil // there are none
	}
	for _, id := range strings.Fields(string(data)) {
		by, err := e.Find(id)
		if err != nil {
			continue // it is gone
		}
		e.legacyLinks(&by.Config, func(_ netdb.Network, to Container, alias string) {
			if to.ID == c.ID {
				names = append(names, "/"+by.Name+"/"+alias)
			}
		})
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// RemoveLink takes a link away from the container that has it, by its name: OTHER/ALIAS.
func (e *Engine) RemoveLink(name string) error {
	parent, alias := path.Split(strings.Trim(name, "/"))
	if parent == "" {
		return ErrConflict{"conflict, cannot remove the default link name of the container"}
	}
	c, lock, err := e.lock(strings.Trim(parent, "/"))
	if err != nil {
		return fmt.Errorf("cannot get parent %s for link name %s: %w", strings.Trim(parent, "/"), name, err)
	}
	defer lock.Close()
	is := func(l string) bool {
		_, as := splitLink(l)
		return as == alias
	}
	cfg, found := &c.Config, false
	without := func(list []string) []string {
		left := slices.DeleteFunc(slices.Clone(list), is)
		found = found || len(left) < len(list)
		return left
	}
	cfg.Links, cfg.Networks = without(cfg.Links), slices.Clone(cfg.Networks)
	for i := range cfg.Networks {
		cfg.Networks[i].Links = without(cfg.Networks[i].Links)
	}
	if !found {
		return fmt.Errorf("no such link: %s", name)
	}
	if err := c.writeRecord(); err != nil || !c.Active() {
		return err
	}
	return c.rewriteHosts(func(text string) string {
		kept := ""
		for line := range strings.Lines(text) {
			_, names, _ := strings.Cut(line, "\t")
			if as, more, _ := strings.Cut(names, " "); as != alias || !isShortID(more) {
				kept += line
			}
		}
		return kept
	})
}

// isShortID reports whether a text begins with an id as links have it in /etc/hosts.
func isShortID(s string) bool {
	first, _, _ := strings.Cut(strings.TrimSpace(s), " ")
	return len(first) == 12 && strings.Trim(first, "0123456789abcdef") == ""
}
