package digest

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// The words of errors are those of go-digest, too.
func same(t *testing.T, s string) {
	t.Helper()
	mine, theirs := Digest(s).Validate(), digest.Digest(s).Validate()
	if (mine == nil) != (theirs == nil) || mine != nil && mine.Error() != theirs.Error() {
		t.Errorf("%q: %v, go-digest: %v", s, mine, theirs)
	}
	if mine == nil && (Digest(s).Encoded() != digest.Digest(s).Encoded() || Digest(s).Algorithm().String() != digest.Digest(s).Algorithm().String()) {
		t.Errorf("%q: %s and %s", s, Digest(s).Algorithm(), Digest(s).Encoded())
	}
}

func corpus() (list []string) {
	for _, a := range []string{"", "sha256", "sha384", "sha512", "SHA256", "md5", "x+y", "x.y_z-1", "x++y", "+x", "x+", "é", "a:b", "sha256\n"} {
		for _, sum := range []string{"", "0", "A", "g", strings.Repeat("a", 64), strings.Repeat("A", 64), strings.Repeat("g", 64), strings.Repeat("0", 96), strings.Repeat("9", 128),
			strings.Repeat("a", 63) + "\n", strings.Repeat("a", 63) + "é", "a=b_c-D", "a:b", "a/b", "é", strings.Repeat("a", 31) + ":" + strings.Repeat("a", 32), strings.Repeat("a", 32) + "/" + strings.Repeat("a", 31)} {
			list = append(list, a+":"+sum, a+sum)
		}
	}
	return list
}

func TestValidate(t *testing.T) {
	for _, s := range corpus() {
		same(t, s)
	}
}

func FuzzValidate(f *testing.F) {
	for _, s := range corpus() {
		f.Add(s)
	}
	f.Fuzz(same)
}

func TestDigests(t *testing.T) {
	for _, text := range []string{"", "text", strings.Repeat("x", 1000)} {
		if got, want := FromString(text).String(), digest.FromString(text).String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		for _, a := range []Algorithm{SHA256, SHA384, SHA512} {
			d := a.Digester()
			d.Hash().Write([]byte(text))
			theirs := digest.Algorithm(a).FromString(text).String()
			if d.Digest().String() != theirs || a.FromBytes([]byte(text)).String() != theirs {
				t.Errorf("%s: %s, want %s", a, d.Digest(), theirs)
			}
		}
	}
}
