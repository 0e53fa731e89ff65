package plan

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kakuri/kakuri/abi"
)

// A Layout says what a plan's text shows, and how wide and in which language. The zero value is that of [Plan.Text].
type Layout struct {
	// Width is that of the screen, in columns: what is longer goes on in the lines below, in its own column. 0 leaves all lines whole.
	Width int
	// Calls is the architecture for which each step has its raw system calls below it, as an executor there makes them. Lines are whole then.
	Calls abi.Arch
	// Micros is a column of durations in microseconds, one for each step; a negative one prints as nothing. Each side's sum comes last.
	Micros []float64
	// In is another language for headings and causes. All else is English: operations and sides are names.
	In *Language
}

// A Language is one that the text of a plan can be in.
type Language struct {
	Heading func(english string) string
	Reason  func(english string) string
	Width   func(s string) int                 // in columns of a screen
	Wrap    func(s string, width int) []string // into lines of at most width columns
}

// Text renders p for people: number, side, operation, cause, one step a line (values for
// a cgroup's files have one each), then the warnings.
func (p Plan) Text() string { return p.TextAs(Layout{}) }

// TextAs is [Plan.Text] in another layout.
func (p Plan) TextAs(as Layout) string {
	if as.Calls != abi.ArchNone {
		as.Width = 0
	}
	l := lines{Layout: as}
	l.opWidth = l.widest(p.Steps)
	if l.Width > 0 {
		l.opWidth = max(min(l.opWidth, (l.Width-l.head()-2)*3/5), len("operation"))
	}
	l.add("  #", "us", l.heading("side"), l.heading("operation"), l.heading("because"))
	for i, s := range p.Steps {
		time := ""
		if i < len(l.Micros) && l.Micros[i] >= 0 {
			time = fmt.Sprintf("%.1f", l.Micros[i])
		}
		l.step(s, fmt.Sprintf("%3d", i+1), time)
		if l.Calls != abi.ArchNone {
			for _, r := range Lower(s.Op, l.Calls) {
				l.text.WriteString("                    " + OneLine(rowText(r, l.Calls)) + "\n")
			}
		}
	}
	for side, sum := range p.sums(l.Micros) {
		if sum >= 0 {
			l.add("   ", fmt.Sprintf("%.1f", sum), Side(side).String(), l.heading("sum"), l.heading("of its steps, waiting for the other side included"))
		}
	}
	for _, w := range p.Warnings {
		l.text.WriteString("warning: " + OneLine(w) + "\n")
	}
	return l.text.String()
}

// lines are those of a plan's text.
type lines struct {
	Layout
	text    strings.Builder
	opWidth int
}

func (l *lines) heading(s string) string {
	if l.In == nil {
		return s
	}
	return l.In.Heading(s)
}

func (l *lines) cause(c Cause) string {
	if l.In == nil {
		return OneLine(c.String())
	}
	return OneLine(l.In.Reason(c.String()))
}

// columns is how wide s is.
func (l *lines) columns(s string) int {
	if l.In == nil {
		return utf8.RuneCountInString(s)
	}
	return l.In.Width(s)
}

// widest is how wide the column of operations is, where there is room: the few that are longer stand out of it.
func (l *lines) widest(steps []Step) int {
	w := len("operation")
	for _, s := range steps {
		if _, ok := s.Check.(*LimitsCheck); !ok { // whose values have lines of their own
			w = max(w, min(l.columns(OneLine(s.Op.String())), 44))
		}
	}
	return w
}

func (l *lines) pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-l.columns(s)))
}

// head is the width of number, time and side.
func (l *lines) head() int {
	if l.Micros != nil {
		return 27
	}
	return 16
}

func (l *lines) add(n, time, side, op, because string) {
	if l.Micros != nil {
		n += fmt.Sprintf("  %9s", time)
	}
	head := n + "  " + l.pad(side, 9) + "  "
	text := strings.TrimRight(head+l.pad(op, l.opWidth)+"  "+because, " ")
	if l.Width > 0 && l.columns(text) > l.Width {
		text = strings.Join(l.inColumns(head, op, because), "\n")
	}
	l.text.WriteString(text + "\n")
}

// step adds a step; one of limits has a line for each value, as each has a field of its own.
func (l *lines) step(s Step, n, time string) {
	side := s.Side.String()
	check, ok := s.Check.(*LimitsCheck)
	if !ok || len(check.Files) == 0 {
		l.add(n, time, side, OneLine(s.Op.String()), l.cause(s.Cause))
		return
	}
	for i, text := range check.texts() {
		l.add(n, time, side, OneLine("write "+text), l.cause(check.Files[i].cause(s.Cause)))
		n, time, side = "   ", "", ""
	}
}

