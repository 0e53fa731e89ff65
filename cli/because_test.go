package cli

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/ui"
)

// reasonsOf reads the reasons that a room's files give to steps: the texts in calls, in functions and of fields that give one, and all defaults.
func reasonsOf(t *testing.T, room string) (list []string) {
	t.Helper()
	names, err := filepath.Glob(room + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, texts(file, false)...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// giving are the functions and fields whose texts are reasons.
var giving = []string{"because", "cause", "mask", "hide", "empty", "bare", "say", "Reason"}

// texts are the reasons below n: all texts where they are about nothing else, else those that say so.
func texts(n ast.Node, all bool) (list []string) {
	ast.Inspect(n, func(below ast.Node) bool {
		if below == n {
			return true
		}
		name := ""
		switch x := below.(type) {
		case *ast.BasicLit:
			s, err := strconv.Unquote(x.Value)
			if x.Kind == token.STRING && err == nil && strings.Contains(strings.TrimSpace(s), " ") && (all || strings.HasPrefix(s, "default: ")) {
				list = append(list, s)
			}
		case *ast.CaseClause: // what it compares with is nobody's reason
			list = append(list, texts(&ast.BlockStmt{List: x.Body}, all)...)
			return false
		case *ast.CallExpr:
			switch f := x.Fun.(type) {
			case *ast.Ident:
				name = f.Name
			case *ast.SelectorExpr:
				name = f.Sel.Name
			}
		case *ast.FuncDecl:
			if x.Name.Name == "because" {
				name = "because"
			}
		case *ast.AssignStmt:
			to, ok := x.Lhs[0].(*ast.Ident)
			if _, text := x.Rhs[0].(*ast.BasicLit); ok && text && to.Name == "why" {
				name = "because"
			}
		case *ast.KeyValueExpr:
			if key, ok := x.Key.(*ast.Ident); ok {
				name = key.Name
			}
		}
		if !slices.Contains(giving, name) {
			return true
		}
		list = append(list, texts(below, true)...)
		return false
	})
	return list
}

func japanese(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return unicode.In(r, unicode.Hiragana, unicode.Katakana, unicode.Han) })
}

// TestReasonsTranslated holds what plans give as reasons against the catalogue: nothing of more than a word is left in English. What begins with a flag is the same in all languages.
func TestReasonsTranslated(t *testing.T) {
	verb, english := regexp.MustCompile(`%[sd]`), regexp.MustCompile(`(^|[^-])\b[a-z']{2,} [a-z']{2,}`)
	seen := 0
	for _, room := range []string{"../plan", "../engine", "."} {
		for _, reason := range reasonsOf(t, room) {
			if strings.HasPrefix(verb.ReplaceAllString(reason, "-"), "-") && !strings.Contains(reason, ": ") {
				continue
			}
			seen++
			if got := inLang(ui.JA, verb.ReplaceAllString(reason, "7")); !japanese(got) || english.MatchString(got) {
				t.Errorf("%s: %q is %q in Japanese", room, reason, got)
			}
		}
	}
	if seen < 90 {
		t.Errorf("only %d reasons were found: who gives them to steps has another name now?", seen)
	}
	for _, heading := range headingsOf(t) {
		if !japanese(headings()[heading]) {
			t.Errorf("the heading %q is %q", heading, headings()[heading])
		}
	}
}

