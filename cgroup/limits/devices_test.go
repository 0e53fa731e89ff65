package limits

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func rules(t testing.TB, lines ...string) []Rule {
	t.Helper()
	var list []Rule
	for _, l := range lines {
		how, rest, _ := strings.Cut(l, " ")
		r, err := parseRule(rest)
		if err != nil {
			t.Fatal(err)
		}
		if r.Allow = how == "allow"; r.Type == 'a' {
			r.Major, r.Minor = Any, Any
		}
		list = append(list, r)
	}
	return list
}

func policy(t testing.TB, lines ...string) Devices {
	t.Helper()
	d, err := NewDevices(rules(t, lines...))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDevices(t *testing.T) {
	for _, test := range []struct {
		rules []string
		want  string // the policy, or "error TEXT"
	}{
		{nil, "deny all"},
		{[]string{"allow a *:* rwm"}, "allow all"},
		{[]string{"deny a *:* rwm", "allow c 1:3 rw", "allow c 1:3 m"}, "deny all but c 1:3 rwm"},
		{[]string{"allow c 1:3 rwm", "deny c 1:3 w"}, "deny all but c 1:3 rm"},
		{[]string{"allow c 1:3 rwm", "deny c 1:3 rwm"}, "deny all"},
		{[]string{"deny b 8:1 rwm", "allow a *:* rwm", "deny b 8:2 rwm"}, "allow all but b 8:2 rwm"},
		{[]string{"allow a *:* rwm", "deny b 8:2 rwm", "allow b 8:2 r"}, "allow all but b 8:2 wm"},
		{[]string{"allow c 5:0 r", "allow b 5:0 r", "allow c *:* m", "allow c 4:7 r"}, "deny all but c 5:0 r, b 5:0 r, c *:* m, c 4:7 r"},
		{[]string{"allow c *:* rwm", "deny c 1:3 w"}, "error cannot punch a hole"},
		{[]string{"allow c 1:* rw", "deny c 1:3 w"}, "error cannot punch a hole"},
		{[]string{"allow c *:3 w", "deny c 1:3 w"}, "error cannot punch a hole"},
		{[]string{"allow c *:* m", "deny c 1:3 rw"}, "deny all but c *:* m"},
		{[]string{"allow a *:* rwm", "deny c *:* w", "allow c 1:3 w"}, "error cannot punch a hole"},
		{[]string{"allow c *:* rw", "deny c *:* w"}, "deny all but c *:* r"},
	} {
		d, err := NewDevices(rules(t, test.rules...))
		got := d.String()
		if err != nil {
			got = "error " + err.Error()
		}
		if want, ok := strings.CutPrefix(test.want, "error "); ok && (err == nil || !strings.Contains(got, want)) || !ok && got != test.want {
			t.Errorf("%q: %s, want %s", test.rules, got, test.want)
		}
	}
}

func TestFrom(t *testing.T) {
	for _, test := range []struct {
		old, new []string
		want     string
	}{
		{nil, []string{"allow c 1:3 rw"}, "allow c 1:3 rw"},
		{[]string{"allow c 1:3 rw"}, []string{"allow c 1:3 rw"}, ""},
		{[]string{"allow c 1:3 rw", "allow c 1:5 r"}, []string{"allow c 1:3 rm"}, "deny c 1:3 w, deny c 1:5 r, allow c 1:3 m"},
		{[]string{"allow a *:* rwm"}, []string{"allow c 1:3 rw"}, "deny a *:* rwm, allow c 1:3 rw"},
		{[]string{"allow c 1:3 rw"}, []string{"allow a *:* rwm", "deny b 8:0 w"}, "allow a *:* rwm, deny b 8:0 w"},
		{[]string{"allow a *:* rwm"}, []string{"allow a *:* rwm"}, "allow a *:* rwm"},
	} {
		var got []string
		for _, r := range policy(t, test.new...).From(policy(t, test.old...)) {
			how := "deny "
			if r.Allow {
				how = "allow "
			}
			got = append(got, how+r.String())
		}
		if s := strings.Join(got, ", "); s != test.want {
			t.Errorf("from %q to %q: %s, want %s", test.old, test.new, s, test.want)
		}
	}
}

func TestEqual(t *testing.T) {
	for _, test := range []struct {
		a, b []string
		want bool
	}{
		{nil, nil, true},
		{nil, []string{"allow c 1:3 rw"}, false},
		{[]string{"allow c 1:3 rw"}, []string{"allow c 1:3 rw", "allow c 1:5 r"}, false},
		{[]string{"allow c 1:3 rw"}, []string{"allow c 1:3 rwm"}, false},
		{[]string{"allow c 1:3 rw", "allow c 1:5 r"}, []string{"allow c 1:5 r", "allow c 1:3 rw"}, true},
		{nil, []string{"allow a *:* rwm"}, false},
		{[]string{"allow a *:* rwm"}, []string{"allow a *:* rwm", "deny b 8:0 w"}, true}, // devices.list does not tell
	} {
		a, b := policy(t, test.a...), policy(t, test.b...)
		if a.Equal(b) != test.want || b.Equal(a) != test.want {
			t.Errorf("%s and %s: %v, %v, want %v", a, b, a.Equal(b), b.Equal(a), test.want)
		}
	}
}

// randomRule takes from few numbers, so that rules meet.
func randomRule(r *rand.Rand) Rule {
	number := func() int64 { return int64(r.IntN(4)) - 1 }
	rule := Rule{Allow: r.IntN(2) == 0, Type: "aabbbccccc"[r.IntN(10)], Major: number(), Minor: number(), Access: Access(1 + r.IntN(7))}
	if rule.Type == 'a' {
		rule.Major, rule.Minor, rule.Access = Any, Any, allAccess
	}
	return rule
}

// randomPolicy applies random rules, but for those that are refused.
func randomPolicy(r *rand.Rand) Devices {
	var d Devices
	for range r.IntN(12) {
		next := Devices{d.allowAll, slices.Clone(d.exceptions)}
		if next.apply(randomRule(r)) == nil {
			d = next
		}
	}
	return d
}

// kernel is devcgroup_update_access and __devcgroup_check_permission of the kernel
// (security/device_cgroup.c), written down as it is there: a list, searched from its beginning.
type kernel struct {
	allow bool
	list  []exception
}

func (k *kernel) write(r Rule) {
	if r.Type == 'a' {
		*k = kernel{allow: r.Allow}
		return
	}
	n := nodes{r.Type, r.Major, r.Minor}
	i := slices.IndexFunc(k.list, func(e exception) bool { return e.nodes == n })
	switch {
	case r.Allow == k.allow && i >= 0:
		if k.list[i].Access &^= r.Access; k.list[i].Access == 0 {
			k.list = slices.Delete(k.list, i, i+1)
		}
	case r.Allow == k.allow:
	case i >= 0:
		k.list[i].Access |= r.Access
	default:
		k.list = append(k.list, exception{n, r.Access})
	}
}

func (k *kernel) check(typ byte, major, minor uint32, a Access) bool {
	hit := slices.ContainsFunc(k.list, func(e exception) bool {
		if !e.match(typ, major, minor) {
			return false
		}
		if k.allow {
			return a&e.Access != 0
		}
		return a&^e.Access == 0
	})
	return hit != k.allow
}

// each calls f for every access to every device that random rules may be about, and one more.
func each(f func(typ byte, major, minor uint32, a Access)) {
	for _, typ := range []byte("bc") {
		for major := range uint32(4) {
			for minor := range uint32(4) {
				for a := Access(1); a <= allAccess; a++ {
					f(typ, major, minor, a)
				}
			}
		}
	}
}

// TestAgreement: the policy, its program, and the kernel of version 1 after the
// policy's writes give the same answer to every access.
func TestAgreement(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		old, d := randomPolicy(r), randomPolicy(r)
		var fresh, moved kernel
		for _, rule := range d.Rules() {
			fresh.write(rule)
		}
		for _, rule := range old.Rules() {
			moved.write(rule)
		}
		for _, rule := range d.From(old) {
			moved.write(rule)
		}
		program := d.Program()
		each(func(typ byte, major, minor uint32, a Access) {
			want := d.Allows(typ, major, minor, a)
			got, err := program.Simulate(typ, major, minor, a)
			if err != nil {
				t.Fatalf("%s: %v", d, err)
			}
			access := fmt.Sprintf("%c %d:%d %s", typ, major, minor, a)
			if got != want {
				t.Fatalf("%s: program says %t to %s, policy %t", d, got, access, want)
			}
			if k := fresh.check(typ, major, minor, a); k != want {
				t.Fatalf("%s: kernel says %t to %s, policy %t", d, k, access, want)
			}
			if k := moved.check(typ, major, minor, a); k != want {
				t.Fatalf("%s after %s: kernel says %t to %s, policy %t", d, old, k, access, want)
			}
		})
	}
}

