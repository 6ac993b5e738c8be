#!/bin/sh
# Installs what the tests in other languages need: packages of npm, Python and Maven, at pinned versions, beside this script.
# What is up to date is left alone, so that this costs nothing twice; Debian packages are asked for only when a command is
# missing. The three are fetched side by side: they mostly wait for the network.
set -eu
cd "$(dirname "$0")"

missing=
command -v node >/dev/null && command -v npm >/dev/null || missing="$missing nodejs npm"
command -v python3 >/dev/null || missing="$missing python3"
# Debian has venv in a package of its own.
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
command -v javac >/dev/null || missing="$missing openjdk-17-jdk-headless"
command -v mvn >/dev/null || missing="$missing maven"
# Debian's own rustc is too old for gRPC; the one that builds its browsers is not.
command -v cargo >/dev/null || missing="$missing cargo-web rustc-web"
if [ -n "$missing" ]; then
	sudo=
	[ "$(id -u)" = 0 ] || sudo=sudo
	# Another script may be at it as well.
	exec 9>"${TMPDIR:-/tmp}/foyer-apt.lock"
	flock 9
	$sudo apt-get update -q
	# shellcheck disable=SC2086 # a list of words
	DEBIAN_FRONTEND=noninteractive $sudo apt-get install -qy --no-install-recommends $missing
	flock -u 9
fi

# Each part ends with its stamp: a copy of what was asked for, and by what. An install that was cut short has none.
node_modules() (
	cd node
	stamp=node_modules/.stamp
	wanted="$(node --version) $(cat package-lock.json)"
	[ -f $stamp ] && [ "$(cat $stamp)" = "$wanted" ] && return
	npm ci --no-audit --no-fund --ignore-scripts # one has a script, which only warns
	printf '%s\n' "$wanted" >$stamp
)

venv() (
	cd python
	stamp=.venv/.stamp
	# A venv does not survive a move: it has its own path in it.
	wanted="$(python3 --version) $PWD $(cat requirements.txt emitter.txt)"
	[ -f $stamp ] && [ "$(cat $stamp)" = "$wanted" ] && return
	rm -rf .venv
	python3 -m venv .venv
	install='.venv/bin/pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps --no-compile'
	$install -r requirements.txt
	.venv/bin/pip check
	$install -r emitter.txt
	printf '%s\n' "$wanted" >$stamp
)

classes() (
	cd java
	stamp=target/.stamp
	wanted="$(javac -version 2>&1) $(cat pom.xml src/main/java/*.java)"
	[ -f $stamp ] && [ "$(cat $stamp)" = "$wanted" ] && return
	rm -rf target
	goals='compile dependency:copy-dependencies'
	# Without the network, if all has been fetched once.
	# shellcheck disable=SC2086 # two words
	mvn -B -q -Dstyle.color=never -o $goals >/dev/null 2>&1 || mvn -B -q -Dstyle.color=never $goals
	printf '%s\n' "$wanted" >$stamp
)

parts='node_modules venv classes'
for part in $parts; do
	($part) &
	eval "$part=\$!"
done
code=0
for part in $parts; do
	eval "pid=\$$part"
	wait "$pid" || { code=1 && echo "setup.sh: $part: failed" >&2; }
done
exit $code
