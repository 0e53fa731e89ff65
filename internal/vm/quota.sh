# What a container may write, on an ext4 with project quotas, on the guest's spare disk: run in a mount namespace of its own.
set -eu
export PATH=/opt/kakuri/vm/bin:$PATH
data=/var/lib/kakuri
mkfs.ext4 -q -F -O quota,project -E quotatype=prjquota /dev/vdc
mkdir -p $data /run/kakuri
mount -o prjquota /dev/vdc $data
mount -t tmpfs kakuri /run/kakuri
end() {
	ids=$(kakuri ps -aq)
	[ -z "$ids" ] || kakuri rm -f $ids >/dev/null
	umount -l /run/kakuri $data
}
trap end EXIT
fault() {
	echo "FAULT: $*"
	exit 1
}

t=$(mktemp -d /var/tmp/quota-XXXXXX)
mkdir "$t/bin"
cp /bin/busybox "$t/bin"
for p in sh sleep dd wc rm; do ln -s busybox "$t/bin/$p"; done
tar -c -C "$t" . | kakuri import - small >/dev/null
# Root of the machine inside is bounded, too.
for userns in private host; do
	kakuri run -d --userns $userns --network none --name bounded --storage-opt size=4m small sleep 1000 >/dev/null
	kakuri run -d --network none --name roomy --storage-opt size=16m small sleep 1000 >/dev/null
	kakuri run -d --network none --name free small sleep 1000 >/dev/null
	said=$(kakuri exec bounded dd if=/dev/zero of=/big bs=64k count=128 2>&1) && fault "$userns: 8 MB were written where 4 are the limit"
	case "$said" in
	*'No space left on device'* | *'Disk quota exceeded'*) ;;
	*) fault "$userns: the write beyond the limit says $said" ;;
	esac
	size=$(kakuri exec bounded wc -c /big)
	[ "${size% *}" -gt 2000000 ] && [ "${size% *}" -le 4194304 ] || fault "$userns: $size"
	# Others have their own limits, or none.
	for other in roomy free; do
		kakuri exec $other dd if=/dev/zero of=/big bs=64k count=128 2>/dev/null || fault "$userns: $other cannot write beside it"
	done
	# What was removed is free again.
	kakuri exec bounded sh -c 'rm /big; dd if=/dev/zero of=/again bs=64k count=32' 2>/dev/null || fault "$userns: nothing is free after a rm"
	# It is so after a restart.
	kakuri restart -t 0 bounded >/dev/null
	kakuri exec bounded dd if=/dev/zero of=/big bs=64k count=128 2>/dev/null && fault "$userns: no limit after a restart"
	kakuri rm -f bounded roomy free >/dev/null
done
kakuri run --rm --network none --storage-opt size=4m small dd if=/dev/zero of=/big bs=64k count=128 2>/dev/null && fault "no limit with --rm"
exit 0
