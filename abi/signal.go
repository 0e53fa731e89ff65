package abi

import (
	"strconv"
	"strings"
)

// A Signal is a signal number of signal(7), with the values all architectures but
// MIPS, PA-RISC, Alpha and SPARC use. Real-time signals go from [SIGRTMIN] to
// [SIGRTMAX]; 32 and 33 are the C library's own and have no name.
type Signal int

// ExitCode is the code that shells, and Docker, give for a program which the signal ended.
func (s Signal) ExitCode() int { return 128 + int(s) }

// The standard signals, and the ends of the real-time range as programs see it.
const (
	SIGHUP Signal = iota + 1
	SIGINT
	SIGQUIT
	SIGILL
	SIGTRAP
	SIGABRT
	SIGBUS
	SIGFPE
	SIGKILL
	SIGUSR1
	SIGSEGV
	SIGUSR2
	SIGPIPE
	SIGALRM
	SIGTERM
	SIGSTKFLT
	SIGCHLD
	SIGCONT
	SIGSTOP
	SIGTSTP
	SIGTTIN
	SIGTTOU
	SIGURG
	SIGXCPU
	SIGXFSZ
	SIGVTALRM
	SIGPROF
	SIGWINCH
	SIGIO
	SIGPWR
	SIGSYS

	SIGRTMIN Signal = 34
	SIGRTMAX Signal = 64
)

var signalNames = [SIGSYS + 1]string{
	"", "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS",
	"SIGFPE", "SIGKILL", "SIGUSR1", "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM",
	"SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN",
	"SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH",
	"SIGIO", "SIGPWR", "SIGSYS",
}

// String returns the name, "SIGTERM" or "SIGRTMIN+3" (from the middle of the range
// "SIGRTMAX-7", as kill(1) lists them), or "signal 32" for one without a name.
func (s Signal) String() string {
	switch {
	case s >= SIGHUP && s <= SIGSYS:
		return signalNames[s]
	case s == SIGRTMIN:
		return "SIGRTMIN"
	case s == SIGRTMAX:
		return "SIGRTMAX"
	case s > SIGRTMIN && s <= SIGRTMIN+15:
		return "SIGRTMIN+" + decimal(int(s-SIGRTMIN))
	case s > SIGRTMIN && s < SIGRTMAX:
		return "SIGRTMAX-" + decimal(int(SIGRTMAX-s))
	}
	return "signal " + decimal(int(s))
}

// ParseSignal reads a signal as people and image configurations write it: a
// number from 1 to 64, or a name in any case with or without "SIG", the
// real-time ones with an offset: "15", "TERM", "SIGTERM", "RTMIN+3", "SIGRTMAX-1".
// The old names IOT, CLD, POLL and UNUSED are understood too.
func ParseSignal(s string) (Signal, bool) {
	if n, err := strconv.Atoi(s); err == nil {
		return Signal(n), n >= 1 && n <= int(SIGRTMAX) && s[0] != '+'
	}
	name := strings.ToUpper(s)
	name = strings.TrimPrefix(name, "SIG")
	for i := SIGHUP; i <= SIGSYS; i++ {
		if signalNames[i][3:] == name {
			return i, true
		}
	}
	switch name {
	case "IOT":
		return SIGABRT, true
	case "CLD":
		return SIGCHLD, true
	case "POLL":
		return SIGIO, true
	case "UNUSED":
		return SIGSYS, true
	}
	return parseRealTime(name)
}

// parseRealTime reads RTMIN, RTMAX, RTMIN+n and RTMAX-n, in capitals.
func parseRealTime(name string) (Signal, bool) {
	end, sign := SIGRTMIN, "+"
	rest, ok := strings.CutPrefix(name, "RTMIN")
	if !ok {
		end, sign = SIGRTMAX, "-"
		if rest, ok = strings.CutPrefix(name, "RTMAX"); !ok {
			return 0, false
		}
	}
	if rest == "" {
		return end, true
	}
	digits, ok := strings.CutPrefix(rest, sign)
	n, err := strconv.ParseUint(digits, 10, 8)
	if !ok || err != nil || n > uint64(SIGRTMAX-SIGRTMIN) {
		return 0, false
	}
	if sign == "-" {
		return end - Signal(n), true
	}
	return end + Signal(n), true
}
