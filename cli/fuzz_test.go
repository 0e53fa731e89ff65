package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/plan"
	"github.com/spf13/cobra"
)

// What these parsers accept means the same when it is written out and parsed again.

func FuzzVolume(f *testing.F) {
	for _, s := range []string{"/a:/b", "/a:/b:ro", "./a:/b:rw,Z,rslave", "name:/b", "/only", "::", "/a:/b:ro,shared,private", "~:/b:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseVolume(s)
		if err != nil {
			return
		}
		if m.Type != "bind" || m.Source == "" || m.Dest == "" || len(m.Options) < 2 || m.Options[1] != "rbind" {
			t.Fatalf("%q: %+v", s, m)
		}
		options := []string{m.Options[0]}
		for _, o := range m.Options[2:] {
			options = append(options, strings.TrimPrefix(o, "r")) // rro, all the way down
		}
		text := m.Source + ":" + m.Dest + ":" + strings.Join(options, ",")
		if again, err := parseVolume(text); err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%q: %+v, then %q: %+v, %v", s, m, text, again, err)
		}
	})
}

func FuzzMount(f *testing.F) {
	for _, s := range []string{
		"type=bind,source=/a,target=/b", "type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave", "type=tmpfs,destination=/b,tmpfs-size=64m,tmpfs-mode=1770,ro=1",
		"type=bind,src=/a,dst=/b,ro,bind-recursive=writable", "type=bind,src=/a,dst=/b,bind-recursive=disabled", "type=volume,src=v,dst=/b", "TYPE=bind,,", "dst=/b", "=",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseMount(s)
		if err != nil {
			return
		}
		if m.Dest == "" || !m.MustHave || (m.Type == "bind" && (m.Source == "" || len(m.Options) < 2)) {
			t.Fatalf("%q: %+v", s, m)
		}
		fields := []string{"type=" + m.Type, "source=" + m.Source, "target=" + m.Dest}
		options := m.Options
		if m.Type == "bind" {
			fields = append(fields, "bind-propagation="+options[0])
			if options[1] == "bind" {
				fields = append(fields, "bind-recursive=disabled")
			}
			options = options[2:]
		}
		for _, o := range options {
			switch key, value, _ := strings.Cut(o, "="); key {
			case "rro", "ro":
				fields = append(fields, "readonly")
				if o == "ro" && m.Options[1] == "rbind" {
					fields = append(fields, "bind-recursive=writable")
				}
			case "size", "mode":
				fields = append(fields, "tmpfs-"+key+"="+value)
			case "nosuid", "nodev", "noexec":
			default:
				t.Fatalf("%q: option %q", s, o)
			}
		}
		text := strings.Join(fields, ",")
		if again, err := parseMount(text); err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%q: %+v, then %q: %+v, %v", s, m, text, again, err)
		}
	})
}

func FuzzTmpfs(f *testing.F) {
	for _, s := range []string{"/a", "/a:size=1m,mode=700", "/a:exec,suid,dev,ro", "/a:uid=1,gid=2,nr_inodes=3", ":", "a:size=-1", "/a:size=9223372036854775807t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseTmpfs(s)
		if err != nil {
			return
		}
		if m.Type != "tmpfs" || len(m.Options) < 3 || strings.Contains(m.Dest, ":") {
			t.Fatalf("%q: %+v", s, m)
		}
		text := m.Dest + ":" + strings.Join(m.Options[3:], ",")
		if again, err := parseTmpfs(text); err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%q: %+v, then %q: %+v, %v", s, m, text, again, err)
		}
	})
}

func FuzzDevice(f *testing.F) {
	for _, s := range []string{"/dev/kvm", "/dev/kvm:/dev/x", "/dev/kvm:r", "/dev/kvm:/dev/x:rwm", "kvm", "/a:/b:/c", ":::", "/a:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseDevice(s)
		if err != nil {
			return
		}
		if !strings.HasPrefix(d.Host, "/") || !strings.HasPrefix(d.Inside, "/") || d.Access == "" || strings.Trim(d.Access, "rwm") != "" || d.Flag != s {
			t.Fatalf("%q: %+v", s, d)
		}
		text := d.Host + ":" + d.Inside + ":" + d.Access
		again, err := parseDevice(text)
		if again.Flag = s; err != nil || again != d {
			t.Fatalf("%q: %+v, then %q: %+v, %v", s, d, text, again, err)
		}
	})
}

