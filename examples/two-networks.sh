#!/bin/sh
# Two versions of a web application and its database on one machine: same names, same
# paths, same ports, same user, two networks. Run it as root or yourself; it needs busybox on this machine, whose
# own files the containers see. Ports 8081 and 8082 lead to the two.
#
# ウェブアプリケーションとデータベースの新旧二組を、同じ名前・同じパス・同じポート・同じ利用者のまま、
# 一台のマシンの二つのネットワークで動かします。root でも一般ユーザーでも実行できます。busybox が必要です。
set -eu
for program in kakuri busybox; do
	command -v $program >/dev/null || { echo "$program is not in PATH / $program がありません" >&2; exit 1; }
done
cleanup() {
	for v in 1 2; do kakuri rm -f "web-v$v" "db-v$v" || true; kakuri network rm "app-v$v" || true; done >/dev/null 2>&1
}
trap cleanup EXIT

for v in 1 2; do
	kakuri network create "app-v$v" >/dev/null
	# The "database" answers on port 5432 with its version.
	kakuri run -d --name "db-v$v" --network "app-v$v" --network-alias db host \
		sh -c "mkdir /tmp/db && echo database $v > /tmp/db/version && exec busybox httpd -f -p 5432 -h /tmp/db" >/dev/null
	# The application asks "db", whoever that is in its network, and serves on port 80.
	kakuri run -d --name "web-v$v" --network "app-v$v" --network-alias web -p "127.0.0.1:808$v:80" host \
		sh -c "mkdir /tmp/web && until v=\$(busybox wget -qO- http://db:5432/version 2>/dev/null); do sleep 0.2; done
			echo web $v of \$v > /tmp/web/index.html; exec busybox httpd -f -p 80 -h /tmp/web" >/dev/null
done

for v in 1 2; do
	n=0
	until busybox wget -qO- "http://127.0.0.1:808$v/" 2>/dev/null; do
		n=$((n + 1))
		if [ $n -gt 100 ]; then
			kakuri port why "808$v"
			exit 1
		fi
		sleep 0.2
	done
done
# Names and addresses of one network are nothing to the other.
address=$(kakuri inspect -f '{{(index .NetworkSettings.Networks "app-v2").IPAddress}}' db-v2)
reach() { kakuri exec web-v1 busybox timeout 2 busybox wget -qO- "http://$1:5432/version" 2>/dev/null; }
reach db-v2 || echo "web-v1 does not know the name db-v2"
reach "$address" || echo "web-v1 does not reach the address of db-v2"
kakuri ps --format 'table {{.Names}}\t{{.Networks}}\t{{.Ports}}'
