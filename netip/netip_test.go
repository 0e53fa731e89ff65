package netip

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	std "net/netip"
	"testing"
)

var words = []string{
	"", "0.0.0.0", "127.0.0.1", "10.0.0.255", "255.255.255.255", "01.2.3.4", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.4 ", "1..2.3", "1.2.3.0004", "::", "::1", "1::", "1::1", "fe80::1",
	"fe80::1%eth0", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1:2:3:4::5:6:7:8", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", ":1", "1:", ":::", "::ffff:1.2.3.4",
	"::ffff:0:0", "1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:7:1.2.3.4", "::1.2.3", "1.2.3.4::", "::1.2.3.4:5", "12345::", "g::", "0:0:1:0:0:0:1:0", "0:0:1:1:0:0:1:1", "ff02::1:ff00:1", "fc00::", "FFFF::aBc",
	"169.254.1.1", "224.0.0.1", "172.16.0.1", "172.32.0.1", "192.168.3.4", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2001:db8::", "fec0::1", "febf::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	"0:0:0:0:ffff:ffff:ffff:ffff", "1:2:3:4:5:6:7.8.9.10:1", "::0001", "::00001", "1.2.3.4x", "0x1.2.3.4",
	":", ":1::", "::1::2", "::1:2:3:4:5:6:7:8", "::1:2:3:4:5:6:7:1.2.3.4", "1:2:3.4.5.6", "1.2.3.a", "1.2.3.4f", "4294967297.2.3.4", "1000.2.3.4",
	// one of each that has the bits of another family's or another kind's
	"::ffff:224.0.0.1", "::ffff:169.254.1.1", "1::ffff:1.2.3.4", "0.0.0.1", "::a9fe:1", "::7f00:1",
}

// same wants one answer of both packages about a, which is b there.
func same(t *testing.T, a Addr, b std.Addr) {
	t.Helper()
	type answers struct {
		s                                                         string
		valid, is4, is6, in6, unspecified, loopback, multi, local bool
		bits                                                      int
		unmapped, next, prev                                      string
	}
	ours := answers{a.String(), a.IsValid(), a.Is4(), a.Is6(), a.Is4In6(), a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a.IsLinkLocalUnicast(), a.BitLen(),
		a.Unmap().String(), a.Next().String(), a.Prev().String()}
	theirs := answers{b.String(), b.IsValid(), b.Is4(), b.Is6(), b.Is4In6(), b.IsUnspecified(), b.IsLoopback(), b.IsMulticast(), b.IsLinkLocalUnicast(), b.BitLen(),
		b.Unmap().String(), b.Next().String(), b.Prev().String()}
	if ours != theirs {
		t.Errorf("%v:\n ours   %+v\n theirs %+v", b, ours, theirs)
	}
	if !bytes.Equal(a.AsSlice(), b.AsSlice()) || a.IsValid() && a.As16() != b.As16() {
		t.Errorf("%v: bytes %x, want %x", b, a.AsSlice(), b.AsSlice())
	}
	if back, ok := AddrFromSlice(b.AsSlice()); back != a || ok != b.IsValid() {
		t.Errorf("%v: of its bytes %v", b, back)
	}
	data, err := json.Marshal(a)
	want, _ := json.Marshal(b)
	back := MustParseAddr("203.0.113.9")
	if err != nil || !bytes.Equal(data, want) || json.Unmarshal(data, &back) != nil || back != a {
		t.Errorf("%v: JSON %s, and back %v", b, data, back)
	}
}

func compareParse(t *testing.T, s string) {
	t.Helper()
	a, err := ParseAddr(s)
	b, want := std.ParseAddr(s)
	if b.Zone() != "" {
		b, want = std.Addr{}, bytes.ErrTooLarge // refused here
	}
	if (err == nil) != (want == nil) {
		t.Errorf("%q: %v, want %v", s, err, want)
		return
	}
	same(t, a, b)
}

func comparePrefix(t *testing.T, s string) {
	t.Helper()
	p, err := ParsePrefix(s)
	q, want := std.ParsePrefix(s)
	if (err == nil) != (want == nil) {
		t.Errorf("%q: %v, want %v", s, err, want)
		return
	}
	if p.String() != q.String() || p.Masked().String() != q.Masked().String() || p.Bits() != q.Bits() || p.IsSingleIP() != q.IsSingleIP() || p.IsValid() != q.IsValid() {
		t.Errorf("%q: %v %v, want %v %v", s, p, p.Masked(), q, q.Masked())
	}
	if !p.IsValid() {
		return
	}
	if last := p.Last(); !p.Contains(last) || p.Contains(last.Next()) || p.Masked().Addr().Compare(last) > 0 {
		t.Errorf("%q: last %v", s, last)
	}
	text, _ := p.MarshalText()
	var back Prefix
	if back.UnmarshalText(text) != nil || back != p {
		t.Errorf("%q: text %s and back %v", s, text, back)
	}
}

