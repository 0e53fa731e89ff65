package callers

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"testing"
)

// A message is one of Protocol Buffers, by field number: a string, an int, a message, or a list of these.
type message map[int]any

func (m message) encode() (b []byte) {
	for n, v := range m {
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, v := range list {
			switch v := v.(type) {
			case int:
				b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(n)<<3), uint64(v))
			case string:
				b = append(binary.AppendUvarint(binary.AppendUvarint(b, uint64(n)<<3|2), uint64(len(v))), v...)
			case message:
				b = message{n: string(v.encode())}.appendTo(b)
			}
		}
	}
	return b
}

func (m message) appendTo(b []byte) []byte { return append(b, m.encode()...) }

// field gives a field below those of path, each by its number: its bytes, or its number. The first of several counts, and none is zero.
func field(b []byte, path ...int) (text []byte, number uint64) {
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, 0
		}
		value, n2 := binary.Uvarint(b[n:])
		if n2 <= 0 {
			return nil, 0
		}
		b = b[n+n2:]
		var inner []byte
		switch key & 7 {
		case 0:
		case 2:
			if value > uint64(len(b)) {
				return nil, 0
			}
			inner, b = b[:value], b[value:]
		default:
			return nil, 0
		}
		switch {
		case key>>3 != uint64(path[0]):
		case len(path) > 1:
			return field(inner, path[1:]...)
		default:
			return inner, value
		}
	}
	return nil, 0
}

