package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/bridge/postgres"
	"foyer/service/adapter/bridge/streams"
	"foyer/service/adapter/lives"
	"foyer/service/adapter/mongodb"
	"foyer/service/adapter/natsbus"
	"foyer/service/adapter/official"
	"foyer/service/adapter/pgbus"
	"foyer/service/adapter/pgdial"
	"foyer/service/adapter/redisbus"
)

// Values of --cluster.
const (
	clusterOff      = "off"
	clusterEmbedded = "embedded"
	clusterNATS     = "nats"
	clusterRedis    = "redis"
	clusterSharded  = "redis-sharded"
	clusterPostgres = "postgres"
	clusterMongo    = "mongo"
	clusterStreams  = "redis-streams"
)

// redisModes are those whose nodes speak by a Redis server.
var redisModes = []string{clusterRedis, clusterSharded, clusterStreams}

func (s *settings) onRedis() bool { return slices.Contains(redisModes, s.Cluster) }

// bridged says whether this node reaches servers on Node.
func (s *settings) bridged() bool {
	return s.ClusterFlags.Prefix != "" || s.ClusterFlags.Collection != "" || s.Cluster == clusterSharded || s.Cluster == clusterStreams
}

// shardedModes are the values of --cluster-sharded-mode.
var shardedModes = map[string]official.ShardedMode{
	"": official.Dynamic, "dynamic": official.Dynamic, "dynamic-private": official.DynamicPrivate, "static": official.Static,
}

// defaultClusterListen is where an embedded server listens unless it is told otherwise: nobody else can reach it there.
const defaultClusterListen = "127.0.0.1:6222"

// clusterFlags are the settings of a node that has others beside it.
type clusterFlags struct {
	Listen    string   `placeholder:"ADDR" help:"With embedded, where other nodes connect. Default 127.0.0.1:6222. On an address that is not loopback it needs --cluster-key-file."`
	Routes    []string `placeholder:"ADDR" help:"With embedded, where other nodes listen. A name is looked up again and again, and may stand for many of them; this node's own address may be among them, and nobody has to be there yet. Nodes tell each other of those that they know."`
	Advertise string   `placeholder:"ADDR" help:"With embedded, what nodes tell each other of this one's address. Default: the address that they see, and the port of --cluster-listen."`

	URL         string `name:"url" secret:"" placeholder:"URL" help:"With nats, the server, or several with commas between them, as nats://host:4222 or tls://host:4222. With redis, redis-sharded and redis-streams, the server as redis://host:6379 or rediss://host:6379, several of one Redis Cluster as redis://host:6379,host:6380, or sentinels and their name for the master as redis+sentinel://host:26379,host:26380/mymaster. With postgres, the server and its database as postgres://host:5432/database. With mongo, the server and its database as mongodb://host:27017/database, several of one replica set as mongodb://host:27017,host:27017/database. A user and a password may be in it."`
	Credentials string `type:"path" placeholder:"FILE" help:"With nats, a file with this node's credentials (a user's JWT and seed)."`

	Prefix      string `placeholder:"TEXT" help:"With redis, what the channels of Socket.IO servers on Node begin with that share this node's rooms: option key of their Redis adapter and emitters, which is socket.io unless they say otherwise. Default: none, and no such server is reached. With redis-sharded and redis-streams, the same of option channelPrefix. Default: socket.io. With postgres the same, and without it no such server is reached."`
	Table       string `placeholder:"NAME" help:"With postgres and --cluster-prefix, the table of attachments of those servers: option tableName of their adapter. It is made when it is missing. Default: socket_io_attachments."`
	ShardedMode string `placeholder:"MODE" help:"With redis-sharded, which rooms have a channel of their own, as option subscriptionMode says to the servers on Node: dynamic (all but those whose name is as long as a socket's id), dynamic-private (all) or static (none). Default dynamic."`

	Stream       string `placeholder:"NAME" help:"With redis-streams, the stream, or what several begin with: option streamName of the servers on Node. Default: socket.io."`
	StreamCount  int    `placeholder:"N" help:"With redis-streams, how many streams there are, as option streamCount of the servers on Node says. Default: 1."`
	StreamLength int    `placeholder:"N" help:"With redis-streams, about how many entries a stream keeps: option maxLen of the servers on Node. Default: 10000."`

	StreamSharded bool `help:"With redis-streams, what is not in a stream goes by sharded Pub/Sub: option useShardedPubSub of the servers on Node, which needs Redis 7. Default off."`

	Collection string `placeholder:"NAME" help:"With mongo, the collection by which Socket.IO servers on Node share this node's rooms, which their application has made: what their MongoDB adapter and emitters are given. Default: none, and no such server is reached."`

	Name    string     `default:"foyer" placeholder:"NAME" help:"Name of the cluster. Nodes of other names are no members. Default ${default}."`
	KeyFile string     `type:"path" placeholder:"FILE" help:"A secret that all nodes of the cluster share: the file's text, 16 bytes at least. Needed when other machines can reach this node's addresses for nodes."`
	TLS     clusterTLS `embed:"" prefix:"tls-"`

	Lease  time.Duration `default:"5s" placeholder:"TIME" help:"How long a node that is not heard is believed to live; the same at all nodes. Default ${default}."`
	Window byteSize      `default:"16MiB" placeholder:"BYTES" help:"Most that waits for one other node. Default ${default}."`
}

