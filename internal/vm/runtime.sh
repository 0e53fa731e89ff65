# The life of a container by kakuri-runtime, in a guest of any architecture: the shortest way to see that it works there at all.
set -eu
runtime="/opt/kakuri/vm/bin/kakuri-runtime --root /run/runtime-smoke"
dir=$(mktemp -d /var/tmp/runtime-XXXXXX)
cd "$dir"
mkdir -p rootfs/bin
cp /bin/busybox rootfs/bin
for p in sh sleep cat uname; do ln -s busybox rootfs/bin/$p; done
$runtime spec
jq '.process.terminal = false | .process.args = ["sh", "-c", "uname -m; exit 7"] | .linux.resources.pids.limit = 20' config.json >new && mv new config.json
code=0
out=$($runtime run one </dev/null) || code=$?
[ "$out $code" = "$(uname -m) 7" ] || { echo "run: $out, code $code"; exit 1; }
jq '.process.args = ["sleep", "1000"]' config.json >new && mv new config.json
$runtime create two </dev/null >/dev/null
[ "$($runtime state two | jq -r .status)" = created ]
$runtime start two
[ "$($runtime exec two cat /proc/1/comm)" = sleep ]
# It has the capabilities of spec, and no other.
[ "$($runtime exec two sh -c 'cat /proc/self/status' | grep -c '^CapEff:.*0000000020000420$')" = 1 ]
$runtime kill two KILL
until [ "$($runtime state two | jq -r .status)" = stopped ]; do sleep 0.1; done
$runtime delete two
$runtime state two 2>/dev/null && { echo 'it is there still'; exit 1; }
[ -z "$(ls /run/runtime-smoke)" ]
