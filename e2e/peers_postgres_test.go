//go:build e2e

package e2e

import (
	"testing"

	"foyer/service/adapter/pgdial/pgtest"
)

// onPostgres is PostgreSQL. Its adapter does not hear its own emitter, see TestPostgresGoes.
var onPostgres = &medium{
	name: "postgres", beats: true,
	serve: func(t testing.TB) string { return pgtest.New(t).URL("postgres", "") },
	flags: func(url string) []string {
		return []string{"--cluster=postgres", "--cluster-url=" + url, "--cluster-prefix=socket.io"}
	},
}

// TestPeersOnPostgres: servers on Node with the PostgreSQL adapter and nodes of Foyer are one.
func TestPeersOnPostgres(t *testing.T) { testPeers(t, onPostgres) }
