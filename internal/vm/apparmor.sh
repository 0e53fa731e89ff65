# A profile of AppArmor, which Debian's kernels have switched on, is what a container's processes are under: run, start and exec, from the first
# instruction of the program on. The kernel is the judge: it names the profile, and refuses what that denies.
set -eu
runtime="/opt/kakuri/vm/bin/kakuri-runtime --root /run/apparmor-smoke"
dir=$(mktemp -d /var/tmp/apparmor-XXXXXX)
cd "$dir"
[ "$(cat /sys/module/apparmor/parameters/enabled)" = Y ]
mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security
# Beside all that is allowed, each denies one thing of its own.
for n in one two; do
	echo "profile kakuri-$n flags=(attach_disconnected,mediate_deleted) { file, capability, network, mount, signal, unix, ptrace, deny /denied-$n w, }"
done >profiles
# A third one, in complain mode, only says what it would deny; the kernel makes children of it for programs that are executed.
echo 'profile kakuri-three flags=(complain,attach_disconnected,mediate_deleted) { }' >>profiles
apparmor_parser --replace --skip-cache profiles
grep -q '^kakuri-two (enforce)$' /sys/kernel/security/apparmor/profiles

mkdir -p rootfs/bin
cp /bin/busybox rootfs/bin
for p in sh sleep cat touch rm; do ln -s busybox rootfs/bin/$p; done
# config PROFILE SCRIPT
config() {
	rm -f config.json
	$runtime spec
	jq --arg profile "$1" --arg script "$2" '.process.terminal = false | .root.readonly = false | .process.apparmorProfile = $profile | .process.args = ["sh", "-c", $script]' config.json >new && mv new config.json
}
# same WHAT GOT WANT
same() { [ "$2" = "$3" ] || { echo "$1: $2, want $3"; exit 1; }; }
# What it is under, and which of the two files it cannot make.
probe='cat /proc/self/attr/current; for n in one two; do touch /denied-$n 2>/dev/null || echo no $n; rm -f /denied-$n; done'
under_one=$'kakuri-one (enforce)\nno one'
under_two=$'kakuri-two (enforce)\nno two'

config kakuri-one "$probe"
same run "$($runtime run a </dev/null)" "$under_one"
config kakuri-one 'exec sleep 1000'
$runtime create b </dev/null >/dev/null
$runtime start b
pid=$($runtime state b | jq .pid)
until [ "$(cat "/proc/$pid/comm")" = sleep ]; do sleep 0.1; done
same start "$(cat "/proc/$pid/attr/apparmor/current")" 'kakuri-one (enforce)'
same exec "$($runtime exec b sh -c "$probe")" "$under_one"
same 'exec --apparmor' "$($runtime exec --apparmor kakuri-two b sh -c "$probe")" "$under_two"
$runtime delete --force b
# A program that another user may run, and one that may gain nothing, are under it, too.
config kakuri-two 'cat /proc/self/attr/current'
jq '.process.user = {uid: 1000, gid: 1000} | .process.noNewPrivileges = true | .process.capabilities = {}' config.json >new && mv new config.json
same 'no new privileges' "$($runtime run c </dev/null)" 'kakuri-two (enforce)'
# There is no container without the profile that it is to have.
config kakuri-none 'echo it ran'
$runtime run d </dev/null >out 2>&1 && { echo 'it ran without its profile'; exit 1; }
grep -q apparmor out && grep -q kakuri-none out && ! grep -q 'it ran' out || { cat out; exit 1; }
# No profile is named: none is given.
config '' 'cat /proc/self/attr/current'
same unconfined "$($runtime run e </dev/null)" unconfined
[ -z "$(ls /run/apparmor-smoke)" ]

# The engine gives it by --security-opt, to exec as well, and tells of it; verify reads it back.
kakuri=/opt/kakuri/vm/bin/kakuri
probe='cat /proc/self/attr/current; for n in one two; do touch /denied-$n 2>/dev/null || echo no $n; done'
same 'engine run' "$($kakuri run --rm --network none --security-opt apparmor=kakuri-one host sh -c "$probe")" "$under_one"
$kakuri run -d --network none --security-opt apparmor=kakuri-one --name armour host sleep 1000 >/dev/null
same 'engine exec' "$($kakuri exec armour sh -c "$probe")" "$under_one"
same inspect "$($kakuri inspect --format '{{.AppArmorProfile}}' armour)" kakuri-one
$kakuri verify armour | grep -q kakuri-one
$kakuri stop -t 5 armour >/dev/null
$kakuri rm armour >/dev/null
$kakuri run --rm --network none --security-opt apparmor=kakuri-none host true >out 2>&1 && { echo 'the engine ran it without its profile'; exit 1; }
grep -q 'no profile of that name' out || { cat out; exit 1; }
same 'engine, unconfined' "$($kakuri run --rm --network none --security-opt apparmor=unconfined host cat /proc/self/attr/current)" unconfined
# In complain mode it is no less under the profile, also behind a second execve.
$kakuri run -d --network none --security-opt apparmor=kakuri-three --name loose host sh -c 'exec sleep 1000' >/dev/null
pid=$($kakuri inspect --format '{{.State.Pid}}' loose)
until [ "$(cat "/proc/$pid/comm")" = sleep ]; do sleep 0.1; done
case $(cat "/proc/$pid/attr/apparmor/current") in 'kakuri-three//null-'*' (complain)') ;; *) echo "complain mode: $(cat "/proc/$pid/attr/apparmor/current")"; exit 1 ;; esac
$kakuri verify loose >out 2>&1 || { cat out; exit 1; }
$kakuri rm -f loose >/dev/null
