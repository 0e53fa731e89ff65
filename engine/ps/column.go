package ps

import (
	"fmt"
	"strconv"
	"strings"
)

// A column is one column.
type column struct {
	title string
	value func(p *task, m *machine) string
}

// columnsOf are the columns that options of ps ask for; false where they are not known here.
func columnsOf(args []string) ([]column, bool) {
	line := strings.Join(args, " ")
	switch line {
	case "", "-ef", "-e -f":
		return named("user=UID,pid,ppid,c,stime,tty=TTY,time,cmd")
	case "aux", "-aux":
		return named("user,pid,%cpu,%mem,vsz,rss,tty=TTY,stat,start,bsdtime=TIME,args=COMMAND")
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
	return named(strings.Join(list, ","))
}

func named(list string) ([]column, bool) {
	var fields []column
	for _, name := range strings.Split(list, ",") {
		name, title, renamed := strings.Cut(strings.TrimSpace(name), "=")
		f, ok := columnOf(name)
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

// columnOf knows columns by their names in ps(1), "STANDARD FORMAT SPECIFIERS".
func columnOf(name string) (column, bool) {
	number := func(title string, n func(p *task) int64) column {
		return column{title, func(p *task, _ *machine) string { return strconv.FormatInt(n(p), 10) }}
	}
	plain := func(title string, s func(p *task) string) column {
		return column{title, func(p *task, _ *machine) string { return s(p) }}
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
		return column{map[string]string{"user": "USER", "euser": "EUSER", "uname": "USER"}[name], func(p *task, _ *machine) string { return userName(p.uid) }}, true
	case "group", "egroup":
		return column{strings.ToUpper(name), func(p *task, _ *machine) string { return groupName(p.gid) }}, true
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
		return column{"ELAPSED", func(p *task, m *machine) string { return short(m.now.Sub(p.started(m))) }}, true
	case "etimes":
		return column{"ELAPSED", func(p *task, m *machine) string {
			return strconv.Itoa(int(m.now.Sub(p.started(m)).Seconds()))
		}}, true
	case "stime", "start", "start_time", "bsdstart":
		return column{map[string]string{"stime": "STIME", "start": "START", "start_time": "START", "bsdstart": "START"}[name], (*task).startTime}, true
	case "c":
		return column{"C", func(p *task, m *machine) string { return strconv.Itoa(int(p.share(m))) }}, true
	case "%cpu", "pcpu":
		return column{"%CPU", func(p *task, m *machine) string { return fmt.Sprintf("%.1f", p.share(m)) }}, true
	case "%mem", "pmem":
		return column{"%MEM", func(p *task, m *machine) string {
			return fmt.Sprintf("%.1f", float64(p.rss)*100/float64(max(m.memory, 1)))
		}}, true
	}
	return column{}, false
}
