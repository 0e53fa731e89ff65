package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/oci"
	"golang.org/x/sys/unix"
)

// A Table is what ps(1) prints.
type Table struct {
	Titles []string
	Rows   [][]string
}

// Top lists the processes of a running container as the machine sees them, by options of ps(1): none is -ef. Nothing of the container is executed. Formats that
// are not known here are asked of the machine's own ps, as Docker does.
func (e *Engine) Top(ctx context.Context, ref string, args []string) (Table, error) {
	c, box, err := e.running(ref)
	if err != nil {
		if none := (ErrNotRunning{}); errors.As(err, &none) && !none.Restarting {
			return Table{}, ErrConflict{fmt.Sprintf("container %s is not running", c.ID)}
		}
		return Table{}, err
	}
	pids, err := e.processes(c, box)
	if err != nil {
		return Table{}, err
	}
	fields, ok := psFields(args)
	if !ok {
		return hostPS(ctx, args, pids)
	}
	t := Table{}
	for _, f := range fields {
		t.Titles = append(t.Titles, f.title)
	}
	facts := machineNow()
	for _, pid := range pids {
		p, err := readTask(pid)
		if err != nil {
			continue // it has ended
		}
		var row []string
		for _, f := range fields {
			row = append(row, f.value(&p, facts))
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

// processes lists a container's processes: by its control group, or where it has none by its pid namespace.
func (e *Engine) processes(c Container, box *oci.Container) ([]int, error) {
	pids, err := box.Processes()
	if err == nil && len(pids) > 0 {
		return sortedPids(pids), nil
	}
	own, e1 := os.Readlink("/proc/" + strconv.Itoa(c.PID) + "/ns/pid")
	ours, e2 := os.Readlink("/proc/self/ns/pid")
	if e1 != nil || e2 != nil || own == ours {
		return []int{c.PID}, nil // all that is known
	}
	names, err := files.List("/proc")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if ns, err := os.Readlink("/proc/" + name + "/ns/pid"); err == nil && ns == own {
			pids = append(pids, pid)
		}
	}
	return sortedPids(pids), nil
}

// A psField is one column.
type psField struct {
	title string
	value func(p *task, m *machineFacts) string
}

// psFields are the columns that options of ps ask for; false where they are not known here.
func psFields(args []string) ([]psField, bool) {
	line := strings.Join(args, " ")
	switch line {
	case "", "-ef", "-e -f":
		return namedFields("user=UID,pid,ppid,c,stime,tty=TTY,time,cmd")
	case "aux", "-aux":
		return namedFields("user,pid,%cpu,%mem,vsz,rss,tty=TTY,stat,start,bsdtime=TIME,args=COMMAND")
	}
	var list []string
	for rest := args; len(rest) > 0; rest = rest[1:] {
		flag := rest[0]
		switch {
		case (flag == "-o" || flag == "o" || flag == "-eo") && len(rest) > 1:
			list = append(list, rest[1])
			rest = rest[1:]
		case strings.HasPrefix(flag, "-o"):
			list = append(list, flag[2:])
		case strings.HasPrefix(flag, "-eo"):
			list = append(list, flag[3:])
		case flag == "-e" || flag == "-A":
		default:
			return nil, false
		}
	}
	if len(list) == 0 {
		return nil, false
	}
	return namedFields(strings.Join(list, ","))
}

func namedFields(list string) ([]psField, bool) {
	var fields []psField
	for _, name := range strings.Split(list, ",") {
		name, title, renamed := strings.Cut(strings.TrimSpace(name), "=")
		f, ok := fieldOf(name)
		if !ok {
			return nil, false
		}
		if renamed {
			f.title = title
		}
		fields = append(fields, f)
	}
	return fields, true
}

// fieldOf knows columns by their names in ps(1), "STANDARD FORMAT SPECIFIERS".
func fieldOf(name string) (psField, bool) {
	number := func(title string, n func(p *task) int64) psField {
		return psField{title, func(p *task, _ *machineFacts) string { return strconv.FormatInt(n(p), 10) }}
	}
	plain := func(title string, s func(p *task) string) psField {
		return psField{title, func(p *task, _ *machineFacts) string { return s(p) }}
	}
	switch name {
	case "pid":
		return number("PID", func(p *task) int64 { return int64(p.pid) }), true
	case "ppid":
		return number("PPID", func(p *task) int64 { return int64(p.ppid) }), true
	case "pgid", "pgrp":
		return number(strings.ToUpper(name), func(p *task) int64 { return int64(p.pgid) }), true
	case "sid", "sess", "session":
		return number(map[string]string{"sid": "SID", "sess": "SESS", "session": "SESS"}[name], func(p *task) int64 { return int64(p.sid) }), true
	case "nlwp", "thcount":
		return number(map[string]string{"nlwp": "NLWP", "thcount": "THCNT"}[name], func(p *task) int64 { return p.threads }), true
	case "ni", "nice":
		return number("NI", func(p *task) int64 { return p.nice }), true
	case "vsz", "vsize":
		return number("VSZ", func(p *task) int64 { return p.vsize / 1024 }), true
	case "rss", "rssize", "rsz":
		return number(map[string]string{"rss": "RSS", "rssize": "RSS", "rsz": "RSZ"}[name], func(p *task) int64 { return p.rss / 1024 }), true
	case "uid":
		return number("UID", func(p *task) int64 { return int64(p.uid) }), true
	case "euid":
		return number("EUID", func(p *task) int64 { return int64(p.uid) }), true
	case "gid", "egid":
		return number(strings.ToUpper(name), func(p *task) int64 { return int64(p.gid) }), true
	case "user", "euser", "uname":
		return psField{map[string]string{"user": "USER", "euser": "EUSER", "uname": "USER"}[name], func(p *task, _ *machineFacts) string { return userName(p.uid) }}, true
	case "group", "egroup":
		return psField{strings.ToUpper(name), func(p *task, _ *machineFacts) string { return groupName(p.gid) }}, true
	case "comm", "ucmd", "ucomm":
		return plain(map[string]string{"comm": "COMMAND", "ucmd": "CMD", "ucomm": "COMMAND"}[name], func(p *task) string { return p.name() }), true
	case "args", "command":
		return plain("COMMAND", (*task).command), true
	case "cmd":
		return plain("CMD", (*task).command), true
	case "tty", "tt", "tname":
		return plain(map[string]string{"tty": "TT", "tt": "TT", "tname": "TTY"}[name], (*task).terminal), true
	case "s", "state":
		return plain("S", func(p *task) string { return p.state }), true
	case "stat":
		return plain("STAT", (*task).states), true
	case "time", "cputime":
		return plain("TIME", func(p *task) string { return days(p.used) }), true
	case "bsdtime":
		return plain("TIME", func(p *task) string {
			return fmt.Sprintf("%d:%02d", int(p.used.Minutes()), int(p.used.Seconds())%60)
		}), true
	case "etime":
		return psField{"ELAPSED", func(p *task, m *machineFacts) string { return short(m.now.Sub(p.started(m))) }}, true
	case "etimes":
		return psField{"ELAPSED", func(p *task, m *machineFacts) string {
			return strconv.Itoa(int(m.now.Sub(p.started(m)).Seconds()))
		}}, true
	case "stime", "start", "start_time", "bsdstart":
		return psField{map[string]string{"stime": "STIME", "start": "START", "start_time": "START", "bsdstart": "START"}[name], (*task).startTime}, true
	case "c":
		return psField{"C", func(p *task, m *machineFacts) string { return strconv.Itoa(int(p.share(m))) }}, true
	case "%cpu", "pcpu":
		return psField{"%CPU", func(p *task, m *machineFacts) string { return fmt.Sprintf("%.1f", p.share(m)) }}, true
	case "%mem", "pmem":
		return psField{"%MEM", func(p *task, m *machineFacts) string {
			return fmt.Sprintf("%.1f", float64(p.rss)*100/float64(max(m.memory, 1)))
		}}, true
	}
	return psField{}, false
}

// machineFacts are those that times and shares are computed from.
type machineFacts struct {
	now    time.Time
	boot   time.Time
	memory uint64
}

func machineNow() *machineFacts {
	m := &machineFacts{now: time.Now()}
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) == nil {
		m.boot = m.now.Add(-time.Duration(t.Nano()))
	}
	m.memory, _ = totalMemory()
	return m
}

// A task is what /proc tells of a process.
type task struct {
	pid, ppid, pgid, sid, tpgid int
	comm, state                 string
	args                        []string
	uid, gid                    uint32
	tty                         int
	used                        time.Duration
	begun                       int64 // clock ticks after the boot
	threads, nice               int64
	vsize, rss                  int64 // bytes
	locked                      bool
}

// readTask reads /proc/PID/stat, status and cmdline: proc_pid_stat(5).
func readTask(pid int) (task, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	data, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return task{}, err
	}
	p, err := parseStat(data)
	if err != nil {
		return p, fmt.Errorf("%s/stat: %w", dir, err)
	}
	p.pid = pid
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return p, err
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		f := strings.Fields(value)
		switch {
		case key == "Uid" && len(f) > 1: // the effective one
			n, _ := strconv.ParseUint(f[1], 10, 32)
			p.uid = uint32(n)
		case key == "Gid" && len(f) > 1:
			n, _ := strconv.ParseUint(f[1], 10, 32)
			p.gid = uint32(n)
		case key == "VmLck" && len(f) > 0:
			p.locked = f[0] != "0"
		}
	}
	line, err := files.Head(dir+"/cmdline", mostArgs)
	if line = bytes.TrimRight(line, "\x00"); err == nil && len(line) > 0 {
		p.args = strings.Split(string(line), "\x00")
	}
	return p, nil
}

