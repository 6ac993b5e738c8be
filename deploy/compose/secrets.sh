#!/bin/sh
# Makes what is secret in deploy/compose.yaml, unless it is there: a token of the API, and the key that the nodes share. The
# nodes and Prometheus run as users of their own, so they can read the files, which others of this machine cannot reach.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
for name in api.tokens cluster.key; do
	[ -s "secrets/$name" ] || head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"secrets/$name"
	chmod 444 "secrets/$name"
done
