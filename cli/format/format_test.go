package format

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

type row struct {
	ID, Labels, Names string
	All               Labels `json:"-"`
}

func (r row) Label(name string) string { return r.All[name] }

func spec() Spec {
	return Spec{
		Table: "{{.ID}}\t{{.Names}}\t{{.Labels}}", Raw: `id: {{.ID}}`,
		Heads: map[string]string{"ID": "CONTAINER ID", "Names": "NAMES", "Labels": "LABELS"},
	}
}

func TestRows(t *testing.T) {
	rows := []row{{ID: "f00", Names: "web", Labels: "a=1", All: Labels{"com.x.some-name": "v"}}, {ID: "0123456789abc", Names: "二つ", Labels: "x"}}
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, "CONTAINER ID    NAMES     LABELS\nf00             web       a=1\n0123456789abc   二つ      x\n"},
		{Options{Format: "table"}, "CONTAINER ID    NAMES     LABELS\nf00             web       a=1\n0123456789abc   二つ      x\n"},
		{Options{Quiet: true}, "f00\n0123456789abc\n"},
		{Options{Format: "raw"}, "id: f00\nid: 0123456789abc\n"},
		{Options{Format: "json"}, `{"ID":"f00","Labels":"a=1","Names":"web"}` + "\n" + `{"ID":"0123456789abc","Labels":"x","Names":"二つ"}` + "\n"},
		{Options{Format: `table {{.Names}}\t{{.Label "com.x.some-name"}}\t{{.ID | upper}}`}, "NAMES     some name   CONTAINER ID\nweb       v           F00\n二つ                  0123456789ABC\n"},
		{Options{Format: `table {{truncate .ID 2}}`}, "CONTAINER ID\nf0\n01\n"},
		{Options{Format: `{{.ID}}\n{{title .Names}}{{pad .Names 1 2}}!`}, "f00\nWeb web  !\n0123456789abc\n二つ 二つ  !\n"},
		{Options{Format: `{{join (split .ID "0") "-"}}`}, "f--\n-123456789abc\n"},
		{Options{Format: `{{json .Names}}{{println}}`}, "\"web\"\n\n\"二つ\"\n\n"},
	} {
		var out bytes.Buffer
		if err := Rows(&out, spec(), c.o, rows); err != nil || out.String() != c.want {
			t.Errorf("%+v: %q, %v; want %q", c.o, &out, err, c.want)
		}
	}
	for _, bad := range []string{"{{", "{{.Nothing}}", "{{nothing}}", "table {{.ID.X}}"} {
		if err := Rows(io.Discard, spec(), Options{Format: bad}, rows); err == nil || !strings.HasPrefix(err.Error(), "template parsing error: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for text, bad := range map[string]bool{"{{.Nothing}}": true, "table {{.ID}}\t{{.Nothing}}": true, "table {{.ID.X}}": true, `{{slice .ID 0 12}} {{index (split .Names ",") 1}}`: false, `{{.Label "a"}}`: false, "json": false} {
		var out bytes.Buffer
		if err := Rows(&out, spec(), Options{Format: text}, rows[:0]); bad != (err != nil && strings.HasPrefix(err.Error(), "template parsing error: ")) || bad && out.Len() > 0 {
			t.Errorf("%s of no rows: %v, %q", text, err, &out)
		}
	}
	fails := errors.New("full")
	if err := Rows(failing{fails}, spec(), Options{}, rows); err != fails {
		t.Errorf("a writer's error: %v", err)
	}
}

type failing struct{ error }

func (f failing) Write([]byte) (int, error) { return 0, f.error }

// What could act on a terminal is escaped in a table, and on a terminal; a pipe's reader
// gets it as it is.
func TestRowsUntrusted(t *testing.T) {
	rows := []row{{ID: "1", Names: "\x1b]0;x\a\nroot\u202e\u009b", All: Labels{"a": "\x1b\n"}}}
	const escaped = `\x1b]0;x\x07\nroot\u202e\u009b`
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Format: "table {{.Names}}"}, "NAMES\n" + escaped + "\n"},
		{Options{Format: "{{.Names}}", Terminal: true}, escaped + "\n"},
		{Options{Format: "{{.Names}}"}, rows[0].Names + "\n"},
		{Options{Format: "{{.Label \"a\"}}", Terminal: true}, `\x1b\n` + "\n"},
		{Options{Format: "{{.Label \"a\"}}"}, "\x1b\n\n"},
	} {
		var out bytes.Buffer
		if err := Rows(&out, spec(), c.o, rows); err != nil || out.String() != c.want {
			t.Errorf("%+v: %q, %v; want %q", c.o, &out, err, c.want)
		}
	}
}

func TestTerminal(t *testing.T) {
	const text = "a\tb\n\x1b[2J\r\u0085二\x80\u2066\n"
	const want = "a\tb\n" + `\x1b[2J\r\u0085` + "二" + `\x80\u2066` + "\n"
	for size := 1; size <= len(text); size++ {
		var out bytes.Buffer
		w := Terminal(&out)
		for rest := []byte(text); len(rest) > 0; rest = rest[min(size, len(rest)):] {
			p := rest[:min(size, len(rest))]
			if n, err := w.Write(p); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
		}
		if out.String() != want {
			t.Errorf("%d bytes a write: %q, want %q", size, &out, want)
		}
	}
}

