#!/usr/bin/env bash
# Installs what the tests need (as root; else it names what is missing), then
# runs them all: format, vet, static analysis, builds for both architectures, the
# purity of the pure rooms, the race detector, every test, and most of those that meet the kernel
# once more on Debian's kernel 6.1, in qemu. Skips are listed with
# their reasons; one that testdata/skips.txt does not allow fails the run.
set -euo pipefail
cd "$(dirname "$0")"

# What tests print may hold any byte.
grep() { command grep -a "$@"; }
step() { printf '\n== %s\n' "$*"; }

export CGO_ENABLED=0
export PATH="$PATH:/usr/local/go/bin:/usr/sbin:/sbin"
command -v go >/dev/null || { echo "test.sh: go is not installed: Go 1.26.3 or newer is needed"; exit 1; }

# The tests compare with these programs, run them in containers, or build with them.
packages=(busybox-static bzip2 dbus-daemon gcc libc6-dev libseccomp-dev procps psmisc systemd uidmap util-linux)
# These start kakuri-runtime as their runtime, in namespaces of their own.
packages+=(buildah conmon containerd containernetworking-plugins docker.io iproute2 podman)
# They read the rules of networks, make some of others, and try what comes through.
packages+=(iptables iputils-ping nftables)
# It carries what a user's containers send, when it is asked for.
packages+=(passt)
# It lays directories over each other where the kernel does not for an ordinary user.
packages+=(fuse-overlayfs)
# Images for the tests are made with the first, and kept in a cache; the others serve and read them.
packages+=(debootstrap docker-registry skopeo umoci)
# A virtual machine with another kernel, and all controllers of version 2 of cgroups.
packages+=(e2fsprogs xz-utils)
case "$(dpkg --print-architecture)" in
arm64) packages+=(qemu-system-arm) ;;
*) packages+=(qemu-system-x86) ;;
esac
missing=()
for p in "${packages[@]}"; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
	if [ "$(id -u)" != 0 ]; then
		echo "test.sh: install these first: apt-get install ${missing[*]}"
		exit 1
	fi
	step "install ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	# Daemons among them are not started, unless the machine has its own rule for that.
	policy=/usr/sbin/policy-rc.d
	if [ -e "$policy" ]; then
		policy=
	else
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
		trap 'rm -f "$policy"' EXIT
	fi
	# A mirror may be away for a moment.
	for wait in 5 30 0; do
		if apt-get update -qq -o Acquire::Retries=3 &&
			apt-get install -y -qq --no-install-recommends -o Acquire::Retries=3 "${missing[@]}" >/dev/null; then
			missing=()
			break
		fi
		sleep "$wait"
	done
	if [ ${#missing[@]} -gt 0 ]; then
		echo "test.sh: these packages cannot be had, and the tests are not run without them: ${missing[*]}"
		exit 1
	fi
	trap - EXIT
	[ -z "$policy" ] || rm -f "$policy"
fi

# An ordinary user, with a range of ids, for what runs without root.
if [ "$(id -u)" = 0 ]; then
	id kakuri-test >/dev/null 2>&1 || useradd --system --create-home --home-dir /var/lib/kakuri-test --shell /bin/sh kakuri-test
	for f in /etc/subuid /etc/subgid; do
		grep -q '^kakuri-test:' "$f" 2>/dev/null || echo kakuri-test:1410065408:65536 >>"$f"
	done
fi

step "gofmt"
unformatted=$(gofmt -l $(git ls-files '*.go'))
[ -z "$unformatted" ] || { echo "not formatted: $unformatted"; exit 1; }

step "go vet"
go vet ./...
GOARCH=arm64 go vet ./...

step "staticcheck"
go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

step "govulncheck"
if ! out=$(go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./... 2>&1); then
	case "$out" in
	*"fetching vulnerabilities"*)
		echo "skipped: the vulnerability database cannot be had here" ;;
	*) echo "$out"; exit 1 ;;
	esac
else
	echo "$out" | tail -n 3
fi

step "build"
for arch in amd64 arm64; do
	GOARCH=$arch go build -trimpath -o "bin/$arch/" ./cmd/...
	# Fuzz targets need a build of their own, in which functions have larger frames: too large, they do not fit on a stack that cannot grow.
	GOARCH=$arch go test -c -o /dev/null -fuzz . ./host
done
# The pure rooms make no system call: they build where there are none.
GOOS=js GOARCH=wasm go build ./abi ./cgroup/limits ./plan ./seccomp ./ui ./tour

