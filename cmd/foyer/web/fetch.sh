#!/bin/sh
# Puts the stock Socket.IO client into npm/, from where it is built into foyer: `npm ci` by the lock file, then a copy of the
# built files and their version. Does nothing when npm/ already has the version that package.json asks for.
set -eu
cd "$(dirname "$0")"

wanted=$(sed -n 's/.*"socket.io-client": *"\([^"]*\)".*/\1/p' package.json)
files=""
for name in socket.io.js socket.io.min.js socket.io.esm.min.js socket.io.msgpack.min.js; do
	files="$files $name $name.map"
done

up_to_date() {
	[ "$(cat npm/VERSION 2>/dev/null)" = "$wanted" ] || return 1
	for file in $files; do
		[ -s "npm/$file" ] || return 1
	done
}

if up_to_date; then
	exit 0
fi
rm -f npm/VERSION # written last: a copy that was cut short is not up to date
npm ci --ignore-scripts --no-audit --no-fund
for file in $files; do
	cp "node_modules/socket.io-client/dist/$file" npm/
done
sed -n 's/^  "version": *"\([^"]*\)".*/\1/p' node_modules/socket.io-client/package.json >npm/VERSION
up_to_date || {
	echo "fetch.sh: socket.io-client is $(cat npm/VERSION), but package.json asks for $wanted" >&2
	exit 1
}