// TestSmooth: on the way between two lists of what is allowed, what both allow stays so.
func TestSmooth(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		old, d := randomPolicy(r), randomPolicy(r)
		if old.allowAll || d.allowAll {
			continue
		}
		var k kernel
		for _, rule := range old.Rules() {
			k.write(rule)
		}
		for _, rule := range d.From(old) {
			k.write(rule)
			for _, e := range d.exceptions {
				// What one exception allows before and after is never taken away.
				if both := e.Access & old.access(e.nodes); both != 0 && e.Major != Any && e.Minor != Any && !k.check(e.Type, uint32(e.Major), uint32(e.Minor), both) {
					t.Fatalf("from %s to %s: %s denies %c %d:%d %s for a while", old, d, rule, e.Type, e.Major, e.Minor, both)
				}
			}
		}
	}
}

// TestDenyPart: what has a denied part is denied, where runc's program lets it through: it
// looks for rules that cover all of the access.
func TestDenyPart(t *testing.T) {
	d := policy(t, "allow a *:* rwm", "deny b 8:0 w")
	for a, want := range map[Access]bool{ReadAccess: true, WriteAccess: false, ReadAccess | WriteAccess: false, MknodAccess: true} {
		if got, err := d.Program().Simulate('b', 8, 0, a); err != nil || got != want {
			t.Errorf("%s: %t %v, want %t", a, got, err, want)
		}
	}
}