// call asks the Container Runtime Interface at a socket, by gRPC: a POST of HTTP/2 with one message, after five bytes that tell its length.
func call(socket, method string, request message) ([]byte, error) {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	c := http.Client{Transport: &http.Transport{Protocols: &p, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	body := request.encode()
	r, err := http.NewRequest("POST", "http://cri/runtime.v1.RuntimeService/"+method, bytes.NewReader(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)))
	if err != nil {
		return nil, err
	}
	r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	answer, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	status := answer.Trailer
	if status.Get("Grpc-Status") == "" {
		status = answer.Header
	}
	if status.Get("Grpc-Status") != "0" {
		text, _ := url.PathUnescape(status.Get("Grpc-Message"))
		return nil, fmt.Errorf("%s: status %q: %s", method, status.Get("Grpc-Status"), text)
	}
	if len(data) < 5 {
		return nil, errors.New(method + ": no message")
	}
	return data[5:], nil
}

// criPod is the PodSandboxConfig of a pod with a host name and a parent of its control groups.
func criPod(logs string) message {
	return message{1: message{1: "pod", 2: "uid", 3: "default", 4: 1}, 2: "host-of-pod", 3: logs, 8: message{1: "/kubepods", 2: message{1: message{2: 1}}}}
}

// cri plays a kubelet: it does one verb of the Container Runtime Interface, and returns the exit code. Field numbers are those of its
// api.proto, version v1.
func cri(args []string) int {
	socket, verb, args := args[0], args[1], args[2:]
	logs := os.Getenv("S") + "/logs"
	words := func(list []string) (all []any) {
		for _, w := range list {
			all = append(all, w)
		}
		return all
	}
	id := func() message { return message{1: args[0]} }
	number := func(s string) int {
		n, _ := strconv.Atoi(s)
		return n
	}
	var method string
	var request message
	show := func(answer []byte) int { return 0 }
	first := func(answer []byte) int {
		id, _ := field(answer, 1)
		fmt.Println(string(id))
		return 0
	}
	switch verb {
	case "version":
		method, request, show = "Version", message{}, first
	case "runp":
		method, request, show = "RunPodSandbox", message{1: criPod(logs), 2: "kakuri"}, first
	case "podip":
		method, request = "PodSandboxStatus", id()
		show = func(answer []byte) int {
			ip, _ := field(answer, 1, 5, 1)
			fmt.Println(string(ip))
			return 0
		}
	case "create": // POD NAME COMMAND: no capabilities, a read-only root, 64 MiB
		method, show = "CreateContainer", first
		request = message{1: args[0], 3: criPod(logs), 2: message{1: message{1: args[1]}, 2: message{1: "localhost/image:latest"}, 3: words(args[2:]), 11: args[1] + ".log",
			15: message{1: message{3: 512, 4: 64 << 20}, 2: message{1: message{2: "ALL"}, 3: message{2: 1}, 7: 1, 11: 1}}}}
	case "exec":
		method, request = "ExecSync", message{1: args[0], 2: words(args[1:]), 3: 60}
		show = func(answer []byte) int {
			out, _ := field(answer, 1)
			os.Stdout.Write(out)
			_, code := field(answer, 3)
			return int(code)
		}
	case "status":
		method, request = "ContainerStatus", id()
		show = func(answer []byte) int {
			_, state := field(answer, 1, 3)
			_, code := field(answer, 1, 7)
			fmt.Println([]string{"created", "running", "exited", "unknown"}[state], code)
			return 0
		}
	case "stats":
		method, request = "ContainerStats", id()
		show = func(answer []byte) int {
			_, memory := field(answer, 1, 3, 2, 1)
			_, cpu := field(answer, 1, 2, 2, 1)
			fmt.Println("memory", memory > 0, "cpu", cpu > 0)
			return 0
		}
	case "update":
		method, request = "UpdateContainerResources", message{1: args[0], 2: message{3: 256, 4: number(args[1])}}
	case "list":
		method, request, show = "ListContainers", message{}, func(answer []byte) int {
			one, _ := field(answer, 1, 1)
			fmt.Printf("first %q\n", one)
			return 0
		}
	case "stop":
		method, request = "StopContainer", message{1: args[0], 2: 60}
	case "start", "rm", "stopp", "rmp":
		method, request = map[string]string{"start": "StartContainer", "rm": "RemoveContainer", "stopp": "StopPodSandbox", "rmp": "RemovePodSandbox"}[verb], id()
	}
	answer, err := call(socket, method, request)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return show(answer)
}

// TestMessages: what is encoded can be read.
func TestMessages(t *testing.T) {
	b := message{3: message{1: "x", 2: []any{"a", "b"}, 4: 300}}.encode()
	if text, _ := field(b, 3, 2); string(text) != "a" {
		t.Errorf("%q", text)
	}
	if _, n := field(b, 3, 4); n != 300 {
		t.Errorf("%d", n)
	}
	if text, n := field(b, 3, 9); text != nil || n != 0 {
		t.Errorf("%q %d", text, n)
	}
	if !slices.Equal(message{1: "é"}.encode(), []byte{0x0a, 2, 0xc3, 0xa9}) {
		t.Error("a string is not its bytes")
	}
}

// A kubelet's calls to containerd: a pod with a network of a plugin's, and a container in it.
func TestCRI(t *testing.T) {
	session(t, []string{"containerd", "ctr", "sha256sum", "/usr/lib/cni/bridge"}, `
mkdir $S/cni
cat >$S/cni/10.conf <<X
{"cniVersion":"0.3.1","name":"pods","type":"bridge","bridge":"k0","isGateway":true,"ipam":{"type":"host-local","subnet":"10.88.0.0/24","dataDir":"$S/ipam"}}
X
cat >$S/config.toml <<X
version = 2
root = "$S/root"
state = "/run/c"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "/run/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/image:latest"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$S/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "kakuri"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kakuri]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kakuri.options]
      BinaryName = "$RUNTIME"
X
containerd -c $S/config.toml >$S/log 2>&1 &
C="ctr -a /run/c.sock -n k8s.io"
K="$S/bin/cri /run/c.sock"
till '[ -S /run/c.sock ] && $C version >/dev/null 2>&1 && $K version >/dev/null' || { cat $S/log; exit 1; }
mkdir $S/i && cd $S/i && tar -C $ROOTFS -cf l.tar . && sum=$(sha256sum <l.tar) && sum=${sum%% *}
echo '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin:/usr/bin"],"Cmd":["sh","-c","trap \"exit 0\" TERM; while :; do sleep 0.1; done"]},"rootfs":{"type":"layers","diff_ids":["sha256:'$sum'"]}}' >c.json
echo '[{"Config":"c.json","RepoTags":["localhost/image:latest"],"Layers":["l.tar"]}]' >manifest.json
tar -cf ../i.tar manifest.json c.json l.tar && $C image import --snapshotter native ../i.tar
`, []step{
		{"till '$K runp >$S/pod'; cat $S/pod", 0, "\n"},
		{"P=$(cat $S/pod); $K podip $P", 0, "10.88.0."},
		{"P=$(cat $S/pod); $K create $P one sh -c " + loop + " >$S/one && $K status $(cat $S/one)", 0, "created 0\n"},
		{"O=$(cat $S/one); $K start $O && $K status $O", 0, "running 0\n"},
		{"O=$(cat $S/one); $K exec $O sh -c 'hostname; echo inside; exit 3'", 3, "host-of-pod\ninside\n"},
		{"O=$(cat $S/one); $K exec $O sh -c 'touch /x; grep CapEff /proc/self/status'", 0, "CapEff:\t0000000000000000\n"},
		{"O=$(cat $S/one); $K exec $O ls /sys/class/net", 0, "eth0\nlo\n"},
		{"O=$(cat $S/one); $K exec $O nosuch", 1, "executable file not found in $PATH"},
		{"O=$(cat $S/one); $K stats $O", 0, "memory true cpu true\n"},
		{"O=$(cat $S/one); $K update $O 33554432 && $K exec $O sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max'", 0, "33554432\n"},
		{"till 'grep of.the.log $S/logs/one.log'", 0, "stdout F of the log\n"},
		{"O=$(cat $S/one); $K stop $O && $K status $O", 0, "exited 5\n"},
		{"P=$(cat $S/pod); O=$(cat $S/one); $K rm $O && $K list && $K stopp $P && $K rmp $P && $K podip $P", 1, "first \"\"\nPodSandboxStatus: status \"5\""},
		{"$C container ls -q | wc -l; ls $(dirname /run/containerd/runc/k8s.io/x) | wc -l", 0, "0\n0\n"},
	})
}