// sums adds the durations of each side's steps, which go on at the same time; -1 where there is none.
func (p Plan) sums(micros []float64) [2]float64 {
	sum := [2]float64{-1, -1}
	for i, us := range micros[:min(len(micros), len(p.Steps))] {
		if side := p.Steps[i].Side; us >= 0 {
			sum[side] = max(sum[side], 0) + us
		}
	}
	return sum
}

// OneLine writes out what in s could start a line or move a cursor, for texts that hold names of files or values: those in a plan come
// from config.json, and must not look like steps.
func OneLine(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !strconv.IsPrint(r) }) {
		return s
	}
	var b strings.Builder
	for i, n := 0, 0; i < len(s); i += n {
		var r rune
		r, n = utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, "\\x%02x", s[i])
		case strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return b.String()
}

// inColumns gives a step's lines: its operation and its cause beside each other, both whole.
func (l *lines) inColumns(head, op, because string) []string {
	room := l.Width - l.columns(head) - 2
	if room < 24 {
		return l.wrap(head+op+"  "+because, l.Width)
	}
	ops, causes := l.wrap(op, l.opWidth), l.wrap(because, room-l.opWidth)
	list := make([]string, 0, max(len(ops), len(causes)))
	for len(ops) > 0 || len(causes) > 0 {
		var o, c string
		if len(ops) > 0 {
			o, ops = ops[0], ops[1:]
		}
		if len(causes) > 0 {
			c, causes = causes[0], causes[1:]
		}
		list = append(list, strings.TrimRight(head+l.pad(o, l.opWidth)+"  "+c, " "))
		head = l.pad("", l.columns(head))
	}
	return list
}

func (l *lines) wrap(s string, width int) []string {
	if l.In == nil {
		return fold(s, width)
	}
	return l.In.Wrap(s, width)
}

// fold breaks s into lines of at most width: between words, else behind a slash or comma, else anywhere.
func fold(s string, width int) []string {
	var lines []string
	for r := []rune(s); ; {
		if len(r) <= width {
			return append(lines, string(r))
		}
		end := width
		for i := width; i > width/2; i-- {
			if r[i] == ' ' {
				end = i
				break
			}
			if end == width && (r[i-1] == '/' || r[i-1] == ',') {
				end = i
			}
		}
		lines = append(lines, string(r[:end]))
		for r = r[end:]; len(r) > 0 && r[0] == ' '; r = r[1:] {
		}
	}
}

// fileType names the type of a file: inode(7).
func fileType(mode uint64) string {
	switch mode {
	case abi.SIfdir:
		return "directory"
	case abi.SIfchr:
		return "character device"
	case abi.SIfblk:
		return "block device"
	case abi.SIflnk:
		return "symbolic link"
	case abi.SIfifo:
		return "FIFO"
	}
	return fmt.Sprintf("file of type %#o", mode)
}

// rowText prints a row as strace(1) would print the call.
func rowText(r Row, arch abi.Arch) string {
	switch r.Kind {
	case RowStore:
		return fmt.Sprintf("(store %s in the next call's memory)", r.Args[0].Reg)
	case RowLoad:
		if r.Off == 0 { // of a message come after its head
			return fmt.Sprintf("(the stored one) = %s", r.Out)
		}
		return fmt.Sprintf("(received descriptor) = %s", r.Out)
	case RowIf:
		switch {
		case r.Args[1].Val == abi.SIfmt:
			return fmt.Sprintf("(for anything but a %s:)", fileType(r.Args[0].Val))
		case r.Off == statxMajor || r.Off == statxMinor:
			return "(for another device:)"
		case r.Off == statxAttributes && r.Args[0].Val == statxMountRoot:
			return "(for anything but the root of a mount:)"
		case r.Args[0].Val == procMagic:
			return "(for anything but a procfs:)"
		}
		return "(for anything but the root of a procfs:)"
	case RowHeld:
		return fmt.Sprintf("(without %s:)", r.Args[0].Reg)
	case RowSkip:
		return "(else:)"
	case RowOctal:
		return "(mode of it, in octal, for a later call)"
	case RowMake:
		return makeText(r)
	case RowFail:
		return "(give up with the best error so far)"
	case RowCloseRest:
		var keep []string
		for _, a := range r.Args[1:5] {
			if a.Reg != RegNone {
				keep = append(keep, a.Reg.String())
			}
		}
		return fmt.Sprintf("close_range(%d, %s, 0), but for %s", r.Args[0].Val, argText(r.Call, 1, r.Args[5], arch), words(keep...))
	case RowFork:
		return "clone(CLONE_PARENT)"
	case RowInit:
		return "clone()"
	}
	args := make([]string, r.N)
	for i, a := range r.Args[:r.N] {
		args[i] = argText(r.Call, i, a, arch)
	}
	s := fmt.Sprintf("%s(%s)", r.Call, strings.Join(args, ", "))
	if r.Out != RegNone {
		s += " = " + r.Out.String()
	}
	for i, e := range r.Accept {
		if e == 0 {
			break
		}
		if i == 0 {
			s += "  or "
		} else {
			s += ", "
		}
		s += e.Name()
	}
	return s
}

