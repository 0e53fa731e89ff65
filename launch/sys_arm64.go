package launch

// Numbers of the calls that the child makes beside its table.
const (
	sysIoctl        = 29
	sysWrite        = 64
	sysSetpgid      = 154
	sysPrctl        = 167
	sysGetpid       = 172
	sysExitGroup    = 94
	sysKill         = 129
	sysSigtimedwait = 137
	sysClone        = 220
	sysWait4        = 260
	sysClone3       = 435
	sysCloseRange   = 436
	sysOpenat       = 56
	sysMkdirat      = 34
	sysReadlinkat   = 78
	sysClose        = 57
	sysOpenat2      = 437
)
