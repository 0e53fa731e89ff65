# Limits of an ordinary user's containers, asked for in a control group that is root's, as a login by ssh, su or cron is in: the user's systemd
# makes one. What is in force is read from outside.
set -eu
name=kakuri-test
as() { setpriv --reuid "$name" --regid "$name" --clear-groups env -i PATH="$PATH" HOME=/var/tmp/userlimits "$@"; }
kakuri() { as XDG_RUNTIME_DIR=/run/user/999 /opt/kakuri/vm/bin/kakuri "$@"; }
# same WHAT GOT WANT
same() { [ "$2" = "$3" ] || { echo "$1: $2, want $3"; exit 1; }; }
group() { echo "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$(kakuri inspect -f '{{.State.Pid}}' "$1")/cgroup")"; }
install -d -o "$name" -g "$name" /var/tmp/userlimits
as sh -c 'mkdir "/sys/fs/cgroup$(dirname "$(sed -n s/^0:://p /proc/self/cgroup)")/mine"' 2>/dev/null && { echo 'the user may divide this control group'; exit 1; }

# Its monitor is in the user's network world, where the user is root.
chmod 666 /dev/net/tun
kakuri run -d --init --name one --memory 64m --cpus 0.5 --pids-limit 50 host sleep 1000
dir=$(group one)
case $dir in */user@999.service/*/kakuri-*.scope) ;; *) echo "it is in $dir"; exit 1 ;; esac
as XDG_RUNTIME_DIR=/run/user/999 systemctl --user daemon-reload
same memory "$(cat "$dir/memory.max")" 67108864
same 'processor time' "$(cat "$dir/cpu.max")" '50000 100000'
same processes "$(cat "$dir/pids.max")" 50
kakuri exec -d one sleep 1000
same 'an exec, and the init' "$(wc -l <"$dir/cgroup.procs")" 3
kakuri pause one
grep -q '^frozen 1$' "$dir/cgroup.events"
kakuri unpause one
kakuri update --memory 32m --memory-swap -1 one
same 'an update' "$(cat "$dir/memory.max")" 33554432
case $(kakuri stats --no-stream --format '{{.MemUsage}}' one) in *' / 32MiB') ;; *) kakuri stats --no-stream one; exit 1 ;; esac
kakuri verify one
kakuri restart -t 0 one
same 'a restart' "$(cat "$(group one)/memory.max")" 33554432

# Without what a login sets, as by cron, and on a network.
same cron "$(as /opt/kakuri/vm/bin/kakuri run --rm --memory 64m host cat /sys/fs/cgroup/memory.max)" 67108864
code=0
kakuri run --name two --network none --memory 32m --memory-swap 32m host tail /dev/zero || code=$?
same 'out of memory' "$code $(kakuri inspect -f '{{.State.OOMKilled}}' two)" '137 true'

# The end of the user's systemd, as by the last log-out, ends what it has made. Without it there are no limits, and after it what is left can be removed.
pid=$(kakuri inspect -f '{{.State.Pid}}' one)
systemctl stop user@999.service
[ ! -e "/proc/$pid" ]
timeout 60 sh -c 'while [ -e /run/user/999 ]; do sleep 0.1; done'
as /opt/kakuri/vm/bin/kakuri run --rm --network none --device-cgroup-rule 'c 1:5 rwm' host true
said=$(as /opt/kakuri/vm/bin/kakuri run --rm --network none --memory 64m host true 2>&1) && exit 1
case $said in *'no systemd of the user answers'*) ;; *) echo "$said"; exit 1 ;; esac
systemctl start user@999.service
same 'after it' "$(kakuri ps -a --filter status=exited -q | wc -l)" 2
kakuri rm one two
kakuri system check
[ -z "$(find /sys/fs/cgroup -name 'kakuri-*.scope')" ]
rm -rf --one-file-system /var/tmp/userlimits
