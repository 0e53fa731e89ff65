//go:build !thin

package cli

// elsewhere has another program carry out what this one lacks: it lacks nothing.
func elsewhere([]string) error { return nil }

func verbs() []verb {
	return []verb{
		{name: "run", group: "run", make: newRun},
		{name: "create", group: "run", make: newCreate},
		{name: "start", group: "run", make: newStart},
		{name: "stop", group: "run", make: newStop},
		{name: "restart", group: "run", make: newRestart},
		{name: "kill", group: "run", make: newKill},
		{name: "rm", group: "run", make: newRM},
		{name: "pause", group: "run", make: newPause},
		{name: "unpause", group: "run", make: newUnpause},
		{name: "wait", group: "run", make: newWait},
		{name: "attach", group: "run", make: newAttach},
		{name: "exec", group: "run", make: newExec},
		{name: "logs", group: "run", make: newLogs},
		{name: "ps", group: "run", make: newPS},
		{name: "top", group: "run", make: newTop},
		{name: "stats", group: "run", make: newStats},
		{name: "port", group: "run", make: newPort},
		{name: "inspect", group: "run", make: newInspect},
		{name: "rename", group: "run", make: newRename},
		{name: "update", group: "run", make: newUpdate},
		{name: "cp", group: "run", make: newCP},
		{name: "diff", group: "run", make: newDiff},
		{name: "commit", group: "run", make: newCommit},
		{name: "export", group: "run", make: newExport},
		{name: "images", group: "image", make: newImages},
		{name: "pull", group: "image", make: newPull},
		{name: "push", group: "image", make: newPush},
		{name: "tag", group: "image", make: newTag},
		{name: "rmi", group: "image", make: newRMI},
		{name: "history", group: "image", make: newHistory},
		{name: "save", group: "image", make: newSave},
		{name: "load", group: "image", make: newLoad},
		{name: "import", group: "image", make: newImport},
		{name: "search", group: "image", make: newSearch},
		{name: "login", group: "image", make: newLogin},
		{name: "logout", group: "image", make: newLogout},
		{name: "events", group: "system", make: newEvents},
		{name: "info", group: "system", make: newInfo},
		{name: "version", group: "system", make: newVersion},
		{name: "container", group: "group", make: group("container", "Manage containers"), below: containerVerbs()},
		{name: "image", group: "group", make: group("image", "Manage images"), below: imageVerbs()},
		{name: "network", group: "group", make: group("network", "Manage networks"), below: networkVerbs()},
		{name: "volume", group: "group", make: group("volume", "Manage volumes"), below: volumeVerbs()},
		{name: "system", group: "group", make: group("system", "Manage kakuri"), below: systemVerbs()},
		{name: "tour", group: "see", make: newTour},
		{name: "explain", group: "see", make: newExplain},
		{name: "verify", group: "see", make: newVerify},
		{name: "ns", group: "see", make: newNS},
		{name: "unshare", group: "tool", make: newUnshare},
		{name: "enter", group: "tool", make: newEnter},
	}
}

// containerVerbs are those below "kakuri container"; what has no name of its own at the
// top is ls there ps, and prune.
func containerVerbs() []verb {
	return []verb{
		{name: "attach", make: newAttach},
		{name: "commit", make: newCommit},
		{name: "diff", make: newDiff},
		{name: "cp", make: newCP},
		{name: "create", make: newCreate},
		{name: "exec", make: newExec},
		{name: "export", make: newExport},
		{name: "inspect", make: newContainerInspect},
		{name: "kill", make: newKill},
		{name: "logs", make: newLogs},
		{name: "ls", make: newPS, also: []string{"list", "ps"}},
		{name: "pause", make: newPause},
		{name: "port", make: newPort},
		{name: "prune", make: newContainerPrune},
		{name: "rename", make: newRename},
		{name: "restart", make: newRestart},
		{name: "rm", make: newRM, also: []string{"remove"}},
		{name: "run", make: newRun},
		{name: "start", make: newStart},
		{name: "stats", make: newStats},
		{name: "stop", make: newStop},
		{name: "top", make: newTop},
		{name: "unpause", make: newUnpause},
		{name: "update", make: newUpdate},
		{name: "wait", make: newWait},
	}
}

func imageVerbs() []verb {
	return []verb{
		{name: "check", make: newImageCheck},
		{name: "history", make: newHistory},
		{name: "import", make: newImport},
		{name: "inspect", make: newImageInspect},
		{name: "load", make: newLoad},
		{name: "ls", make: newImages, also: []string{"list"}},
		{name: "prune", make: newImagePrune},
		{name: "pull", make: newPull},
		{name: "push", make: newPush},
		{name: "rm", make: newRMI, also: []string{"remove"}},
		{name: "save", make: newSave},
		{name: "tag", make: newTag},
	}
}

func networkVerbs() []verb {
	return []verb{
		{name: "connect", make: newNetworkConnect},
		{name: "create", make: newNetworkCreate},
		{name: "disconnect", make: newNetworkDisconnect},
		{name: "inspect", make: newNetworkInspect},
		{name: "log", make: newNetworkLog},
		{name: "ls", make: newNetworkLS, also: []string{"list"}},
		{name: "prune", make: newNetworkPrune},
		{name: "rm", make: newNetworkRM, also: []string{"remove"}},
	}
}

func volumeVerbs() []verb {
	return []verb{
		{name: "create", make: newVolumeCreate},
		{name: "export", make: newVolumeExport},
		{name: "import", make: newVolumeImport},
		{name: "inspect", make: newVolumeInspect},
		{name: "ls", make: newVolumeLS, also: []string{"list"}},
		{name: "prune", make: newVolumePrune},
		{name: "rm", make: newVolumeRM, also: []string{"remove"}},
	}
}

func systemVerbs() []verb {
	return []verb{
		{name: "boot", make: newSystemBoot},
		{name: "check", make: newSystemCheck},
		{name: "df", make: newDF},
		{name: "events", make: newEvents},
		{name: "info", make: newInfo},
		{name: "prune", make: newSystemPrune},
	}
}