// clusterTLS are the flags of the certificates by which nodes know each other.
type clusterTLS struct {
	Cert string `reload:"content" type:"path" placeholder:"FILE" help:"TLS certificate of this node between nodes, PEM. Whoever has one of the same CA is a member. With nats and a tls:// URL, or with a rediss:// one, it is shown to that server too. It is read again as that of --edge-cert."`
	Key  string `reload:"content" type:"path" placeholder:"FILE" help:"Its key, PEM."`
	CA   string `reload:"content" name:"ca" type:"path" placeholder:"FILE" help:"Certificates that those of all nodes come from, and that of a tls:// or rediss:// server. The three are taken together or not at all."`
}

// checkCluster says all that is wrong with the settings of a cluster at once.
func (s *settings) checkCluster() error {
	c := &s.ClusterFlags
	var errs []error
	wrong := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--%s: %w", flag, fmt.Errorf(format, args...)))
	}
	for _, f := range []struct {
		flag  string
		set   bool
		modes []string // in which it has an effect; none: in each but off
	}{
		{"cluster-listen", c.Listen != "", []string{clusterEmbedded}},
		{"cluster-routes", len(c.Routes) > 0, []string{clusterEmbedded}},
		{"cluster-advertise", c.Advertise != "", []string{clusterEmbedded}},
		{"cluster-url", c.URL != "", slices.Concat([]string{clusterNATS}, redisModes, []string{clusterPostgres, clusterMongo})},
		{"cluster-prefix", c.Prefix != "", slices.Concat(redisModes, []string{clusterPostgres})},
		{"cluster-table", c.Table != "", []string{clusterPostgres}},
		{"cluster-collection", c.Collection != "", []string{clusterMongo}},
		{"cluster-sharded-mode", c.ShardedMode != "", []string{clusterSharded}},
		{"cluster-stream", c.Stream != "", []string{clusterStreams}},
		{"cluster-stream-count", c.StreamCount != 0, []string{clusterStreams}},
		{"cluster-stream-length", c.StreamLength != 0, []string{clusterStreams}},
		{"cluster-stream-sharded", c.StreamSharded, []string{clusterStreams}},
		{"cluster-credentials", c.Credentials != "", []string{clusterNATS}},
		{"cluster-key-file", c.KeyFile != "", nil},
		{"cluster-tls-cert", c.TLS.Cert != "", nil},
		{"cluster-tls-key", c.TLS.Key != "", nil},
		{"cluster-tls-ca", c.TLS.CA != "", nil},
		{"peer-advertise", s.PeerAdvertise != "", nil},
	} {
		switch {
		case !f.set || slices.Contains(f.modes, s.Cluster) || f.modes == nil && s.Cluster != clusterOff:
		case f.modes == nil:
			wrong(f.flag, "it has no effect while --cluster is off")
		default:
			wrong(f.flag, "it has an effect with --cluster %s only, and that is %s", strings.Join(f.modes, " or "), s.Cluster)
		}
	}
	if _, ok := shardedModes[c.ShardedMode]; !ok {
		wrong("cluster-sharded-mode", "%q is none of dynamic, dynamic-private and static", c.ShardedMode)
	}
	if c.StreamCount < 0 || c.StreamCount > streams.MaxCount {
		wrong("cluster-stream-count", "%d is not between 1 and %d", c.StreamCount, streams.MaxCount)
	}
	if c.StreamLength < 0 {
		wrong("cluster-stream-length", "%d is not above zero", c.StreamLength)
	}
	if s.Cluster == clusterPostgres && c.Table != "" {
		if _, err := postgres.ParseTable(c.Table); err != nil {
			wrong("cluster-table", "%w", err)
		} else if c.Prefix == "" {
			wrong("cluster-table", "it has no effect without --cluster-prefix")
		}
	}
	if c.Lease == 0 {
		wrong("cluster-lease", "0s is too short")
	} else if err := (&adapter.Config{Self: anyNode, Lease: c.Lease}).Validate(); err != nil {
		wrong("cluster-lease", "%w", err)
	}
	if err := (&adapter.Config{Self: anyNode, Window: int(c.Window)}).Validate(); err != nil {
		wrong("cluster-window", "%w", err)
	}
	if err := (&natsbus.External{Node: anyNode.Node, Cluster: c.Name, URL: "nats://any"}).Validate(); err != nil {
		wrong("cluster-name", "%w", err)
	} else if err := lives.CheckName(c.Name, pgbus.MaxName); err != nil && s.Cluster == clusterPostgres {
		wrong("cluster-name", "%w with postgres", err)
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") || (c.TLS.Cert == "") != (c.TLS.CA == "") {
		errs = append(errs, errors.New("--cluster-tls-cert, --cluster-tls-key and --cluster-tls-ca go together: give all or none"))
	}
	if s.Cluster != clusterOff {
		s.checkClusterAddresses(wrong)
	}
	return errors.Join(errs...)
}

