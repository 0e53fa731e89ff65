package real

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/internal/testimage"
)

func TestMain(m *testing.M) {
	os.Exit(nstest.Main(m, nstest.Options{
		Build:   []string{"./cmd/kakuri", "./cmd/kakuri-runtime", "./cmd/kakuri-uplink"},
		Prepare: testimage.Prepare(testimage.Debian, testimage.Nginx, testimage.Redis, testimage.Postgres),
	}))
}

// A caller runs commands, with containers and images of its own.
type caller struct {
	user *nstest.Account // nil is root
	data string          // XDG_DATA_HOME of an ordinary user
}

// each runs a test as root and as an ordinary user, with a registry that has an image.
func each(t *testing.T, image string, test func(t *testing.T, c caller, ref string)) {
	u := nstest.User(t)
	for _, name := range []string{"root", "user"} {
		t.Run(name, func(t *testing.T) {
			nstest.NoLeaks(t)
			host := testimage.Registry(t, map[string]v1.Image{image + ":1": testimage.Get(t, image)})
			var c caller
			if name == "user" {
				nstest.TUN(t, 0o666)
				t.Cleanup(func() { u.UplinkEnds(t) })
				c = caller{user: u, data: nstest.Dir(t)}
				if err := os.Chown(c.data, u.UID, u.GID); err != nil {
					t.Fatal(err)
				}
			}
			ref := host + "/" + image + ":1"
			// What is left of a test that failed.
			t.Cleanup(func() {
				c.kakuri("container", "prune", "-f")
				if out, code := c.kakuri("rmi", ref); code != 0 {
					t.Errorf("rmi: code %d: %s", code, out)
				}
			})
			c.ok(t, "pull", ref)
			test(t, c, ref)
		})
	}
}

// kakuri runs a command, and gives what it printed on both streams and its exit code.
func (c caller) kakuri(args ...string) (string, int) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	program := "/run/nstest/bin/kakuri"
	cmd := exec.CommandContext(ctx, program, args...)
	if c.user != nil {
		cmd = c.user.Command(program, args...)
		cmd.Env = append(cmd.Env, "XDG_DATA_HOME="+c.data)
		stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
		defer stop()
	}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		return err.Error(), -1
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// ok runs a command that has to end well.
func (c caller) ok(t *testing.T, args ...string) string {
	t.Helper()
	out, code := c.kakuri(args...)
	if code != 0 {
		t.Fatalf("kakuri %s: code %d: %s", strings.Join(args, " "), code, out)
	}
	return strings.TrimSpace(out)
}

// container starts one, which goes with the test.
func (c caller) container(t *testing.T, name string, args ...string) {
	t.Helper()
	t.Cleanup(func() { c.kakuri("rm", "-f", "-v", name) })
	c.ok(t, append([]string{"run", "-d", "--name", name}, args...)...)
}

// until runs a command again until its output has want; a minute at most. Nothing tells from outside that a server is ready.
func (c caller) until(t *testing.T, want string, args ...string) {
	t.Helper()
	var out string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if out, _ = c.kakuri(args...); strings.Contains(out, want) {
			return
		}
	}
	t.Fatalf("kakuri %s: %s\nwant %q", strings.Join(args, " "), out, want)
}

// has wants a piece in what a command prints.
func (c caller) has(t *testing.T, want string, args ...string) {
	t.Helper()
	if out := c.ok(t, args...); !strings.Contains(out, want) {
		t.Errorf("kakuri %s: %s\nwant %q", strings.Join(args, " "), out, want)
	}
}

// nginx serves, with workers that are not root, on the default network, at a port of the machine, and in the caller's network; and stops by its own signal.
func TestNginx(t *testing.T) {
	each(t, testimage.Nginx, func(t *testing.T, c caller, ref string) {
		c.container(t, "web", "-p", "8088:80", ref)
		if body := get(t, "http://127.0.0.1:8088/"); body != "<h1>It is served.</h1>\n" {
			t.Errorf("by its port: %q", body)
		}
		c.until(t, "<h1>It is served.</h1>", "exec", "web", "curl", "-sS", "http://127.0.0.1/")
		c.until(t, `"GET / HTTP/1.1" 200`, "logs", "web")
		uid := c.ok(t, "exec", "web", "id", "-u", "www-data")
		c.has(t, "Uid:\t"+uid+"\t", "exec", "web", "sh", "-c", "grep -h Uid: $(grep -l 'worker[ ]process' /proc/[0-9]*/cmdline | sed 's/cmdline/status/')")
		c.ok(t, "stop", "-t", "60", "web")
		c.has(t, "exited 0", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "web")

		c.container(t, "host", "--network", "host", "-e", "PORT=8087", ref)
		if body := get(t, "http://127.0.0.1:8087/"); body != "<h1>It is served.</h1>\n" {
			t.Errorf("from the host: %q", body)
		}
		c.ok(t, "rm", "-f", "host", "web")
	})
}