// mostArgs is as much as is read of a command line, in bytes: a process has it be as long as it likes, by PR_SET_MM_MAP of prctl(2).
const mostArgs = 64 << 10

// parseStat is all of a task that stat has, but for its pid.
func parseStat(data []byte) (task, error) {
	comm, f, err := namespace.ParseStat(data)
	if err != nil {
		return task{}, err
	}
	n := make([]int64, len(f))
	for i := range f[1:] {
		n[i+1], _ = strconv.ParseInt(f[i+1], 10, 64) // those above int64 are of no interest
	}
	return task{
		comm: comm, state: f[0], ppid: int(n[1]), pgid: int(n[2]), sid: int(n[3]), tty: int(n[4]), tpgid: int(n[5]),
		used: time.Duration(n[11]+n[12]) * (time.Second / clockTicks), nice: n[16], threads: n[17], begun: n[19], vsize: n[20], rss: n[21] * int64(os.Getpagesize()),
	}, nil
}

func (p *task) started(m *machineFacts) time.Time {
	return m.boot.Add(time.Duration(p.begun) * (time.Second / clockTicks))
}

// share is the part of one processor that the process had since its start, in percent.
func (p *task) share(m *machineFacts) float64 {
	age := m.now.Sub(p.started(m))
	if age < time.Second {
		return 0
	}
	return float64(p.used) * 100 / float64(age)
}