// anyNode stands for one whose name is checked elsewhere.
var anyNode = service.Incarnation{Node: "AAAA", Run: 1}

func (s *settings) checkClusterAddresses(wrong func(flag, format string, args ...any)) {
	c := &s.ClusterFlags
	address := func(flag, addr string, known bool) {
		if addr == "" {
			return
		}
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			wrong(flag, "%q is no address of the form HOST:PORT", addr)
		} else if n, err := strconv.ParseUint(port, 10, 16); err != nil || known && n == 0 {
			wrong(flag, "%q is no port", port)
		}
	}
	address("cluster-listen", c.Listen, false)
	for _, route := range c.Routes {
		address("cluster-routes", route, true)
	}
	if here, _, err := net.SplitHostPort(s.clusterListen()); err == nil && here != "" && s.Cluster == clusterEmbedded && loopback(s.clusterListen()) {
		if i := slices.IndexFunc(c.Routes, func(route string) bool { return !loopback(route) }); i >= 0 {
			wrong("cluster-routes", "a node at %s cannot reach this one at %s, which is a loopback address; set --cluster-listen", c.Routes[i], s.clusterListen())
		}
	}
	address("cluster-advertise", c.Advertise, true)
	if err := s.checkURL(); err != nil {
		wrong("cluster-url", "%w", err)
	}
	address("peer-advertise", s.PeerAdvertise, true)
	peer := s.peerListen()
	if s.Peer != "auto" {
		address("peer", peer, false)
	}
	if peer == "" && s.PeerAdvertise != "" {
		wrong("peer-advertise", "there is no --peer address that others could reach by it")
	}
	if c.KeyFile != "" {
		return
	}
	const need = "%s is not a loopback address; that needs --cluster-key-file, so that not everybody may be a node"
	switch {
	case s.Cluster == clusterEmbedded && !loopback(s.clusterListen()):
		wrong("cluster-listen", need, s.clusterListen())
	case s.Peer == "auto" && !loopback(peer):
		wrong("cluster-url", "its server is not on this machine; that needs --cluster-key-file, so that not everybody may be a node")
	case peer != "" && !loopback(peer):
		wrong("peer", need, peer)
	}
}