func FuzzSize(f *testing.F) {
	for _, s := range []string{"0", "64m", "1G", "1gb", "1GiB", "5b", "-1", "9223372036854775807", "4194304t", "4194305t", "", "k", "+1k", "1 k"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSize(s)
		if err != nil {
			return
		}
		for unit, text := range map[int64]string{1: fmt.Sprint(n), 1 << 10: fmt.Sprint(n>>10, "k"), 1 << 40: fmt.Sprint(n>>40, "TiB")} {
			if again, err := parseSize(strings.ReplaceAll(text, " ", "")); n < 0 || err != nil || again != n/unit*unit {
				t.Fatalf("%q: %d, then %q: %d, %v", s, n, text, again, err)
			}
		}
	})
}

func FuzzUlimit(f *testing.F) {
	for _, s := range []string{"nofile=1024", "nofile=1024:2048", "core=unlimited", "nproc=-1", "nofile=2:1", "=1", "a=-2", "a=1:", "a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := parseUlimit(s)
		if err != nil {
			return
		}
		if u.Soft < -1 || u.Hard < -1 || uint64(u.Soft) > uint64(u.Hard) {
			t.Fatalf("%q: %+v", s, u)
		}
		text := fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard)
		if again, err := parseUlimit(text); err != nil || again != u {
			t.Fatalf("%q: %+v, then %q: %+v, %v", s, u, text, again, err)
		}
	})
}

func FuzzMapping(f *testing.F) {
	for _, s := range []string{"0:100000:65536", "100000,0,65536", "0:0:0", "1:2", "4294967295:0:2", "a:b:c", "0:1:2:3", ",,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseMapping(s)
		if err != nil {
			return
		}
		if m.Size == 0 {
			t.Fatalf("%q: %+v", s, m)
		}
		for _, text := range []string{fmt.Sprintf("%d:%d:%d", m.Inside, m.Outside, m.Size), fmt.Sprintf("%d,%d,%d", m.Outside, m.Inside, m.Size)} {
			if again, err := parseMapping(text); err != nil || again != m {
				t.Fatalf("%q: %+v, then %q: %+v, %v", s, m, text, again, err)
			}
		}
		for _, hole := range []uint32{0, m.Inside, m.Inside + m.Size - 1, m.Inside + m.Size/2} {
			for _, caller := range []uint32{0, m.Outside, m.Outside + m.Size - 1, m.Outside + m.Size/2, 7} {
				checkAround(t, m, hole, caller)
			}
		}
	})
}

// checkAround checks that a map around one id covers each other id once, on both sides.
func checkAround(t *testing.T, m plan.IDMapping, own, caller uint32) {
	t.Helper()
	if uint64(m.Inside)+uint64(m.Size) > 1<<32 || uint64(m.Outside)+uint64(m.Size) > 1<<32 {
		return
	}
	list := idMap{&own, []plan.IDMapping{m}}.list(caller)
	if (list[0] != plan.IDMapping{Inside: own, Outside: caller, Size: 1}) {
		t.Fatalf("%+v", list)
	}
	total, inside, outside := uint64(0), m.Inside, m.Outside
	for _, part := range list[1:] {
		if inside == own {
			inside++
		}
		if outside == caller {
			outside++
		}
		if part.Size == 0 || part.Inside != inside || part.Outside != outside || own-part.Inside < part.Size || caller-part.Outside < part.Size {
			t.Fatalf("around %d %d in %+v: %+v", own, caller, m, list)
		}
		total += uint64(part.Size)
		inside, outside = inside+part.Size, outside+part.Size
	}
	want := uint64(m.Size)
	if own-m.Inside < m.Size || caller-m.Outside < m.Size {
		want--
	}
	if total != want {
		t.Fatalf("around %d %d in %+v: %d ids, want %d", own, caller, m, total, want)
	}
}

