package archive

import "testing"

func TestCapability(t *testing.T) {
	v2 := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	v3 := "\x01\x00\x00\x03" + v2[4:] + "\x00\x00\x01\x70"
	if got := capabilityFor(v2, 0x70010000); got != v3 {
		t.Errorf("for a root of its own: %q", got)
	}
	for _, same := range []string{"", "x", v3, v2[:19]} {
		if got := capabilityFor(same, 5); got != same {
			t.Errorf("%q became %q", same, got)
		}
	}
	if got := capabilityFor(v2, 0); got != v2 {
		t.Errorf("for root: %q", got)
	}
	mine := func(id uint32) (uint32, error) { return id - 0x70010000, nil }
	if got := capabilityOf(v3, mine); got != v2 {
		t.Errorf("of a root of its own: %q", got)
	}
	other := v3[:20] + "\x01\x00\x01\x70"
	for _, same := range []string{"", v2, other} {
		if got := capabilityOf(same, mine); got != same {
			t.Errorf("%q became %q", same, got)
		}
	}
}
