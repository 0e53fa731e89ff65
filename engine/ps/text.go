package ps

import (
	"fmt"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/abi"
	"golang.org/x/sys/unix"
)

func (p *task) started(m *machine) time.Time {
	return m.boot.Add(time.Duration(p.begun) * (time.Second / abi.UserHZ))
}

// share is the part of one processor that the process had since its start, in percent.
func (p *task) share(m *machine) float64 {
	age := m.now.Sub(p.started(m))
	if age < time.Second {
		return 0
	}
	return float64(p.used) * 100 / float64(age)
}

func (p *task) startTime(m *machine) string {
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
