# A label of SELinux is what a container's processes have, from the first instruction of the program on: run, start and exec; and its files, its keys and what
# it waits with are of labels that it may touch. The kernel is the judge, by a policy (selinux.cil) that allows a container what is its own, and no more.
set -eu
runtime="/opt/kakuri/vm/bin/kakuri-runtime --root /run/selinux-smoke"
dir=$(mktemp -d /var/tmp/selinux-XXXXXX)
cd "$dir"
trap 'c=$?; [ $c = 0 ] || dmesg | grep -a avc | tail -40; exit $c' EXIT
mount -t selinuxfs selinuxfs /sys/fs/selinux
seq -f '(category c%.0f)' 0 1023 >categories.cil
echo "(categoryorder ($(seq -f c%.0f -s ' ' 0 1023)))" >>categories.cil
secilc --output=policy --filecontext=contexts /opt/kakuri/internal/vm/selinux.cil categories.cil
cat policy >/sys/fs/selinux/load
echo 1 >/sys/fs/selinux/enforce

process=system_u:system_r:container_t:s0:c1
other=system_u:system_r:container_t:s0:c2
file=system_u:object_r:container_file_t:s0
mkdir -p rootfs/bin
echo mine >rootfs/secret
cp /bin/busybox rootfs/bin
for p in sh sleep cat grep tr readlink; do ln -s busybox rootfs/bin/$p; done
chcon -R $file rootfs
echo secret >secret
# config LABEL SCRIPT
config() {
	rm -f config.json
	$runtime spec
	jq --arg process "$1" --arg file $file --arg script "$2" --arg secret "$dir/secret" '.process.terminal = false | .process.selinuxLabel = $process | .linux.mountLabel = $file | .linux.maskedPaths -= ["/proc/keys"]
		| .mounts += [{destination: "/secret", type: "bind", source: $secret, options: ["bind"]}] | .process.args = ["sh", "-c", $script]' config.json >new && mv new config.json
}
# same WHAT GOT WANT
same() { [ "$2" = "$3" ] || { echo "$1: $2, want $3"; exit 1; }; }
# label OF
label() { tr -d '\0' </proc/"$1"/attr/current; }
# What it is under, that it writes to its file systems and devices, that its input is what it was given and not what SELinux puts in its place, that it sees its session keyring, and that it cannot read a file of the host.
probe='tr -d "\\0" </proc/self/attr/current; echo; echo x >/dev/null && echo x >/dev/shm/x && echo wrote; readlink /proc/self/fd/0; grep -q "keyring *_ses" /proc/keys && echo key; cat /secret 2>/dev/null || echo no secret'
under() { printf '%s\nwrote\n/dev/null\nkey\nno secret' "$1"; }

config $process "$probe"
same run "$($runtime run a </dev/null)" "$(under $process)"
config $process 'exec sleep 1000'
$runtime create b </dev/null >/dev/null 2>&1
pid=$($runtime state b | jq .pid)
$runtime start b
until [ "$(cat "/proc/$pid/comm")" = sleep ]; do sleep 0.1; done
same start "$(label "$pid")" $process
same exec "$($runtime exec b sh -c "$probe")" "$(under $process)"
same 'exec --process-label' "$($runtime exec --process-label $other b sh -c "$probe")" "$(under $other)"
$runtime delete --force b
# A program that another user may run, and one that may gain nothing, are under it, too.
config $process 'tr -d "\\0" </proc/self/attr/current'
jq '.process.user = {uid: 1000, gid: 1000} | .process.noNewPrivileges = true | .process.capabilities = {}' config.json >new && mv new config.json
same 'no new privileges' "$($runtime run c </dev/null)" $process
# There is no container without the label that it is to have.
config system_u:system_r:nobody_t:s0 'echo it ran'
$runtime run d </dev/null >out 2>&1 && { echo 'it ran without its label'; exit 1; }
grep -q selinuxLabel out && ! grep -q 'it ran' out || { cat out; exit 1; }
# No label is named: none is given.
config '' 'tr -d "\\0" </proc/self/attr/current; cat /secret'
same unlabelled "$($runtime run e </dev/null)" "$(label self)secret"
[ -z "$(ls /run/selinux-smoke)" ]

# The engine: nothing is labelled unless it is asked for; what the policy says of containers is where distributions have it.
kakuri=/opt/kakuri/vm/bin/kakuri
mkdir -p /etc/selinux/targeted/contexts
echo SELINUXTYPE=targeted >/etc/selinux/config
printf 'process = "system_u:system_r:container_t:s0"\nfile = "system_u:object_r:container_file_t:s0"\nro_file = "system_u:object_r:container_ro_file_t:s0"\n' >/etc/selinux/targeted/contexts/lxc_contexts
tar -C rootfs -c . | $kakuri image import - labelled >/dev/null
own='tr -d "\0" </proc/self/attr/current'
same 'engine, unlabelled' "$($kakuri run --rm --network none labelled sh -c "$own; cat /etc/hosts >/dev/null")" "$(label self)"
got=$($kakuri run --rm --network none --security-opt label=type:container_t labelled sh -c "$own")
echo "$got" | grep -Eq '^system_u:system_r:container_t:s0:c[0-9]+,c[0-9]+$' || { echo "engine, two categories: $got"; exit 1; }
# What the container has of its own, what was given to it, and what was not.
mkdir mine shared foreign
for d in mine shared foreign; do echo $d >$d/file; done
$kakuri run -d --network none --name labelled --security-opt label=level:s0:c1,c2 -v "$PWD/mine:/mine:Z" -v "$PWD/shared:/shared:z" -v "$PWD/foreign:/foreign" -v kept:/kept labelled sh -c 'echo x >/kept/file && exec sleep 1000' >/dev/null
process=system_u:system_r:container_t:s0:c1,c2
probe="$own; "'echo; echo x >/dev/null && echo x >/dev/shm/x && echo x >/written && echo wrote; cat /secret /etc/hostname >/dev/null && echo read; cat /mine/file /shared/file /kept/file; cat /foreign/file 2>/dev/null || echo not foreign'
want=$(printf '%s\nwrote\nread\nmine\nshared\nx\nnot foreign' $process)
same 'engine exec' "$($kakuri exec labelled sh -c "$probe" </dev/null)" "$want"
same inspect "$($kakuri inspect --format '{{.ProcessLabel}} {{.MountLabel}}' labelled)" "$process system_u:object_r:container_file_t:s0:c1,c2"
$kakuri verify labelled | grep -q "$process"
same 'own label' "$(stat -c %C mine/file)" system_u:object_r:container_file_t:s0:c1,c2
same 'shared label' "$(stat -c %C shared/file)" system_u:object_r:container_file_t:s0
# Who shares its processes has its label.
same 'shared processes' "$($kakuri run --rm --network none --pid container:labelled labelled sh -c "$own")" $process
$kakuri run --rm --network none --security-opt label=type:nobody_t labelled true >out 2>&1 && { echo 'the engine ran it without its label'; exit 1; }
$kakuri run --rm -v /etc:/x:Z --network none --security-opt label=type:container_t labelled true >out 2>&1 && { echo "the machine's files were labelled"; exit 1; }
grep -q "the machine's own" out || { cat out; exit 1; }
$kakuri rm -f labelled >/dev/null
$kakuri volume rm kept >/dev/null
$kakuri rmi labelled >/dev/null
