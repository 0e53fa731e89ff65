package engine

import (
	"testing"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
)

// TestEngineID: an engine is told from others by its ID, which stays, and which who only looks does not make up.
func TestEngineID(t *testing.T) {
	nstest.Root(t)
	e, other := open(t), open(t)
	id := func(e *Engine) string {
		t.Helper()
		i, err := e.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return i.ID
	}
	e.look = true
	if got := id(e); got != "" {
		t.Errorf("made up by looking: %q", got)
	}
	e.look = false
	first := id(e)
	e.look = true
	if !files.IsID(first) || id(e) != first || id(other) == first {
		t.Errorf("%q, then %q, and of other data %q", first, id(e), id(other))
	}
}