func (p *task) startTime(m *machineFacts) string {
	at := p.started(m)
	switch {
	case m.now.Sub(at) < 24*time.Hour && at.Day() == m.now.Day():
		return at.Format("15:04")
	case at.Year() == m.now.Year():
		return at.Format("Jan02")
	}
	return at.Format("2006")
}

func (p *task) name() string {
	if p.state == "Z" {
		return clean(p.comm) + " <defunct>"
	}
	return clean(p.comm)
}

func (p *task) command() string {
	if len(p.args) == 0 {
		if p.state == "Z" {
			return "[" + clean(p.comm) + "] <defunct>"
		}
		return "[" + clean(p.comm) + "]"
	}
	return clean(strings.Join(p.args, " "))
}

// clean has control characters, by which a name could write to the caller's terminal, become "?", as ps has it.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// terminal is the name of the controlling one, as the kernel numbers them: Documentation/admin-guide/devices.txt.
func (p *task) terminal() string {
	major, minor := unix.Major(uint64(uint32(p.tty))), unix.Minor(uint64(uint32(p.tty)))
	switch {
	case p.tty == 0:
		return "?"
	case major >= 136 && major < 144:
		return "pts/" + strconv.Itoa(int(major-136)*256+int(minor))
	case major == 4 && minor < 64:
		return "tty" + strconv.Itoa(int(minor))
	case major == 4:
		return "ttyS" + strconv.Itoa(int(minor)-64)
	case major == 5 && minor == 1:
		return "console"
	}
	return "?"
}

