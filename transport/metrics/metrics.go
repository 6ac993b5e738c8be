package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"foyer/service"
)

// Node is what is looked at. Its functions are called at each scrape, from any goroutine, and do not block for long.
type Node struct {
	Measure func() service.Measures
	Info    func() service.Info
	Edge    func() Edge
	// Limits are bounds beside those of Measure.
	Limits func() []service.Limit
	// Timed has what is noted as it happens.
	Timed *Timed
	// Dropped is what was dropped or refused, by reason, also those with 0.
	Dropped func() map[string]int64
	Ready   func() error
	// Cluster is what the node has of others; nil: it is alone.
	Cluster func() Cluster
	// ClusterKind is the word of --cluster.
	ClusterKind string
}

// Edge is what the node has of links, and what it has done for them.
type Edge struct {
	Links       []Links // by transport
	Upgrades    uint64  // from polling to websocket
	QueuedBytes int     // that wait for links
	WorstQueue  int     // bytes of them in the fullest queue
}

// Links are those of one transport.
type Links struct {
	Transport string
	Sessions  int
	In, Out   Traffic
}

// Traffic is what was moved one way.
type Traffic struct{ Packets, Bytes uint64 }

// Cluster is what a node has of the others, and what has gone between them and it.
type Cluster struct {
	Nodes     []service.NodeStatus
	BusUp     bool
	In, Out   Frames
	Resent    uint64        // frames of Out that had been sent before
	Epochs    uint64        // that this node has begun
	Unheard   time.Duration // the longest that a node has confirmed nothing of what was sent to it
	Passed    []Passed      // requests and streams of clients, by kind
	PassedNow int           // that are being passed to other nodes at this moment
}

// Frames is what was moved one way between nodes.
type Frames struct{ Frames, Items, Bytes uint64 }

// Passed is how many requests or streams were passed between nodes.
type Passed struct {
	Kind  string
	Count uint64
}

// scrapes is how many scrapes are answered at once; more are refused with 503.
const scrapes = 4

// scrapeWithin is how long an answer may take to be gathered.
const scrapeWithin = 10 * time.Second

// Handler answers scrapes, in the format of Prometheus or in OpenMetrics.
func Handler(n *Node) http.Handler {
	return promhttp.HandlerFor(Registry(n), promhttp.HandlerOpts{
		EnableOpenMetrics: true, MaxRequestsInFlight: scrapes, Timeout: scrapeWithin, ErrorHandling: promhttp.ContinueOnError,
		DisableCompression: true, // it took a third of a scrape's CPU, while emits wait, to save 30 KB
	})
}

// Registry has a node's metrics, and those of its process.
func Registry(n *Node) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collector{n}, n.Timed, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

type collector struct{ *Node }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("foyer_"+name, help, labels, nil)
}

var (
	build      = describe("build_info", "Always 1.", "node", "version", "cluster")
	ready      = describe("ready", "1 when the node may have traffic, as /readyz says.")
	sessions   = describe("sessions", "Links of clients.", "transport")
	upgrades   = describe("upgrades_total", "Links that have gone from polling to websocket.")
	packets    = describe("packets_total", "Packets of Engine.IO from clients (in) and to them (out), heartbeats included.", "transport", "direction")
	bytes      = describe("packet_bytes_total", "Bytes of these packets, without the frames of the transport and before compression.", "transport", "direction")
	queues     = describe("queue_bytes", "Bytes that wait to be sent to links; each message counts 32 beside its own.")
	worstQueue = describe("queue_worst_bytes", "Bytes that wait in the fullest queue of a link. Its bound is --queue-bytes.")
	namespaces = describe("namespaces", "Namespaces that are in use, by why they may be: their name is configured, a handler has registered it, or a prefix covers it.", "class")
	sockets    = describe("sockets", "Sockets: clients in namespaces.", "class")
	rooms      = describe("rooms", "Rooms with sockets here; a socket's own id is none.", "class")
	emits      = describe("emits_total", "Emits that were delivered here, also those of other nodes.")
	deliveries = describe("deliveries_total", "Copies of emits that were put into queues of links.")
	fanOut     = describe("fanout_seconds", "How long it took to queue an emit, or several alike, by how many recipients it had here. In a namespace of fewer than 100 sockets one in eight is timed.", "recipients")
	acks       = describe("acks_total", "What became of recipients here that an acknowledgement was wanted of. Unanswered: none had come when the wait for it ended.", "outcome")
	ackTime    = describe("ack_seconds", "How long it took until a recipient here acknowledged.")
	handlers   = describe("handlers", "Handlers that are attached here.")
	theirs     = describe("handler_sockets", "Sockets that handlers here have.")
	queued     = describe("handler_queued", "What waits for handlers here, in number.")
	queuedSize = describe("handler_queued_bytes", "Bytes of the events that wait for handlers here.")
	inFlight   = describe("handler_in_flight", "Events that handlers here have been told and not answered.")
	undecided  = describe("handler_connects", "Connects that handlers here have been asked to decide and have not.")
	replyTime  = describe("handler_reply_seconds", "How long it took until a handler here answered an event. One in eight is timed.")
	watchers   = describe("watchers", "Watches of presence.")
	lag        = describe("watcher_lag_changes", "How many changes of presence the slowest watch has not looked at.")
	limit      = describe("limit", "Most that there may be, by bound. 0: any number.", "limit")
	limitUsed  = describe("limit_used", "How much of a bound is used.", "limit")
	memory     = describe("memory_bytes", "What is kept for clients and backends, in bytes, by use.", "use")
	budget     = describe("memory_budget_bytes", "Most that may be kept for them: --memory-budget. 0: any number.")
	dropped    = describe("dropped_total", "What was dropped, refused or waited for, by reason: the names of GetInfo and of the log.", "reason")
	kept       = describe("kept", "What is kept at this moment of what comes and goes, by kind: the names of GetInfo.", "kind")
	nodes      = describe("nodes", "Nodes of the cluster as this one sees them, itself among them.", "state")
	busUp      = describe("bus_up", "1 when the bus to the other nodes is up.")
	frames     = describe("cluster_frames_total", "Frames from other nodes that had an effect (in), and frames that were given to the bus (out). One that is for all nodes counts once.", "direction")
	frameItems = describe("cluster_items_total", "Items of these frames: emits, joins, questions, answers and so on. An item that is too large for one frame counts for each part.", "direction")
	frameBytes = describe("cluster_bytes_total", "Bytes of these frames, without what the bus adds.", "direction")
	resent     = describe("cluster_frames_resent_total", "Frames that were sent again, since the other node had not confirmed them.")
	epochs     = describe("cluster_epochs_total", "How often this node has begun to tell another one all that it has to know: when they meet, and when their connection had lost too much to go on.")
	unheard    = describe("cluster_unheard_seconds", "For how long the node that is furthest behind has confirmed nothing of what was sent to it. 0: nothing waits.")
	passed     = describe("passed_total", "Requests and websockets of clients that this node has passed to the nodes of their sessions, and those that it was passed and has served.", "kind")
	passedNow  = describe("passed_open", "Requests and websockets that are being passed to other nodes at this moment.")
)

