package cli

import (
	"context"
	"net/netip"
	"strconv"
	"time"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/cobra"
)

func newNetworkLog(io IO) *cobra.Command {
	var layout string
	var follow bool
	c := &cobra.Command{
		Use: "log [OPTIONS] CONTAINER", Short: "List what a container with --egress was refused", Args: arguments(1, 1), ValidArgsFunction: names(containerNames(anyState), 1),
		Long: `List what a container with --egress was refused: packets by protocol, address and
port, names that it asked for, and addresses that a name leads to and may not, each
once, with how often and when it was the last time. The last one is the last line.`,
		Example: "  kakuri run -d --name app --egress example.org:443 nginx\n  kakuri network log app\n  kakuri network log -f --format json app",
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "print what comes, too, until the container ends")
	formatFlag(c.Flags(), &layout)
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		o := refusalLayout(layout, follow, io.onTerminal())
		if follow {
			return followRefusals(c.Context(), io, e, args[0], o)
		}
		rows, _, err := refusedSoFar(c.Context(), e, args[0])
		if err != nil {
			return err
		}
		return format.Rows(io.Out, refusalSpec(), o, rows)
	}
	return c
}

// refusalLayout is how refusals are written. In rows that come one by one, as in a table, a name acts on no terminal and is no other row, wherever they go.
func refusalLayout(layout string, follow, terminal bool) format.Options {
	if follow && (layout == "" || layout == "table") {
		return format.Options{Format: `{{.Last}}  {{.Count}}  {{.Refused}}  {{.Why}}  {{.Name}}`, Terminal: true}
	}
	return format.Options{Format: layout, Terminal: terminal}
}

// refusedSoFar is what a container was refused; more may come while it is there.
func refusedSoFar(ctx context.Context, e *engine.Engine, ref string) (rows []refusalRow, more bool, err error) {
	box, err := e.Find(ref)
	if err != nil {
		return nil, false, err
	}
	list, others, err := e.NetworkLog(ctx, ref)
	return refusalRows(list, others), box.Active(), err
}

// followRefusals prints each row once, until the container ends.
func followRefusals(ctx context.Context, io IO, e *engine.Engine, ref string, o format.Options) error {
	seen := map[refusalRow]bool{}
	for {
		all, more, err := refusedSoFar(ctx, e, ref)
		if err != nil {
			return err
		}
		var rows []refusalRow
		for _, r := range all {
			if !seen[r] {
				rows = append(rows, r)
			}
			seen[r] = true
		}
		if len(rows) > 0 {
			if err := format.Rows(io.Out, refusalSpec(), o, rows); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// A refusalRow is what a container was refused, as a list shows it.
type refusalRow struct {
	Last, Count, Kind, Refused, Name, Address, Protocol, Port, Why string
}

// refusalSpec has the name at the end: the container chose it, and up to a thousand columns of it are in nobody else's line.
func refusalSpec() format.Spec {
	return format.Spec{
		Table: "{{.Last}}\t{{.Count}}\t{{.Refused}}\t{{.Why}}\t{{.Name}}",
		Heads: map[string]string{
			"Last": "LAST", "Count": "COUNT", "Kind": "KIND", "Refused": "REFUSED", "Name": "NAME", "Address": "ADDRESS", "Protocol": "PROTOCOL", "Port": "PORT", "Why": "WHY",
		},
	}
}

func refusalRows(list []engine.Refusal, others uint64) (rows []refusalRow) {
	for _, r := range list {
		// What the kernel tells of the last time is not the same each time it is asked.
		row := refusalRow{Last: r.Last.UTC().Round(time.Second).Format(time.RFC3339), Count: strconv.FormatUint(r.Count, 10), Kind: r.Kind, Name: r.Name, Protocol: r.Proto}
		if r.Addr.IsValid() {
			row.Address = r.Addr.String()
		}
		switch r.Kind {
		case engine.RefusedPacket:
			row.Refused, row.Why = r.Proto+" "+row.Address, "not allowed"
			if r.Port != 0 {
				row.Port = strconv.Itoa(int(r.Port))
				a, _ := netip.ParseAddr(row.Address)
				row.Refused = r.Proto + " " + netip.AddrPortFrom(a, r.Port).String()
			}
		case engine.RefusedAnswer:
			row.Refused, row.Why = "answer "+row.Address, "no public address, or this machine's own, or not where --egress says: NAME@ADDRESS asks for it"
		default:
			row.Refused, row.Why = "question", "name not allowed"
			if r.Allowed {
				row.Why = "allowed, but no container of its networks has this name; on bridge they have none"
			}
		}
		rows = append(rows, row)
	}
	if others > 0 {
		rows = append(rows, refusalRow{Count: strconv.FormatUint(others, 10), Kind: "other", Refused: "others", Why: "more than are told apart"})
	}
	return rows
}
