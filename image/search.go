package image

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// A SearchResult is a repository that a search found.
type SearchResult struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Stars       int    `json:"star_count"`
	Official    bool   `json:"is_official"`
	Automated   bool   `json:"is_automated"`
}

// hubSearch is where Docker Hub searches.
const hubSearch = "index.docker.io"

// Search asks a registry for repositories as `docker search` does: Docker Hub, or the HOST of HOST/TERM, where it has Docker's
// search. Filters are is-official, is-automated and stars; limit is 1 to 100, and 0 is 25. Without credentials given, those of the store's settings are taken.
func (s *Store) Search(ctx context.Context, term string, limit int, filters Filters, given *Credentials) ([]SearchResult, error) {
	if limit == 0 {
		limit = 25
	}
	if limit < 1 || limit > 100 {
		return nil, fmt.Errorf("search: limit %d is outside the range of [1, 100]", limit)
	}
	keep, err := searchFilter(filters)
	if err != nil {
		return nil, err
	}
	domain, rest := splitDomain(term)
	if rest == "" || !validDomain(domain) {
		return nil, fmt.Errorf("search: %q: want TERM or HOST/TERM", term)
	}
	if domain == defaultDomain {
		rest = strings.TrimPrefix(rest, officialRepo)
	}
	r, err := s.remote(Reference{Domain: domain}, given)
	if err != nil {
		return nil, err
	}
	if domain == defaultDomain {
		r.base.Host = hubSearch
	}
	if err := r.scheme(ctx); err != nil {
		return nil, err
	}
	defer s.net.close()
	u := r.base
	u.Path = "/v1/search"
	u.RawQuery = url.Values{"q": {rest}, "n": {strconv.Itoa(limit)}}.Encode()
	resp, err := r.do(ctx, &request{method: http.MethodGet, url: &u, ok: []int{200}})
	if err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	defer resp.Body.Close()
	raw, err := readLimited(resp.Body, maxManifest, "search")
	if err != nil {
		return nil, err
	}
	var out struct{ Results []SearchResult }
	if err := unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("search: registry %s: %w", r.host, err)
	}
	list := []SearchResult{}
	for _, res := range out.Results {
		res.Name, res.Description = printable(res.Name), printable(res.Description)
		if keep(res) && len(list) < limit {
			list = append(list, res)
		}
	}
	return list, nil
}

func searchFilter(filters Filters) (func(SearchResult) bool, error) {
	if err := filters.Check("is-automated", "is-official", "stars"); err != nil {
		return nil, err
	}
	var tests []func(SearchResult) bool
	for key, values := range filters {
		for _, v := range values {
			switch key {
			case "is-official", "is-automated":
				want, err := truth(key, v)
				if err != nil {
					return nil, err
				}
				tests = append(tests, func(r SearchResult) bool {
					return key == "is-official" && r.Official == want || key == "is-automated" && r.Automated == want
				})
			case "stars":
				n, err := strconv.Atoi(v)
				if err != nil {
					return nil, fmt.Errorf("invalid filter 'stars=%s'", v)
				}
				tests = append(tests, func(r SearchResult) bool { return r.Stars >= n })
			}
		}
	}
	return func(r SearchResult) bool {
		for _, t := range tests {
			if !t(r) {
				return false
			}
		}
		return true
	}, nil
}
