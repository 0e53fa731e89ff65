package cli

import (
	"fmt"
	"maps"
	"os"
	"strings"

	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/ui"
	"github.com/kakuri/kakuri/verify"
	"github.com/spf13/cobra"
)

func newVerify(io IO) *cobra.Command {
	var format, root string
	var all, noTrunc bool
	c := &cobra.Command{
		Use:   "verify [OPTIONS] CONTAINER",
		Short: "Read back from the kernel whether a container is what was asked for",
		Long: `Read every property that a running container was asked to have back from the
kernel, and compare: namespaces, id maps, mounts, masks, devices, host name,
kernel parameters, ids, capabilities, seccomp, limits, control group, and of networks
devices, addresses, routes, firewall rules, published ports, and the server for
names. Nothing is changed.

A container of kakuri-runtime is found by its ID, too: that of another caller, such
as containerd, with the directory of its state after --runtime-root.

A property is ok, DIFFERS, or is unknown where the caller may not read it. Mounts,
hidden paths and the like that hold, and that no flag asked for, are summed up unless
--all is set. The exit code is 1 when one differs, and 0 when none does.`,
		Example: "  kakuri verify web\n  kakuri verify --all web\n  kakuri verify --format json web\n  kakuri verify --runtime-root /run/containerd/runc/k8s.io 4f1c2d",
		Args:    exactArgs(1, "a container"), ValidArgsFunction: names(containerNames(up), 1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := screenOf(io)
			if err != nil {
				return err
			}
			if noTrunc {
				s.Columns = 0
			}
			if e, err := lookEngine(); err == nil && root == "" {
				if done, err := inWorld(c.Context(), e, args[0]); done || err != nil {
					return err
				}
			}
			rec, p, err := planOf(args[0], root)
			if err != nil {
				return err
			}
			list, err := verify.Container(p, rec.PID)
			if err != nil {
				return fmt.Errorf("container %s: %w", rec.Name, err)
			}
			switch format {
			case "json":
				err = ui.JSON(io.shown(), verifyJSON(rec, p, list))
			case "text":
				_, err = fmt.Fprint(io.Out, verifyText(s, p, list, all))
			default:
				err = usageError{fmt.Errorf("--format %s: there are text and json", format)}
			}
			if _, differ, _ := verify.Count(list); err == nil && differ > 0 {
				err = exitCode(1)
			}
			return err
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text or json")
	c.Flags().StringVar(&root, "runtime-root", "", "`DIR` with a runtime's state, its --root, to find the container in")
	c.Flags().BoolVarP(&all, "all", "a", false, "show each property by itself, what was measured, why it was asked for, and which steps leave nothing to read")
	c.Flags().BoolVar(&noTrunc, "no-trunc", false, "do not cut lines at the width of the terminal")
	return c
}

// planOf finds a container of the engine or, with root or where the engine has none of that name, of a runtime.
func planOf(name, root string) (engine.Container, plan.Plan, error) {
	if root != "" {
		return engine.RuntimePlan(root, name)
	}
	e, err := lookEngine()
	if err != nil {
		return engine.Container{}, plan.Plan{}, err
	}
	return e.FindPlan(name)
}

// A verification is what verify writes as JSON.
type verification struct {
	ID         string                 `json:"id"`
	Name       string                 `json:"name"`
	PID        int                    `json:"pid"`
	OK         int                    `json:"ok"`
	Differs    int                    `json:"differs"`
	Unknown    int                    `json:"unknown"`
	Properties ui.List[verify.Result] `json:"properties"`
	Unchecked  ui.List[unchecked]     `json:"unchecked"`
}

// An unchecked step of the plan leaves nothing of its own to read back.
type unchecked struct {
	N      int    `json:"n"`
	Text   string `json:"text"`
	Reason string `json:"reason"`
}

func verifyJSON(rec engine.Container, p plan.Plan, list []verify.Result) verification {
	v := verification{ID: rec.ID, Name: rec.Name, PID: rec.PID, Properties: list}
	for _, u := range p.Unchecked() {
		v.Unchecked = append(v.Unchecked, unchecked{u.N, u.Op.String(), u.Reason})
	}
	v.OK, v.Differs, v.Unknown = verify.Count(list)
	return v
}

// verifySay are the messages of verify.
var verifySay = struct {
	Property, Asked, Measured, Because ui.Text
	OK, Differs, Unknown               ui.Text
	SubMeasured, SubBecause, SubUnread ui.Text
	Closing, ByAll, Why                ui.Text
	Differ, Unread, Unchecked          ui.Count
	Paths, Mounts, Nodes, Links, Keys  ui.Count
}{
	Property:    ui.Text{EN: "PROPERTY", JA: "項目"},
	Asked:       ui.Text{EN: "ASKED", JA: "要求"},
	Measured:    ui.Text{EN: "MEASURED", JA: "実測"},
	Because:     ui.Text{EN: "BECAUSE", JA: "理由"},
	OK:          ui.Text{EN: "ok", JA: "一致"},
	Differs:     ui.Text{EN: "DIFFERS", JA: "相違"},
	Unknown:     ui.Text{EN: "unknown", JA: "不明"},
	SubMeasured: ui.Text{EN: "  measured", JA: "  実測"},
	SubBecause:  ui.Text{EN: "  asked by", JA: "  要求元"},
	SubUnread:   ui.Text{EN: "  because", JA: "  理由"},
	Closing:     ui.Text{EN: "%[1]d of %[2]d properties are as asked", JA: "%[2]d 項目のうち %[1]d 項目が要求どおりです"},
	ByAll:       ui.Text{EN: "; --all shows each of them", JA: " (--all で一つずつ表示)"},
	Why:         ui.Text{EN: "%s: %s", JA: "%s: %s"},
	Unchecked:   ui.Count{One: "%d step of the plan leaves nothing of its own to read", Many: "%d steps of the plan leave nothing of their own to read", JA: "計画のうち %d 手順には、それ自体を読み取れるものが残りません"},
	Paths:       ui.Count{One: "%d path", Many: "%d paths", JA: "%d 個のパス"},
	Mounts:      ui.Count{One: "%d mount", Many: "%d mounts", JA: "%d 個のマウント"},
	Nodes:       ui.Count{One: "%d device node", Many: "%d device nodes", JA: "%d 個のデバイスノード"},
	Links:       ui.Count{One: "%d link", Many: "%d links", JA: "%d 個のリンク"},
	Keys:        ui.Count{One: "%d kernel parameter", Many: "%d kernel parameters", JA: "%d 個のカーネルパラメーター"},
	Differ:      ui.Count{One: "%d differs: %s", Many: "%d differ: %s", JA: "%d 項目が相違しています: %s"},
	Unread:      ui.Count{One: "%d could not be read: %s", Many: "%d could not be read: %s", JA: "%d 項目は読み取れませんでした: %s"},
}

// verifyText is a table of the properties, and a sentence on all of them. Unless all is
// set, those of which there are many alike are one line if they hold and no flag asked for
// them, and what was measured stands only below a property for which it is not what was asked.
func verifyText(s ui.Screen, p plan.Plan, list []verify.Result, all bool) string {
	folds := map[string]*verifyFold{}
	if !all {
		folds = verifyFolds(list)
	}
	t := newVerifyTable(s, list, all)
	summed := false
	for _, r := range list {
		f := folds[r.Kind]
		switch {
		case all:
			t.whole(r)
		case f == nil || !usual(r):
			t.short(r)
		case !f.said:
			f.said, summed = true, true
			t.wrapped(ui.Good, s.Lang.Say(verifySay.OK), s.Lang.Count(f.say, len(f.names)), f.text())
		}
	}
	return t.Text(s) + verifyClosing(s, list, summed) + verifyUnchecked(s, p, all)
}

// A verifyFold is properties of one kind that hold, as one line.
type verifyFold struct {
	say   ui.Count
	asked string // of each, where that is the same; empty has them named
	names []string
	said  bool
}

// verifyFolds finds the kinds of which so many hold that one line is better to read; paths that are masked have one in any case.
func verifyFolds(list []verify.Result) map[string]*verifyFold {
	folds := map[string]*verifyFold{}
	for _, f := range []struct {
		kind plan.Check
		fold verifyFold
	}{
		{&plan.MaskCheck{}, verifyFold{say: verifySay.Paths, asked: (&plan.MaskCheck{}).Asked()}},
		{&plan.HiddenCheck{}, verifyFold{say: verifySay.Paths, asked: (&plan.HiddenCheck{}).Asked()}},
		{&plan.ReadonlyCheck{}, verifyFold{say: verifySay.Paths, asked: (&plan.ReadonlyCheck{}).Asked()}},
		{&plan.MountCheck{}, verifyFold{say: verifySay.Mounts}},
		{&plan.DeviceCheck{}, verifyFold{say: verifySay.Nodes}},
		{&plan.LinkCheck{}, verifyFold{say: verifySay.Links}},
		{&plan.SysctlCheck{}, verifyFold{say: verifySay.Keys}},
	} {
		folds[f.kind.Kind()] = &f.fold
	}
	for _, r := range list {
		if f := folds[r.Kind]; f != nil && usual(r) {
			f.names = append(f.names, ui.Escape(strings.TrimPrefix(r.Property, "mount ")))
		}
	}
	maps.DeleteFunc(folds, func(kind string, f *verifyFold) bool {
		return len(f.names) < 2 && kind != (&plan.MaskCheck{}).Kind()
	})
	return folds
}

// usual tells whether r may be summed up: it holds, and no flag asked for it.
func usual(r verify.Result) bool {
	return r.Verdict() == verify.OK && !strings.HasPrefix(r.Cause.Reason, "-")
}

// text is what all of f have in common, or else their names.
func (f *verifyFold) text() string {
	if f.asked != "" {
		return f.asked
	}
	return strings.Join(f.names, ", ")
}

// verifyUnchecked counts the steps that have no check and, with all, tells for each reason which they are.
func verifyUnchecked(s ui.Screen, p plan.Plan, all bool) string {
	list := p.Unchecked()
	if len(list) == 0 {
		return ""
	}
	lines := []string{s.Lang.Count(verifySay.Unchecked, len(list))}
	if all {
		var reasons []string
		steps := map[string][]string{}
		for _, u := range list {
			if len(steps[u.Reason]) == 0 {
				reasons = append(reasons, u.Reason)
			}
			steps[u.Reason] = append(steps[u.Reason], fmt.Sprintf("%d %s", u.N, u.Op.Name()))
		}
		lines[0] += ":"
		for _, r := range reasons {
			lines = append(lines, "  "+s.Lang.Say(verifySay.Why, r, strings.Join(steps[r], ", ")))
		}
	}
	return wrapLines(s, lines)
}

// wrapLines ends each line, at the width of the screen at the latest.
func wrapLines(s ui.Screen, lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		if s.Columns > 0 {
			line = strings.Join(ui.Wrap(line, s.Columns), "\n")
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// A verifyTable is the table of verify on its way.
type verifyTable struct {
	ui.Table
	lang  ui.Lang
	roles []ui.Role // of each row's verdict
	room  int       // columns for the last cell, which is wrapped; 0: no limit
}

func newVerifyTable(s ui.Screen, list []verify.Result, all bool) *verifyTable {
	const verdict, gaps, least = 7, 4, 30
	l := s.Lang
	t := &verifyTable{lang: l}
	t.Paint = func(row, column int) ui.Role {
		if column > 0 {
			return ui.Plain
		}
		return t.roles[row]
	}
	t.Columns = []ui.Column{{}, {Title: l.Say(verifySay.Property), Least: 16}, {Title: l.Say(verifySay.Asked), Least: 12}}
	if all {
		t.Columns = append(t.Columns, ui.Column{Title: l.Say(verifySay.Measured), Least: 12}, ui.Column{Title: l.Say(verifySay.Because), Least: 12})
		return t
	}
	if s.Columns > 0 {
		property := 0
		for _, r := range list {
			property = max(property, ui.Width(ui.Escape(r.Property)))
		}
		t.room = max(s.Columns-verdict-gaps-property, least)
	}
	return t
}

func (t *verifyTable) add(role ui.Role, cells ...string) {
	t.Rows, t.roles = append(t.Rows, cells), append(t.roles, role)
}

// wrapped adds a row whose last cell goes on in the rows below it.
func (t *verifyTable) wrapped(role ui.Role, verdict, name, text string) {
	lines := []string{text}
	if t.room > 0 && ui.Width(text) > t.room {
		// Lists may end a line behind a comma; one that has blanks there keeps them single.
		text = strings.ReplaceAll(strings.ReplaceAll(text, ", ", ","), ",", ", ")
		lines = ui.Wrap(text, t.room)
	}
	for _, line := range lines {
		t.add(role, verdict, name, line)
		verdict, name = "", ""
	}
}

// verdict is the word for r's verdict, and its colour.
func (t *verifyTable) verdict(r verify.Result) (ui.Role, string) {
	switch r.Verdict() {
	case verify.OK:
		return ui.Good, t.lang.Say(verifySay.OK)
	case verify.Differs:
		return ui.Bad, t.lang.Say(verifySay.Differs)
	}
	return ui.Notice, t.lang.Say(verifySay.Unknown)
}

// short is a property in one line, and where it is not ok what there is to know below it.
func (t *verifyTable) short(r verify.Result) {
	role, word := t.verdict(r)
	t.wrapped(role, word, ui.Escape(r.Property), ui.Escape(r.Asked))
	switch r.Verdict() {
	case verify.Differs:
		t.wrapped(ui.Plain, "", t.lang.Say(verifySay.SubMeasured), ui.Escape(r.Measured))
		t.wrapped(ui.Plain, "", t.lang.Say(verifySay.SubBecause), ui.Escape(inLang(t.lang, r.Cause.String())))
	case verify.Unknown:
		t.wrapped(ui.Plain, "", t.lang.Say(verifySay.SubUnread), ui.Escape(r.Unknown))
	}
}

// whole is all that is known of a property, in columns.
func (t *verifyTable) whole(r verify.Result) {
	role, word := t.verdict(r)
	measured := r.Measured
	if r.Unknown != "" {
		measured = r.Unknown
	}
	t.add(role, word, ui.Escape(r.Property), ui.Escape(r.Asked), measured, ui.Escape(inLang(t.lang, r.Cause.String())))
}

// verifyClosing counts the verdicts, and names what is not ok. Where properties were summed up it says how each is seen.
func verifyClosing(s ui.Screen, list []verify.Result, summed bool) string {
	l := s.Lang
	ok, differ, unknown := verify.Count(list)
	lines := []string{l.Say(verifySay.Closing, ok, len(list))}
	if summed {
		lines[0] += l.Say(verifySay.ByAll)
	}
	for _, not := range []struct {
		verdict string
		n       int
		say     ui.Count
	}{{verify.Differs, differ, verifySay.Differ}, {verify.Unknown, unknown, verifySay.Unread}} {
		if not.n == 0 {
			continue
		}
		var names []string
		for _, r := range list {
			if r.Verdict() == not.verdict {
				names = append(names, ui.Escape(r.Property))
			}
		}
		lines = append(lines, l.Count(not.say, not.n, strings.Join(names, ", ")))
	}
	return wrapLines(s, lines)
}

// screenOf is what text on io.Out is rendered for: its terminal, and the caller's language.
func screenOf(io IO) (ui.Screen, error) {
	columns := width(io.Out)
	s := ui.NewScreen(columns > 0, columns, os.Getenv)
	var err error
	s.Lang, err = ui.LangOf("", os.Getenv)
	return s, err
}
