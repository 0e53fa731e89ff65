package plan

import "testing"

// The size of a tmpfs that verify looks for is the last that its options name, and none where it is in hundredths or in blocks.
func TestTmpfsSize(t *testing.T) {
	for _, c := range []struct {
		options []string
		want    uint64
	}{
		{nil, 0}, {[]string{"mode=755", "size=65536k"}, 64 << 20}, {[]string{"size=1m", "size=2M"}, 2 << 20}, {[]string{"size=4097"}, 4097}, {[]string{"size=1g"}, 1 << 30},
		{[]string{"size=1m", "size=10%"}, 0}, {[]string{"size=99999999999999999999"}, 0}, {[]string{"size=18446744073709551615k"}, 0}, {[]string{"size="}, 0}, {[]string{"nr_blocks=5"}, 0},
	} {
		if got := tmpfsSize(c.options); got != c.want {
			t.Errorf("%q: %d, want %d", c.options, got, c.want)
		}
	}
}
