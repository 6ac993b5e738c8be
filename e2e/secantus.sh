#!/bin/sh
# Installs SecantusDB, a server that speaks as MongoDB does, into a folder of its own.
#
#   sh secantus.sh FOLDER
set -eu
cd "$(dirname "$0")"
stamp=$1/.stamp
wanted="$(python3 --version) $(cat secantus.txt)"
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
	rm -rf "$1"
	python3 -m venv "$1"
	"$1/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --no-deps --no-compile -r secantus.txt
	"$1/bin/pip" check
	printf '%s\n' "$wanted" >"$stamp"
fi
touch "$1/bin/secantusd-py"