func TestAddr(t *testing.T) {
	for _, s := range words {
		compareParse(t, s)
		for _, bits := range []string{"", "/", "/0", "/8", "/16", "/24", "/31", "/32", "/33", "/63", "/64", "/65", "/127", "/128", "/129", "/08", "/+8", "/8/8", "/ 8", "/0008", "/8x", "/1000", "/4294967304"} {
			comparePrefix(t, s+bits)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var b [16]byte
		for i := range b {
			if r.IntN(3) > 0 {
				b[i] = byte(r.IntN(256))
			}
		}
		same(t, AddrFrom16(b), std.AddrFrom16(b))
		same(t, AddrFrom4([4]byte(b[:4])), std.AddrFrom4([4]byte(b[:4])))
		compareParse(t, std.AddrFrom16(b).StringExpanded())
		comparePrefix(t, std.PrefixFrom(std.AddrFrom16(b), r.IntN(129)).String())
	}
}

// TestPairs compares what is asked of two.
func TestPairs(t *testing.T) {
	var list []string
	for _, s := range words {
		if a, err := std.ParseAddr(s); err == nil && a.Zone() == "" {
			list = append(list, s)
		}
	}
	for _, s := range list {
		for _, o := range list {
			a, b := MustParseAddr(s), MustParseAddr(o)
			x, y := std.MustParseAddr(s), std.MustParseAddr(o)
			if a.Compare(b) != x.Compare(y) || a.Less(b) != x.Less(y) || (a == b) != (x == y) {
				t.Errorf("%s and %s: %d, want %d", s, o, a.Compare(b), x.Compare(y))
			}
			for bits := 0; bits <= a.BitLen(); bits += 8 {
				p, q := PrefixFrom(a, bits), std.PrefixFrom(x, bits)
				if p.Contains(b) != q.Contains(y) {
					t.Errorf("%v contains %v: %v", q, y, p.Contains(b))
				}
				for other := 0; other <= b.BitLen(); other += 16 {
					v, w := PrefixFrom(b, other), std.PrefixFrom(y, other)
					if p.Overlaps(v) != q.Overlaps(w) {
						t.Errorf("%v and %v: overlap %v, want %v", q, w, p.Overlaps(v), q.Overlaps(w))
					}
				}
			}
		}
	}
}

func TestZero(t *testing.T) {
	a, p := MustParseAddr("1.2.3.4"), MustParsePrefix("1.2.3.4/8")
	if (Addr{}).String() != (std.Addr{}).String() || (Addr{}).Next() != (Addr{}) || (Prefix{}).String() != (std.Prefix{}).String() || (Prefix{}).Bits() != -1 {
		t.Error("in words")
	}
	if (Prefix{}).Overlaps(Prefix{}) || (Prefix{}).Contains(Addr{}) || p.Overlaps(Prefix{}) || (Prefix{}).Overlaps(p) || (Prefix{}).IsSingleIP() || (Prefix{}).Last() != (Addr{}) || (Prefix{}).Masked() != (Prefix{}) {
		t.Error("it holds no address")
	}
	for _, bits := range []int{-1, 33} {
		if p := PrefixFrom(a, bits); p != (Prefix{}) {
			t.Errorf("%d bits: %v", bits, p)
		}
	}
	if p := PrefixFrom(Addr{}, 0); p.IsValid() {
		t.Errorf("of no address: %v", p)
	}
	text, _ := (Prefix{}).MarshalText()
	if back := p; len(text) > 0 || back.UnmarshalText(text) != nil || back != (Prefix{}) {
		t.Errorf("%q, and back %v", text, back)
	}
	if a.UnmarshalText([]byte("1.2.3")) == nil || p.UnmarshalText([]byte("1.2.3.4")) == nil {
		t.Error("what is none was read")
	}
}

func FuzzAddr(f *testing.F) {
	for _, s := range words {
		f.Add(s)
		f.Add(s + "/24")
	}
	f.Fuzz(func(t *testing.T, s string) {
		compareParse(t, s)
		comparePrefix(t, s)
	})
}

func TestOrLoopback(t *testing.T) {
	for text, want := range map[string]string{"0.0.0.0": "127.0.0.1", "::": "::1", "192.0.2.1": "192.0.2.1", "fe80::1": "fe80::1", "127.0.0.53": "127.0.0.53"} {
		if got := MustParseAddr(text).OrLoopback(); got.String() != want {
			t.Errorf("%s: %v, want %s", text, got, want)
		}
	}
}
