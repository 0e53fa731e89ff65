#!/bin/sh
# Two versions of a web application and its database on one machine: same names, same
# ports, same user, two networks. Run it as root; it needs python3 on this machine, whose
# own files the containers see. Ports 8081 and 8082 lead to the two.
#
# ウェブアプリケーションとデータベースの新旧二組を、同じ名前・同じポート・同じ利用者のまま、
# 一台のマシンの二つのネットワークで動かします。root で実行してください。
set -eu
cleanup() {
	for v in 1 2; do kakuri rm -f "web-v$v" "db-v$v" || true; kakuri network rm "app-v$v" || true; done >/dev/null 2>&1
}
trap cleanup EXIT

for v in 1 2; do
	kakuri network create "app-v$v" >/dev/null
	# The "database" answers on port 5432 with its version.
	kakuri run -d --name "db-v$v" --network "app-v$v" --network-alias db host \
		sh -c "mkdir /tmp/db && cd /tmp/db && echo database $v > version && exec python3 -m http.server 5432" >/dev/null
	# The application asks "db", whoever that is in its network, and serves on port 80.
	kakuri run -d --name "web-v$v" --network "app-v$v" --network-alias web -p "127.0.0.1:808$v:80" host \
		sh -c "mkdir /tmp/web && cd /tmp/web && until python3 -c 'import urllib.request as u; print(\"web $v of\", u.urlopen(\"http://db:5432/version\").read().decode().strip())' > index.html 2>/dev/null; do sleep 0.2; done; exec python3 -m http.server 80" >/dev/null
done

for v in 1 2; do
	n=0
	until python3 -c "import urllib.request as u; print(u.urlopen('http://127.0.0.1:808$v/').read().decode().strip())" 2>/dev/null; do
		n=$((n + 1))
		if [ $n -gt 100 ]; then
			kakuri port why "808$v"
			exit 1
		fi
		sleep 0.2
	done
done
kakuri ps --format 'table {{.Names}}\t{{.Networks}}\t{{.Ports}}'