// makeText tells which calls are made for a component that is missing, or that is a link.
func makeText(r Row) string {
	p, flags := r.Args[1].Mem.Data, r.Args[4].Val
	skip := r.Args[3].Val
	s := fmt.Sprintf("(%q below %s, by component: mkdirat", strings.TrimPrefix(string(p[skip:len(p)-1]), "/"), r.Args[2].Reg)
	if flags&MakeFile != 0 {
		s += ", at its end openat CREAT,EXCL"
	}
	if flags&MakeStrict == 0 {
		s += ", for a link readlinkat"
	}
	return s + ")"
}

func argText(c abi.Call, i int, a Arg, arch abi.Arch) string {
	switch {
	case a.Mem != nil && len(a.Mem.Refs) > 0:
		return fmt.Sprintf("[%d addresses]", len(a.Mem.Refs))
	case a.Mem != nil:
		return memText(c, i, a.Mem.Data, arch)
	case a.Reg != RegNone:
		return a.Reg.String()
	case a.Val == atFDCWD:
		return "AT_FDCWD"
	}
	return numText(c, i, a.Val, arch)
}

// memText prints strings as strings and the structures of calls by their fields.
func memText(c abi.Call, i int, b []byte, arch abi.Arch) string {
	u64 := func(off int) (v uint64) {
		for k := range 8 {
			v |= uint64(b[off+k]) << (8 * k)
		}
		return v
	}
	switch {
	case c == abi.CallOpenat2 && i == 2:
		return fmt.Sprintf("{%s; %s}", strings.ToUpper(arch.OpenWords(u64(0)&^abi.OCloexec)), strings.ToUpper(abi.ResolveWords(u64(16))))
	case c == abi.CallMountSetattr && i == 3:
		a := Attrs{Set: u64(0), Clear: u64(8)}
		return "{" + strings.ToUpper(words(a.String(), abi.MountWords(u64(16)))) + "}"
	}
	if n := len(b) - 1; n >= 0 && b[n] == 0 && utf8.Valid(b[:n]) && !strings.ContainsRune(string(b[:n]), 0) {
		return fmt.Sprintf("%q", b[:n])
	}
	if utf8.Valid(b) && !strings.ContainsRune(string(b), 0) {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("[%d bytes]", len(b))
}

func numText(c abi.Call, i int, v uint64, arch abi.Arch) string {
	upper := func(s string) string {
		if s == "" {
			return "0"
		}
		return strings.ToUpper(s)
	}
	switch {
	case c == abi.CallOpenat && i == 2:
		return upper(arch.OpenWords(v &^ abi.OCloexec))
	case c == abi.CallOpenTree && i == 2:
		return upper(abi.OpenTreeWords(v &^ abi.OpenTreeCloexec))
	case c == abi.CallMoveMount && i == 4:
		return upper(abi.MoveMountWords(v))
	case c == abi.CallFsconfig && i == 1:
		return upper(abi.FsconfigWord(int(v)))
	case c == abi.CallFsmount && i == 2:
		return upper(abi.MountAttrWords(v))
	case (c == abi.CallUnshare && i == 0) || (c == abi.CallSetns && i == 1):
		return upper("new" + strings.ReplaceAll(abi.CloneWords(v), ",", "|new"))
	case c == abi.CallUmount2 && i == 1:
		return upper(abi.UmountWords(v))
	case (c == abi.CallMkdirat && i == 2) || (c == abi.CallMknodat && i == 2) || c == abi.CallUmask:
		return fmt.Sprintf("%#o", v)
	}
	if v > 1<<31 {
		return fmt.Sprintf("%#x", v)
	}
	return fmt.Sprint(v)
}
