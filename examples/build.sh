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

# The programs go to bin/ of each folder, where the tests find them.
go() (
	cd go
	command go build -o bin/example .
)

rust() (
	cd rust
	mkdir -p "$cache" bin
	# Another checkout may be building the same program of its own.
	exec 9>"$cache/lock"
	flock 9
	CARGO_TARGET_DIR="$cache" CARGO_PROFILE_DEV_DEBUG=0 cargo build --quiet --locked
	cp -u "$cache/debug/foyer-example" bin/
)

parts='go rust'
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
