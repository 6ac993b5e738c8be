package main

import (
	"crypto/tls"
	"errors"
	"fmt"

	"foyer/service/adapter/bridge"
	"foyer/service/adapter/bridge/classic"
	"foyer/service/adapter/bridge/mongo"
	"foyer/service/adapter/bridge/postgres"
	"foyer/service/adapter/bridge/sharded"
	"foyer/service/adapter/bridge/streams"
	"foyer/service/adapter/mongodb"
	"foyer/service/adapter/official"
	"foyer/service/adapter/pgdial"
	"foyer/service/adapter/redisbus"
)

// openBridge makes the bridge to Socket.IO servers on Node that share this node's rooms, and to emitters. It begins to
// speak once this node has joined its cluster.
func (f *foyer) openBridge() (*bridge.Bridge, error) {
	m, err := f.openMedium()
	if err != nil {
		return nil, err
	}
	return bridge.New(f.cluster, f.s.ClusterFlags.Name, f.self.Node, m, f.told), nil
}

// openMedium makes the way to those servers.
func (f *foyer) openMedium() (bridge.Medium, error) {
	c := &f.s.ClusterFlags
	self, ours, log := bridge.UID(c.Name, f.self.Node), bridge.UID(c.Name, ""), f.told.Named("official")
	if f.s.Cluster == clusterPostgres {
		server, err := pgdial.ParseURL(c.URL)
		if err != nil {
			return nil, fmt.Errorf("--cluster-url: %w", err)
		}
		return postgres.New(postgres.Config{Server: server, Prefix: c.Prefix, Table: c.Table, UID: self, Ours: ours, Logger: log})
	}
	if f.s.Cluster == clusterMongo {
		url, err := mongodb.ParseURL(c.URL)
		if err != nil {
			return nil, fmt.Errorf("--cluster-url: %w", err)
		}
		return mongo.New(mongo.Config{URL: url, TLS: c.TLS.forServer(), Collection: c.Collection, UID: self, Ours: ours, Logger: log}), nil
	}
	servers, err := redisbus.ParseURL(c.URL)
	if err != nil {
		return nil, fmt.Errorf("--cluster-url: %w", err)
	}
	var config func() (*tls.Config, error)
	if servers.TLS {
		config = redisbus.Files{CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key}.Config
	}
	shards := sharded.Config{
		Addresses: servers.Addresses, Master: servers.Master, User: servers.User, Password: servers.Password, TLS: config,
		Prefix: c.Prefix, Mode: shardedModes[c.ShardedMode], UID: self, Ours: ours, Marker: c.Name, Logger: log,
	}
	switch f.s.Cluster {
	case clusterSharded:
		return sharded.New(shards), nil
	case clusterStreams:
		s := streams.Config{
			Addresses: servers.Addresses, Master: servers.Master, User: servers.User, Password: servers.Password, TLS: config,
			Prefix: c.Prefix, Stream: c.Stream, Count: c.StreamCount, Length: c.StreamLength, UID: self, Ours: ours, Marker: c.Name, Logger: log,
		}
		if c.StreamSharded {
			shards.Mode, shards.Append = official.Static, official.AppendStreams
			s.Talk = sharded.New(shards)
		}
		return streams.New(s), nil
	}
	return classic.New(classic.Config{
		Addresses: servers.Addresses, Master: servers.Master, User: servers.User, Password: servers.Password, TLS: config,
		Prefix: c.Prefix, UID: self, Ours: ours, Marker: c.Name, Logger: log,
	}), nil
}

// forServer makes the settings of a connection to a server that others run too; nil: what its URL says.
func (c *clusterTLS) forServer() func() (*tls.Config, error) {
	if c.CA == "" {
		return nil
	}
	return redisbus.Files{CA: c.CA, Cert: c.Cert, Key: c.Key}.Config
}

// bridgeError says which setting is at fault when servers on Node cannot be reached.
func bridgeError(err error) error {
	if table, ok := errors.AsType[*postgres.TableError](err); ok {
		return fmt.Errorf("--cluster-table: %w", table)
	}
	if collection, ok := errors.AsType[*mongo.CollectionError](err); ok {
		return fmt.Errorf("--cluster-collection: %w", collection)
	}
	return fmt.Errorf("--cluster-url: %w", err)
}