func FuzzTerminal(f *testing.F) {
	f.Add("a\x1b\n", 1)
	f.Add("二\u202e", 2)
	f.Fuzz(func(t *testing.T, s string, size int) {
		if size < 1 {
			return
		}
		var out bytes.Buffer
		w := Terminal(&out)
		for rest := []byte(s); len(rest) > 0; rest = rest[min(size, len(rest)):] {
			w.Write(rest[:min(size, len(rest))])
		}
		for _, r := range out.String() {
			if r != '\n' && r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u202e' || r == utf8.RuneError && !strings.ContainsRune(s, utf8.RuneError)) {
				t.Fatalf("%q has %q", &out, r)
			}
		}
		if !strings.HasPrefix(Lines(s), out.String()) { // the rest is half a letter
			t.Fatalf("%q in writes of %d: %q, in one: %q", s, size, &out, Lines(s))
		}
	})
}

func TestObjects(t *testing.T) {
	type state struct {
		PID int `json:"Pid"`
	}
	type object struct {
		ID    string `json:"Id"`
		State state
		Args  []string
	}
	list := []any{object{"1", state{12345678901}, []string{"<a>", "b"}}, object{ID: "2"}}
	for format, want := range map[string]string{
		"":                           "[\n    {\n        \"Id\": \"1\",\n        \"State\": {\n            \"Pid\": 12345678901\n        },\n        \"Args\": [\n            \"<a>\",\n            \"b\"\n        ]\n    },\n    {\n        \"Id\": \"2\",\n        \"State\": {\n            \"Pid\": 0\n        },\n        \"Args\": null\n    }\n]\n",
		"{{.ID}}":                    "1\n2\n",
		"{{.Id}} {{.State.Pid}}":     "1 12345678901\n2 0\n",
		`{{.Id}} {{join .Args "+"}}`: "1 <a>+b\n2 \n",
		"{{json .State}}":            "{\"Pid\":12345678901}\n{\"Pid\":0}\n",
		`{{join .Args ","}}\t`:       "<a>,b\\t\n\\t\n",
		`{{join .Args "\n\t"}}`:      "<a>\n\tb\n\n",
		" {{.ID}} ":                  " 1 \n 2 \n",
		"json":                       "[{\"Id\":\"1\",\"State\":{\"Pid\":12345678901},\"Args\":[\"<a>\",\"b\"]},{\"Id\":\"2\",\"State\":{\"Pid\":0},\"Args\":null}]\n",
	} {
		var out bytes.Buffer
		if err := Objects(&out, format, list); err != nil || out.String() != want {
			t.Errorf("%q: %q, %v; want %q", format, &out, err, want)
		}
	}
	var out bytes.Buffer
	if err := Objects(&out, "{{.Nothing}}", list); err == nil || strings.Count(err.Error(), "template parsing error: ") != 2 || out.String() != "\n" {
		t.Errorf("%v, %q", err, &out)
	}
	out.Reset()
	other := struct{ Name string }{"net"}
	if err := Objects(&out, "{{.ID}}", []any{list[0], other, list[1]}); err == nil || !strings.Contains(err.Error(), `"ID"`) || out.String() != "1\n2\n" {
		t.Errorf("one that does not fit: %v, %q", err, &out)
	}
	out.Reset()
	if err := Object(&out, "json", other); err != nil || out.String() != "{\"Name\":\"net\"}\n" {
		t.Errorf("one: %v, %q", err, &out)
	}
	out.Reset()
	if err := Objects(&out, "", nil); err != nil || out.String() != "[]\n" {
		t.Errorf("none: %q, %v", &out, err)
	}
}

func TestUses(t *testing.T) {
	for format, want := range map[string]bool{
		"json": true, "{{.Size}}": true, "table {{.ID}}\\t{{.Size}}": true, "{{json .}}": true, "{{ . | json }}": true, "{{$.Size}}": true, "{{json $}}": true,
		"": false, "{{json .Names}}": false, "{{.ID}} . {{.Names}}": false, "{{": false,
	} {
		if Uses(format, "Size") != want {
			t.Errorf("%q: %v", format, !want)
		}
	}
}

// The figures and words are those of Docker's client.
func TestHuman(t *testing.T) {
	for n, want := range map[float64][3]string{
		0: {"0B", "0B", "0B"}, 999: {"999B", "999B", "999B"}, 1000: {"1kB", "1kB", "1000B"}, 1023: {"1.023kB", "1.02kB", "1023B"},
		1234567: {"1.235MB", "1.23MB", "1.177MiB"}, 128 << 20: {"134.2MB", "134MB", "128MiB"}, 5e15: {"5PB", "5PB", "4.441PiB"},
	} {
		if got := [3]string{Size(n), Short(n), Binary(n)}; got != want {
			t.Errorf("%v: %v, want %v", n, got, want)
		}
	}
	for id, want := range map[string]string{"sha256:0123456789abcdef": "0123456789ab", "0123456789abcdef": "0123456789ab", "ab": "ab", "": ""} {
		if got := ID(id); got != want {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
	}
	for s, want := range map[string]string{"short": "short", "a longer one": "a longe…", "二二二二二": "二二二…"} {
		if got := Ellipsis(s, 8); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}