// Describe implements prometheus.Collector.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		build, ready, sessions, upgrades, packets, bytes, queues, worstQueue, namespaces, sockets, rooms, emits, deliveries, fanOut, acks, ackTime, handlers, theirs, queued, queuedSize,
		inFlight, undecided, replyTime, watchers, lag, limit, limitUsed, memory, budget, dropped, kept, nodes, busUp,
		frames, frameItems, frameBytes, resent, epochs, unheard, passed, passedNow,
	} {
		to <- d
	}
}

// outcomes are the words of service.AckFailure.
var outcomes = [service.AckKinds]string{"answered", "unanswered", "disconnected", "queue_full", "dropped_volatile", "node_unreachable"}

var states = map[service.NodeState]string{
	service.NodeJoining: "joining", service.NodeUp: "up", service.NodeSilent: "silent", service.NodeLost: "lost", service.NodeDraining: "draining",
	service.NodeIncompatible: "incompatible",
}

// Collect implements prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	info, m := c.Info(), c.Measure()
	gauge(build, 1, string(info.NodeID), info.Version, c.ClusterKind)
	gauge(ready, oneIf(c.Ready() == nil))
	edge := c.Edge()
	for _, l := range edge.Links {
		gauge(sessions, float64(l.Sessions), l.Transport)
		counter(packets, float64(l.In.Packets), l.Transport, "in")
		counter(packets, float64(l.Out.Packets), l.Transport, "out")
		counter(bytes, float64(l.In.Bytes), l.Transport, "in")
		counter(bytes, float64(l.Out.Bytes), l.Transport, "out")
	}
	counter(upgrades, float64(edge.Upgrades))
	gauge(queues, float64(edge.QueuedBytes))
	gauge(worstQueue, float64(edge.WorstQueue))
	for class, of := range m.Classes {
		word := service.Class(class).String()
		gauge(namespaces, float64(of.Namespaces), word)
		gauge(sockets, float64(of.Sockets), word)
		gauge(rooms, float64(of.Rooms), word)
	}
	counter(emits, float64(m.Emits))
	counter(deliveries, float64(m.Deliveries))
	for class := range m.FanOut {
		to <- timing(fanOut, &m.FanOut[class], "recipients", service.FanOutName(class))
	}
	for why, n := range m.Acks {
		counter(acks, float64(n), outcomes[why])
	}
	to <- timing(ackTime, &m.AckLatency)
	h := &m.Handlers
	gauge(handlers, float64(h.Attached))
	gauge(theirs, float64(h.Sockets))
	gauge(queued, float64(h.Queued))
	gauge(queuedSize, float64(h.Bytes))
	gauge(inFlight, float64(h.InFlight))
	gauge(undecided, float64(h.Connects))
	to <- timing(replyTime, &h.Reply)
	gauge(watchers, float64(m.Watchers))
	gauge(lag, float64(m.WatcherLag))
	for _, l := range append(c.Limits(), m.Limits...) {
		gauge(limit, float64(l.Most), l.Name)
		gauge(limitUsed, float64(l.Used), l.Name)
	}
	for use, held := range m.Held {
		gauge(memory, float64(held), service.Use(use).String())
	}
	gauge(budget, float64(max(0, info.Budget)))
	for reason, n := range c.Dropped() {
		counter(dropped, float64(n), reason)
	}
	for kind, n := range info.Kept {
		gauge(kept, float64(n), kind)
	}
	if c.Cluster == nil {
		return
	}
	of := c.Cluster()
	by := map[service.NodeState]int{}
	for _, n := range of.Nodes {
		by[n.State]++
	}
	for state, word := range states {
		gauge(nodes, float64(by[state]), word)
	}
	gauge(busUp, oneIf(of.BusUp))
	for direction, f := range map[string]Frames{"in": of.In, "out": of.Out} {
		counter(frames, float64(f.Frames), direction)
		counter(frameItems, float64(f.Items), direction)
		counter(frameBytes, float64(f.Bytes), direction)
	}
	counter(resent, float64(of.Resent))
	counter(epochs, float64(of.Epochs))
	gauge(unheard, of.Unheard.Seconds())
	for _, p := range of.Passed {
		counter(passed, float64(p.Count), p.Kind)
	}
	gauge(passedNow, float64(of.PassedNow))
}

func oneIf(so bool) float64 {
	if so {
		return 1
	}
	return 0
}
