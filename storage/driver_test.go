package storage

import (
	"errors"
	"testing"
)

// TestTrialIsRemembered: what went well is not tried again, and what did not is, since a module may be loaded meanwhile.
func TestTrialIsRemembered(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	tries := 0
	answer := errors.New("no")
	try := func() error { tries++; return answer }
	for range 2 {
		if err := s.remembered("erofs", try); err != answer {
			t.Fatal(err)
		}
	}
	if tries != 2 {
		t.Errorf("a trial that failed: %d tries", tries)
	}
	answer = nil
	for range 2 {
		if err := openIn(t, dir).remembered("erofs", try); err != nil {
			t.Fatal(err)
		}
	}
	if tries != 3 {
		t.Errorf("a trial that went well: %d tries more", tries-2)
	}
}
