package cli

import (
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
		if done, err := inWorld(c.Context(), e, args[0]); done || err != nil {
			return err
		}
		o := format.Options{Format: layout, Terminal: io.onTerminal()}
		if follow && (layout == "" || layout == "table") {
			o.Format = `{{.Last}}  {{.Count}}  {{.Refused}}  {{.Why}}  {{.Name}}`
		}
		seen := map[refusalRow]bool{}
		for {
			box, err := e.Find(args[0])
			if err != nil {
				return err
			}
			list, others, err := e.NetworkLog(c.Context(), args[0])
			if err != nil {
				return err
			}
			var rows []refusalRow
			for _, r := range refusalRows(list, others) {
				if !seen[r] {
					rows = append(rows, r)
				}
				seen[r] = follow
			}
			if !follow || len(rows) > 0 {
				if err := format.Rows(io.Out, refusalSpec(), o, rows); err != nil {
					return err
				}
			}
			if !follow || !box.Active() {
				return nil
			}
			select {
			case <-c.Context().Done():
				return nil
			case <-time.After(500 * time.Millisecond):
			}
		}
	}
	return c
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
