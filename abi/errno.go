package abi

// An Errno is the reason a system call gives for a failure, see errno(3), with the
// values of asm-generic. It is an error, and its text is for people; programs
// compare the value. The zero value is no error.
type Errno uint16

// The errnos of Linux. EWOULDBLOCK, EDEADLOCK and ENOTSUP are the same numbers as
// EAGAIN, EDEADLK and EOPNOTSUPP.
const (
	EPERM           Errno = 1
	ENOENT          Errno = 2
	ESRCH           Errno = 3
	EINTR           Errno = 4
	EIO             Errno = 5
	ENXIO           Errno = 6
	E2BIG           Errno = 7
	ENOEXEC         Errno = 8
	EBADF           Errno = 9
	ECHILD          Errno = 10
	EAGAIN          Errno = 11
	ENOMEM          Errno = 12
	EACCES          Errno = 13
	EFAULT          Errno = 14
	ENOTBLK         Errno = 15
	EBUSY           Errno = 16
	EEXIST          Errno = 17
	EXDEV           Errno = 18
	ENODEV          Errno = 19
	ENOTDIR         Errno = 20
	EISDIR          Errno = 21
	EINVAL          Errno = 22
	ENFILE          Errno = 23
	EMFILE          Errno = 24
	ENOTTY          Errno = 25
	ETXTBSY         Errno = 26
	EFBIG           Errno = 27
	ENOSPC          Errno = 28
	ESPIPE          Errno = 29
	EROFS           Errno = 30
	EMLINK          Errno = 31
	EPIPE           Errno = 32
	EDOM            Errno = 33
	ERANGE          Errno = 34
	EDEADLK         Errno = 35
	ENAMETOOLONG    Errno = 36
	ENOLCK          Errno = 37
	ENOSYS          Errno = 38
	ENOTEMPTY       Errno = 39
	ELOOP           Errno = 40
	ENOMSG          Errno = 42
	EIDRM           Errno = 43
	ECHRNG          Errno = 44
	EL2NSYNC        Errno = 45
	EL3HLT          Errno = 46
	EL3RST          Errno = 47
	ELNRNG          Errno = 48
	EUNATCH         Errno = 49
	ENOCSI          Errno = 50
	EL2HLT          Errno = 51
	EBADE           Errno = 52
	EBADR           Errno = 53
	EXFULL          Errno = 54
	ENOANO          Errno = 55
	EBADRQC         Errno = 56
	EBADSLT         Errno = 57
	EBFONT          Errno = 59
	ENOSTR          Errno = 60
	ENODATA         Errno = 61
	ETIME           Errno = 62
	ENOSR           Errno = 63
	ENONET          Errno = 64
	ENOPKG          Errno = 65
	EREMOTE         Errno = 66
	ENOLINK         Errno = 67
	EADV            Errno = 68
	ESRMNT          Errno = 69
	ECOMM           Errno = 70
	EPROTO          Errno = 71
	EMULTIHOP       Errno = 72
	EDOTDOT         Errno = 73
	EBADMSG         Errno = 74
	EOVERFLOW       Errno = 75
	ENOTUNIQ        Errno = 76
	EBADFD          Errno = 77
	EREMCHG         Errno = 78
	ELIBACC         Errno = 79
	ELIBBAD         Errno = 80
	ELIBSCN         Errno = 81
	ELIBMAX         Errno = 82
	ELIBEXEC        Errno = 83
	EILSEQ          Errno = 84
	ERESTART        Errno = 85
	ESTRPIPE        Errno = 86
	EUSERS          Errno = 87
	ENOTSOCK        Errno = 88
	EDESTADDRREQ    Errno = 89
	EMSGSIZE        Errno = 90
	EPROTOTYPE      Errno = 91
	ENOPROTOOPT     Errno = 92
	EPROTONOSUPPORT Errno = 93
	ESOCKTNOSUPPORT Errno = 94
	EOPNOTSUPP      Errno = 95
	EPFNOSUPPORT    Errno = 96
	EAFNOSUPPORT    Errno = 97
	EADDRINUSE      Errno = 98
	EADDRNOTAVAIL   Errno = 99
	ENETDOWN        Errno = 100
	ENETUNREACH     Errno = 101
	ENETRESET       Errno = 102
	ECONNABORTED    Errno = 103
	ECONNRESET      Errno = 104
	ENOBUFS         Errno = 105
	EISCONN         Errno = 106
	ENOTCONN        Errno = 107
	ESHUTDOWN       Errno = 108
	ETOOMANYREFS    Errno = 109
	ETIMEDOUT       Errno = 110
	ECONNREFUSED    Errno = 111
	EHOSTDOWN       Errno = 112
	EHOSTUNREACH    Errno = 113
	EALREADY        Errno = 114
	EINPROGRESS     Errno = 115
	ESTALE          Errno = 116
	EUCLEAN         Errno = 117
	ENOTNAM         Errno = 118
	ENAVAIL         Errno = 119
	EISNAM          Errno = 120
	EREMOTEIO       Errno = 121
	EDQUOT          Errno = 122
	ENOMEDIUM       Errno = 123
	EMEDIUMTYPE     Errno = 124
	ECANCELED       Errno = 125
	ENOKEY          Errno = 126
	EKEYEXPIRED     Errno = 127
	EKEYREVOKED     Errno = 128
	EKEYREJECTED    Errno = 129
	EOWNERDEAD      Errno = 130
	ENOTRECOVERABLE Errno = 131
	ERFKILL         Errno = 132
	EHWPOISON       Errno = 133

	EWOULDBLOCK = EAGAIN
	EDEADLOCK   = EDEADLK
	ENOTSUP     = EOPNOTSUPP
)