// states is the state with its marks.
func (p *task) states() string {
	s := p.state
	if p.nice < 0 {
		s += "<"
	}
	if p.nice > 0 {
		s += "N"
	}
	if p.locked {
		s += "L"
	}
	if p.sid == p.pid {
		s += "s"
	}
	if p.threads > 1 {
		s += "l"
	}
	if p.tpgid == p.pgid {
		s += "+"
	}
	return s
}

// days is [DD-]HH:MM:SS.
func days(d time.Duration) string {
	s := int(d.Seconds())
	out := fmt.Sprintf("%02d:%02d:%02d", s/3600%24, s/60%60, s%60)
	if s >= 86400 {
		out = fmt.Sprintf("%d-%s", s/86400, out)
	}
	return out
}

// short is [[DD-]HH:]MM:SS.
func short(d time.Duration) string {
	s := max(int(d.Seconds()), 0)
	if s < 3600 {
		return fmt.Sprintf("%02d:%02d", s/60, s%60)
	}
	if s >= 86400 {
		return fmt.Sprintf("%02d-%02d:%02d:%02d", s/86400, s/3600%24, s/60%60, s%60)
	}
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}

// userName is the machine's name for an id, or the id. Names that are too long for a column are cut, as ps does; numbers are not, as it does:
// containers' own ids are long.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	u, err := user.LookupId(id)
	if err != nil {
		return id
	}
	return cut(u.Username)
}

func groupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	g, err := user.LookupGroupId(id)
	if err != nil {
		return id
	}
	return cut(g.Name)
}

func cut(name string) string {
	if len(name) > 8 {
		return name[:7] + "+"
	}
	return name
}

// hostPS asks the machine's ps, and leaves out what is not of the container.
func hostPS(ctx context.Context, args []string, pids []int) (Table, error) {
	program, err := exec.LookPath("ps")
	if err != nil {
		return Table{}, fmt.Errorf("ps %s: these options are not known here, and there is no program ps to ask", strings.Join(args, " "))
	}
	cmd := exec.CommandContext(ctx, program, args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return Table{}, fmt.Errorf("error running ps: %w: %s", err, firstOf(complaint.String()))
	}
	return parsePS(string(out), pids)
}

func firstOf(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// parsePS reads ps's table by Docker's rules: the last column takes the rest of the line.
func parsePS(out string, pids []int) (Table, error) {
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	t := Table{Titles: strings.Fields(lines[0])}
	column := slices.Index(t.Titles, "PID")
	if column < 0 {
		return t, errors.New("couldn't find PID field in ps output")
	}
	for _, line := range lines[1:] {
		f := strings.Fields(line)
		if len(f) <= column {
			continue
		}
		pid, err := strconv.Atoi(f[column])
		if err != nil || !slices.Contains(pids, pid) {
			continue
		}
		if n := len(t.Titles); len(f) > n {
			f = append(f[:n-1:n-1], strings.Join(f[n-1:], " "))
		}
		t.Rows = append(t.Rows, f)
	}
	return t, nil
}