// headingsOf reads those of a plan's text.
func headingsOf(t *testing.T) (list []string) {
	t.Helper()
	data, err := os.ReadFile("../plan/text.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`l\.heading\("([^"]+)"\)`).FindAllStringSubmatch(string(data), -1) {
		list = append(list, m[1])
	}
	if len(list) < 5 {
		t.Errorf("headings: %q", list)
	}
	return list
}

// TestReasonsInUse finds what the catalogue has and no plan says any more.
func TestReasonsInUse(t *testing.T) {
	var all []string
	for _, room := range []string{"../plan", "../engine", "../storage", "."} {
		all = append(all, reasonsOf(t, room)...)
	}
	text := regexp.MustCompile(`%[sd]`).ReplaceAllString(strings.Join(all, "\n"), "%s")
	used := func(reason string) {
		reason = strings.TrimSpace(strings.TrimSuffix(reason, "%s"))
		if strings.Contains(reason, " ") && !strings.Contains(text, reason) {
			t.Errorf("nobody says %q", reason)
		}
	}
	for reason := range reasons() {
		used(reason)
	}
	for _, p := range reasonParts {
		used(p.EN)
	}
}

func TestInLang(t *testing.T) {
	for _, c := range []struct{ en, ja string }{
		{"--read-only", "--read-only"},
		{"config.json mounts[3]", "config.json mounts[3]"},
		{"command", "コマンド"},
		{"default: own namespaces, --network db", "既定: 自分の名前空間, --network db"},
		{"default: low ports and ping without capabilities", "既定: 小さい番号のポートと ping は、ケーパビリティなしで使える"},
		{"default: 11 capabilities, without NET_RAW: --egress a:1", "既定: ケーパビリティは 11 個、ただし NET_RAW なし: --egress a:1"},
		{"image host: what others may not read on the host is not shown", "イメージ host: ホストで他人に読めないものは見せない"},
		{"image host: people's data is not shown", "イメージ host: 人のデータは見せない"},
		{"network limits", "ネットワーク limits"},
		{"image command", "イメージ command"},
		{"what unshare does", "unshare がすること"},
		{"image 100%: %d", "イメージ 100%: %d"},
		{"no such reason", "no such reason"},
	} {
		if got := inLang(ui.JA, c.en); got != c.ja {
			t.Errorf("%q: %q, want %q", c.en, got, c.ja)
		}
		if got := inLang(ui.EN, c.en); got != c.en {
			t.Errorf("%q in English: %q", c.en, got)
		}
	}
}

// TestExplainIn prints a plan in Japanese, to a screen and to a pipe, and no language that there is not.
func TestExplainIn(t *testing.T) {
	p := plan.Plan{Steps: []plan.Step{{Op: &plan.Keyring{}, Side: plan.Container, Cause: plan.Cause{Reason: "default: no keys of the caller, --log-level"}}}}
	for _, c := range []struct {
		locale, lang, want string
	}{
		{"ja_JP.UTF-8", "", "  #  側         操作                         理由\n  1  container  keyctl join_session_keyring  既定: 呼び出し元の鍵を持たない, --log-level\n"},
		{"C", "ja", "  #  側         操作                         理由\n  1  container  keyctl join_session_keyring  既定: 呼び出し元の鍵を持たない, --log-level\n"},
		{"ja_JP.UTF-8", "en", "  #  side       operation                    because\n  1  container  keyctl join_session_keyring  default: no keys of the caller, --log-level\n"},
	} {
		t.Setenv("LC_ALL", c.locale)
		var out strings.Builder
		if err := (&explainFlags{format: "text", lang: c.lang}).print(IO{Out: &out}, p, abi.ArchNone); err != nil || out.String() != c.want {
			t.Errorf("%s, --lang %q: %v\n%s\nwant\n%s", c.locale, c.lang, err, out.String(), c.want)
		}
	}
	if got, want := p.TextAs(layout(ui.JA, 58)), "  1  container  keyctl                    既定: 呼び出し元\n                join_session_keyring      の鍵を持たない,\n                                          --log-level\n"; !strings.HasSuffix(got, want) {
		t.Errorf("in 58 columns:\n%s\nwant the end\n%s", got, want)
	}
	err := (&explainFlags{format: "text", lang: "fr"}).print(IO{Out: io.Discard}, p, abi.ArchNone)
	if err == nil || err.Error() != `--lang: language "fr": not one of en, ja` {
		t.Errorf("--lang fr: %v", err)
	}
}
