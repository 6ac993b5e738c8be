#!/bin/sh
# Puts the stock Socket.IO client into npm/ and the Socket.IO Admin UI with its icons into npm/ui/, from where they are built
# into foyer: `npm ci` by the lock file, then a copy of the built files and their versions. Does nothing when npm/ already has
# the versions that package.json asks for.
set -eu
cd "$(dirname "$0")"

wanted=$(sed -n 's/.*"socket.io-client": *"\([^"]*\)".*/\1/p' package.json)
wanted_ui=$(sed -n 's/.*"@socket.io\/admin-ui": *"\([^"]*\)".*/\1/p; s/.*"@mdi\/font": *"\([^"]*\)".*/icons \1/p' package.json)
files=""
for name in socket.io.js socket.io.min.js socket.io.esm.min.js socket.io.msgpack.min.js; do
	files="$files $name $name.map"
done

up_to_date() {
	[ "$(cat npm/VERSION 2>/dev/null)" = "$wanted" ] || return 1
	[ "$(cat npm/ui/VERSION 2>/dev/null)" = "$wanted_ui" ] || return 1
	for file in $files ui/index.html ui/mdi/css/materialdesignicons.min.css; do
		[ -s "npm/$file" ] || return 1
	done
}

if up_to_date; then
	exit 0
fi
rm -rf npm/VERSION npm/ui # the versions are written last: a copy that was cut short is not up to date
npm ci --ignore-scripts --no-audit --no-fund
for file in $files; do
	cp "node_modules/socket.io-client/dist/$file" npm/
done
cp -R node_modules/@socket.io/admin-ui/ui/dist npm/ui
find npm/ui -name '*.map' -exec rm {} +
mkdir -p npm/ui/mdi/css npm/ui/mdi/fonts
cp node_modules/@mdi/font/css/materialdesignicons.min.css npm/ui/mdi/css/
cp node_modules/@mdi/font/fonts/materialdesignicons-webfont.woff2 npm/ui/mdi/fonts/
{
	sed -n 's/^  "version": *"\([^"]*\)".*/icons \1/p' node_modules/@mdi/font/package.json
	sed -n 's/^  "version": *"\([^"]*\)".*/\1/p' node_modules/@socket.io/admin-ui/package.json
} >npm/ui/VERSION
sed -n 's/^  "version": *"\([^"]*\)".*/\1/p' node_modules/socket.io-client/package.json >npm/VERSION
up_to_date || {
	echo "fetch.sh: socket.io-client is $(cat npm/VERSION) and the Admin UI $(cat npm/ui/VERSION), but package.json asks for $wanted and $wanted_ui" >&2
	exit 1
}
