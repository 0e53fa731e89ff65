package engine

import (
	"github.com/kakuri/kakuri/image"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// What a short command needs is little of what this package links: registries and TLS, codecs, TOML and YAML have tables that are made, and
// pages that are touched, at each start of the program. So the program kakuri is built twice. That with the build tag "thin" lacks those
// parts, and has kakuri-full, which is the whole one, do what needs them: it becomes it where the command line asks for nothing else, and
// starts it for a job where a container's start turns out to. A program that imports this package without the tag is whole, and needs no other.

// WholeName is what the whole program is called as, beside the thin one.
const WholeName = "kakuri-full"

// jobName is what the program is called as for a job.
const jobName = "kakuri-job"

// A wholeJob is one, as JSON at the child's stdin.
type wholeJob struct {
	Pull *pullJob  `json:",omitempty"`
	CDI  *cdiJob   `json:",omitempty"`
	TLS  *tlsRelay `json:",omitempty"` // whose files are looked at
}

// A pullJob is an image that a container needs.
type pullJob struct {
	Dir, Data string // of the engine
	Name      string
	Options   image.PullOptions
}

// A wholeAnswer is a line of what the child says: events, and at the end what has come of it.
type wholeAnswer struct {
	Event  *image.Event `json:",omitempty"`
	Done   bool         `json:",omitempty"`
	Error  string       `json:",omitempty"`
	Spec   *specs.Spec  `json:",omitempty"`
	Causes []cdiCause   `json:",omitempty"`
}
