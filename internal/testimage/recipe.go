package testimage

import v1 "github.com/google/go-containerregistry/pkg/v1"

// suite is what the packages are of: the stable release on which test.sh runs.
const suite = "bookworm"

// recipeVersion changes with the code that follows recipes.
const recipeVersion = 1

// A recipe is an image of Debian packages: on a base, a layer of packages, and one of files.
type recipe struct {
	Base     string   // another recipe's name; empty for debootstrap's
	Packages []string // with all that they depend on, and nothing that is recommended
	Files    []file
	Shell    string // run inside after the packages, before the layer is taken
	Config   v1.Config
}

type file struct {
	Path string
	Mode int64
	Text string
}

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func recipes() map[string]recipe {
	return map[string]recipe{
		Debian: {Config: v1.Config{Env: []string{searchPath}, Cmd: []string{"bash"}}},
		Nginx: {
			Base: Debian, Packages: []string{"nginx-light", "curl"},
			Files: []file{{"/docker-entrypoint.sh", 0o755, nginxEntry}, {"/var/www/html/index.html", 0o644, "<h1>It is served.</h1>\n"}},
			// The log is what the container prints.
			Shell: "ln -sf /dev/stdout /var/log/nginx/access.log && ln -sf /dev/stderr /var/log/nginx/error.log && rm -f /var/www/html/index.nginx-debian.html",
			Config: v1.Config{
				Env: []string{searchPath}, Entrypoint: []string{"/docker-entrypoint.sh"}, Cmd: []string{"nginx", "-g", "daemon off;"},
				ExposedPorts: map[string]struct{}{"80/tcp": {}}, StopSignal: "SIGQUIT",
				Labels: map[string]string{"maintainer": "the tests"},
			},
		},
		Redis: {
			Base: Debian, Packages: []string{"redis-server", "redis-tools", "gosu"},
			Files: []file{{"/usr/local/bin/docker-entrypoint.sh", 0o755, redisEntry}},
			Shell: "mkdir /data && chown redis:redis /data",
			Config: v1.Config{
				Env: []string{searchPath}, Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"redis-server"}, WorkingDir: "/data",
				ExposedPorts: map[string]struct{}{"6379/tcp": {}}, Volumes: map[string]struct{}{"/data": {}},
				Healthcheck: &v1.HealthConfig{Test: []string{"CMD", "redis-cli", "ping"}, Interval: 1e9, Timeout: 5e9, Retries: 3, StartPeriod: 1e9},
			},
		},
		Postgres: {
			Base: Debian, Packages: []string{"postgresql-15", "gosu"},
			Files: []file{{"/usr/local/bin/docker-entrypoint.sh", 0o755, postgresEntry}},
			Shell: "mkdir -p /var/lib/postgresql/data /docker-entrypoint-initdb.d && chown postgres:postgres /var/lib/postgresql/data && chmod 1777 /var/lib/postgresql/data",
			Config: v1.Config{
				Env: []string{
					"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/15/bin",
					"LANG=C.UTF-8", "PG_MAJOR=15", "PGDATA=/var/lib/postgresql/data",
				},
				Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"postgres"}, StopSignal: "SIGINT",
				ExposedPorts: map[string]struct{}{"5432/tcp": {}}, Volumes: map[string]struct{}{"/var/lib/postgresql/data": {}},
			},
		},
	}
}

// nginxEntry writes the port that it is told to listen on into the configuration, as that of the
// official image fills in its templates.
const nginxEntry = `#!/bin/sh
set -e
if [ "$1" = nginx ] && [ -n "$PORT" ]; then
	sed -i "s/listen \(\[::\]:\)\?[0-9]* default_server/listen \1$PORT default_server/" /etc/nginx/sites-available/default
fi
exec "$@"
`

// redisEntry gives the volume to redis, and steps down to it.
const redisEntry = `#!/bin/sh
set -e
case "$1" in -*) set -- redis-server "$@" ;; esac
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
	find . ! -user redis -exec chown redis {} +
	exec gosu redis "$0" "$@"
fi
umask 0077
exec "$@"
`

// postgresEntry does what that of the official image does: the directory is given to postgres,
// which makes a cluster in it when there is none, with a server for the scripts of
// /docker-entrypoint-initdb.d that only it can reach.
const postgresEntry = `#!/bin/bash
set -eo pipefail
case "$1" in -*) set -- postgres "$@" ;; esac
if [ "$1" = postgres ] && [ "$(id -u)" = 0 ]; then
	mkdir -p "$PGDATA" /var/run/postgresql
	chmod 00700 "$PGDATA"
	chmod 03775 /var/run/postgresql
	find "$PGDATA" /var/run/postgresql ! -user postgres -exec chown postgres {} +
	exec gosu postgres "$BASH_SOURCE" "$@"
fi
if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
	if [ -z "$POSTGRES_PASSWORD" ]; then
		echo "POSTGRES_PASSWORD is not set: there is no database without a password" >&2
		exit 1
	fi
	: "${POSTGRES_USER:=postgres}" "${POSTGRES_DB:=$POSTGRES_USER}"
	initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") --auth-host=scram-sha-256
	echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
	echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
	pg_ctl -w start -o "-c listen_addresses=''"
	if [ "$POSTGRES_DB" != postgres ]; then
		psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d postgres -c "CREATE DATABASE \"$POSTGRES_DB\""
	fi
	for f in /docker-entrypoint-initdb.d/*.sql; do
		[ ! -e "$f" ] || psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -f "$f"
	done
	pg_ctl -m fast -w stop
	echo "the database is made"
fi
exec "$@"
`
