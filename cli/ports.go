package cli

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/network/reach"
	"github.com/kakuri/kakuri/ui"
	"github.com/spf13/cobra"
)

// portText is the ports of a container as ps has them: neighbours that the host has at the
// same numbers, or has not at all, are folded into ranges; those at other numbers follow.
func portText(ports []engine.SummaryPort) string {
	type run struct {
		ip, proto   string
		first, last uint16
	}
	text := func(r run) string {
		span := strconv.Itoa(int(r.first))
		if r.first != r.last {
			span += "-" + strconv.Itoa(int(r.last))
		}
		if r.ip != "" {
			span = net.JoinHostPort(r.ip, span) + "->" + span
		}
		return span + "/" + r.proto
	}
	ports = slices.Clone(ports)
	slices.SortFunc(ports, func(a, b engine.SummaryPort) int {
		return cmp.Or(cmp.Compare(a.PrivatePort, b.PrivatePort), strings.Compare(a.IP, b.IP), cmp.Compare(a.PublicPort, b.PublicPort), strings.Compare(a.Type, b.Type))
	})
	var out, moved []string
	var open []*run // one for each address and protocol, in the order in which they began
	for _, p := range ports {
		if p.IP != "" && p.PublicPort != p.PrivatePort {
			moved = append(moved, fmt.Sprintf("%s->%d/%s", net.JoinHostPort(p.IP, strconv.Itoa(int(p.PublicPort))), p.PrivatePort, p.Type))
			continue
		}
		i := slices.IndexFunc(open, func(r *run) bool { return r.ip == p.IP && r.proto == p.Type })
		switch {
		case i < 0:
			open = append(open, &run{p.IP, p.Type, p.PrivatePort, p.PrivatePort})
		case p.PrivatePort == open[i].last+1:
			open[i].last = p.PrivatePort
		case p.PrivatePort != open[i].last:
			out = append(out, text(*open[i]))
			open[i].first, open[i].last = p.PrivatePort, p.PrivatePort
		}
	}
	for _, r := range open {
		out = append(out, text(*r))
	}
	return strings.Join(append(out, moved...), ", ")
}

// networkText is the networks that a container is on; of one in another's namespace it is empty, as with Docker.
func networkText(c engine.Summary) string {
	return strings.Join(slices.Sorted(maps.Keys(c.NetworkSettings.Networks)), ",")
}

func newPort(io IO) *cobra.Command {
	c := &cobra.Command{
		Use: "port CONTAINER [PRIVATE_PORT[/PROTO]]", Short: "List the ports that a container has on the machine, or say why one is unreachable", Args: arguments(1, 2), ValidArgsFunction: names(containerNames(up), 1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := openEngine(io)
			if err != nil {
				return err
			}
			ports, err := e.Port(args[0])
			if err != nil {
				return err
			}
			args = slices.DeleteFunc(args, func(s string) bool { return s == "" }) // an empty port is none, for Docker, too
			var text strings.Builder
			for _, p := range ports {
				at := net.JoinHostPort(p.HostIp, p.HostPort)
				switch {
				case len(args) == 1:
					fmt.Fprintln(&text, p.Container, "->", at)
				case p.Container == withProtocol(args[1]):
					fmt.Fprintln(&text, at)
				}
			}
			if len(args) == 2 && text.Len() == 0 {
				return fmt.Errorf("no public port '%s' published for %s", args[1], args[0])
			}
			_, err = fmt.Fprint(io.Out, text.String())
			return err
		},
	}
	c.AddCommand(newPortWhy(io))
	return c
}

func newPortWhy(io IO) *cobra.Command {
	var layout, lang string
	c := &cobra.Command{
		Use: "why [OPTIONS] PORT[/PROTO]|NAME:PORT[/PROTO]", Short: "Say why a port is reachable, or is not", Args: arguments(1, 1), ValidArgsFunction: completeQuestion,
		Long: `Say why a port of this machine, or one of a container, is reachable or is not: whether
somebody listens and where, what is published, which program of the machine has the
port, devices, bridges and routes on the way, and the rules of all firewall tables.
It tries to connect from each side (by UDP it sends one byte), and says what to do.
The exit code is 1 where something stands in the way.`,
		Example: "  kakuri port why 8080\n  kakuri port why web:80\n  kakuri port why 53/udp",
	}
	c.Flags().StringVar(&layout, "format", "text", "text or json: the facts and what they say")
	c.Flags().StringVar(&lang, "lang", "", "language of the text: en or ja (default: that of the locale)")
	c.RunE = func(c *cobra.Command, args []string) error {
		q, err := parseQuestion(args[0])
		if err != nil {
			return usageError{err}
		}
		if layout != "text" && layout != "json" {
			return usageError{fmt.Errorf("--format %s: there are text and json", layout)}
		}
		l, err := ui.LangOf(lang, os.Getenv)
		if err != nil {
			return usageError{fmt.Errorf("--lang: %w", err)}
		}
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		code, done, err := e.PortAgain(c.Context(), q)
		if err == nil && code != 0 {
			err = exitCode(code)
		}
		if done || err != nil {
			return err
		}
		facts, err := e.PortFacts(c.Context(), q)
		if err != nil {
			return err
		}
		v := reach.Judge(facts)
		if layout == "json" {
			err = ui.JSON(io.shown(), struct {
				Facts    reach.Facts
				Findings []reach.Finding
			}{facts, v.Findings})
		} else {
			_, err = fmt.Fprint(io.Out, v.Text(l))
		}
		if err == nil && !v.OK() {
			return exitCode(1)
		}
		return err
	}
	return c
}

// parseQuestion parses PORT[/PROTO] or NAME:PORT[/PROTO].
func parseQuestion(s string) (q reach.Question, err error) {
	text := s
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		q.Name, text = s[:i], s[i+1:]
		if q.Name == "" {
			return q, fmt.Errorf("%s: the container's name is missing", s)
		}
	}
	port, proto, err := protocolOf(text)
	if err != nil {
		return q, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return q, fmt.Errorf("%s: want PORT or NAME:PORT, as in 8080 or web:80/udp", s)
	}
	q.Port, q.Proto = uint16(n), proto
	return q, nil
}

// withProtocol is a port with its protocol, TCP where none is named.
func withProtocol(port string) string {
	if !strings.Contains(port, "/") {
		port += "/tcp"
	}
	return port
}
