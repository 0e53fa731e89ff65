package cli

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/volume"
	"github.com/spf13/cobra"
)

// What these parsers accept means the same when it is written out and parsed again.

func FuzzVolume(f *testing.F) {
	for _, s := range []string{"/a:/b", "/a:/b:ro", "./a:/b:rw,Z,rslave", "name:/b", "/only", "::", "/a:/b:ro,shared,private", "~:/b:", "data:/b:ro,nocopy", "d:/b", "data:/b:slave"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseVolume(s)
		if err != nil {
			return
		}
		var options []string
		switch m.Type {
		case "bind":
			if !filepath.IsAbs(m.Source) || m.Dest == "" || len(m.Options) < 2 || m.Options[1] != "rbind" {
				t.Fatalf("%q: %+v", s, m)
			}
			options = append(options, m.Options[0])
			for _, o := range m.Options[2:] {
				options = append(options, strings.TrimPrefix(o, "r")) // rro, all the way down
			}
		case "volume":
			if m.Dest == "" || m.Source != "" && volume.CheckName(m.Source) != nil {
				t.Fatalf("%q: %+v", s, m)
			}
			options = m.Options
		default:
			t.Fatalf("%q: %+v", s, m)
		}
		if m.NoCopy {
			options = append(options, "nocopy")
		}
		text := m.Source + ":" + m.Dest
		if len(options) > 0 {
			text += ":" + strings.Join(options, ",")
		}
		if m.Source == "" {
			text = m.Dest
		}
		if again, err := parseVolume(text); err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%q: %+v, then %q: %+v, %v", s, m, text, again, err)
		}
	})
}

func FuzzMount(f *testing.F) {
	for _, s := range []string{
		"type=bind,source=/a,target=/b", "type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave", "type=tmpfs,destination=/b,tmpfs-size=64m,tmpfs-mode=1770,ro=1",
		"type=bind,src=/a,dst=/b,ro,bind-recursive=writable", "type=bind,src=./a,dst=/b,bind-recursive=disabled,bind-create-src", "type=volume,src=v,dst=/b", "TYPE=bind,,", "dst=/b", "=",
		`dst=/b,"volume-opt=o=a,b",volume-label=x,volume-driver=local,volume-subpath=s,volume-nocopy`, "type=image,src=busybox,dst=/b,image-subpath=etc", "type=npipe,dst=/b", `type=bind,"src=/a,b",dst=/b`,
		"type=bind,src=/a,dst=/b,bind-recursive=readonly", "type=bind,src=/a,dst=/b,bind-nonrecursive", "type=image,dst=/b", "type=tmpfs,dst=/b,src=", "type=bind,src=/a,dst=/b,consistency=cached",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseMount(s)
		if err != nil {
			return
		}
		if m.Dest == "" || (m.Type == "bind" && (m.Source == "" || len(m.Options) < 2)) || m.Type != "bind" && !m.MustHave || m.Type != "volume" && m.NoCopy {
			t.Fatalf("%q: %+v", s, m)
		}
		text := mountText(t, m)
		if again, err := parseMount(text); err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%q: %+v, then %q: %+v, %v", s, m, text, again, err)
		}
	})
}

