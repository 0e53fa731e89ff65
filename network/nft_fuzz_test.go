package network

import (
	"testing"

	"github.com/kakuri/kakuri/plan"
)

// FuzzReplies reads what might come from a kernel: nothing of it may end this program.
func FuzzReplies(f *testing.F) {
	for _, m := range tableMessages(portElements("c", []plan.Publish{port("udp 127.0.0.1:1 10.0.0.1:2"), port("tcp [::]:1 [2001:db8::1]:2")})) {
		f.Add([]byte(m.body))
	}
	f.Add([]byte{4, 0, 1, 0, 3, 0, 1, 0, 255, 255, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, e := range elementsOf(b) {
			_ = e.String()
			if e.data != "" {
				_ = e.published()
			}
		}
		readComment(b)
		intact([][]byte{b})
		unconditional(b)
		seemsIntact([]nfAnswer{{bodies: [][]byte{b}}, {bodies: [][]byte{b}}})
		leadsElsewhere(b, port("udp 0.0.0.0:1 10.0.0.1:2"))
		leadsElsewhere(b, port("udp [::]:1 [2001:db8::1]:2"))
	})
}
