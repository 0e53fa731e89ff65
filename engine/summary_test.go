package engine

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/monitor"
)

// The words are those of Docker's client.
func TestAge(t *testing.T) {
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		0: "Less than a second", time.Second: "1 second", 59 * time.Second: "59 seconds", 60 * time.Second: "About a minute", 3 * time.Minute: "3 minutes",
		35 * time.Minute: "35 minutes", 65 * time.Minute: "About an hour", 90 * time.Minute: "2 hours", 3 * time.Hour: "3 hours", 47 * time.Hour: "47 hours",
		48 * time.Hour: "2 days", 13 * day: "13 days", 14 * day: "2 weeks", 59 * day: "8 weeks", 60 * day: "2 months", 729 * day: "24 months", 730 * day: "2 years",
	} {
		if got := Age(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	local := func(h, m, s, ns int) time.Time { return time.Date(2026, 11, 23, h, m, s, ns, time.Local) }
	for s, want := range map[string]time.Time{
		"1h30m": now.Add(-90 * time.Minute), "0s": now, "0": time.Unix(0, 0), "2026-11-23T08:00:00Z": time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC), "2026-11-23T08:00:00.5+02:00": time.Date(2026, 11, 23, 6, 0, 0, 5e8, time.UTC),
		"2026-11-23": local(0, 0, 0, 0), "2026-11-23T08": local(8, 0, 0, 0), "2026-11-23T08:09": local(8, 9, 0, 0), "2026-11-23T08:09:10.25": local(8, 9, 10, 25e7), "2026-11-23Z": time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC),
		"1000000000": time.Unix(1e9, 0), "1000000000.5": time.Unix(1e9, 5e8), "1000000000.000000001": time.Unix(1e9, 1),
	} {
		if got, err := ParseTime(s, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", s, got, err, want)
		}
	}
	for _, bad := range []string{"", "yesterday", "1.", "2026-13-01", "1.1234567891", "1e9", "-"} {
		if got, err := ParseTime(bad, now); err == nil && bad != "1." {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestStatusWords(t *testing.T) {
	now := time.Now()
	c := Container{State: State{Started: now.Add(-2 * time.Hour), Finished: now.Add(-5 * time.Minute), ExitCode: 3}}
	for _, one := range []struct {
		status, health, want string
	}{
		{monitor.Running, "", "Up 2 hours"}, {monitor.Running, "starting", "Up 2 hours (health: starting)"}, {monitor.Running, "healthy", "Up 2 hours (healthy)"},
		{paused, "", "Up 2 hours (Paused)"}, {monitor.Restarting, "", "Restarting (3) 5 minutes ago"}, {monitor.Exited, "", "Exited (3) 5 minutes ago"},
		{monitor.Created, "", "Created"}, {monitor.Dead, "", "Dead"}, {monitor.Removing, "", "Removal In Progress"},
	} {
		c.Status, c.Health = one.status, nil
		if one.health != "" {
			c.Health = &monitor.Health{Status: one.health}
		}
		if got := c.words(one.status, now); got != one.want {
			t.Errorf("%s %s: %q, want %q", one.status, one.health, got, one.want)
		}
	}
}

// Each filter takes what it should, and no more; keys and values that there are not are refused.
func TestFilters(t *testing.T) {
	e := &Engine{dir: t.TempDir(), data: t.TempDir()}
	now := time.Now()
	web := &Container{
		Record: Record{ID: strings.Repeat("ab", 32), Name: "web-1", Created: now.Add(-time.Hour), Image: "nginx:1", ImageID: "sha256:" + strings.Repeat("cd", 32),
			Config: Config{Labels: map[string]string{"tier": "front", "a": ""}}, Volumes: []MountPoint{{Name: "data", Destination: "/srv"}, {Type: "bind", Source: "/home", Destination: "/h"}}},
		State: State{Status: monitor.Running, Health: &monitor.Health{Status: "healthy"}},
	}
	job := &Container{
		Record: Record{ID: strings.Repeat("01", 32), Name: "job", Created: now.Add(-time.Minute), Image: "host", Config: Config{Network: "host"}},
		State:  State{Status: monitor.Exited, Finished: now, ExitCode: 3},
	}
	for _, id := range []string{web.ID, job.ID, strings.Repeat("02", 32)} {
		if err := os.MkdirAll(e.homes()[1]+"/"+id, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		key, values string // values with blanks between them
		want        string
	}{
		{"name", "web", "web-1"}, {"name", "^/job$", "job"}, {"name", "^b", ""}, {"name", "web job", "web-1 job"}, {"id", "a", "web-1"}, {"id", "01", "job"}, {"id", "", ""}, {"id", "bab", ""}, {"id", "0", ""}, {"id", "0 01 ab", "web-1 job"},
		{"id", job.ID, "job"}, {"id", "web-1", ""},
		{"label", "tier", "web-1"}, {"label", "tier=front a", "web-1"}, {"label", "tier=back", ""}, {"label!", "tier", "job"},
		{"status", "running", "web-1"}, {"status", "exited created", "job"}, {"exited", "3", "job"}, {"exited", "0", ""}, {"health", "healthy", "web-1"}, {"health", "none", "job"},
		{"ancestor", "nginx", ""}, {"ancestor", "nginx:1", "web-1"}, {"ancestor", "cdcdcd", "web-1"}, {"ancestor", "ngin", ""}, {"ancestor", "host", "job"}, {"ancestor", "host:latest", "job"},
		{"volume", "data", "web-1"}, {"volume", "/srv/", "web-1"}, {"volume", "/home", "web-1"}, {"volume", "/", ""}, {"network", "host", "job"}, {"network", "none", "web-1"},
		{"is-task", "true", ""}, {"is-task", "false", "web-1 job"}, {"is-task", "0", "web-1 job"}, {"is-task", "1", ""}, {"publish", "80", ""}, {"until", "10m", "web-1"},
	} {
		keep, err := Filters{c.key: strings.Split(c.values, " ")}.containers(e)
		if err != nil {
			t.Errorf("%s=%s: %v", c.key, c.values, err)
			continue
		}
		var got []string
		for _, one := range []*Container{web, job} {
			if keep(one) {
				got = append(got, one.Name)
			}
		}
		if !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s=%s: %q, want %q", c.key, c.values, got, c.want)
		}
	}
	for _, bad := range []Filters{{"colour": {"red"}}, {"status": {"asleep"}}, {"health": {"ill"}}, {"exited": {"x"}}, {"name": {"("}}, {"until": {"never"}}, {"until": {"1h", "2h"}}, {"before": {"nobody"}}, {"is-task": {"x"}}, {"is-task": {""}}} {
		if _, err := bad.containers(e); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
	keep, err := Filters{"until": {"30m"}, "label": {"tier"}}.PruneMatch()
	if err != nil || keep(*web) || !keep(*job) {
		t.Errorf("prune until=30m, label=tier: %v", err)
	}
	if _, err := (Filters{"name": {"x"}}).PruneMatch(); err == nil {
		t.Error("prune by a name is taken")
	}
}

// What is asked for and is not there is refused, and annotations are in config.json.
func TestRecordRefuses(t *testing.T) {
	e := &Engine{dir: t.TempDir(), data: t.TempDir(), host: rootFacts()}
	for want, cfg := range map[string]Config{
		"unknown or invalid runtime name: crun": {Runtime: "crun"},
		"--storage-opt colour: there is no":     {StorageOpt: map[string]string{"colour": "red"}},
	} {
		cfg.Rootfs, cfg.Command = t.TempDir(), []string{"true"}
		if _, err := e.Prepare(t.Context(), cfg); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if got := spec(t, Config{Annotations: map[string]string{"a": "b"}}).Annotations; got["a"] != "b" {
		t.Errorf("annotations: %v", got)
	}
}

// TestHealthOfEnded: a container that does not run is unhealthy for ps, its filter and inspect alike.
func TestHealthOfEnded(t *testing.T) {
	for _, test := range []struct {
		status string
		checks *monitor.Health
		want   string
	}{
		{monitor.Exited, &monitor.Health{Status: monitor.Healthy}, "unhealthy"}, {monitor.Exited, &monitor.Health{Status: monitor.Starting}, "unhealthy"},
		{monitor.Restarting, &monitor.Health{Status: monitor.Starting}, "unhealthy"}, {monitor.Exited, nil, "none"}, {monitor.Created, nil, "none"},
	} {
		c := Container{State: State{Status: test.status, Health: test.checks}}
		if got := c.health(); got != test.want {
			t.Errorf("%s, %+v: filter %s, want %s", test.status, test.checks, got, test.want)
		}
		if test.checks == nil {
			continue
		}
		if got := (&Engine{}).inspectState(&c).Health.Status; got != test.want {
			t.Errorf("%s, %+v: inspect %s, want %s", test.status, test.checks, got, test.want)
		}
		if got := summarize(nil, &c, time.Now()).Health; got != test.want {
			t.Errorf("%s, %+v: ps %s, want %s", test.status, test.checks, got, test.want)
		}
	}
}

// TestHostMounts: inspect tells of each --mount what was asked, in the form of Docker's API.
func TestHostMounts(t *testing.T) {
	mount := func(kind, source, flag string, options ...string) Mount {
		return Mount{Type: kind, Source: source, Dest: "/d", Options: options, MustHave: true, Flag: "--mount type=" + kind + flag}
	}
	volume := mount("volume", "v", ",ro", "ro")
	volume.NoCopy, volume.Subpath, volume.Driver, volume.Labels, volume.DrvOpts = true, "a/b", "local", map[string]string{"x": "y"}, map[string]string{"type": "tmpfs"}
	image := mount("image", "i", "")
	image.Subpath = "data"
	made := mount("bind", "/s", ",bind-create-src", "rprivate", "rbind")
	made.MustHave = false
	for _, test := range []struct {
		m    Mount
		want string
	}{
		{mount("bind", "/s", "", "rprivate", "rbind"), `{"Type":"bind","Source":"/s","Target":"/d"}`},
		{mount("bind", "/s", ",ro", "rprivate", "rbind", "rro"), `{"Type":"bind","Source":"/s","Target":"/d","ReadOnly":true}`},
		{mount("bind", "/s", ",ro,bind-propagation=slave,bind-recursive=disabled", "slave", "bind", "ro"), `{"Type":"bind","Source":"/s","Target":"/d","ReadOnly":true,"BindOptions":{"Propagation":"slave","NonRecursive":true}}`},
		{mount("bind", "/s", ",ro,bind-recursive=writable", "rprivate", "rbind", "ro"), `{"Type":"bind","Source":"/s","Target":"/d","ReadOnly":true,"BindOptions":{"ReadOnlyNonRecursive":true}}`},
		{mount("bind", "/s", ",ro,bind-recursive=readonly", "rprivate", "rbind", "rro"), `{"Type":"bind","Source":"/s","Target":"/d","ReadOnly":true,"BindOptions":{"ReadOnlyForceRecursive":true}}`},
		{mount("bind", "/s", ",consistency=Cached,ro", "rprivate", "rbind", "rro"), `{"Type":"bind","Source":"/s","Target":"/d","ReadOnly":true,"Consistency":"cached"}`},
		{made, `{"Type":"bind","Source":"/s","Target":"/d","BindOptions":{"CreateMountpoint":true}}`},
		{mount("volume", "v", ""), `{"Type":"volume","Source":"v","Target":"/d"}`},
		{volume, `{"Type":"volume","Source":"v","Target":"/d","ReadOnly":true,"VolumeOptions":{"NoCopy":true,"Labels":{"x":"y"},"Subpath":"a/b","DriverConfig":{"Name":"local","Options":{"type":"tmpfs"}}}}`},
		{image, `{"Type":"image","Source":"i","Target":"/d","ImageOptions":{"Subpath":"data"}}`},
		{mount("tmpfs", "", "", "size=1048576", "mode=1770", "nosuid"), `{"Type":"tmpfs","Target":"/d","TmpfsOptions":{"SizeBytes":1048576,"Mode":1016}}`},
		{mount("tmpfs", "", "", "nosuid"), `{"Type":"tmpfs","Target":"/d"}`},
	} {
		var h HostConfig
		c := Container{Record: Record{Config: Config{Mounts: []Mount{test.m}}}}
		c.hostMounts(&h)
		if got, err := json.Marshal(h.Mounts); err != nil || string(got) != "["+test.want+"]" {
			t.Errorf("%s: %s, %v; want %s", test.m.Flag, got, err, test.want)
		}
	}
	anonymous := Container{Record: Record{Config: Config{Mounts: []Mount{mount("volume", strings.Repeat("f", 64), "")}}, Volumes: []MountPoint{{Destination: "/d", Anonymous: true}}}}
	var h HostConfig
	if anonymous.hostMounts(&h); len(h.Mounts) != 1 || h.Mounts[0].Source != "" {
		t.Errorf("a volume without a name: %+v", h.Mounts)
	}
}
