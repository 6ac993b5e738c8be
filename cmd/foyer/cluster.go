package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/mongobus"
	"foyer/service/adapter/natsbus"
	"foyer/service/adapter/pgbus"
	"foyer/service/adapter/redisbus"
	"foyer/transport/passing"
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
	text, err := readBounded(f.path, maxFileBytes)
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
func (f *foyer) openBus(ctx context.Context, node service.NodeID, key []byte) (adapter.Bus, error) {
	c := &f.s.ClusterFlags
	switch {
	case f.s.Cluster == clusterNATS:
		return f.connectNATS(node)
	case f.s.onRedis():
		return f.connectRedis(node)
	case f.s.Cluster == clusterPostgres:
		return f.connectPostgres(node)
	case f.s.Cluster == clusterMongo:
		return f.connectMongo(node)
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
		Logger: f.told.Named("cluster"),
	}
	b, err := natsbus.Embed(e)
	if err != nil {
		return nil, err
	}
	f.clusterAddr = b.RouteAddr().String()
	return b, nil
}

func (f *foyer) connectNATS(node service.NodeID) (adapter.Bus, error) {
	c := &f.s.ClusterFlags
	e := natsbus.External{
		Node: node, Cluster: c.Name, URL: c.URL, Credentials: c.Credentials, Logger: f.told.Named("cluster"),
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

func (f *foyer) connectRedis(node service.NodeID) (adapter.Bus, error) {
	c := &f.s.ClusterFlags
	b, err := redisbus.Connect(redisbus.Config{
		Node: node, Cluster: c.Name, URL: c.URL, CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key, Logger: f.told.Named("cluster"),
	})
	if err != nil {
		return nil, fmt.Errorf("--cluster-url: %w", err)
	}
	return b, nil
}

func (f *foyer) connectPostgres(node service.NodeID) (adapter.Bus, error) {
	c := &f.s.ClusterFlags
	b, err := pgbus.Connect(pgbus.Config{Node: node, Cluster: c.Name, URL: c.URL, Logger: f.told.Named("cluster")})
	if err != nil {
		return nil, fmt.Errorf("--cluster-url: %w", err)
	}
	return b, nil
}

func (f *foyer) connectMongo(node service.NodeID) (adapter.Bus, error) {
	c := &f.s.ClusterFlags
	b, err := mongobus.Connect(mongobus.Config{
		Node: node, Cluster: c.Name, URL: c.URL, TLS: c.TLS.forServer(), Logger: f.told.Named("cluster"),
	})
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

// openCluster makes this node's way to others and what stands for all of them, when there is to be a cluster. Nobody
// hears of this node before join.
func (f *foyer) openCluster(ctx context.Context) (err error) {
	if f.s.Cluster == clusterOff {
		return nil
	}
	c := &f.s.ClusterFlags
	f.self = service.NewIncarnation(service.NodeID(f.s.NodeID))
	if f.clusterKey, err = f.s.clusterKey(); err != nil {
		return err
	}
	if err := f.listenForPeers(ctx); err != nil {
		return err
	}
	bus, err := f.openBus(ctx, f.self.Node, f.clusterKey)
	if err != nil {
		return err
	}
	f.cluster, err = adapter.NewCluster(adapter.Config{
		Self: f.self, Cluster: c.Name, Key: f.clusterKey, Version: buildVersion(), Address: f.peerAddress(), Lease: c.Lease, Window: int(c.Window),
	}, bus, f.log)
	if err != nil {
		return errors.Join(err, bus.Close())
	}
	if f.s.bridged() {
		f.bridge, err = f.openBridge()
	}
	return err
}

// openPassing makes the way of requests to the nodes that have their sessions, when this node is not alone.
func (f *foyer) openPassing() (err error) {
	if f.cluster == nil {
		return nil
	}
	where := func(node service.NodeID) (passing.Member, bool) {
		m, ok := f.cluster.Member(node)
		return passing.Member{Address: m.Address, Silent: m.State == adapter.Silent, Leaving: m.State == adapter.Leaving},
			ok && m.State.Reachable() && m.Address != ""
	}
	f.passing, err = passing.New(passing.Config{
		Self: f.self.Node, Key: f.clusterKey, Where: where, TLS: f.memberTLS(), Most: f.files.passed, SlowAfter: f.s.SlowAfter, Told: f.told,
	})
	return err
}

// servePeers serves what other nodes pass on.
func (f *foyer) servePeers() {
	if f.peerListener == nil {
		return
	}
	l := f.peerConns.listen(f.peerListener)
	if config := f.memberTLS(); config != nil {
		config.NextProtos = []string{"http/1.1"} // an upgrade needs it
		l = tls.NewListener(l, config)
	}
	f.loop("peer", func() error { return f.peerServer.Serve(l) })
}

// join makes this node one of its cluster. It returns when the node may serve.
func (f *foyer) join(ctx context.Context) error {
	if f.cluster == nil {
		return nil
	}
	began := time.Now()
	err := f.cluster.Start(ctx, f.node)
	switch {
	case errors.Is(err, adapter.ErrNameTaken) && f.s.NodeID == "":
		return fmt.Errorf("the name %s, which this node has by chance, is taken (%w): start it again", f.self.Node, err)
	case errors.Is(err, adapter.ErrNameTaken):
		return fmt.Errorf("--node-id: the name %s is taken (%w); stop that node, or give this one another name", f.self.Node, err)
	case errors.Is(err, natsbus.ErrKey):
		return fmt.Errorf("--cluster-key-file: %w", err)
	case errors.Is(err, natsbus.ErrName):
		return fmt.Errorf("--cluster-name: %w", err)
	case errors.Is(err, natsbus.ErrCertificate):
		return fmt.Errorf("--cluster-tls-cert: %w", err)
	case err != nil:
		return err
	}
	if f.bridge != nil {
		if err := f.bridge.Open(); err != nil {
			return bridgeError(err)
		}
	}
	f.joined.Store(true)
	f.api.Ready()
	var others []string
	for _, n := range f.cluster.Nodes() {
		if n.Node != f.self.Node {
			others = append(others, string(n.Node))
		}
	}
	fields := []zap.Field{
		zap.String("node", string(f.self.Node)), zap.String("cluster", f.s.ClusterFlags.Name), zap.Strings("others", others),
		zap.String("listen", f.clusterAddr), zap.String("peer", f.peerAddress()), zap.Bool("bus_up", f.cluster.Up()), zap.Float64("seconds", time.Since(began).Round(time.Millisecond).Seconds()),
	}
	if missing := f.cluster.Missing(); len(missing) > 0 {
		f.log.Warn("joined a cluster of which some nodes have not told all", append(fields, zap.Any("missing", missing))...)
	} else {
		f.log.Info("joined", fields...)
	}
	if f.demo {
		f.startDemo()
	}
	return nil
}

// joining says what a node still waits for that is not ready.
func (f *foyer) joining() error {
	missing := f.cluster.Missing()
	if len(missing) == 0 {
		return errors.New("joining")
	}
	names := make([]string, len(missing))
	for i, name := range missing {
		names[i] = string(name)
	}
	return fmt.Errorf("joining: %s", strings.Join(names, ", "))
}

// taken is closed when another node has taken the name of this one, which slept for too long; nil: this one is alone.
func (f *foyer) taken() <-chan struct{} {
	if f.cluster == nil {
		return nil
	}
	return f.cluster.Refused()
}

// leaveCluster says goodbye when the others have heard all, or ctx has ended.
func (f *foyer) leaveCluster(ctx context.Context) {
	if f.bridge != nil {
		if err := f.bridge.Shut(); err != nil {
			f.log.Warn("way to servers on Node not closed", zap.NamedError("err", err))
		}
	}
	if f.cluster != nil {
		if err := f.cluster.Close(ctx); err != nil {
			f.log.Warn("bus not closed", zap.NamedError("err", err))
		}
	}
	if f.peerListener != nil {
		_ = f.peerListener.Close() // its server has closed it, if there is one
	}
}

// listenForPeers takes the address at which other nodes pass on what they get for this one.
func (f *foyer) listenForPeers(ctx context.Context) (err error) {
	addr := f.s.peerListen()
	if addr == "" {
		return nil
	}
	if f.peerListener, err = new(net.ListenConfig).Listen(ctx, "tcp", addr); err != nil {
		return listenError("peer", addr, err)
	}
	return nil
}

// peerAddress is where other nodes reach that listener; "": there is none.
func (f *foyer) peerAddress() string {
	switch {
	case f.peerListener == nil:
		return ""
	case f.s.PeerAdvertise != "":
		return f.s.PeerAdvertise
	}
	tcp, ok := f.peerListener.Addr().(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return f.peerListener.Addr().String()
	}
	return net.JoinHostPort(ownAddress(), strconv.Itoa(tcp.Port))
}

// ownAddress is the first address of this machine that others can reach, one of IPv4 if there is any.
func ownAddress() string {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return "127.0.0.1"
	}
	found := ""
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		switch {
		case !ok || !n.IP.IsGlobalUnicast():
		case n.IP.To4() != nil:
			return n.IP.String()
		case found == "":
			found = n.IP.String()
		}
	}
	if found == "" {
		return "127.0.0.1"
	}
	return found
}
