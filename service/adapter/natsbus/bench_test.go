package natsbus

import (
	"testing"

	"foyer/service"
	"foyer/service/adapter/adaptertest"
)

// BenchmarkHop is what NATS costs between two nodes with a server each: through both servers, there and back.
func BenchmarkHop(b *testing.B) {
	buses := make([]*Bus, 2)
	for i, name := range []service.NodeID{"AAAA", "BBBB"} {
		var routes []string
		if i > 0 {
			routes = []string{buses[0].RouteAddr().String()}
		}
		var err error
		if buses[i], err = Embed(meshConfig(name, routes...)); err != nil {
			b.Fatal(err)
		}
		defer buses[i].Close()
	}
	adaptertest.Hop(b, buses[0], buses[1], "AAAA", "BBBB")
}