# What mounts, clones or changes the network does so in namespaces of its own; the
# whole run is in a mount namespace, too, so that a fault cannot reach the machine.
run=(go test)
[ "$(id -u)" = 0 ] && run=(unshare --mount --propagation private go test)

# What repeats one goroutine's arithmetic finds no race by more of it: that is among the tests below.
step "race detector"
CGO_ENABLED=1 "${run[@]}" -race -short -skip 'AgainstLibseccomp$' -count=1 ./abi/... ./cgroup/limits/... ./plan/... ./seccomp/... ./ui/... ./tour ./namespace/... ./oci/specjson/...

# They are made before the tests, of which several would wait for them.
step "images"
"${run[@]}" -count=1 -timeout 20m -run TestKey ./internal/testimage || echo "test.sh: the images of the tests could not be made"

step "tests"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
# A package's limit is for one that hangs: on a machine that is four times slower than usual, engine takes a quarter of an hour.
"${run[@]}" -count=1 -timeout 20m -v ./... >"$log" 2>&1 || status=$?
grep -E '^(ok|FAIL|panic:|\?)|^--- FAIL|^ +--- FAIL' "$log" || true
if [ "$status" != 0 ]; then
	# What the failed tests printed, and what a package did outside of tests.
	awk '
		function show(  i) { for (i = first; i < n; i++) if (of[i] == "" || of[i] in failed) print kept[i] }
		function begin() { first = n = 0; test = ""; delete failed }
		/^(ok|\?) / || /^\?/ { begin(); next }
		/^FAIL\t/ { print "\n== " $2; show(); begin(); next }
		/^=== / { test = $3; next }
		/^ *--- (PASS|SKIP)/ || /^PASS$/ { test = ""; next }
		/^ *--- FAIL/ { failed[$3]; of[n] = $3; kept[n++] = $0; test = $3; next }
		/^(panic: test timed out|fatal error:)/ { first = n; test = "" }
		{ of[n] = test; kept[n++] = substr($0, 1, 1000) }
	' "$log" | cat -v
fi

# On a machine that others load, one test in thousands may lose a race that is its own and not the
# product's. One or two of them are run again by themselves, thrice: what passes each time is named
# here and in the last line, and does not fail the run. A fault of the product stays one.
once=()
if [ "$status" != 0 ]; then
	mapfile -t once < <(awk '
		/^--- FAIL: / { failed[n++] = $3 }
		/^FAIL\t/ { if (n == 0) print "-", $2; for (i = 0; i < n; i++) print failed[i], $2; n = 0 }
		/^ok / { n = 0 }
		/^panic: |^fatal error:/ { print "-", "-" }
	' "$log")
	if [ ${#once[@]} -ge 1 ] && [ ${#once[@]} -le 2 ] && [[ "${once[*]}" != *-\ * ]]; then
		step "again: ${once[*]}"
		status=0
		for t in "${once[@]}"; do
			for _ in 1 2 3; do
				"${run[@]}" -count=1 -timeout 10m -run "^${t% *}\$" "${t#* }" || status=1
			done
		done
	fi
	[ "$status" = 0 ] || once=()
fi

# One kernel, and of the packages that take an emulator minutes a few tests at most: twelve minutes. All of it is make vm.
step "kernel 6.1, in qemu"
vm=0
timeout -k 10 40m go run ./internal/vm -kernel 6.1 -quick -limit 36m -results "$log" || vm=$?
# A kernel has AppArmor or SELinux: another guest, of a minute.
[ "$vm" != 0 ] || timeout -k 10 10m go run ./internal/vm -kernel 6.1 -selinux -limit 8m || vm=$?
case "$vm" in
0) ;;
124) echo "test.sh: the virtual machine did not come to its end in time" ;;
*) echo "test.sh: not all is well in the virtual machine, or there was none" ;;
esac

step "skips"
unexpected=0
while IFS=$'\t' read -r name why; do
	if ! grep -qxF -- "$name" testdata/skips.txt; then
		echo "unexpected skip: $name"
		unexpected=1
	fi
	printf '  %s: %s\n' "$name" "${why:-it does not say why}" | cat -v
done < <(awk -f testdata/skips.awk "$log")

passed=$(grep -cE -- '--- PASS: ' "$log" || true)
failed=$(grep -cE -- '--- FAIL: ' "$log" || true)
skipped=$(grep -cE -- '--- SKIP: ' "$log" || true)
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ ${#once[@]} = 0 ] || printf 'failed once, and passed alone three times: %s\n' "${once[@]}"
[ "$status" = 0 ] && [ "$vm" = 0 ] && [ "$unexpected" = 0 ]
