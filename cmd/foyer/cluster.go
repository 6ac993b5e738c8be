package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"

	"foyer/service"
	"foyer/service/adapter/natsbus"
)

// minClusterKey is the shortest secret of a cluster in bytes.
const minClusterKey = 16

// clusterKey reads the secret of the cluster; nil: there is none. White space at its ends does not count, since editors
// put a line's end there.
func (s *settings) clusterKey() ([]byte, error) {
	f := source{"--cluster-key-file", s.ClusterFlags.KeyFile}
	if f.path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(f.path)
	if err != nil {
		return nil, fileError(f, err)
	}
	key := bytes.TrimSpace(text)
	if len(key) < minClusterKey {
		return nil, fmt.Errorf("%s: %s: a secret has %d bytes at least, and this has %d", f.flag, f.path, minClusterKey, len(key))
	}
	return key, nil
}

// openBus makes the way to the other nodes. When it returns, the node can be reached, or the server is away and will be
// reached when it comes.
func (f *foyer) openBus(ctx context.Context, node service.NodeID, key []byte) (*natsbus.Bus, error) {
	c := &f.s.ClusterFlags
	if f.s.Cluster == clusterNATS {
		return f.connectBus(node)
	}
	listen := f.s.clusterListen()
	// The server takes no listener; what is wrong with the address is told in the same words as of others.
	try, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return nil, listenError("cluster-listen", listen, err)
	}
	_ = try.Close()
	e := natsbus.Embedded{
		Node: node, Cluster: c.Name, Listen: listen, Routes: c.Routes, Advertise: c.Advertise, SecretKey: key, TLS: f.memberTLS(),
		Logger: f.log.Named("cluster"),
	}
	return natsbus.Embed(e)
}

func (f *foyer) connectBus(node service.NodeID) (*natsbus.Bus, error) {
	c := &f.s.ClusterFlags
	e := natsbus.External{
		Node: node, Cluster: c.Name, URL: c.URL, Credentials: c.Credentials, Logger: f.log.Named("cluster"),
	}
	if c.Credentials != "" {
		if _, err := os.ReadFile(c.Credentials); err != nil {
			return nil, fileError(source{"--cluster-credentials", c.Credentials}, err)
		}
	}
	for _, u := range splitURLs(c.URL) {
		if u.Scheme == "tls" {
			e.CA, e.Cert, e.Key = c.TLS.CA, c.TLS.Cert, c.TLS.Key
		}
	}
	b, err := natsbus.Connect(e)
	if err != nil {
		return nil, fmt.Errorf("--cluster-url: %w", err)
	}
	return b, nil
}

// memberTLS is for both ends of connections between nodes; nil: they have no certificates.
func (f *foyer) memberTLS() *tls.Config {
	if f.s.ClusterFlags.TLS.Cert == "" {
		return nil
	}
	return f.membership.config()
}

// joinCluster will make this node one of a cluster; today it goes as far as to the bus.
func (f *foyer) joinCluster() error {
	key, err := f.s.clusterKey()
	if err != nil {
		return err
	}
	node := service.NodeID(f.s.NodeID)
	if node == "" {
		node = anyNode.Node
	}
	bus, err := f.openBus(context.Background(), node, key)
	if err != nil {
		return err
	}
	return errors.Join(bus.Close(), errors.New("--cluster: nodes cannot join each other yet"))
}
