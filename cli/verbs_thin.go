//go:build thin

package cli

import (
	"slices"

	"github.com/kakuri/kakuri/engine"
)

// elsewhere has the whole program take this one's place for each line that does not begin with a verb of this one.
func elsewhere(args []string) error {
	list := verbs()
	for _, name := range args {
		i := slices.IndexFunc(list, func(v verb) bool { return v.is(name) })
		if i < 0 {
			break
		}
		if list = list[i].below; list == nil {
			return nil
		}
	}
	return engine.BecomeWhole()
}

// verbs are those that are called often, or waited for, and need no registry, archive or plan for the eye.
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
		{name: "inspect", group: "run", make: newInspect},
		{name: "rename", group: "run", make: newRename},
		{name: "update", group: "run", make: newUpdate},
		{name: "images", group: "image", make: newImages},
		{name: "events", group: "system", make: newEvents},
		{name: "version", group: "system", make: newVersion},
		{name: "container", group: "group", make: group("container", "Manage containers"), below: containerVerbs()},
	}
}

func containerVerbs() []verb {
	return []verb{
		{name: "attach", make: newAttach},
		{name: "create", make: newCreate},
		{name: "exec", make: newExec},
		{name: "inspect", make: newContainerInspect},
		{name: "kill", make: newKill},
		{name: "logs", make: newLogs},
		{name: "ls", make: newPS, also: []string{"list", "ps"}},
		{name: "pause", make: newPause},
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
