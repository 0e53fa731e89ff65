package abi

import "strings"

// An Rlimit is a resource of getrlimit(2), with the numbers all architectures but
// MIPS and SPARC use.
type Rlimit uint8

// The resources, by number.
const (
	RlimitCPU Rlimit = iota
	RlimitFsize
	RlimitData
	RlimitStack
	RlimitCore
	RlimitRSS
	RlimitNproc
	RlimitNofile
	RlimitMemlock
	RlimitAS
	RlimitLocks
	RlimitSigpending
	RlimitMsgqueue
	RlimitNice
	RlimitRtprio
	RlimitRttime

	rlimitEnd
)

// RlimitInfinity is the value of a limit that does not limit.
const RlimitInfinity = 1<<64 - 1

var rlimitNames = [rlimitEnd]string{
	"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE",
	"RLIMIT_RSS", "RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS",
	"RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RLIMIT_NICE",
	"RLIMIT_RTPRIO", "RLIMIT_RTTIME",
}

// Rlimits returns all resources in numeric order.
func Rlimits() [16]Rlimit {
	var all [rlimitEnd]Rlimit
	for i := range all {
		all[i] = Rlimit(i)
	}
	return all
}

// String returns the name in config.json (process.rlimits[].type): "RLIMIT_NOFILE".
func (r Rlimit) String() string {
	if r >= rlimitEnd {
		return "rlimit " + decimal(int(r))
	}
	return rlimitNames[r]
}

// ParseRlimit finds a resource by its name in config.json, "RLIMIT_NOFILE", or by
// the short lower case one of Docker's --ulimit, "nofile".
func ParseRlimit(name string) (Rlimit, bool) {
	for i, full := range rlimitNames {
		if name == full || name == strings.ToLower(full[len("RLIMIT_"):]) {
			return Rlimit(i), true
		}
	}
	return 0, false
}
