package storage

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const wordlessName = "wordless"

// wordless ends as a helper does that has no time to say why.
func wordless(how string) int {
	if how == "killed" {
		unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
	return 7
}

// TestWordlessHelper: of a helper that said nothing, as one that the kernel has killed for its memory, the error says how it ended.
func TestWordlessHelper(t *testing.T) {
	for how, want := range map[string]string{"killed": "wordless was ended by signal SIGKILL", "failed": "wordless ended with code 7"} {
		if err := (Helper{Name: wordlessName, Arg: how}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", how, err)
		}
	}
}
