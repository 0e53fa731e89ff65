package image

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestSearch: what Docker's search asks, its filters, and nothing that a terminal would obey.
func TestSearch(t *testing.T) {
	k := serve(t, newFixture())
	var asked string
	k.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v1/search" {
			return false
		}
		asked = r.URL.RawQuery
		_, _ = io.WriteString(w, `{"results":[{"name":"busybox","description":"a\u001b[31mb","star_count":9,"is_official":true},{"name":"x/busybox","star_count":1}]}`)
		return true
	}
	s := newStore(t, nil)
	for _, test := range []struct {
		filters Filters
		want    int
	}{{nil, 2}, {Filters{"is-official": {"true"}}, 1}, {Filters{"is-official": {"false"}}, 1}, {Filters{"stars": {"3"}}, 1}, {Filters{"stars": {"3"}, "is-automated": {"true"}}, 0}} {
		list, err := s.Search(t.Context(), k.host+"/busy box", 7, test.filters, nil)
		if err != nil || len(list) != test.want || asked != "n=7&q=busy+box" {
			t.Errorf("%v: %v %v %s", test.filters, list, err, asked)
		}
		if len(list) == 2 && list[0].Description != "a [31mb" {
			t.Errorf("%q", list[0].Description)
		}
	}
	for _, bad := range []struct {
		term    string
		limit   int
		filters Filters
	}{{k.host + "/x", 101, nil}, {k.host + "/x", -1, nil}, {"", 0, nil}, {k.host + "/", 0, nil}, {k.host + "/x", 0, Filters{"stars": {"many"}}}, {k.host + "/x", 0, Filters{"x": {"y"}}}} {
		if _, err := s.Search(t.Context(), bad.term, bad.limit, bad.filters, nil); err == nil {
			t.Errorf("%+v: no error", bad)
		}
	}
}

// TestSearchFlood: an answer of very many results of nothing is no answer.
func TestSearchFlood(t *testing.T) {
	k := serve(t, newFixture())
	k.before = func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.WriteString(w, `{"results":[`+strings.Repeat("{},", 1<<20)+`{}]}`)
		return r.URL.Path == "/v1/search"
	}
	if _, err := newStore(t, nil).Search(t.Context(), k.host+"/a", 0, nil, nil); err == nil || !strings.Contains(err.Error(), "more than 262144 values") {
		t.Error(err)
	}
}

// TestPlatforms: one spelling of each, and what runs on what.
func TestPlatforms(t *testing.T) {
	for in, want := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/x86_64": "linux/amd64", "amd64": "linux/amd64", "linux/aarch64": "linux/arm64", "linux/arm64/v8": "linux/arm64", "linux/arm": "linux/arm/v7",
		"linux/arm/6": "linux/arm/v6", "armhf": "linux/arm/v7", "Linux/AMD64": "linux/amd64", "linux": formatPlatform(Host()), "windows/amd64": "windows/amd64", "linux/amd64/v2": "linux/amd64/v2",
	} {
		p, err := ParsePlatform(in)
		if err != nil || formatPlatform(p) != want {
			t.Errorf("%s: %s %v, want %s", in, formatPlatform(p), err, want)
		}
	}
	for _, bad := range []string{"", "/", "a/b/c/d", "linux/", "a b", "linux/../x"} {
		if p, err := ParsePlatform(bad); err == nil {
			t.Errorf("%q: %+v", bad, p)
		}
	}
	at := func(s string) Platform { p, _ := ParsePlatform(s); return p }
	for _, test := range []struct {
		want, have string
		ok         bool
	}{
		{"linux/amd64", "linux/amd64", true}, {"linux/amd64", "linux/amd64/v3", false}, {"linux/amd64/v3", "linux/amd64/v2", true}, {"linux/amd64/v3", "linux/amd64", true},
		{"linux/arm/v7", "linux/arm/v6", true}, {"linux/arm/v6", "linux/arm/v7", false}, {"linux/arm64", "linux/arm/v7", false}, {"linux/amd64", "windows/amd64", false},
	} {
		if got := fits(at(test.want), at(test.have)) > 0; got != test.ok {
			t.Errorf("%s on %s: %v", test.have, test.want, got)
		}
	}
}