// mountText is m as --mount has it.
func mountText(t *testing.T, m engine.Mount) string {
	t.Helper()
	fields := []string{"type=" + m.Type, "target=" + m.Dest}
	for key, value := range map[string]string{"source": m.Source, m.Type + "-subpath": m.Subpath, "volume-driver": m.Driver} {
		if value != "" {
			fields = append(fields, key+"="+value)
		}
	}
	for name, values := range map[string]map[string]string{"volume-label": m.Labels, "volume-opt": m.DrvOpts} {
		for k, v := range values {
			fields = append(fields, name+"="+k+"="+v)
		}
	}
	if m.NoCopy {
		fields = append(fields, "volume-nocopy")
	}
	if !m.MustHave {
		fields = append(fields, "bind-create-src")
	}
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
			if o == "ro" && m.Type == "bind" && m.Options[1] == "rbind" {
				fields = append(fields, "bind-recursive=writable")
			}
		case "size", "mode":
			fields = append(fields, "tmpfs-"+key+"="+value)
		case "nosuid", "nodev", "noexec":
		default:
			t.Fatalf("option %q of %+v", o, m)
		}
	}
	var b strings.Builder
	w := csv.NewWriter(&b)
	w.Write(fields)
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
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
	for _, s := range []string{"/dev/kvm", "/dev/kvm:/dev/x", "/dev/kvm:r", "/dev/kvm:/dev/x:rwm", "kvm", "/a:/b:/c", ":::", "/a:", "vendor.com/gpu=all", "/a=b", "=/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseDevice(s)
		if err != nil {
			return
		}
		if d.Inside == "" {
			if again, err := parseDevice(d.Host); err != nil || again != d || d.Host[0] == '/' {
				t.Fatalf("%q: %+v, %+v, %v", s, d, again, err)
			}
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
	for _, s := range []string{"0", "64m", "1G", "1gb", "1GiB", "5b", "-1", "9223372036854775807", "4194304t", "4194305t", "", "k", "+1k", "1 k", "1.5g", "1e3", "0x10", "8p", "1bb", "1ib", ".5k", "9223372036854775808"} {
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
	for _, s := range []string{"nofile=1024", "nofile=1024:2048", "core=unlimited", "nproc=-1", "nofile=2:1", "=1", "core=-2", "core=1:", "a=1", "a"} {
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

func FuzzLimits(f *testing.F) {
	for _, s := range []string{"1.5", ".5", "2", "0.0000000001", "-1", "1.-5", "1/2", "1e0", "c 42:* rmw", "a *:* rwm", "b 8:0 r", "a +1:2 r", "a 1 r", "/dev/sda:1mb", "/dev/sda:10", "/dev/sda:1.5k", "sda:1", "no", "on-failure:3", "always:1", ":2", "on-failure:-1", "on-failure:x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := parseCPUs(s); err == nil {
			if again, err := parseCPUs(fmt.Sprintf("%d.%09d", n/1e9, n%1e9)); err != nil || again != n || n < 0 {
				t.Fatalf("%q: %d, then %d, %v", s, n, again, err)
			}
		}
		if w, err := parseDeviceWeight(s); err == nil {
			if again, err := parseDeviceWeight(fmt.Sprint(w.Path, ":", w.Weight)); err != nil || again != w || w.Weight > 1000 {
				t.Fatalf("%q: %+v, then %+v, %v", s, w, again, err)
			}
		}
		for _, bytes := range []bool{false, true} {
			if r, err := parseDeviceRate(s, bytes); err == nil {
				if again, err := parseDeviceRate(fmt.Sprint(r.Path, ":", r.Rate), bytes); err != nil || again != r {
					t.Fatalf("%q: %+v, then %+v, %v", s, r, again, err)
				}
			}
		}
		if r, err := parseRestart(s); err == nil {
			text := r.Policy
			if r.Retries > 0 {
				text = fmt.Sprint(r.Policy, ":", r.Retries)
			}
			if again, err := parseRestart(text); err != nil || again != r || r.Retries < 0 {
				t.Fatalf("%q: %+v, then %+v, %v", s, r, again, err)
			}
		}
		if checkDeviceRule(s) == nil && (!strings.ContainsRune("abc", rune(s[0])) || strings.Count(s, " ") != 2 || strings.Count(s, ":") != 1) {
			t.Fatalf("rule %q", s)
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
		return readEnvFile(file, os.LookupEnv)
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
		"host true", "-it --rm --name web -h box -e A=1 -e HOME -w /x -e0 -u 1:2 --group-add 3 --entrypoint sh host -c x",
		"-v /a:/b:ro --mount type=tmpfs,dst=/c --tmpfs /d:size=1m --device /dev/null --shm-size 1g --read-only host x",
		"--cap-add all --cap-drop x --privileged --security-opt seccomp=unconfined --pid host --ipc container:a --uts host --userns auto --net none --cgroupns host x y",
		"--time-offset boottime=24h --time-offset monotonic=-1ns --init --ulimit core=1 --sysctl a.b=c --stop-signal INT --cidfile f --timings --rootfs . x",
		"--uts host -h x host true", "--rootfs  true", "--help", "-it=false host", "-- host -x", "--network bridge host", "--entrypoint  host x",
		"-d --restart on-failure:3 --label a --label b=c --annotation a=b --log-driver none --log-opt max-size=1m --storage-opt size=1g host x",
		"--health-cmd true --health-interval 1s --health-retries 2 --no-healthcheck host x", "--cpus 1.5 -m 64m --memory-swap -1 --pids-limit 0 --memory-swappiness 101 -c 2 host",
		"--device-read-bps /dev/sda:1mb --device-write-iops /dev/sda:10 --blkio-weight-device /dev/sda:10 --device-cgroup-rule a host x", "-a stdin -a STDOUT -i --sig-proxy=false --stop-timeout -1 --pull never host x",
		"-v data:/data -v /anonymous --volumes-from a:ro --gpus all --device vendor.com/gpu=0 host x",
	} {
		f.Add(strings.ReplaceAll(s, " ", "\n"))
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := &runFlags{}
		c := &cobra.Command{}
		r.register(c.Flags())
		r.registerRun(c.Flags())
		if err := c.ParseFlags(strings.Split(s, "\n")); err != nil {
			return
		}
		args := c.Flags().Args()
		if r.run.Rootfs == "" && len(args) == 0 {
			return // refused before
		}
		r.envFiles, r.labelFiles = nil, nil // they may name what never ends
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
	if len(run.Mounts) != len(r.volumes)+len(r.mounts)+len(r.tmpfs) || len(run.Devices) != len(r.devices) {
		t.Fatalf("something is lost: %+v", run)
	}
	for _, m := range run.Mounts {
		if !strings.HasPrefix(m.Flag, "-") || !slices.Contains([]string{"bind", "tmpfs", "volume", "image"}, m.Type) {
			t.Fatalf("%+v", m)
		}
	}
	for _, e := range run.Env {
		if name, _, _ := strings.Cut(e, "="); name == "" {
			t.Fatalf("variable %q", e)
		}
	}
	for key := range run.Sysctls {
		if key == "" {
			t.Fatal("a parameter without a name")
		}
	}
	if run.Resources.NanoCPUs < 0 || run.Resources.Memory < 0 || run.Resources.MemorySwap < -1 || run.Restart.Retries < 0 {
		t.Fatalf("%+v", run)
	}
	if h := run.Health; h != nil && (h.Interval < 0 || h.Retries < 0 || len(h.Test) > 2) {
		t.Fatalf("%+v", h)
	}
	for _, rule := range run.Resources.DeviceRules {
		if checkDeviceRule(rule) != nil {
			t.Fatalf("%q", rule)
		}
	}
	if run.ShmSize < 0 {
		t.Fatalf("%+v", run)
	}
}
