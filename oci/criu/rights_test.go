package criu

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// put writes a file of an image, with these messages.
func put(t *testing.T, dir, name string, magic uint32, messages ...string) {
	t.Helper()
	b := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, magicCommon), magic)
	for _, m := range messages {
		m, _ := hex.DecodeString(m)
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(m))), m...)
	}
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// putCore writes the file of a thread: its state, creds_entry, and what else thread_core has.
func putCore(t *testing.T, dir, name string, state int, creds string, more ...any) {
	t.Helper()
	own := append([]any{1, 0, 2, 0}, more...)
	if creds != "" {
		own = append(own, 10, "x"+creds)
	}
	put(t, dir, name, magicCore, answer(1, 1, 3, "x"+answer(1, state, 2, 0), 5, "x"+answer(own...)))
}

func TestThreads(t *testing.T) {
	path := t.TempDir()
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	const running, dead, disabled, filtered, forAll = 1, 2, 0, 2, 1
	put(t, path, "pstree.img", magicPstree, answer(1, 1, 2, 0, 3, 1, 4, 1, 5, 1, 5, 2, 5, 3), answer(1, 7, 2, 1, 3, 7, 4, 7, 5, 7), answer(1, 8, 2, 1, 3, 8, 4, 8, 5, "x0809"))
	put(t, path, "seccomp.img", magicSeccomp, answer(1, "x"+answer(1, "first", 3, forAll), 1, "x"+answer(1, "second", 2, 0, 3, forAll), 1, "x"+answer(1, "alone")))
	caps := func(pairs ...any) string { return answer(append([]any{1, 0, 13, 0}, pairs...)...) }
	putCore(t, path, "core-1.img", running, caps(12, 1, 12, 1<<8, 18, 1), 11, filtered, 12, 1)
	putCore(t, path, "core-2.img", running, caps(9, 2, 10, 4, 11, 8, 19, 16), 11, disabled, 12, 2)
	putCore(t, path, "core-3.img", running, caps(12, "x0100", 18, 0), 11, filtered, 12, 2)
	putCore(t, path, "core-7.img", dead, "")
	putCore(t, path, "core-8.img", running, caps(), 11, filtered, 12, 2)
	putCore(t, path, "core-9.img", running, caps())
	first, second, alone := []byte("first"), []byte("second"), []byte("alone")
	want := []Thread{
		{1, 1, 1<<40 | 1, true, [][]byte{second, first}},
		{1, 2, 30, false, [][]byte{second, first}}, // the first's are for all
		{1, 3, 1, false, [][]byte{alone}},
		{8, 8, 0, false, [][]byte{alone}},
		{8, 9, 0, false, nil}, // the first's is not
	}
	if got, err := Threads(dir); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v:\n%v, want\n%v", err, got, want)
	}
	for want, change := range map[string]func(){
		"pstree.img: it is cut short": func() {
			data, _ := os.ReadFile(filepath.Join(path, "pstree.img"))
			os.WriteFile(filepath.Join(path, "pstree.img"), data[:len(data)-1], 0o600)
		},
		"pstree.img: it is no such file":         func() { put(t, path, "pstree.img", magicCore) },
		"pstree.img: no such file":               func() { os.Remove(filepath.Join(path, "pstree.img")) },
		"it has no credentials":                  func() { putCore(t, path, "core-1.img", running, "") },
		"core-1.img: a field that comes once is": func() { putCore(t, path, "core-1.img", running, caps(18, 1, 18, 0)) },
		"twice":                                  func() { putCore(t, path, "core-1.img", running, caps(), 10, "x"+caps()) },
		"that is not in seccomp.img":             func() { putCore(t, path, "core-1.img", running, caps(), 11, filtered, 12, 3) },
		"a filter of seccomp that is not": func() {
			put(t, path, "seccomp.img", magicSeccomp, answer(1, "x"+answer(1, "first", 2, 0))) // before itself
			putCore(t, path, "core-1.img", running, caps(), 11, filtered, 12, 0)
		},
	} {
		put(t, path, "pstree.img", magicPstree, answer(1, 1, 2, 0, 3, 1, 4, 1, 5, 1))
		putCore(t, path, "core-1.img", running, caps())
		change()
		if _, err := Threads(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
