package launch

import (
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

func TestHold(t *testing.T) {
	fifo := nstest.Dir(t) + "/until"
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	until, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer until.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	pid, err := Hold(until, os.Stderr, w)
	if err != nil {
		t.Fatal(err)
	}
	w.Close() // from here on the holder's is the only one

	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if name, kb, ok := strings.Cut(line, ":"); ok && name == "VmRSS" {
			t.Logf("a holder's memory: %s", strings.TrimSpace(kb))
		}
	}
	again, err := Held(pid, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.WriteString("held"); err != nil {
		t.Fatal(err)
	}
	again.Close()
	got := make([]byte, 4)
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "held" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := Held(pid, 3); err == nil { // after the holder's own program
		t.Error("it has one more file")
	}

	if _, err := until.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil || !ws.Exited() {
		t.Fatalf("its end: %v, %v", ws, err)
	}
	if n, err := r.Read(got); n != 0 || err != io.EOF {
		t.Errorf("after its end: %d, %v", n, err)
	}
}
