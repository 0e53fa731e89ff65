package abi_test

import (
	"strings"
	"testing"

	"github.com/kakuri/kakuri/abi"
)

func TestParseList(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "0": "0", "0-3,7": "0-3,7", "7,0-3": "0-3,7", "0,1,2": "0-2", "0-5,2-3": "0-5", "3-9,1-4": "1-9", "5,5": "5",
		"0-65535,65535": "0-65535", "007": "7", "0, 2": "0,2", " 0-1 ": "0-1", "0-1\n": "refused",
		"-": "refused", "1-": "refused", "-3": "refused", "3-2": "refused", ",0,1,": "0-1", "    , 1   , 3  ,  5-7,    ": "1,3,5-7", ",": "refused", " , ": "refused", "0 1": "refused", "0 - 1": "refused", " ": "refused", "65536": "refused", "+1": "refused", "0-4294967296": "refused",
	} {
		list, ok := abi.ParseList(in)
		var parts []string
		for _, r := range list {
			parts = append(parts, r.String())
		}
		got := strings.Join(parts, ",")
		if !ok {
			got += "refused"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func FuzzParseList(f *testing.F) {
	for _, s := range []string{"", "0-3,7", "7,0-3", "0-65535,0-65535"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, ok := abi.ParseList(s)
		if !ok && list != nil {
			t.Fatalf("%q is refused, and gives %v", s, list)
		}
		for i, r := range list {
			if r.First > r.Last || r.Last > abi.MaxListed || i > 0 && r.First <= list[i-1].Last+1 {
				t.Fatalf("%q: %v", s, list)
			}
		}
	})
}
