# The two sides of a power loss, in guests (power.go): "work" uses the engine in all ways that write, and says by marks what has to be there from
# then on; "check NAME SIZE" looks for that on a
# disk as a cut left it, and goes on with it.
set -eu
export PATH=/opt/kakuri/vm/bin:$PATH
data=/var/lib/kakuri

disk() {
	for b in /sys/block/*; do
		if [ -e "$b/serial" ] && [ "$(cat "$b/serial")" = "$1" ]; then
			echo "/dev/${b##*/}"
			return
		fi
	done
	echo "no disk $1" >&2
	return 1
}

mark() { printf '%s\n' "$*" | dd of="$marks" bs=4096 conv=sync oflag=direct status=none; }

# Without auto_da_alloc, a file that is replaced and was not written down is empty afterwards, as on other file systems.
data_on() {
	mkdir -p $data /run/kakuri
	mount -t ext4 -o noauto_da_alloc,commit=1 "$(disk "$1")" $data
	mount -t tmpfs kakuri /run/kakuri
}

tree() {
	mkdir -p "$1/bin"
	cp /bin/busybox "$1/bin"
	for p in sh sleep cat sync true; do ln -s busybox "$1/bin/$p"; done
	head -c 300000 /dev/urandom >"$1/random"
}

work() {
	marks=$(disk marks)
	data_on disk
	vm-jobs registry &
	trap 'kill $!' EXIT
	registry=127.0.0.1:5000
	t=$(mktemp -d /var/tmp/power-XXXXXX)
	mark begin
	for i in 1 2 3; do
		tree "$t/$i"
		tar -c -C "$t/$i" . | kakuri import -c 'CMD ["sleep", "1000"]' - im$i >/dev/null
		mark has image im$i
		kakuri run -d --network none --restart always --name up$i im$i >/dev/null
		mark has running up$i
		kakuri run --network none --name done$i im$i sh -c "echo $i >/f; echo said $i"
		mark has container done$i
		kakuri commit done$i $registry/co$i >/dev/null
		mark has image $registry/co$i
		kakuri push -q $registry/co$i >/dev/null
		kakuri save -o "$t/saved" $registry/co$i
		mark going image $registry/co$i
		kakuri rmi $registry/co$i >/dev/null
		case $((i % 2)) in
		0) kakuri load -qi "$t/saved" >/dev/null ;;
		1) kakuri pull -q $registry/co$i >/dev/null ;;
		esac
		mark has image $registry/co$i
		kakuri volume create vo$i >/dev/null
		mark has volume vo$i
		kakuri run --network none --rm -v vo$i:/v im$i sh -c "echo $i >/v/f; sync"
		mark has content vo$i $i
		kakuri create --name cr$i -v vo$i:/v --restart unless-stopped $registry/co$i cat /v/f >/dev/null
		mark has container cr$i
		kakuri start cr$i >/dev/null
		if [ $i -gt 1 ]; then
			old=$((i - 1))
			mark going running up$old
			mark going container done$old
			mark going stopped re$old
			mark going container re$old
			kakuri rm -f up$old done$old re$old >/dev/null
			mark going image $registry/co$old
			mark going image im$old
			kakuri rmi $registry/co$old im$old >/dev/null
			mark going content vo$old $old
			mark going volume vo$old
			kakuri volume rm vo$old >/dev/null
			kakuri image prune -f >/dev/null
		fi
		mark going container cr$i
		kakuri rename cr$i re$i
		mark has container re$i
		kakuri stop -t 0 re$i >/dev/null
		mark has stopped re$i
		kakuri network create net$i >/dev/null
		mark has network net$i
	done
	mark end
	wait # for the end, which is a kill
}

check() {
	data_on "$1"
	have=$(mktemp -d /var/tmp/have-XXXXXX)
	dd if="$(disk "$1")" bs=1M skip="$2" status=none | tar -x -C "$have" # what has to be there lies behind the file system
	wrong=0
	fault() {
		echo "FAULT: $*"
		wrong=1
	}
	kakuri system check --layers --repair || fault "system check --repair: exit status $?"
	left=$(kakuri system check --layers) || fault "after --repair a check finds more: $left"
	kakuri system boot >/dev/null || fault "system boot: exit status $?"
	while read -r kind name content; do
		case "$kind" in
		'') ;;
		image) kakuri image check "$name" >/dev/null || fault "$kind $name" ;;
		container) kakuri container inspect "$name" >/dev/null || fault "$kind $name" ;;
		stopped) [ "$(kakuri container inspect --format '{{.State.Running}}' "$name")" = false ] || fault "$kind $name runs" ;;
		running) [ "$(kakuri container inspect --format '{{.State.Running}}' "$name")" = true ] || fault "$kind $name does not run" ;;
		volume) kakuri volume inspect "$name" >/dev/null || fault "$kind $name" ;;
		network) kakuri network inspect "$name" >/dev/null || fault "$kind $name" ;;
		content) [ "$(cat $data/volumes/"$name"/_data/f)" = "$content" ] || fault "$kind of $name is not $content" ;;
		*) fault "what is $kind?" ;;
		esac
	done <"$have/have"
	# What is there, acknowledged or not, is whole: each image, and each container, which starts.
	for image in $(kakuri images -q); do
		kakuri run --rm --network none "$image" true || fault "run $image: exit status $?"
	done
	kakuri ps -aq | xargs -r kakuri start >/dev/null || fault "start: exit status $?"
	# And the store is one that takes more.
	tree "$have/tree"
	tar -c -C "$have/tree" . | kakuri import - new >/dev/null || fault "import: exit status $?"
	[ "$(kakuri run --rm -v newvolume:/v new sh -c 'echo new >/v/f; cat /v/f')" = new ] || fault "run"
	kakuri ps -aq | xargs -r kakuri rm -f >/dev/null || fault "rm: exit status $?"
	kakuri system prune -af --volumes >/dev/null || fault "prune: exit status $?"
	left=$(find $data/containers $data/names $data/ids $data/layers $data/indexes $data/images/blobs -mindepth 1 ! -type d)
	[ -z "$left" ] || fault "left:" $left
	umount -l /run/kakuri $data
	exit $wrong
}

"$@"
