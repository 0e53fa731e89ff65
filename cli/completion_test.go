package cli

import (
	"os/exec"
	"strings"
	"testing"
)

// Without the package bash-completion the script finds the words of a line by itself, which bash has split at = and :.
func TestCompletionAlone(t *testing.T) {
	script, err := Completion(Root(IO{}), "bash")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ line, words, want string }{
		{"kakuri ps --filter status=ru", "kakuri ps --filter status = ru", "3 [status=ru] [--filter] [kakuri ps --filter status=ru]"},
		{"kakuri ps --format=", "kakuri ps --format =", "2 [--format=] [ps] [kakuri ps --format=]"},
		{"kakuri port why web:80", "kakuri port why web : 80", "3 [web:80] [why] [kakuri port why web:80]"},
		{"kakuri run --network container:web --p", "kakuri run --network container : web --p", "4 [--p] [container:web] [kakuri run --network container:web --p]"},
		{"kakuri  stop ", "kakuri stop ''", "2 [] [stop] [kakuri stop ]"},
		{"kakuri run a= b", "kakuri run a = b", "3 [b] [a=] [kakuri run a= b]"},
	} {
		bash := exec.Command("bash", "--norc", "-c", string(script)+`
COMP_WORDS=(`+c.words+`) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$0 COMP_POINT=${#0}
__kakuri_init_completion -n =:
echo "$cword [$cur] [$prev] [${words[*]}]"`, c.line)
		out, err := bash.CombinedOutput()
		if got := strings.TrimSuffix(string(out), "\n"); err != nil || got != c.want {
			t.Errorf("%q: got %s, want %s (%v)", c.line, got, c.want, err)
		}
	}
}

func TestNear(t *testing.T) {
	names := strings.Fields("run rm create volume network images image inspect stop start stats ps logs")
	for name, want := range map[string]string{
		"rum": "run rm", "rnu": "run", "creat": "create", "vol": "volume", "stpo": "stop", "imagse": "images image", "inspekt": "inspect", "xy": "", "bogus": "", "lgos": "logs", "netwokr": "network", "frobnicate": "", "st": "",
	} {
		if got := strings.Join(near(name, names), " "); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