// get fetches a page, as soon as somebody serves it.
func get(t *testing.T, url string) string {
	t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	var last error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		resp, err := http.Get(url)
		if err != nil {
			last = err
			continue
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	t.Fatal(last)
	return ""
}

// redis steps down from root, passes what its own tools ask, is found healthy, and has its data after a restart.
func TestRedis(t *testing.T) {
	each(t, testimage.Redis, func(t *testing.T, c caller, ref string) {
		c.container(t, "db", ref)
		c.until(t, "PONG", "exec", "db", "redis-cli", "ping")
		uid := c.ok(t, "exec", "db", "id", "-u", "redis")
		c.has(t, "Uid:\t"+uid+"\t", "exec", "db", "grep", "Uid:", "/proc/1/status")
		c.has(t, "SET: ", "exec", "db", "redis-benchmark", "-q", "-n", "2000", "-c", "20", "-t", "set,get,incr,lpush,sadd,zadd,mset")
		c.has(t, "OK", "exec", "db", "redis-cli", "set", "kept", "value")
		c.has(t, "1", "exec", "db", "redis-cli", "eval", "return redis.call('exists', KEYS[1])", "1", "kept")
		c.has(t, "OK", "exec", "db", "redis-cli", "save")
		c.has(t, "RDB looks OK", "exec", "db", "redis-check-rdb", "/data/dump.rdb")
		c.has(t, "OK", "exec", "db", "redis-cli", "config", "set", "appendonly", "yes")
		c.until(t, "aof_rewrite_in_progress:0", "exec", "db", "redis-cli", "info", "persistence")
		c.until(t, "healthy", "inspect", "-f", "{{.State.Health.Status}}", "db")
		c.ok(t, "restart", "-t", "60", "db")
		c.until(t, "value", "exec", "db", "redis-cli", "get", "kept")
		c.ok(t, "stop", "-t", "60", "db")
		c.has(t, "exited 0", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "db")
		c.has(t, "Redis is now ready to exit, bye bye", "logs", "db")
		c.ok(t, "rm", "-v", "db")
	})
}

// postgres makes its cluster as another user than root, shuts down by SIGINT, and has its data when it is started again, in the same container and
// from its volume in another one.
func TestPostgres(t *testing.T) {
	each(t, testimage.Postgres, func(t *testing.T, c caller, ref string) {
		t.Cleanup(func() { c.kakuri("volume", "rm", "pgdata") })
		server := []string{"-e", "POSTGRES_PASSWORD=secret", "-e", "POSTGRES_DB=shop", "-v", "pgdata:/var/lib/postgresql/data", ref}
		psql := func(name, line string) []string {
			return []string{"exec", "-u", "postgres", name, "psql", "-tA", "-v", "ON_ERROR_STOP=1", "-d", "shop", "-c", line}
		}
		c.container(t, "pg", server...)
		c.until(t, "the database is made", "logs", "pg")
		c.until(t, "accepting connections", "exec", "pg", "pg_isready", "-h", "127.0.0.1")
		c.has(t, "INSERT 0 1000", psql("pg", "create table t as select 1 as n where false; insert into t select generate_series(1, 1000)")...)
		c.has(t, "500500", "exec", "-e", "PGPASSWORD=secret", "pg", "psql", "-tA", "-h", "127.0.0.1", "-U", "postgres", "-d", "shop", "-c", "select sum(n) from t")
		c.ok(t, "stop", "-t", "60", "pg")
		c.has(t, "exited 0", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "pg")
		c.has(t, "received fast shutdown request", "logs", "pg")
		c.has(t, "database system is shut down", "logs", "--tail", "3", "pg")

		c.ok(t, "start", "pg")
		c.until(t, "500500", psql("pg", "select sum(n) from t")...)
		c.ok(t, "rm", "-f", "pg")

		// It was killed: the next one recovers from the log of the volume.
		c.container(t, "pg2", server...)
		c.until(t, "500500", psql("pg2", "select sum(n) from t")...)
		c.has(t, "database system was not properly shut down", "logs", "pg2")
		c.ok(t, "rm", "-f", "pg2")
	})
}

// A shell of the distribution: packages of it are installed and removed as root inside, without a capability more than the default's.
func TestDebian(t *testing.T) {
	each(t, testimage.Debian, func(t *testing.T, c caller, ref string) {
		out := c.ok(t, "run", "--rm", ref, "sh", "-ec", `
			useradd -m someone
			su someone -c 'id -un; echo kept >~/x'
			stat -c %U ~someone/x
			chown someone:users /tmp
			chmod 4755 /bin/date
			install -d -o someone -g users -m 2775 /srv/x
			perl -e 'print join(",", (getpwnam("someone"))[7]), "\n"'
			dpkg --purge --force-depends tzdata >/dev/null 2>&1
			test ! -e /usr/share/zoneinfo/Europe && echo removed
			dpkg --verify >/dev/null; echo $?`)
		for _, want := range []string{"someone\nsomeone\n", "/home/someone\n", "removed\n0"} {
			if !strings.Contains(out+"\n", want) {
				t.Errorf("%s\nwant %q", out, want)
			}
		}
		if c.user != nil {
			// With the user's own id inside, the image's other owners are who they are, and the user's files are the user's on both sides.
			dir := nstest.Dir(t)
			if err := os.Chown(dir, c.user.UID, c.user.GID); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("%d\n42\n8\n%[1]d", c.user.UID)
			c.has(t, want, "run", "--rm", "--userns", "keep-id", "-v", dir+":/shared", ref, "sh", "-c", "id -u; stat -c %g /etc/shadow /var/mail; touch /shared/x; stat -c %u /shared/x")
			if st, err := os.Stat(dir + "/x"); err != nil || int(st.Sys().(*syscall.Stat_t).Uid) != c.user.UID {
				t.Errorf("%v: %v", err, st)
			}
		}
		if out := c.ok(t, "run", "--rm", ref, "bash", "-c", "echo $BASH_VERSION; exec 3<>/dev/tcp/127.0.0.1/9 2>/dev/null || echo refused"); !strings.Contains(out, "refused") {
			t.Error(out)
		}
	})
}
