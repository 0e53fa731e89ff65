package plan

// An UncheckedStep is one that leaves nothing of its own to read back, and why.
type UncheckedStep struct {
	N      int // from 1
	Op     Op
	Reason string
}

// Unchecked lists the steps of p that have no check of their own, with the reason.
func (p Plan) Unchecked() []UncheckedStep {
	var list []UncheckedStep
	for i, s := range p.Steps {
		if s.Check == nil {
			list = append(list, UncheckedStep{N: i + 1, Op: s.Op, Reason: unchecked(s.Op)})
		}
	}
	return list
}

// unchecked says why a step with this operation may be without a check: what else shows it, or why
// the kernel shows nothing. It is empty for an operation that always has to have one.
func unchecked(op Op) string {
	switch op.(type) {
	case *Clone, *Fork, *Init:
		return "the process that is looked at came of it"
	case *OpenNamespace, *OpenSocketNamespace, *OpenFD, *OpenRoot, *OpenSelf, *OpenNull, *OpenProc, *OpenPts, *OpenHost, *OpenSource, *OpenOwnSource, *OpenFS:
		return "a descriptor that is closed by now"
	case *OpenTree, *IDMapTree, *BorrowMount, *NewMount, *NewUserNamespace, *KeepNamespace:
		return "it shows where it is mounted"
	case *Propagation:
		return "the mounts that it was for are gone from the container"
	case *PivotRoot, *LeaveChroot, *AttachRoot, *Scratch, *LayerDir, *PublicLayer, *MountIndex, *MountFUSE, *ServeRoot:
		return "it shows by the root file system"
	case *Remount:
		return "it shows by the mount"
	case *Setgroups, *Setresgid, *Setresuid:
		return "it shows by user and groups"
	case *DropBounding, *Capset, *Ambient, *KeepCaps:
		return "it shows by capabilities"
	case *Undumpable, *Stub:
		return "it ends with the execve"
	case *Chdir, *TryChdir, *LateChdir, *PlainChdir, *Fchdir, *Chroot, *Workdir:
		return "the program may go elsewhere, and change directories"
	case *Mtab, *Dockerenv:
		return "the image may have one of its own, and the program may replace it"
	case *DefaultSignals, *Sigmask:
		return "the program may set its own"
	case *CloseFDs:
		return "the program opens its own"
	case *Exec, *FindProgram:
		return "the program may have executed another"
	case *DieWithParent:
		return "prctl(2) tells only the process itself"
	case *Keyring:
		return "keyctl(2) tells only the process itself"
	case *KeyLabel:
		return "keyctl(2) tells only who may use the keyring"
	case *MakeCgroup, *EnterCgroup:
		return "it shows by the control group"
	case *RemoveCgroup, *RemoveResctrl, *Unmount, *UnpublishPorts, *RemoveBridge:
		return "it comes at the end"
	case *Affinity:
		return "the process begins with them, and is given others"
	case *Umask:
		return "another step sets the one that stays"
	case *OwnStreams, *OwnNull:
		return "the program may have others by now"
	case *MakeParent:
		return "it shows by the device that is on it"
	case *RegisterBinfmt:
		return "the command may register others"
	case *JoinCgroup, *OpenCgroup, *LimitCgroup, *DeviceRules:
		return "the plan does not say where the control group is mounted"
	case *CopyUp:
		return "the container may change its copies"
	case *HookBundle, *WriteConfig:
		return "they are gone with the host's tree"
	case *RunHook:
		return "what a hook did is known to the hook; one that failed would have ended the container"
	case *SendListener:
		return "the agent has it"
	case *HoldPorts:
		return "it shows by the published ports"
	case *UplinkPorts:
		return "kakuri-uplink answers for it: see kakuri port why"
	case *World:
		return "its monitor was in it: it shows by bridges and devices"
	case *Announce:
		return "neighbours have heard it, or find out later"
	case *Sync:
		return "both sides went on"
	}
	return ""
}
