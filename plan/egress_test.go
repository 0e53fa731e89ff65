package plan

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/netip"
)

func TestParseEgress(t *testing.T) {
	net := netip.MustParsePrefix
	for text, want := range map[string]Reach{
		"example.org:443":             {Name: "example.org", First: 443, Last: 443},
		"Example.ORG.:443/TCP":        {Name: "example.org", First: 443, Last: 443, Proto: "tcp"},
		"*.example.org:8000-8010/udp": {Name: "*.example.org", First: 8000, Last: 8010, Proto: "udp"},
		"db":                          {Name: "db"},
		"my_db/icmp":                  {Name: "my_db", Proto: "icmp"},
		"git.corp@10.0.0.0/8:22":      {Name: "git.corp", To: net("10.0.0.0/8"), First: 22, Last: 22},
		"git.corp@[fd00::/8]:22/tcp":  {Name: "git.corp", To: net("fd00::/8"), First: 22, Last: 22, Proto: "tcp"},
		"192.0.2.1:53/udp":            {To: net("192.0.2.1/32"), First: 53, Last: 53, Proto: "udp"},
		"10.1.2.3/8":                  {To: net("10.0.0.0/8")},
		"10.0.0.0/8:1-65535/sctp":     {To: net("10.0.0.0/8"), First: 1, Last: 65535, Proto: "sctp"},
		"10.0.0.0/8/udp":              {To: net("10.0.0.0/8"), Proto: "udp"},
		"[2001:db8::1]:443":           {To: net("2001:db8::1/128"), First: 443, Last: 443},
		"[2001:db8::/32]":             {To: net("2001:db8::/32")},
		"[2001:db8::/32]/udp":         {To: net("2001:db8::/32"), Proto: "udp"},
		":443":                        {First: 443, Last: 443},
		":5353/udp":                   {First: 5353, Last: 5353, Proto: "udp"},
		"0.0.0.0/0:443":               {To: net("0.0.0.0/0"), First: 443, Last: 443},
		":1/tcp":                      {First: 1, Last: 1, Proto: "tcp"},
		"a-0.z9:1":                    {Name: "a-0.z9", First: 1, Last: 1},
		"3com.example:1":              {Name: "3com.example", First: 1, Last: 1},
	} {
		e, err := ParseEgress([]string{text})
		if err != nil || len(e.Allow) != 1 || e.Allow[0] != want {
			t.Errorf("%s: %+v, %v", text, e, err)
			continue
		}
		data, err := json.Marshal(e)
		var back Egress
		if err != nil || json.Unmarshal(data, &back) != nil || !reflect.DeepEqual(*e, back) {
			t.Errorf("%s: %s, %v", text, data, err)
		}
	}
	for text, want := range map[string]string{
		"":                                "neither an address nor a port",
		"a,":                              "neither",
		"none,a":                          "nothing else",
		"2001:db8::1:443":                 "in brackets",
		"2001:db8::1":                     "in brackets",
		"[2001:db8::1:443":                "brackets",
		"[10.0.0.1]:80":                   "brackets",
		"[::ffff:10.0.0.1]:80":            "no network",
		"a:0":                             "no port",
		"a:":                              "no port",
		"a:+1":                            "no port",
		"a:2-1":                           "no range",
		"a:65536":                         "no port",
		"a:1-2-3":                         "no port",
		"a/":                              "no protocol",
		"a/gre":                           `protocol "gre"`,
		"a:1/icmp":                        "icmp has no ports",
		"1.2.3":                           "no address",
		"1.2.3.256:80":                    "no address",
		"10.0.0.0/33":                     "no address",
		"*:443":                           ":PORT",
		"*.*.org":                         "at the begin",
		"a*.org":                          "at the begin",
		"*.":                              ":PORT",
		"a..b":                            "no name",
		"-a b":                            "stands in none",
		"bücher.example":                  "xn--",
		"http://example.org":              `"`,
		"@10.0.0.0/8":                     "no name before",
		"a@b":                             "no address",
		"0.0.0.0/0":                       "no limit",
		"[::/0]":                          "no limit",
		"/udp":                            "neither",
		strings.Repeat("a", 64):           "1 to 63",
		strings.Repeat("aa.", 90) + "b:1": "at most 253",
	} {
		if e, err := ParseEgress([]string{text}); err == nil || !strings.HasPrefix(err.Error(), "--egress ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v: want %q", text, e, err, want)
		}
	}
	e, err := ParseEgress([]string{"a:1,b:2", "a:1", "c"})
	if err != nil || e.String() != "a:1 b:2 c" {
		t.Errorf("several: %v, %v", e, err)
	}
	if e, err := ParseEgress([]string{"none", "none"}); err != nil || e.String() != "none" {
		t.Errorf("none: %v, %v", e, err)
	}
	many := make([]string, MaxReaches+1)
	for i := range many {
		many[i] = strings.Repeat("a", 1+i/26) + string(rune('a'+i%26))
	}
	if _, err := ParseEgress(many); err == nil {
		t.Error("too many entries are taken")
	}
}

func TestReachMatches(t *testing.T) {
	for _, c := range []struct {
		entry, name string
		want        bool
	}{
		{"example.org:443", "example.org", true},
		{"example.org:443", "www.example.org", false},
		{"example.org:443", "badexample.org", false},
		{"*.example.org:443", "www.example.org", true},
		{"*.example.org:443", "a.b.example.org", true},
		{"*.example.org:443", "example.org", false},
		{"*.example.org:443", ".example.org", false},
		{"*.example.org:443", "badexample.org", false},
		{"*.example.org:443", "www.example.org.evil.example", false},
		{":443", "anything.example", true},
		{"10.0.0.0/8", "anything.example", false},
		{"10.0.0.0/8", "", false},
	} {
		e, err := ParseEgress([]string{c.entry})
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Allow[0].Matches(c.name); got != c.want {
			t.Errorf("%s for %q: %v", c.entry, c.name, got)
		}
	}
}

// FuzzEgress: what is taken says itself so that it is taken for the same, and holds what an entry has to.
func FuzzEgress(f *testing.F) {
	for _, s := range []string{"none", "example.org:443", "*.a.b:1-2/udp", "git@10.0.0.0/8:22", "[2001:db8::/32]:443/tcp", ":443", "10.0.0.0/8/udp", "a,b", "x@[::1]/icmp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseEgress([]string{text})
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Fatalf("an error of several lines, or with commands to a terminal: %q", err)
			}
			return
		}
		again, err := ParseEgress([]string{strings.ReplaceAll(e.String(), " ", ",")})
		if err != nil || !reflect.DeepEqual(e, again) {
			t.Fatalf("%q is %q: %+v, %v", text, e, again, err)
		}
		for _, r := range e.Allow {
			if r.Name != "" && (strings.ContainsAny(r.Name, " ,:/@[]\\\x00") || r.Name != strings.ToLower(r.Name)) {
				t.Fatalf("%q has the name %q", text, r.Name)
			}
			if r.Any() && r.First == 0 || r.First > r.Last {
				t.Fatalf("%q: %+v", text, r)
			}
		}
	})
}
