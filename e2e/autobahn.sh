#!/bin/sh
# Runs the cases of Autobahn's test suite against transport/engineio: `make autobahn`. The runner is kosoku, from PyPI, since
# the suite's own needs Python 2.
#
#   autobahn.sh DIR     DIR is where the runner is kept
set -eu
kosoku=$1
cd "$(dirname "$0")/../transport/engineio"
if [ ! -f "$kosoku/.stamp" ]; then
	rm -rf "$kosoku"
	python3 -m venv "$kosoku"
	"$kosoku/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --no-deps kosoku==0.1.0
	touch "$kosoku/.stamp"
fi

# The suite wants an echo of its own bytes: the overlay says no open packet, and takes each text as a message.
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
replace() { # FILE LINE WITH
	sed "s/^\(	*\)$2\$/\1$3/" "$1" >"$tmp/$1"
	! cmp -s "$1" "$tmp/$1" || { echo "autobahn.sh: $1 has no line $2" >&2 && exit 1; }
}
replace session.go 's.ws.control = append(appendFrameHeader(s.ws.control, opText, len(packet)), packet...)' '_ = packet'
replace session_read.go 'p, err = decodePacket(data)' 'p.binary = false'
cat >"$tmp/overlay.json" <<-JSON
	{"Replace": {"$PWD/session.go": "$tmp/session.go", "$PWD/session_read.go": "$tmp/session_read.go"}}
JSON
KOSOKU="$kosoku/bin/kosoku" go test -tags autobahn -overlay "$tmp/overlay.json" -run '^TestAutobahn$' -count 1 -timeout 30m -v .