func TestParseDevicesList(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "deny all",
		"a *:* rwm\n":                   "allow all",
		"c 1:3 rwm\nb *:* m\n":          "deny all but c 1:3 rwm, b *:* m",
		"c 1:3\n":                       "error",
		"c 1:3 x\n":                     "error",
		"d 1:3 r\n":                     "error",
		"c 4294967296:3 r\n":            "error",
		"c 1:-3 r\n":                    "error",
		"c 136:* rwm\nc 4294967295:0 r": "deny all but c 136:* rwm, c 4294967295:0 r",
	} {
		d, err := ParseDevicesList(in)
		if got := d.String(); err != nil && want != "error" || err == nil && got != want {
			t.Errorf("%q: %s %v, want %s", in, got, err, want)
		}
	}
}

// FuzzDevicesList: a reading gives a policy that says itself again.
func FuzzDevicesList(f *testing.F) {
	f.Add("a *:* rwm\n")
	f.Add("c 1:3 rwm\nb *:* m\n")
	f.Fuzz(func(t *testing.T, in string) {
		d, err := ParseDevicesList(in)
		if err != nil {
			return
		}
		var lines []string
		for _, r := range d.Rules() {
			lines = append(lines, r.String())
		}
		again, err := ParseDevicesList(strings.Join(lines, "\n"))
		if err != nil || !again.Equal(d) {
			t.Fatalf("%q: %s, then %s %v", in, d, again, err)
		}
	})
}

// A policy's text is read as the policy it came from.
func TestParseDevices(t *testing.T) {
	for seed := range uint64(500) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var rules []Rule
		for range rnd.IntN(8) {
			rules = append(rules, Rule{Allow: rnd.IntN(2) == 0, Type: "abc"[rnd.IntN(3)], Major: rnd.Int64N(4) - 1, Minor: rnd.Int64N(4) - 1, Access: Access(1 + rnd.IntN(7))})
		}
		d, err := NewDevices(rules)
		if err != nil {
			continue // it would punch a hole
		}
		back, err := ParseDevices(d.String())
		if err != nil || back.String() != d.String() || back.Denylist() != d.Denylist() || !slices.Equal(back.exceptions, d.exceptions) {
			t.Errorf("%s reads as %s, %v", d, back, err)
		}
	}
	for _, bad := range []string{"", "deny", "deny all but ", "deny all but x 1:3 rwm", "deny all but bc 1:3 rwm", "allow all but a *:* rwm", "deny all but c 1:3"} {
		if d, err := ParseDevices(bad); err == nil {
			t.Errorf("%q reads as %s", bad, d)
		}
	}
}

func TestDeviceRules(t *testing.T) {
	number := func(n int64) *int64 { return &n }
	for _, test := range []struct {
		device specs.LinuxDeviceCgroup
		want   string
	}{
		{specs.LinuxDeviceCgroup{Access: "r"}, "a *:* rwm"},
		{specs.LinuxDeviceCgroup{Type: "a", Major: number(1), Access: "r"}, "a *:* rwm"},
		{specs.LinuxDeviceCgroup{Type: "b", Access: "wm"}, "b *:* wm"},
		{specs.LinuxDeviceCgroup{Type: "c", Major: number(Any), Minor: number(1<<32 - 1), Access: "r"}, "c *:4294967295 r"},
	} {
		list, err := DeviceRules([]specs.LinuxDeviceCgroup{test.device})
		if err != nil || len(list) != 1 || list[0].String() != test.want {
			t.Errorf("%+v: %v, %v, want %s", test.device, list, err, test.want)
		}
	}
}

// TestAccess: letters that stand for nothing are passed over, and one has to stand for something.
func TestAccess(t *testing.T) {
	for s, want := range map[string]Access{"r": ReadAccess, "mw": WriteAccess | MknodAccess, "rwa": ReadAccess | WriteAccess, "rRw": ReadAccess | WriteAccess, "": 0, "a": 0} {
		if got, err := parseAccess(s); got != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %s, %v", s, got, err)
		}
	}
}