func FuzzEnvFile(f *testing.F) {
	for _, s := range []string{"A=1\nB=2", "# comment\n\n  A = 1", "A=\"x y\"\r\nHOME\nMISSING_VARIABLE", "=x", "\ufeffA=1\n\ufeffB=2", "A", "A=1\x00", "A=" + strings.Repeat("x", 1<<16)} {
		f.Add(s)
	}
	file := filepath.Join(f.TempDir(), "env")
	read := func(t *testing.T, s string) ([]string, error) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		return readEnvFile(file)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 1<<19 {
			return // a line has a longest length
		}
		list, err := read(t, s)
		if err != nil {
			return
		}
		for _, e := range list {
			if name, _, ok := strings.Cut(e, "="); !ok || name == "" || name[0] == '#' || strings.ContainsAny(name, " \t\n") || strings.Contains(e, "\n") {
				t.Fatalf("%q: %q", s, e)
			}
		}
		text := "# again\n" + strings.Join(list, "\r\n") + "\r\n"
		if again, err := read(t, text); err != nil || !slices.Equal(again, list) {
			t.Fatalf("%q: %q, then %q, %v", s, list, again, err)
		}
	})
}

// Whatever the flags of run, they are refused, or give a run whose parts are whole.
func FuzzRunFlags(f *testing.F) {
	for _, s := range []string{
		"host true", "-it --rm --name web -h box -e A=1 -e HOME -w /x -u 1:2 --group-add 3 --entrypoint sh host -c x",
		"-v /a:/b:ro --mount type=tmpfs,dst=/c --tmpfs /d:size=1m --device /dev/null --shm-size 1g --read-only host x",
		"--cap-add all --cap-drop x --privileged --security-opt seccomp=unconfined --pid host --ipc container:a --uts host --userns auto --net none --cgroupns host x y",
		"--time-offset boottime=24h --time-offset monotonic=-1ns --init --ulimit a=1 --sysctl a.b=c --stop-signal INT --cidfile f --timings --rootfs . x",
		"--uts host -h x host true", "--rootfs  true", "--help", "-it=false host", "-- host -x", "--network bridge host", "--entrypoint  host x",
	} {
		f.Add(strings.ReplaceAll(s, " ", "\n"))
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := &runFlags{}
		c := &cobra.Command{}
		r.register(c.Flags())
		if err := c.ParseFlags(strings.Split(s, "\n")); err != nil {
			return
		}
		args := c.Flags().Args()
		if r.run.Rootfs == "" && len(args) == 0 {
			return // refused before
		}
		r.envFiles = nil // they may name what never ends
		if err := r.finish(c, IO{}, args); err != nil {
			return
		}
		checkRun(t, r, args)
	})
}

func checkRun(t *testing.T, r *runFlags, args []string) {
	t.Helper()
	run := r.run
	if (run.Rootfs != "") == (run.Image != "") && run.Rootfs != "" {
		t.Fatalf("image %q and root %q", run.Image, run.Rootfs)
	}
	if run.Rootfs != "" && !filepath.IsAbs(run.Rootfs) || run.Rootfs == "" && len(run.Command) != len(args)-1 {
		t.Fatalf("root %q, command %q of %q", run.Rootfs, run.Command, args)
	}
	if len(run.Mounts) != len(r.volumes)+len(r.mounts)+len(r.tmpfs) || len(run.Devices) != len(r.devices) || len(run.Ulimits) != len(r.ulimits) {
		t.Fatalf("something is lost: %+v", run)
	}
	for _, m := range run.Mounts {
		if !strings.HasPrefix(m.Flag, "-") || !slices.Contains([]string{"bind", "tmpfs"}, m.Type) && !strings.HasPrefix(m.Flag, "--mount") {
			t.Fatalf("%+v", m)
		}
	}
	for _, e := range run.Env {
		if !strings.Contains(e, "=") {
			t.Fatalf("variable %q", e)
		}
	}
	for key := range run.Sysctls {
		if key == "" {
			t.Fatal("a parameter without a name")
		}
	}
	own := func(mode string) bool { return mode != "host" && !strings.HasPrefix(mode, "container:") }
	if !own(run.UTS) && run.Hostname+run.Domainname != "" {
		t.Fatalf("a shared uts namespace, and a name: %+v", run)
	}
	if run.ShmSize < 0 {
		t.Fatalf("%+v", run)
	}
}
