#!/usr/bin/env bash
# scripts/postgres.sh COMMAND [ARGUMENT…] runs COMMAND with SIGNALBOX_TEST_POSTGRES_URL naming a private PostgreSQL server that lives in a
# temporary directory on a free port and ends with the command. Sourced, it gives postgres_start and postgres_stop.
#
# The server runs with fsync off: the tests kill Signalbox, not the machine, and what a living PostgreSQL has acknowledged survives that.
# Nothing measured or promised about power loss may be tested on it.
set -euo pipefail

postgres_home= # the temporary directory of the server that this shell started
postgres_bin=

# as_postgres runs a command as somebody whom PostgreSQL accepts: it refuses to run as root.
as_postgres() {
  if ((EUID == 0)); then
    (cd / && runuser -u postgres -- "$@")
  else
    "$@"
  fi
}

# find_postgres sets postgres_bin to the newest installed server's programs.
find_postgres() {
  local found
  found=$(find /usr/lib/postgresql /usr/local/pgsql /opt/homebrew/opt -maxdepth 3 -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1)
  [[ -n $found ]] || found=$(command -v initdb || true)
  postgres_bin=${found%/initdb}
  [[ -n $found ]]
}

free_port() {
  local port
  for _ in {1..50}; do
    port=$((20000 + RANDOM % 12000)) # below the range from which the kernel takes ports for outgoing connections
    if ! (: </dev/tcp/127.0.0.1/"$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
  die "no free port between 20000 and 32000"
}

# postgres_start starts the server and exports its URL. A server that the caller has named already is used as it is.
postgres_start() {
  if [[ -n ${SIGNALBOX_TEST_POSTGRES_URL:-} ]]; then
    say "   using the PostgreSQL server named by SIGNALBOX_TEST_POSTGRES_URL"
    return
  fi
  if ! find_postgres; then
    say "   the PostgreSQL server is missing"
    install_packages postgresql
    find_postgres || die "initdb is still missing after installing postgresql"
  fi
  # A pooler that we did not write, for the tests that go through one. It lies where only root looks for programs.
  [[ -x /usr/sbin/pgbouncer ]] || command -v pgbouncer >/dev/null || install_packages pgbouncer
  local version
  version=$("$postgres_bin/postgres" --version | sed -E 's/[^0-9]*([0-9]+).*/\1/')
  ((version >= 15)) || die "PostgreSQL 15 or newer is needed, found $version in $postgres_bin"

  local parent=${TMPDIR:-/tmp}
  as_postgres test -x "$parent" || parent=/tmp # its user must reach it
  postgres_home=$(mktemp -d "$parent/signalbox-postgres.XXXXXX")
  ((EUID != 0)) || chown postgres "$postgres_home"
  as_postgres "$postgres_bin/initdb" -D "$postgres_home/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$postgres_home/initdb.log" 2>&1 ||
    { cat "$postgres_home/initdb.log" >&2 && die "initdb failed"; }
  cat >>"$postgres_home/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = '$postgres_home'
max_connections = 300
fsync = off
full_page_writes = off
timezone = 'UTC'
CONF
  local port tries=0
  until port=$(free_port) && as_postgres "$postgres_bin/pg_ctl" -D "$postgres_home/data" -l "$postgres_home/log" -o "-p $port" -w -t 60 start \
    >"$postgres_home/start.log" 2>&1; do
    if ((++tries == 5)); then
      cat "$postgres_home/start.log" "$postgres_home/log" >&2 || true
      die "PostgreSQL did not start"
    fi
  done
  export SIGNALBOX_TEST_POSTGRES_URL="postgres://postgres@127.0.0.1:$port/postgres?sslmode=disable"
  say "   PostgreSQL $version on port $port, fsync off, in $postgres_home"
}

# postgres_stop ends what postgres_start started and removes its files; it is safe to call at any time.
postgres_stop() {
  [[ -n $postgres_home ]] || return 0
  if [[ -f $postgres_home/data/postmaster.pid ]]; then
    as_postgres "$postgres_bin/pg_ctl" -D "$postgres_home/data" -m immediate -w -t 30 stop >/dev/null 2>&1 || true
  fi
  rm -rf "$postgres_home"
  postgres_home=
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  # shellcheck source=scripts/lib.sh
  source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
  (($#)) || die "usage: scripts/postgres.sh COMMAND [ARGUMENT…]"
  trap postgres_stop EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  postgres_start
  "$@"
fi
