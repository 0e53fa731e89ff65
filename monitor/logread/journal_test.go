package logread

import (
	"fmt"
	"strings"
	"testing"
)

// TestJournalLines: what journalctl prints becomes lines.
func TestJournalLines(t *testing.T) {
	const text = `{"MESSAGE":"one","PRIORITY":"6","SYSLOG_TIMESTAMP":"2026-11-26T12:00:00.000000005Z","_PID":"1","CONTAINER_ID":"x","APP":"web"}
{"MESSAGE":[255,10,97],"PRIORITY":"3","__REALTIME_TIMESTAMP":"1000000","CONTAINER_PARTIAL_MESSAGE":"true"}
{"MESSAGE":null}
`
	var got []string
	err := journalLines(strings.NewReader(text), func(l Line) error {
		got = append(got, fmt.Sprintf("%v %d %q %v", l.Stream, l.Time.UnixNano(), l.Text, l.Attrs))
		return nil
	})
	want := []string{`stdout 1795694400000000005 "one\n" map[APP:web]`, `stderr 1000000000 "\xff\na" map[]`, `stdout 0 "\n" map[]`}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v: %q", err, got)
	}
	if err := journalLines(strings.NewReader("no json\n"), nil); err == nil {
		t.Error("no JSON is taken")
	}
}
