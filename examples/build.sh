#!/bin/sh
# Builds all examples, each with its own language's tools, side by side. What is up to date costs next to nothing. The languages
# have to be there (e2e/polyglot/setup.sh brings them).
#
#   sh build.sh [FOLDER]
#
# FOLDER keeps what Rust has compiled, for other checkouts too.
set -eu
cd "$(dirname "$0")"
cache=${1:-$PWD/rust/target}

# The compiled programs go to bin/ of each folder, where the tests find them. A part that has no tool to know what is up to date
# ends with a stamp: a copy of what was asked for, and by what.
go() (
	cd go
	command go build -o bin/example .
)

node() (
	cd node
	stamp=node_modules/.stamp
	wanted="$(command node --version) $(cat package-lock.json)"
	[ -f $stamp ] && [ "$(cat $stamp)" = "$wanted" ] && return
	npm ci --no-audit --no-fund --ignore-scripts # one has a script, which only warns
	printf '%s\n' "$wanted" >$stamp
)

python() (
	cd python
	stamp=.venv/.stamp
	# A venv does not survive a move: it has its own path in it.
	wanted="$(python3 --version) $PWD $(cat requirements.txt)"
	if [ ! -f $stamp ] || [ "$(cat $stamp)" != "$wanted" ]; then
		rm -rf .venv
		python3 -m venv .venv
		.venv/bin/pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps --no-compile -r requirements.txt
		.venv/bin/pip check
		printf '%s\n' "$wanted" >$stamp
	fi
	rm -rf foyer
	.venv/bin/python -m grpc_tools.protoc -I ../../proto --python_out=. --grpc_python_out=. ../../proto/foyer/v1/*.proto
)

java() (
	cd java
	stamp=target/.stamp
	wanted="$(javac -version 2>&1) $(cat pom.xml $(find src ../../proto -type f | sort))"
	[ -f $stamp ] && [ "$(cat $stamp)" = "$wanted" ] && return
	rm -rf target
	goals='compile dependency:copy-dependencies'
	# Without the network, if all has been fetched once.
	# shellcheck disable=SC2086 # two words
	mvn -B -q -Dstyle.color=never -o $goals >/dev/null 2>&1 || mvn -B -q -Dstyle.color=never $goals
	printf '%s\n' "$wanted" >$stamp
)

rust() (
	cd rust
	mkdir -p "$cache" bin
	# Another checkout may be building the same program of its own.
	exec 9>"$cache/lock"
	flock 9
	CARGO_TARGET_DIR="$cache" CARGO_PROFILE_DEV_DEBUG=0 cargo build --quiet --locked
	cmp -s "$cache/debug/foyer-example" bin/foyer-example || install "$cache/debug/foyer-example" bin/
)

parts='go java node python rust'
for part in $parts; do
	($part) &
	eval "$part=\$!"
done
code=0
for part in $parts; do
	eval "pid=\$$part"
	wait "$pid" || { code=1 && echo "build.sh: $part: failed" >&2; }
done
exit $code
