package callers

import "testing"

// far is another machine, a cable away: it answers at port 80, and knows nothing of any engine's addresses. "ask A" is what it hears from A.
const far = `
ip netns add far
ip link add up0 type veth peer name up1 netns far
ip addr add 198.51.100.1/24 dev up0; ip link set up0 up; ip route add default via 198.51.100.2
ip -n far addr add 198.51.100.2/24 dev up1; ip -n far link set up1 up; ip -n far link set lo up
B=$ROOTFS/bin/busybox
mkdir $S/far; echo "far away" >$S/far/index.html
ip netns exec far $B httpd -p 80 -h $S/far
ask() { ip netns exec far timeout 20 $B wget -qO- http://$1/; }
serve='echo "it is $NAME" >/w/index.html; exec busybox httpd -f -p 80 -h /w'
# wget of a static busybox looks a port up, by libraries that are not there.
out='sh -c "printf \"GET / HTTP/1.0\\r\\n\\r\\n\" | busybox nc -w 10 198.51.100.2 80 | tail -n 1"'
K=$S/bin/kakuri
export KAKURI_RUNTIME=$RUNTIME
mine() { $K run -d --name $1 --network $2 -p $3:80 -e NAME=$1 --tmpfs /w --rootfs $ROOTFS sh -c "$serve"; }
`

const daemon = `dockerd --data-root $S/root --exec-root /run/e --pidfile /run/d.pid -H unix:///run/d.sock --storage-driver vfs --default-ulimit nofile=512:512 >$S/log 2>&1 &
C="docker -H unix:///run/d.sock"
`

// theirs and mine start containers that say who they are; early is kakuri's, from before the daemon.
const besideDocker = `tar -C $ROOTFS -c . | $C import - image >/dev/null
theirs() { $C run -d --name $1 -p $2:80 -e NAME=$1 --tmpfs /w image sh -c "$serve"; }
`

// TestBesideDocker: kakuri's containers and Docker's are on one machine. Each reaches the outside and is reached by its published port, whoever was first, and
// what is removed takes nothing of the other's along.
func TestBesideDocker(t *testing.T) {
	const up = "till '[ -S /run/d.sock ] && $C version >/dev/null 2>&1' || { cat $S/log; false; }\n"
	programs := []string{"dockerd", "docker", "containerd", "iptables"}
	t.Run("first", func(t *testing.T) {
		session(t, programs, far+"mkdir $S/root\n$K network create before\nmine early before 8081\n"+daemon+up+besideDocker, []step{
			{"theirs docker 8082 && $K network create after && mine late after 8083", 0, ""},
			{"till 'ask 198.51.100.1:8081'", 0, "it is early\n"},
			{"till 'ask 198.51.100.1:8082'", 0, "it is docker\n"},
			{"till 'ask 198.51.100.1:8083'", 0, "it is late\n"},
			{"eval $K exec early $out", 0, "far away\n"},
			{"eval $C exec docker $out", 0, "far away\n"},
			{"eval $K exec late $out", 0, "far away\n"},
			{"$K rm -f late && $K network rm after", 0, ""},
			{"ask 198.51.100.1:8082 && eval $C exec docker $out", 0, "it is docker\nfar away\n"},
			{"$C rm -f docker && theirs again 8084 && till 'ask 198.51.100.1:8084'", 0, "it is again\n"},
			{"ask 198.51.100.1:8081 && eval $K exec early $out", 0, "it is early\nfar away\n"},
			{"$K system check", 0, ""},
			{"$K rm -f early && $K network rm before && ask 198.51.100.1:8084 && $C rm -f again", 0, "it is again\n"},
			{"! nft list tables | grep kakuri && ! iptables -S | grep -i kakuri", 0, ""},
		})
	})
	// A daemon that has the kernel forward has it drop, too, what no rule of Docker's accepts.
	t.Run("second", func(t *testing.T) {
		session(t, programs, far+"mkdir $S/root\necho 0 >/proc/sys/net/ipv4/ip_forward\n"+daemon+up+besideDocker, []step{
			{"iptables -S FORWARD", 0, "-P FORWARD DROP\n"},
			{"$K network create after && mine late after 8083 && theirs docker 8082", 0, ""},
			{"till 'ask 198.51.100.1:8083'", 0, "it is late\n"},
			{"till 'ask 198.51.100.1:8082'", 0, "it is docker\n"},
			{"eval $K exec late $out", 0, "far away\n"},
			{"eval $C exec docker $out", 0, "far away\n"},
			{"$C rm -f docker && ask 198.51.100.1:8083 && eval $K exec late $out", 0, "it is late\nfar away\n"},
			{"$K rm -f late && $K network rm after", 0, ""},
			{"! nft list tables | grep kakuri && ! iptables -S | grep -i kakuri", 0, ""},
		})
	})
}

// TestBesidePodman likewise.
func TestBesidePodman(t *testing.T) {
	session(t, []string{"podman", "conmon", "iptables"}, far+podmanConfig+`
P="podman --runtime kakuri-runtime --root $S/podman --runroot /run/podman --storage-driver vfs --cgroup-manager cgroupfs --events-backend file"
theirs() { $P run -d --cgroups=disabled --name $1 -p $2:80 -e NAME=$1 --tmpfs /w --rootfs $ROOTFS sh -c "$serve"; }
$K network create web
`, []step{
		{"mine early web 8081 && theirs podman 8082 && mine late web 8083", 0, ""},
		{"till 'ask 198.51.100.1:8081'", 0, "it is early\n"},
		{"till 'ask 198.51.100.1:8082'", 0, "it is podman\n"},
		{"till 'ask 198.51.100.1:8083'", 0, "it is late\n"},
		{"eval $K exec early $out", 0, "far away\n"},
		{"eval $P exec podman $out", 0, "far away\n"},
		{"eval $K exec late $out", 0, "far away\n"},
		{"$K rm -f late && ask 198.51.100.1:8082 && eval $P exec podman $out", 0, "it is podman\nfar away\n"},
		{"$P rm -f -t 0 podman && ask 198.51.100.1:8081 && eval $K exec early $out", 0, "it is early\nfar away\n"},
		{"$K system check && $K rm -f early && $K network rm web && ! nft list tables | grep kakuri", 0, ""},
	})
}
