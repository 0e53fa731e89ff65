package plan

import (
	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/seccomp"
)

// Words are those of config.json that [Compile] knows, by kind.
type Words struct {
	Hooks, MountOptions, Namespaces, Capabilities []string
	SeccompActions, SeccompOperators              []string
	SeccompArchs, SeccompFlags                    []string
	MemoryModes, MemoryFlags                      []string
}

// Known lists the words.
func Known() Words {
	w := Words{
		Hooks: HookPoints(), MountOptions: MountOptions(),
		SeccompActions: seccomp.Actions(), SeccompOperators: seccomp.Operators(), SeccompFlags: seccomp.Flags(),
		MemoryModes: wordsOf(mpolModes[:]), MemoryFlags: wordsOf(mpolFlags[:]),
	}
	for _, ns := range abi.Namespaces() {
		w.Namespaces = append(w.Namespaces, ns.String())
	}
	for _, c := range abi.AllCaps.List() {
		w.Capabilities = append(w.Capabilities, c.String())
	}
	for _, a := range abi.Archs() {
		w.SeccompArchs = append(w.SeccompArchs, a.String())
	}
	return w
}