// MaxErrno is the highest number the kernel lets a filter or a call answer.
const MaxErrno Errno = 4095

// An errnoRow is the name of an errno and its sentence.
type errnoRow struct{ name, text string }

// errnoRows is indexed by number; 41 and 58 are unused in Linux.
var errnoRows = [EHWPOISON + 1]errnoRow{
	EPERM:           {"EPERM", "operation not permitted"},
	ENOENT:          {"ENOENT", "no such file or directory"},
	ESRCH:           {"ESRCH", "no such process"},
	EINTR:           {"EINTR", "interrupted by a signal"},
	EIO:             {"EIO", "input/output error"},
	ENXIO:           {"ENXIO", "no such device or address"},
	E2BIG:           {"E2BIG", "argument list too long"},
	ENOEXEC:         {"ENOEXEC", "exec format error"},
	EBADF:           {"EBADF", "bad file descriptor"},
	ECHILD:          {"ECHILD", "no child process"},
	EAGAIN:          {"EAGAIN", "resource temporarily unavailable"},
	ENOMEM:          {"ENOMEM", "out of memory"},
	EACCES:          {"EACCES", "permission denied"},
	EFAULT:          {"EFAULT", "bad address"},
	ENOTBLK:         {"ENOTBLK", "not a block device"},
	EBUSY:           {"EBUSY", "device or resource busy"},
	EEXIST:          {"EEXIST", "already exists"},
	EXDEV:           {"EXDEV", "crosses from one mount to another"},
	ENODEV:          {"ENODEV", "no such device"},
	ENOTDIR:         {"ENOTDIR", "not a directory"},
	EISDIR:          {"EISDIR", "is a directory"},
	EINVAL:          {"EINVAL", "invalid argument"},
	ENFILE:          {"ENFILE", "too many open files in the system"},
	EMFILE:          {"EMFILE", "too many open files in the process"},
	ENOTTY:          {"ENOTTY", "call does not fit this kind of file"},
	ETXTBSY:         {"ETXTBSY", "executable file is being written"},
	EFBIG:           {"EFBIG", "file too large"},
	ENOSPC:          {"ENOSPC", "no space left"},
	ESPIPE:          {"ESPIPE", "cannot seek in a pipe"},
	EROFS:           {"EROFS", "read-only file system"},
	EMLINK:          {"EMLINK", "too many links"},
	EPIPE:           {"EPIPE", "nobody reads the pipe"},
	EDOM:            {"EDOM", "argument out of the function's domain"},
	ERANGE:          {"ERANGE", "result out of range"},
	EDEADLK:         {"EDEADLK", "would deadlock"},
	ENAMETOOLONG:    {"ENAMETOOLONG", "name too long"},
	ENOLCK:          {"ENOLCK", "no locks available"},
	ENOSYS:          {"ENOSYS", "system call not available"},
	ENOTEMPTY:       {"ENOTEMPTY", "directory not empty"},
	ELOOP:           {"ELOOP", "too many symbolic links, or one where none is allowed"},
	ENOMSG:          {"ENOMSG", "no message of that type"},
	EIDRM:           {"EIDRM", "identifier removed"},
	ECHRNG:          {"ECHRNG", "channel number out of range"},
	EL2NSYNC:        {"EL2NSYNC", "level 2 not synchronized"},
	EL3HLT:          {"EL3HLT", "level 3 halted"},
	EL3RST:          {"EL3RST", "level 3 reset"},
	ELNRNG:          {"ELNRNG", "link number out of range"},
	EUNATCH:         {"EUNATCH", "protocol driver not attached"},
	ENOCSI:          {"ENOCSI", "no CSI structure available"},
	EL2HLT:          {"EL2HLT", "level 2 halted"},
	EBADE:           {"EBADE", "bad exchange"},
	EBADR:           {"EBADR", "bad request descriptor"},
	EXFULL:          {"EXFULL", "exchange full"},
	ENOANO:          {"ENOANO", "no anode"},
	EBADRQC:         {"EBADRQC", "bad request code"},
	EBADSLT:         {"EBADSLT", "bad slot"},
	EBFONT:          {"EBFONT", "bad font file"},
	ENOSTR:          {"ENOSTR", "not a stream"},
	ENODATA:         {"ENODATA", "no data available"},
	ETIME:           {"ETIME", "timer ran out"},
	ENOSR:           {"ENOSR", "out of stream resources"},
	ENONET:          {"ENONET", "machine is not on the network"},
	ENOPKG:          {"ENOPKG", "package not installed"},
	EREMOTE:         {"EREMOTE", "object is remote"},
	ENOLINK:         {"ENOLINK", "link is cut"},
	EADV:            {"EADV", "advertise error"},
	ESRMNT:          {"ESRMNT", "srmount error"},
	ECOMM:           {"ECOMM", "communication error on send"},
	EPROTO:          {"EPROTO", "protocol error"},
	EMULTIHOP:       {"EMULTIHOP", "multihop attempted"},
	EDOTDOT:         {"EDOTDOT", "RFS error"},
	EBADMSG:         {"EBADMSG", "bad message"},
	EOVERFLOW:       {"EOVERFLOW", "value too large for its type"},
	ENOTUNIQ:        {"ENOTUNIQ", "name not unique on the network"},
	EBADFD:          {"EBADFD", "file descriptor in a bad state"},
	EREMCHG:         {"EREMCHG", "remote address changed"},
	ELIBACC:         {"ELIBACC", "shared library not accessible"},
	ELIBBAD:         {"ELIBBAD", "shared library corrupt"},
	ELIBSCN:         {"ELIBSCN", ".lib section corrupt"},
	ELIBMAX:         {"ELIBMAX", "too many shared libraries"},
	ELIBEXEC:        {"ELIBEXEC", "cannot execute a shared library"},
	EILSEQ:          {"EILSEQ", "invalid byte sequence"},
	ERESTART:        {"ERESTART", "call should be restarted"},
	ESTRPIPE:        {"ESTRPIPE", "pipe error in a stream"},
	EUSERS:          {"EUSERS", "too many users"},
	ENOTSOCK:        {"ENOTSOCK", "not a socket"},
	EDESTADDRREQ:    {"EDESTADDRREQ", "destination address required"},
	EMSGSIZE:        {"EMSGSIZE", "message too long"},
	EPROTOTYPE:      {"EPROTOTYPE", "wrong protocol for this socket type"},
	ENOPROTOOPT:     {"ENOPROTOOPT", "option not known to the protocol"},
	EPROTONOSUPPORT: {"EPROTONOSUPPORT", "protocol not supported"},
	ESOCKTNOSUPPORT: {"ESOCKTNOSUPPORT", "socket type not supported"},
	EOPNOTSUPP:      {"EOPNOTSUPP", "operation not supported"},
	EPFNOSUPPORT:    {"EPFNOSUPPORT", "protocol family not supported"},
	EAFNOSUPPORT:    {"EAFNOSUPPORT", "address family not supported"},
	EADDRINUSE:      {"EADDRINUSE", "address already in use"},
	EADDRNOTAVAIL:   {"EADDRNOTAVAIL", "address not available here"},
	ENETDOWN:        {"ENETDOWN", "network is down"},
	ENETUNREACH:     {"ENETUNREACH", "network unreachable"},
	ENETRESET:       {"ENETRESET", "network dropped the connection"},
	ECONNABORTED:    {"ECONNABORTED", "connection aborted"},
	ECONNRESET:      {"ECONNRESET", "connection reset by the peer"},
	ENOBUFS:         {"ENOBUFS", "no buffer space available"},
	EISCONN:         {"EISCONN", "already connected"},
	ENOTCONN:        {"ENOTCONN", "not connected"},
	ESHUTDOWN:       {"ESHUTDOWN", "endpoint was shut down"},
	ETOOMANYREFS:    {"ETOOMANYREFS", "too many references"},
	ETIMEDOUT:       {"ETIMEDOUT", "timed out"},
	ECONNREFUSED:    {"ECONNREFUSED", "connection refused"},
	EHOSTDOWN:       {"EHOSTDOWN", "host is down"},
	EHOSTUNREACH:    {"EHOSTUNREACH", "no route to host"},
	EALREADY:        {"EALREADY", "already in progress"},
	EINPROGRESS:     {"EINPROGRESS", "now in progress"},
	ESTALE:          {"ESTALE", "stale file handle"},
	EUCLEAN:         {"EUCLEAN", "file system needs repair"},
	ENOTNAM:         {"ENOTNAM", "not a XENIX named file"},
	ENAVAIL:         {"ENAVAIL", "no XENIX semaphores available"},
	EISNAM:          {"EISNAM", "is a named file"},
	EREMOTEIO:       {"EREMOTEIO", "remote input/output error"},
	EDQUOT:          {"EDQUOT", "quota exceeded"},
	ENOMEDIUM:       {"ENOMEDIUM", "no medium in the drive"},
	EMEDIUMTYPE:     {"EMEDIUMTYPE", "wrong medium type"},
	ECANCELED:       {"ECANCELED", "canceled"},
	ENOKEY:          {"ENOKEY", "key not available"},
	EKEYEXPIRED:     {"EKEYEXPIRED", "key expired"},
	EKEYREVOKED:     {"EKEYREVOKED", "key revoked"},
	EKEYREJECTED:    {"EKEYREJECTED", "key rejected"},
	EOWNERDEAD:      {"EOWNERDEAD", "owner of the lock died"},
	ENOTRECOVERABLE: {"ENOTRECOVERABLE", "state not recoverable"},
	ERFKILL:         {"ERFKILL", "switched off by rfkill"},
	EHWPOISON:       {"EHWPOISON", "memory page has a hardware error"},
}

// Name returns the constant's name, "EPERM", or "errno 41" for a number without one.
func (e Errno) Name() string {
	if int(e) < len(errnoRows) && errnoRows[e].name != "" {
		return errnoRows[e].name
	}
	return "errno " + decimal(int(e))
}

// Error returns a short sentence in lower case without a full stop.
func (e Errno) Error() string {
	if int(e) < len(errnoRows) && errnoRows[e].text != "" {
		return errnoRows[e].text
	}
	return "errno " + decimal(int(e))
}

// ParseErrno finds an errno by its name, "EPERM", the three synonyms included.
func ParseErrno(name string) (Errno, bool) {
	switch name {
	case "":
		return 0, false
	case "EWOULDBLOCK":
		return EWOULDBLOCK, true
	case "EDEADLOCK":
		return EDEADLOCK, true
	case "ENOTSUP":
		return ENOTSUP, true
	}
	for i, row := range errnoRows {
		if row.name == name {
			return Errno(i), true
		}
	}
	return 0, false
}
