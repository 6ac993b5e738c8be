package main

import (
	"fmt"

	"foyer/service/adapter/bridge"
	"foyer/service/adapter/bridge/classic"
	"foyer/service/adapter/redisbus"
)

// openBridge makes the bridge to Socket.IO servers on Node that share this node's rooms, and to emitters. It begins to speak
// once this node has joined its cluster.
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
	servers, err := redisbus.ParseURL(c.URL)
	if err != nil {
		return nil, fmt.Errorf("--cluster-url: %w", err)
	}
	config := classic.Config{
		Addresses: servers.Addresses, Master: servers.Master, User: servers.User, Password: servers.Password, Prefix: c.Prefix,
		UID: bridge.UID(c.Name, f.self.Node), Ours: bridge.UID(c.Name, ""), Marker: c.Name, Logger: f.told.Named("official"),
	}
	if servers.TLS {
		config.TLS = redisbus.Files{CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key}.Config
	}
	return classic.New(config), nil
}
