package abi

// Options of prctl(2), and arguments of some.
const (
	PRSetPdeathsig       = 1
	PRGetPdeathsig       = 2
	PRGetDumpable        = 3
	PRSetDumpable        = 4
	PRGetKeepcaps        = 7
	PRSetKeepcaps        = 8
	PRSetName            = 15
	PRGetName            = 16
	PRGetSeccomp         = 21
	PRSetSeccomp         = 22
	PRCapbsetRead        = 23
	PRCapbsetDrop        = 24
	PRGetSecurebits      = 27
	PRSetSecurebits      = 28
	PRSetTimerslack      = 29
	PRGetTimerslack      = 30
	PRSetMM              = 35
	PRSetChildSubreaper  = 36
	PRGetChildSubreaper  = 37
	PRSetNoNewPrivs      = 38
	PRGetNoNewPrivs      = 39
	PRGetTIDAddress      = 40
	PRSetTHPDisable      = 41
	PRGetTHPDisable      = 42
	PRCapAmbient         = 47
	PRGetSpeculationCtrl = 52
	PRSetSpeculationCtrl = 53
	PRSetIOFlusher       = 57
	PRGetIOFlusher       = 58
	PRSchedCore          = 62

	PRCapAmbientIsSet    = 1
	PRCapAmbientRaise    = 2
	PRCapAmbientLower    = 3
	PRCapAmbientClearAll = 4
)

// Secure bits, see capabilities(7), "The securebits flags". The locks are one bit higher.
const (
	SecbitNoroot                  = 0x1
	SecbitNorootLocked            = 0x2
	SecbitNoSetuidFixup           = 0x4
	SecbitNoSetuidFixupLocked     = 0x8
	SecbitKeepCaps                = 0x10
	SecbitKeepCapsLocked          = 0x20
	SecbitNoCapAmbientRaise       = 0x40
	SecbitNoCapAmbientRaiseLocked = 0x80
	SecbitExecRestrictFile        = 0x100 // since Linux 6.14
	SecbitExecDenyInteractive     = 0x400 // since Linux 6.14
)

// Operations and flags of seccomp(2).
const (
	SeccompSetModeStrict        = 0
	SeccompSetModeFilter        = 1
	SeccompGetActionAvail       = 2
	SeccompGetNotifSizes        = 3
	SeccompModeDisabled         = 0
	SeccompModeStrict           = 1
	SeccompModeFilter           = 2
	SeccompFlagTsync            = 0x1
	SeccompFlagLog              = 0x2
	SeccompFlagSpecAllow        = 0x4
	SeccompFlagNewListener      = 0x8
	SeccompFlagTsyncESRCH       = 0x10
	SeccompFlagWaitKillableRecv = 0x20 // since Linux 5.19
)

// What a seccomp filter may answer: an action in the upper half of the word and its
// data in the lower. Of several filters the action lowest as a signed number wins.
const (
	SeccompRetKillProcess = 0x80000000
	SeccompRetKillThread  = 0x00000000
	SeccompRetTrap        = 0x00030000
	SeccompRetErrno       = 0x00050000
	SeccompRetUserNotif   = 0x7fc00000
	SeccompRetTrace       = 0x7ff00000
	SeccompRetLog         = 0x7ffc0000
	SeccompRetAllow       = 0x7fff0000
	SeccompRetActionFull  = 0xffff0000
	SeccompRetData        = 0x0000ffff
)

var seccompFlagWords = [...]flagWord{
	{SeccompFlagTsync, "tsync"}, {SeccompFlagLog, "log"}, {SeccompFlagSpecAllow, "spec_allow"},
	{SeccompFlagNewListener, "new_listener"}, {SeccompFlagTsyncESRCH, "tsync_esrch"},
	{SeccompFlagWaitKillableRecv, "wait_killable_recv"},
}

// SeccompFlagWords writes the filter flags of seccomp(2) as words: "log,new_listener".
func SeccompFlagWords(flags uint64) string { return words(flags, seccompFlagWords[:]) }

// Personality domains and flags, see personality(2). config.json knows the first two
// domains (linux.personality.domain).
const (
	PerLinux   = 0x0000
	PerLinux32 = 0x0008
	PerMask    = 0x00ff

	PerUname26          = 0x0020000
	PerAddrNoRandomize  = 0x0040000
	PerMmapPageZero     = 0x0100000
	PerAddrCompatLayout = 0x0200000
	PerReadImpliesExec  = 0x0400000
	PerAddrLimit32bit   = 0x0800000
	PerShortInode       = 0x1000000
	PerWholeSeconds     = 0x2000000
	PerStickyTimeouts   = 0x4000000
	PerAddrLimit3GB     = 0x8000000

	// PerQuery as argument of personality(2) changes nothing and returns what is set.
	PerQuery = 0xffffffff
)

// Scheduling policies and flags, see sched_setattr(2).
const (
	SchedOther    = 0
	SchedFIFO     = 1
	SchedRR       = 2
	SchedBatch    = 3
	SchedISO      = 4 // named by runtime-spec, reserved and not implemented in Linux
	SchedIdle     = 5
	SchedDeadline = 6
	SchedExt      = 7 // since Linux 6.12

	SchedFlagResetOnFork  = 0x01
	SchedFlagReclaim      = 0x02
	SchedFlagDLOverrun    = 0x04
	SchedFlagKeepPolicy   = 0x08
	SchedFlagKeepParams   = 0x10
	SchedFlagUtilClampMin = 0x20
	SchedFlagUtilClampMax = 0x40
)

// Classes and targets of ioprio_set(2). A priority is class<<IoprioClassShift | level.
const (
	IoprioClassNone  = 0
	IoprioClassRT    = 1
	IoprioClassBE    = 2
	IoprioClassIdle  = 3
	IoprioClassShift = 13

	IoprioWhoProcess = 1
	IoprioWhoPgrp    = 2
	IoprioWhoUser    = 3
)

// Modes and mode flags of set_mempolicy(2).
const (
	MpolDefault            = 0
	MpolPreferred          = 1
	MpolBind               = 2
	MpolInterleave         = 3
	MpolLocal              = 4
	MpolPreferredMany      = 5 // since Linux 5.15
	MpolWeightedInterleave = 6 // since Linux 6.9

	MpolFlagNumaBalancing = 1 << 13
	MpolFlagRelativeNodes = 1 << 14
	MpolFlagStaticNodes   = 1 << 15
)
