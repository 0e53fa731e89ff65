package host

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTimeOnExecKept: the answer is kept, and what is in the place of its file holds nobody up.
func TestTimeOnExecKept(t *testing.T) {
	dir := t.TempDir()
	file := dir + "/time-on-exec-6.0"
	if err := unix.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	answer := TimeOnExec(dir, "6.0", true)
	if _, known := tryTimeOnExec(); !known {
		t.Skip("time namespaces cannot be made here: since Linux 5.6, by root")
	}
	text := map[bool]string{true: "1", false: "0"}
	if st, err := os.Lstat(file); err != nil || !st.Mode().IsRegular() {
		t.Fatalf("%v, %v", st, err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != text[answer] {
		t.Errorf("%q, %v; the answer was %v", data, err, answer)
	}
	if err := os.WriteFile(file, []byte(text[!answer]), 0o600); err != nil {
		t.Fatal(err)
	}
	if TimeOnExec(dir, "6.0", true) == answer {
		t.Error("it was asked once more")
	}
}

// TestTimeNamespaces: where the kernel makes none, that is seen before one is asked for.
func TestTimeNamespaces(t *testing.T) {
	inPlaces(t, map[string]string{
		`exec unshare -Ur "$0" "$@"`: "true",
		`exec unshare -Ur sh -c 'echo 0 >/proc/sys/user/max_time_namespaces && exec "$0" "$@"' "$0" "$@"`: "false",
		`mount -t tmpfs none /proc && exec "$0" "$@"`:                                                     "false",
	}, func() (bool, error) { return TimeNamespaces(), nil })
}
