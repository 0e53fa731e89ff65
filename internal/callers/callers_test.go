package callers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	containers "github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/internal/nstest"
)

func TestMain(m *testing.M) {
	var pages []string
	if slices.Contains(os.Args, "-update") {
		pages = []string{"docs"}
	}
	os.Exit(nstest.Main(m, nstest.Options{
		Writable: pages,
		Build:    []string{"./cmd/kakuri", "./cmd/kakuri-runtime", "./cmd/kakuri-uplink"},
		Parts:    map[string]func([]string) int{"cri": cri, "probe": probe, "inspector": inspector, "inspects": inspects},
	}))
}

// A step is a line of shell, what it has to end with, and what its output has to have.
type step struct {
	line string
	code int
	want string
}

// session runs before and then steps in one shell, in a mount, a network and a pid namespace with a /run and a /var/lib of its own. There
// $S is an empty directory in memory, $ROOTFS a root file system and $RUNTIME the runtime. It returns what each step printed.
func session(t *testing.T, programs []string, before string, steps []step) (printed []string) {
	t.Helper()
	nstest.Root(t)
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
	nstest.NoLeaks(t)
	dir := nstest.Dir(t)
	var script strings.Builder
	script.WriteString(`set -e
ip link set lo up
mount -t tmpfs -o mode=755 tmpfs $S
mkdir $S/out $S/bin
cp $RUNTIME $KAKURI $UPLINK $S/bin
for p in cri probe inspector inspects; do cp $PARTS/$p $S/bin/$p; done
RUNTIME=$S/bin/kakuri-runtime
till() { n=0; until eval "$1"; do n=$((n + 1)); [ $n -lt 300 ] || return 1; sleep 0.1; done; }
for d in /run /var/tmp /var/lib /etc/docker; do [ ! -d $d ] || mount -t tmpfs -o mode=755 tmpfs $d; done
# A caller makes directories for hierarchies, too, that are not mounted here.
if [ $(stat -f -c %T /sys/fs/cgroup) = tmpfs ]; then
	mkdir $S/cgroup && mount -t tmpfs -o mode=755 tmpfs $S/cgroup
	for d in /sys/fs/cgroup/*; do
		if [ -L $d ]; then cp -P $d $S/cgroup; elif mountpoint -q $d; then mkdir $S/cgroup/${d##*/} && mount --move $d $S/cgroup/${d##*/}; fi
	done
	mount --move $S/cgroup /sys/fs/cgroup
fi
` + before + "\nset +e\n")
	for i, s := range steps {
		fmt.Fprintf(&script, "( %s ) >$S/out/%d 2>&1 </dev/null; echo $? >$S/out/%[2]d.code; cp $S/out/%[2]d $S/out/%[2]d.code $KEEP\n", s.line, i)
	}
	// The directory above a container's cgroup is the caller's; nothing is left in it.
	script.WriteString(`# What watches over a container ends after it.
till '! cat /sys/fs/cgroup/libpod_parent/conmon/cgroup.procs /sys/fs/cgroup/*/libpod_parent/conmon/cgroup.procs 2>/dev/null | grep -q .'
for d in default docker/buildkit docker libpod_parent/conmon libpod_parent kubepods; do
	for d in /sys/fs/cgroup/$d /sys/fs/cgroup/*/$d; do [ ! -d $d ] || { find $d -mindepth 1 -type d; rmdir $d; } done
done >$KEEP/groups 2>&1
true
`)
	keep := nstest.Dir(t)
	c := exec.Command("unshare", "--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script.String())
	c.Env = append(os.Environ(), "S="+dir, "KEEP="+keep, "ROOTFS="+nstest.RootFS(t), "RUNTIME="+nstest.Binary(t, "kakuri-runtime"), "KAKURI="+nstest.Binary(t, "kakuri"), "UPLINK="+nstest.Binary(t, "kakuri-uplink"), "PARTS="+filepath.Dir(nstest.PartPath("cri")), "HOME=/root")
	// The streams are a file: a daemon's would be held open.
	out, err := os.Create(filepath.Join(keep, "all"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(2*time.Minute, func() { c.Process.Kill() })
	defer timer.Stop()
	if err := c.Wait(); err != nil {
		all, _ := os.ReadFile(out.Name())
		t.Errorf("%v\n%s", err, all)
	}
	if groups, err := os.ReadFile(filepath.Join(keep, "groups")); err != nil || len(groups) > 0 {
		t.Errorf("%v: cgroups are left: %s", err, groups)
	}
	for i, s := range steps {
		text, err := os.ReadFile(filepath.Join(keep, fmt.Sprint(i)))
		if err != nil {
			t.Fatalf("%s\nhas not ended", s.line)
		}
		code, err := os.ReadFile(filepath.Join(keep, fmt.Sprint(i, ".code")))
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(string(code)) != fmt.Sprint(s.code) || !strings.Contains(string(text), s.want) {
			t.Errorf("%s\nended with %s, want %d, with the output\n%s\nwant %q", s.line, strings.TrimSpace(string(code)), s.code, text, s.want)
		}
		printed = append(printed, string(text))
	}
	return printed
}

// terminal runs a line on a terminal at which nobody types.
func terminal(line string) string {
	return "mkfifo $S/nobody 2>/dev/null; exec 9<>$S/nobody; script -qec \"" + line + "\" /dev/null <&9"
}

// loop is a container's process that ends with 5 for TERM, which it does not hear before what it says.
const loop = `'trap "exit 5" TERM; echo of the log; while :; do sleep 0.05; done'`

// podman's default limits may be beyond what the caller may set.
const podmanConfig = `
cat >$S/containers.conf <<X
[containers]
default_ulimits = ["nofile=512:512", "nproc=512:512"]
[engine]
runtime_supports_nocgroup = ["kakuri-runtime"]
runtime_supports_json = ["kakuri-runtime"]
[engine.runtimes]
kakuri-runtime = ["$RUNTIME"]
X
export CONTAINERS_CONF=$S/containers.conf
`

func TestPodman(t *testing.T) {
	const run = "$P run --cgroups=disabled --network none "
	session(t, []string{"podman", "conmon", "script"}, podmanConfig+`
mkdir $S/root
P="podman --runtime kakuri-runtime --root $S/root --runroot /run/podman --cgroup-manager cgroupfs --events-backend file --storage-driver vfs"
tar -C $ROOTFS -c . | $P import - localhost/image
`, []step{
		{run + "--rm localhost/image sh -c 'echo hello; exit 7'", 7, "hello\n"},
		{run + "--rm localhost/image nosuch", 127, "executable file not found in $PATH"},
		{run + "--rm localhost/image /etc", 126, "is a directory"},
		{run + "-d --name one localhost/image sh -c " + loop, 0, ""},
		{"$P exec one sh -c 'echo inside; exit 3'", 3, "inside\n"},
		{"$P exec -u 33:44 -w /srv -e A=b one sh -c 'id -u; pwd; echo $A'", 0, "33\n/srv\nb\n"},
		{"$P exec one nosuch", 127, "executable file not found"},
		{terminal("$P exec -it one tty"), 0, "/dev/pts/0"},
		{"till '$P logs one | grep of'", 0, "of the log\n"},
		{"$P inspect -f '{{.State.Status}} {{.OCIRuntime}}' one", 0, "running kakuri-runtime\n"},
		{"$P kill -s WINCH one", 0, ""},
		{"$P stop -t 60 one", 0, "one\n"},
		{"$P inspect -f '{{.State.Status}} {{.State.ExitCode}}' one", 0, "exited 5\n"},
		{"$P start one && $P kill one && $P wait one", 0, "137\n"},
		{"$P rm one && $P ps -aq", 0, "one\n"},
		{terminal(run + "--rm -it localhost/image sh -c 'tty; echo here'"), 0, "here"},
		// With a control group.
		{"$P run -d --network none -m 64m --pids-limit 50 --name two localhost/image sh -c " + loop, 0, ""},
		{"$P stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' two", 0, "/ 67.11MB"},
		{"$P update -m 32m --cpu-shares 512 two && $P exec two sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max'", 0, "33554432\n"},
		{"$P pause two && $P inspect -f '{{.State.Status}}' two && $P unpause two && $P exec two echo inside", 0, "paused\ntwo\ninside\n"},
		{"$P top two args", 0, "sh -c "},
		{"$P restart -t 60 two && $P rm -f -t 0 two", 0, "two\n"},
		{"$P events --stream=false --since 10m --filter container=two --format '{{.Status}}' | grep -x -e start -e pause -e unpause -e exec -e died -e remove | tr '\\n' ' '", 0, "start exec pause unpause exec died start died remove "},
	})
}

// An ordinary user's podman makes a user namespace, and starts the runtime as root of that: without the right to make nodes, control groups, or
// anything in /run.
func TestPodmanRootless(t *testing.T) {
	nstest.User(t)
	const run = "$P run --cgroups=disabled --network none "
	steps := []step{
		{run + "--rm localhost/image sh -c 'id -u; cut -c 1-40 /proc/self/uid_map; exit 7'", 7, "0\n         0        "},
		{run + "--rm localhost/image sh -c 'echo hello >/dev/null && ls -l /dev/null'", 0, "crw-rw-rw-"},
		{run + "--rm localhost/image nosuch", 127, "executable file not found in $PATH"},
		{run + "--rm localhost/image /etc", 126, "is a directory"},
		{run + "--rm --read-only --tmpfs /t -v $S/home:/srv -u 33:44 --cap-drop all localhost/image sh -c '! touch /x 2>/dev/null && touch /t/x && id -u && ls /srv'", 0, "33\nroot\n"},
		{run + "--rm --userns keep-id localhost/image sh -c 'id -un; cat /proc/self/gid_map | wc -l'", 0, "kakuri-test\n3\n"},
		{run + "-d --name one localhost/image sh -c " + loop, 0, ""},
		{"$P exec one sh -c 'echo inside; exit 3'", 3, "inside\n"},
		{"$P exec -u 33:44 -w /srv -e A=b one sh -c 'id -u; pwd; echo $A'", 0, "33\n/srv\nb\n"},
		{"$P exec one nosuch", 127, "executable file not found"},
		{terminal("$P exec -it one tty"), 0, "/dev/pts/0"},
		{"till '$P logs one | grep of'", 0, "of the log\n"},
		{"$P ps --format '{{.Names}} {{.Status}}'", 0, "one Up "},
		{"$P inspect -f '{{.State.Status}} {{.OCIRuntime}}' one && ls $S/xdg/kakuri-runtime | wc -l", 0, "running kakuri-runtime\n1\n"},
		{"$P stop -t 60 one", 0, "one\n"},
		{"$P inspect -f '{{.State.Status}} {{.State.ExitCode}}' one", 0, "exited 5\n"},
		{"$P start one && $P kill one && $P wait one", 0, "137\n"},
		{"$P rm one && $P ps -aq", 0, "one\n"},
		{run + "-d --userns keep-id --name two localhost/image sh -c " + loop + " && $P exec two id -u && $P exec -u 0 two id -u && $P rm -f -t 0 two", 0, "\n0\ntwo\n"},
		{terminal(run + "--rm -it localhost/image sh -c 'tty; echo here'"), 0, "here"},
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		// On version 1 podman asks for control groups, and takes what the user may have: none.
		steps = append(steps,
			step{"$P run -d --network none --name three localhost/image sh -c " + loop + " && $P top three args", 0, "sh -c "},
			step{"$P exec three ls -d /sys/fs/cgroup/pids && till '$P logs three | grep -q of' && $P stop -t 60 three && $P wait three && $P rm three", 0, "three\n5\nthree\n"})
	}
	session(t, []string{"podman", "conmon", "script", "newuidmap"}, podmanConfig+`
chmod 1777 /var/tmp
mkdir $S/home $S/xdg
chown kakuri-test: $S/home $S/xdg
P="setpriv --reuid kakuri-test --regid kakuri-test --init-groups env -C $S/home HOME=$S/home USER=kakuri-test XDG_RUNTIME_DIR=$S/xdg
	podman --runtime kakuri-runtime --root $S/home/root --runroot $S/xdg/podman --cgroup-manager cgroupfs --events-backend file --storage-driver vfs"
P=$(echo $P)
tar -C $ROOTFS --owner=0 --group=0 -c . | $P import - localhost/image
`, steps)
}

// A container goes on after podman has written it to disk, and on another name from its archive.
func TestPodmanCheckpoint(t *testing.T) {
	nstest.Root(t)
	// CRIU tries what it needs with a connection to itself.
	if out, err := exec.Command("sh", "-c", "ip link set lo up && criu check").CombinedOutput(); err != nil {
		t.Skipf("needs a criu that works with this kernel (Debian: package criu): criu check: %v: %s", err, strings.TrimSpace(string(out)))
	}
	const count = `sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done'`
	session(t, []string{"podman", "conmon"}, podmanConfig+`
mkdir $S/root
P="podman --runtime kakuri-runtime --root $S/root --runroot /run/podman --cgroup-manager cgroupfs --events-backend file --storage-driver vfs"
tar -C $ROOTFS -c . | $P import - localhost/image
`, []step{
		{"$P run --cgroups=disabled --network none -d --name one localhost/image " + count + " && till '$P logs one | grep -qx 5'", 0, ""},
		{"$P container checkpoint one && $P inspect -f '{{.State.Status}} {{.State.Checkpointed}}' one", 0, "exited true\n"},
		{"$P container restore one && $P inspect -f '{{.State.Status}} {{.State.Restored}}' one", 0, "running true\n"},
		{"$P exec one echo inside && till '[ $($P logs one | tail -n1) -gt 20 ]' && [ \"$($P logs one | head -n15 | tr '\\n' ' ')\" = \"$(seq -s ' ' 15) \" ]", 0, "inside\n"},
		{"$P container checkpoint -R -e $S/one.tar one && $P rm -f -t 0 one", 0, "one\n"},
		{"$P container restore -i $S/one.tar -n two && N=$($P logs two | wc -l) && till '[ $($P logs two | wc -l) -gt $((N + 5)) ]' && [ $($P logs two | tail -n1) -gt 20 ]", 0, ""},
		{"$P stop -t 0 two && $P inspect -f '{{.State.Status}} {{.State.ExitCode}}' two", 0, "exited 137\n"},
	})
}

func TestContainerd(t *testing.T) {
	const run = `$C run --snapshotter native --runc-binary $RUNTIME `
	session(t, []string{"containerd", "ctr", "script", "sha256sum"}, `
cat >$S/config.toml <<X
version = 2
root = "$S/root"
state = "/run/c"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "/run/c.sock"
X
containerd -c $S/config.toml >$S/log 2>&1 &
C="ctr -a /run/c.sock"
till '[ -S /run/c.sock ] && $C version >/dev/null 2>&1'
mkdir $S/i && cd $S/i && tar -C $ROOTFS -cf l.tar . && sum=$(sha256sum <l.tar) && sum=${sum%% *}
echo '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin:/usr/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:'$sum'"]}}' >c.json
echo '[{"Config":"c.json","RepoTags":["localhost/image:latest"],"Layers":["l.tar"]}]' >manifest.json
tar -cf ../i.tar manifest.json c.json l.tar && $C image import --snapshotter native ../i.tar
`, []step{
		{run + "--rm localhost/image:latest one sh -c 'echo hello; exit 7'", 7, "hello\n"},
		{run + "--rm localhost/image:latest none nosuch", 1, "executable file not found in $PATH"},
		{run + "-d localhost/image:latest two sh -c " + loop, 0, ""},
		{"$C task ls", 0, "RUNNING"},
		{"$C task exec --exec-id e two sh -c 'echo inside; exit 3'", 3, "inside\n"},
		{"$C task ps two", 0, "PID"},
		{"$C task metrics two", 0, "memory.usage_in_bytes"},
		{"$C task pause two && $C task ls && $C task resume two", 0, "PAUSED"},
		{"till '$C task kill -s SIGTERM two; $C task ls | grep STOPPED'", 0, "STOPPED"},
		{"$C task delete two; $C container rm two && $C container ls -q", 0, ""},
		{terminal(run + "--rm -t localhost/image:latest three sh -c 'tty; echo here'"), 0, "here"},
	})
}

func TestBuildah(t *testing.T) {
	const run = "$B run --isolation oci --runtime $RUNTIME --network none "
	session(t, []string{"buildah", "script"}, podmanConfig+`
mkdir $S/root
B="buildah --root $S/root --runroot /run/b --storage-driver vfs"
c=$($B from scratch)
$B copy -q $c $ROOTFS /
$B commit -q $c localhost/base
mkdir $S/context
printf 'FROM localhost/base\nRUN echo built >/built && cat /built\n' >$S/context/Dockerfile
`, []step{
		{run + "$c -- sh -c 'echo hello; exit 7'", 7, "hello\n"},
		{run + "$c -- nosuch", 1, "executable file not found in $PATH"},
		{terminal(run + "-t $c -- sh -c 'tty; echo here'"), 0, "here"},
		{"$B bud --isolation oci --runtime $RUNTIME --network none -t localhost/out $S/context", 0, "built\n"},
	})
}

func TestConmon(t *testing.T) {
	session(t, []string{"conmon"}, `
mkdir $S/bundle && cd $S/bundle && cp -r $ROOTFS rootfs
$RUNTIME spec
sed -i 's/"terminal": true/"terminal": false/; s/"sh"$/"sh", "-c", "echo out; echo err >\&2; exit 7"/' config.json
conmon --version
conmon -c one -u one -r $RUNTIME -b $S/bundle -p $S/pid --log-path k8s-file:$S/log --exit-dir $S --conmon-pidfile $S/conmon.pid --full-attach
till '[ -s $S/pid ]'
`, []step{
		{"$RUNTIME state one", 0, `"status": "created"`},
		{"$RUNTIME start one && till '[ -e $S/one ]' && cat $S/one", 0, "7"},
		{"cat $S/log", 0, "stdout F out\n"},
		{"cat $S/log", 0, "stderr F err\n"},
		{"$RUNTIME delete one && $RUNTIME list -q", 0, ""},
	})
}

// dockerd is Docker's daemon with $C as its client, and an image.
const dockerd = `
mkdir $S/root
dockerd --data-root $S/root --exec-root /run/e --pidfile /run/d.pid -H unix:///run/d.sock --bridge none --iptables=false --ip-forward=false --ip-masq=false \
	--storage-driver vfs --add-runtime kakuri=$RUNTIME --default-runtime kakuri --default-ulimit nofile=512:512 >$S/log 2>&1 &
C="docker -H unix:///run/d.sock"
till '[ -S /run/d.sock ] && $C version >/dev/null 2>&1'
tar -C $ROOTFS -c . | $C import - image
`

// BuildKit starts what PATH has as runc, by run, for each RUN of a Dockerfile.
func TestBuildKit(t *testing.T) {
	nstest.Root(t)
	help := exec.Command("sh", "-c", "PATH=/usr/bin:$PATH DOCKER_BUILDKIT=1 docker build --help")
	if out, _ := help.CombinedOutput(); !strings.Contains(string(out), "--secret") {
		t.Skipf("needs a docker client with BuildKit (Debian: package docker.io, from 26 on with docker-buildx): %s", out)
	}
	const build = "DOCKER_BUILDKIT=1 $C build --progress plain --network none --no-cache "
	session(t, []string{"dockerd", "docker", "containerd"}, `
cat >$S/bin/runc <<X
#!/bin/sh
echo "\$*" >>$S/calls
exec $RUNTIME "\$@"
X
chmod 755 $S/bin/runc
PATH=$S/bin:/usr/bin:$PATH
`+dockerd+`
mkdir $S/context $S/failing
cat >$S/context/Dockerfile <<'X'
FROM image
ARG A=b
RUN echo "built $A" >/built && cat /built
RUN --mount=type=tmpfs,target=/t --mount=type=bind,source=Dockerfile,target=/df touch /t/x && head -n 1 /df
RUN --mount=type=cache,target=/cache echo kept >>/cache/f && cat /cache/f
RUN --mount=type=secret,id=s cat /run/secrets/s
USER 33:44
WORKDIR /srv/web
RUN id -u && pwd
X
printf 'FROM image\nRUN exit 7\n' >$S/failing/Dockerfile
echo hush >$S/secret
`, []step{
		{build + "--secret id=s,src=$S/secret -t out $S/context >$S/built 2>&1 || cat $S/built", 0, ""},
		{"grep -E '^#[0-9]+ [0-9.]+ ' $S/built | sed 's/^#[0-9]* [0-9.]* //' | sort | tr '\\n' ,", 0, "/srv/web,33,FROM image,built b,hush,kept,"},
		{"$C run --rm --network none out cat /built", 0, "built b\n"},
		{build + "$S/failing", 1, "exit code: 7"},
		{"grep -c ' run --bundle ' $S/calls", 0, "6\n"},
	})
}

func TestDocker(t *testing.T) {
	const run = "$C run --network none "
	session(t, []string{"dockerd", "docker", "containerd", "script"}, dockerd, []step{
		{run + "--rm image sh -c 'echo hello; exit 7'", 7, "hello\n"},
		{run + "--rm image sh -c 'echo $HOME'", 0, "/root\n"},
		{run + "--rm image nosuch", 127, "executable file not found in $PATH"},
		{run + "--rm image /etc", 126, "is a directory"},
		{run + "--rm --init --read-only --tmpfs /t -u 33 --cap-drop ALL --security-opt no-new-privileges image sh -c '! touch /x 2>/dev/null && touch /t/x && id -u'", 0, "33\n"},
		{run + "-d -m 64m --name one image sh -c " + loop, 0, ""},
		{"$C exec one sh -c 'echo inside; exit 3'", 3, "inside\n"},
		{"$C exec -u 33:44 -w /srv -e A=b one sh -c 'id -u; pwd; echo $A'", 0, "33\n/srv\nb\n"},
		{terminal("$C exec -it one tty"), 0, "/dev/pts/0"},
		{"$C top one", 0, "PID"},
		{"$C stats --no-stream --format '{{.MemUsage}}' one", 0, "/ 64MiB\n"},
		{"$C update -m 32m --memory-swap 64m one && $C stats --no-stream --format '{{.MemUsage}}' one", 0, "/ 32MiB\n"},
		{"$C pause one && $C inspect -f '{{.State.Status}}' one && $C unpause one", 0, "paused\n"},
		{"till '$C logs one | grep of'", 0, "of the log\n"},
		{"$C stop -t 60 one && $C inspect -f '{{.State.Status}} {{.State.ExitCode}}' one", 0, "exited 5\n"},
		{"$C start one && till '[ $($C logs one | grep -c of) = 2 ]' && $C restart -t 60 one && $C rm -f one && $C ps -aq", 0, "one\n"},
		{terminal(run + "--rm -it image sh -c 'tty; echo here'"), 0, "here"},
		{"$C events --since 10m --until $(($(date +%s) + 1)) --filter container=one --format '{{.Status}}' | cut -d : -f 1 | grep -x -e start -e exec_die -e update -e pause -e unpause -e die -e destroy | tr '\\n' ' '", 0,
			"start exec_die exec_die exec_die update pause unpause die start die start die destroy "},
	})
}

// inspects runs a container of a root file system by kakuri's engine, and prints what is to be known of it.
func inspects(args []string) int {
	say := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	e, err := containers.Open(containers.Options{})
	if err != nil {
		return say(err)
	}
	ctx := context.Background()
	cfg := containers.Config{Network: "none",
		Name: "one", Rootfs: args[0], Command: []string{"sleep", "1000"}, Env: []string{"A=1"}, Labels: map[string]string{"a": "b"}, Resources: containers.Resources{Memory: 64 << 20},
		Health: &containers.Health{Test: []string{"CMD-SHELL", "true"}, Interval: 100 * time.Millisecond}, StopSignal: "KILL",
		Log: containers.LogConfig{Options: map[string]string{"max-size": "1m"}}, Restart: containers.Restart{Policy: "on-failure", Retries: 2},
	}
	res, err := e.Run(ctx, cfg, containers.Streams{}, containers.RunOptions{Detach: true})
	if err != nil {
		return say(err)
	}
	defer e.Remove(ctx, res.ID, containers.RemoveOptions{Force: true})
	for range 3000 {
		i, err := e.Inspect(res.ID)
		if err != nil {
			return say(err)
		}
		if i.State.Health != nil && len(i.State.Health.Log) > 0 {
			if err := json.NewEncoder(os.Stdout).Encode([]any{i}); err != nil {
				return say(err)
			}
			return 0
		}
		time.Sleep(20 * time.Millisecond)
	}
	return say(errors.New("its health is not checked"))
}

// TestInspect: what the engine tells of a container has every key that Docker has for the same one, with a value of the same kind, and for what both
// were asked for the same value.
func TestInspect(t *testing.T) {
	printed := session(t, []string{"dockerd", "docker", "containerd"}, dockerd, []step{
		{`$C run -d --network none --name one -e A=1 -l a=b -m 64m --health-cmd true --health-interval 100ms --stop-signal KILL --log-opt max-size=1m --restart on-failure:2 image sleep 1000 >/dev/null &&
			till '$C inspect -f "{{len .State.Health.Log}}" one | grep -qv "^0"' && $C inspect one; $C rm -f one >/dev/null`, 0, "HostConfig"},
		{"$S/bin/inspects $ROOTFS", 0, "HostConfig"},
	})
	var theirs, ours []map[string]any
	for i, to := range []*[]map[string]any{&theirs, &ours} {
		if err := json.Unmarshal([]byte(printed[i]), to); err != nil || len(*to) != 1 {
			t.Fatalf("%v: %s", err, printed[i])
		}
	}
	compareInspect(t, "", theirs[0], ours[0])
	if ours[0]["Plan"] == nil {
		t.Error("the plan is missing")
	}
}

// compareInspect compares what two inspects have at a path.
func compareInspect(t *testing.T, path string, theirs, ours any) {
	switch path {
	case ".HostConfig.KernelMemory", ".HostConfig.KernelMemoryTCP": // which Docker has given up
		return
	case ".GraphDriver.Data", ".HostConfig.NetworkMode", ".HostConfig.MaskedPaths", ".HostConfig.ReadonlyPaths", ".Config.Env", ".NetworkSettings.Networks.none.IPAMConfig", ".NetworkSettings.SandboxKey",
		".HostConfig.DeviceRequests", ".HostConfig.Ulimits", ".HostConfig.CgroupnsMode", ".Driver", ".GraphDriver.Name", ".HostConfig.PidsLimit":
		if theirs != nil && ours == nil && path != ".GraphDriver.Data" {
			t.Errorf("%s is missing", path)
		}
		return // which are the engine's own
	}
	a, isMap := theirs.(map[string]any)
	b, alsoMap := ours.(map[string]any)
	if isMap {
		if !alsoMap {
			t.Errorf("%s is %v, Docker's is an object", path, ours)
			return
		}
		for k, v := range a {
			other, ok := b[k]
			if !ok && path+"."+k != ".HostConfig.KernelMemory" && path+"."+k != ".HostConfig.KernelMemoryTCP" {
				t.Errorf("%s.%s is missing; Docker's is %v", path, k, v)
				continue
			}
			compareInspect(t, path+"."+k, v, other)
		}
		return
	}
	if theirs == nil || ours == nil {
		return // a list or object that is not there, or is empty
	}
	if a, b := reflect.TypeOf(theirs), reflect.TypeOf(ours); a != b {
		t.Errorf("%s is %v, a %v; Docker's is a %v", path, ours, b, a)
		return
	}
	for _, same := range []string{".Path", ".Args", ".Name", ".Platform", ".RestartCount", ".State.", ".Config.", ".HostConfig."} {
		if !strings.HasPrefix(path, same) || slices.Contains([]string{".State.Pid", ".State.StartedAt", ".State.Health.Log", ".Config.Hostname", ".Config.Image", ".HostConfig.Runtime"}, path) {
			continue
		}
		if !reflect.DeepEqual(theirs, ours) {
			t.Errorf("%s is %v, Docker's is %v", path, ours, theirs)
		}
	}
}