// clusterListen is where the embedded server listens.
func (s *settings) clusterListen() string {
	if s.ClusterFlags.Listen == "" {
		return defaultClusterListen
	}
	return s.ClusterFlags.Listen
}

// peerListen is where other nodes pass on what they get for this one; "": nowhere.
func (s *settings) peerListen() string {
	switch {
	case s.Peer != "auto":
		return s.Peer
	case s.Cluster == clusterEmbedded:
		host, _, _ := net.SplitHostPort(s.clusterListen()) // else it is told as a bad address
		return net.JoinHostPort(host, "0")
	default:
		if !s.busIsHere() {
			return ":0"
		}
		return "127.0.0.1:0"
	}
}

// busIsHere says whether all servers of the bus are on this machine, and so all nodes; addresses that are none are told
// by checkURL.
func (s *settings) busIsHere() bool {
	var addresses []string
	switch {
	case s.Cluster == clusterNATS:
		for _, u := range splitURLs(s.ClusterFlags.URL) {
			addresses = append(addresses, u.Host)
		}
	case s.onRedis():
		servers, err := redisbus.ParseURL(s.ClusterFlags.URL)
		switch {
		case err != nil:
		case servers.Master != "":
			return false // sentinels that are here may name a server elsewhere
		default:
			addresses = servers.Addresses
		}
	case s.Cluster == clusterMongo:
		server, err := mongodb.ParseURL(s.ClusterFlags.URL)
		switch {
		case err != nil:
		case len(server.Addresses) == 0:
			return false // DNS says where it is
		default:
			addresses = server.Addresses
		}
	case s.Cluster == clusterPostgres:
		server, err := pgdial.ParseURL(s.ClusterFlags.URL)
		if err != nil {
			break
		}
		for _, host := range server.Hosts {
			if !strings.HasPrefix(host, "/") { // a socket of this machine
				addresses = append(addresses, net.JoinHostPort(host, "0"))
			}
		}
	}
	return !slices.ContainsFunc(addresses, func(addr string) bool { return !loopback(addr) })
}

// checkURL says what is wrong with --cluster-url.
func (s *settings) checkURL() error {
	switch url := s.ClusterFlags.URL; {
	case s.Cluster == clusterNATS:
		return checkURLs(url)
	case s.onRedis() && url == "":
		return errors.New("the Redis server is missing, such as redis://127.0.0.1:6379")
	case s.onRedis():
		_, err := redisbus.ParseURL(url)
		return err
	case s.Cluster == clusterMongo && url == "":
		return errors.New("the MongoDB server is missing, such as mongodb://127.0.0.1:27017/database")
	case s.Cluster == clusterMongo:
		_, err := mongodb.ParseURL(url)
		return err
	case s.Cluster == clusterPostgres && url == "":
		return errors.New("the PostgreSQL server is missing, such as postgres://user:password@127.0.0.1:5432/database")
	case s.Cluster == clusterPostgres:
		_, err := pgdial.ParseURL(url)
		return err
	}
	return nil
}

// checkURLs says what is wrong with URLs of NATS servers. A URL may have a password, so an error has none of it.
func checkURLs(list string) error {
	if list == "" {
		return errors.New("the NATS server is missing, such as nats://127.0.0.1:4222")
	}
	for i, u := range splitURLs(list) {
		_, port, err := net.SplitHostPort(u.Host)
		if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || n == 0 || u.Hostname() == "" || u.Scheme != "nats" && u.Scheme != "tls" {
			return fmt.Errorf("server %d of the list is not of the form nats://HOST:PORT or tls://HOST:PORT", i+1)
		}
	}
	return nil
}

// splitURLs are the URLs of a list; one that is none is empty.
func splitURLs(list string) []*url.URL {
	var urls []*url.URL
	for text := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil {
			u = &url.URL{}
		}
		urls = append(urls, u)
	}
	return urls
}
