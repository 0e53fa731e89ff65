package engine

import (
	"time"

	"github.com/kakuri/kakuri/monitor"
)

// A Record is what a container is for as long as it exists: container.json in its directory.
type Record struct {
	ID      string
	Name    string
	Created time.Time
	Config  Config   // as it was asked for, with what the image adds
	Image   string   // as lists show it: the reference, or the root directory
	ImageID string   `json:",omitempty"` // digest of its config; empty for the image host and for a directory
	Chain   []string `json:",omitempty"` // the image's layers by diffID, lowest first
	Command []string // what runs: entrypoint and arguments

	Slot   int    // the first of its ranges of ids, see slotBase; -1 for none
	UserNS bool   // it has a user namespace of its own
	IPC    string `json:",omitempty"` // its ipc mode: who may join

	Volumes []MountPoint `json:",omitempty"` // what is mounted, once that is decided
}

// A MountPoint is a volume, directory or tmpfs that a container has, in the words of Docker's inspect.
type MountPoint struct {
	Type        string // bind, volume, tmpfs, image
	Name        string `json:",omitempty"` // of a volume
	Source      string // on the host
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string
	Anonymous   bool `json:",omitempty"` // goes with its container
}

// A State is how a container is: see [monitor.State].
type State = monitor.State

// An Exit is how a container's process ended: see [monitor.Exit].
type Exit = monitor.Exit
