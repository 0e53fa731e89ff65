# What kakuri-runtime --systemd-cgroup has of the system's manager, in a guest whose first process that is. systemctl is the
# judge. Prints a line a case, as go test does.
set -u
runtime=/opt/kakuri/vm/bin/kakuri-runtime
dir=$(mktemp -d /var/tmp/systemd-XXXXXX)
cd "$dir"
mkdir -p rootfs/bin rootfs/proc
cp /bin/busybox rootfs/bin
for p in sh sleep cat head tail; do ln -s busybox rootfs/bin/$p; done
id=one unit=kakuri-test-one.scope

kakuri() { "$runtime" --systemd-cgroup --root "$dir/state" "$@"; }

# config FILTER writes config.json.
config() {
	rm -f config.json
	"$runtime" spec && jq '.process.terminal = false | .root.readonly = false | .linux.cgroupsPath = "system.slice:kakuri-test:one" | .process.args = ["sh", "-c", "sleep 1000 & wait"]
		| '"${1:-.}" config.json >config.new && mv config.new config.json
}
begin() { config "$1" && kakuri run -d "$id" <>/dev/null >out 2>&1; }
end() { kakuri delete --force "$id" && gone; }
# Within the time that systemd takes to forget it.
gone() {
	for i in $(seq 100); do
		[ "$(systemctl show -P LoadState "$unit")" != not-found ] || { [ ! -e "/sys/fs/cgroup/system.slice/$unit" ]; return; }
		sleep 0.1
	done
	echo "systemd remembers $unit"
	return 1
}
# property NAME WANT
property() {
	got=$(systemctl show -P "$1" "$unit")
	[ "$got" = "$2" ] || { echo "$1 is $got, want $2"; return 1; }
}
# file NAME WANT
file() {
	got=$(cat "/sys/fs/cgroup/system.slice/$unit/$1")
	[ "$got" = "$2" ] || { echo "$1 is $got, want $2"; return 1; }
}

scope() {
	begin . || return
	property ActiveState active && property Slice system.slice && property Delegate yes && property Description "container one" &&
		[ "$(wc -l <"/sys/fs/cgroup/system.slice/$unit/cgroup.procs")" = 2 ] && [ "$(kakuri state one | jq -r .status)" = running ]
}
limits() {
	begin '.linux.resources += {memory: {limit: 67108864, reservation: 33554432}, pids: {limit: 20}, cpu: {shares: 2048, quota: 50000, period: 100000, cpus: "0"}}' || return
	property MemoryMax 67108864 && file memory.max 67108864 && property MemoryLow 33554432 && property TasksMax 20 && file pids.max 20 &&
		property CPUWeight 174 && file cpu.weight 174 && property CPUQuotaPerSecUSec 500ms && file cpu.max "50000 100000" && property AllowedCPUs 0
}
updates() {
	begin . || return
	kakuri update --memory 100M --pids-limit 33 --cpu-quota 20000 --cpu-period 100000 --cpu-share 512 one || return
	property MemoryMax 104857600 && file memory.max 104857600 && property TasksMax 33 && property CPUQuotaPerSecUSec 200ms && property CPUWeight 59 || return
	# What was set is not lost when systemd reads its units anew.
	systemctl daemon-reload && file memory.max 104857600 && file pids.max 33
}
devices() {
	begin '.linux.resources.devices = [{allow: false, access: "rwm"}] | .linux.devices = [{path: "/dev/kmsg", type: "c", major: 1, minor: 11, fileMode: 438}]' || return
	! kakuri exec one sh -c ': >/dev/kmsg' 2>/dev/null && kakuri exec one sh -c ': >/dev/null' || return
	systemctl daemon-reload || return
	! kakuri exec one sh -c ': >/dev/kmsg' 2>/dev/null && kakuri exec one sh -c ': >/dev/null'
}
annotations() {
	begin '.annotations += {"org.systemd.property.TimeoutStopUSec": "uint64 7000000", "org.systemd.property.CollectMode": "\u0027inactive-or-failed\u0027", "org.systemd.property.Description": "\u0027a test\u0027"}' || return
	property TimeoutStopUSec 7s && property CollectMode inactive-or-failed && property Description "a test"
}
wrong_annotation() {
	config '.annotations += {"org.systemd.property.NoSuchThing": "true"}'
	! kakuri run -d "$id" >out 2>&1 <>/dev/null && grep -q NoSuchThing out && gone
}
execs() {
	begin . || return
	[ "$(kakuri exec one cat /proc/self/cgroup)" = "0::/" ] || return
	kakuri exec -d one sleep 1000 <>/dev/null >/dev/null 2>&1 && [ "$(wc -l <"/sys/fs/cgroup/system.slice/$unit/cgroup.procs")" = 3 ]
}
pauses() {
	begin . || return
	kakuri pause one && [ "$(kakuri state one | jq -r .status)" = paused ] && file cgroup.freeze 1 && kakuri resume one && [ "$(kakuri state one | jq -r .status)" = running ]
}
twice() {
	begin . || return
	! kakuri run -d two >out 2>&1 <>/dev/null && grep -q "cgroup is not empty" out && property ActiveState active && [ "$(kakuri state one | jq -r .status)" = running ]
}
# The kernel ends what takes too much; the unit and its record go all the same.
memory_ends() {
	config '.linux.resources.memory = {limit: 33554432, swap: 33554432} | .process.args = ["sh", "-c", "head -c 100m /dev/zero | tail -n 1 >/dev/null; exit $?"]'
	kakuri run "$id" >out 2>&1 <>/dev/null
	[ $? = 137 ] && gone
}
stop_unit() {
	begin . || return
	systemctl stop "$unit" || return
	for i in $(seq 100); do
		[ "$(kakuri state one | jq -r .status)" != stopped ] || return 0
		sleep 0.1
	done
	return 1
}
slice() {
	unit=kakuri-test-one.scope
	config '.linux.cgroupsPath = "kakuri-deep-down.slice:kakuri-test:one"' && kakuri run -d "$id" <>/dev/null >out 2>&1 || return
	property Slice kakuri-deep-down.slice && [ -d "/sys/fs/cgroup/kakuri.slice/kakuri-deep.slice/kakuri-deep-down.slice/$unit" ]
}

status=0
for case in scope limits updates devices annotations wrong_annotation execs pauses twice memory_ends stop_unit slice; do
	: >out
	if why=$($case 2>&1) && why=$(end 2>&1); then
		echo "--- PASS: systemd/$case (0.00s)"
	else
		echo "    $case: $why $(cat out)"
		echo "--- FAIL: systemd/$case (0.00s)"
		status=1
		end >/dev/null 2>&1
	fi
done
exit $status
