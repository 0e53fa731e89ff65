package launch

// Numbers of the calls that the child makes beside its table.
const (
	sysWrite        = 1
	sysIoctl        = 16
	sysGetpid       = 39
	sysClone        = 56
	sysWait4        = 61
	sysKill         = 62
	sysSetpgid      = 109
	sysSigtimedwait = 128
	sysPrctl        = 157
	sysExitGroup    = 231
	sysClone3       = 435
	sysCloseRange   = 436
	sysOpenat       = 257
	sysMkdirat      = 258
	sysReadlinkat   = 267
	sysClose        = 3
	sysOpenat2      = 437
)
