//go:build e2e

package e2e

import "testing"

// onStreams is Redis with the streams adapter. Its emitter is no package here: TestEmitters of its medium has what that
// writes.
func onStreams(options string, flags ...string) *medium {
	return &medium{
		name: "redis-streams", options: options, serve: classic.serve, strict: true,
		flags: func(url string) []string {
			return append([]string{"--cluster=redis-streams", "--cluster-url=" + url}, flags...)
		},
	}
}

// TestPeersOnStreams: servers on Node with the streams adapter and nodes of Foyer are one.
func TestPeersOnStreams(t *testing.T) { testPeers(t, onStreams("")) }

// TestPeersOnSeveralStreams: so they are where namespaces are spread over streams, what is not in one goes by sharded
// Pub/Sub, and all has names of its own.
func TestPeersOnSeveralStreams(t *testing.T) {
	testPeers(t, onStreams(
		`{"streamCount": 3, "streamName": "app", "channelPrefix": "chan", "maxLen": 1000, "useShardedPubSub": true}`,
		"--cluster-stream-count=3", "--cluster-stream=app", "--cluster-prefix=chan", "--cluster-stream-length=1000", "--cluster-stream-sharded"))
}

// TestPeersLiveOnStreams: nothing that a backend can ask of Foyer becomes an entry that makes a server on Node deaf, or
// a message that ends it.
func TestPeersLiveOnStreams(t *testing.T) { testServersLive(t, onStreams("")) }

// TestPeersAreLostOnStreams: a server on Node that is killed or frozen amid a call is told by number.
func TestPeersAreLostOnStreams(t *testing.T) { testPeersLost(t, onStreams("")) }
