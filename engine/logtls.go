package engine

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Lines that go to a server by TLS go through this program, started once more by the container's monitor: a monitor has no TLS stack, which would be more memory
// than all else it has.

// tlsName is what the program is called as then.
const tlsName = "kakuri-tls"

// A tlsRelay is what the process has to know: the names of Docker's options, and HOST:PORT.
type tlsRelay struct {
	Server        string
	CA, Cert, Key string // files; empty are the machine's authorities, and no certificate of ours
	SkipVerify    bool
}

// relayOf is the relay for a container's log options.
func relayOf(server string, options map[string]string) (argv []string, err error) {
	_, skip := options["syslog-tls-skip-verify"] // whatever its value, as with Docker
	r := tlsRelay{Server: server, CA: options["syslog-tls-ca-cert"], Cert: options["syslog-tls-cert"], Key: options["syslog-tls-key"], SkipVerify: skip}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("--log-opt syslog-tls-…: %w", err)
	}
	if !childIsCalled {
		return nil, errors.New("--log-opt syslog-address=tcp+tls://…: this program cannot be started for that: its main function does not call engine.Child")
	}
	exe, err := wholeProgram()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(r)
	return []string{exe, tlsName, string(text)}, err
}
