package classic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// connect makes the library's client for all but subscriptions.
func (m *Medium) connect(cluster bool) redis.UniversalClient {
	c := &m.cfg
	sentinel := func(text string) string { // they may want what the server wants
		if c.Master == "" {
			return ""
		}
		return text
	}
	return redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: c.Addresses, IsClusterMode: cluster, MasterName: c.Master, Username: c.User, Password: c.Password,
		SentinelUsername: sentinel(c.User), SentinelPassword: sentinel(c.Password), Dialer: m.dialer.Dial, OnConnect: sayName,
		MaxRetries: -1, MaxRedirects: -1, DialerRetries: 1, // what has no answer may have been done
		PoolSize: 4, DialTimeout: dialTimeout, ReadTimeout: m.cfg.callTimeout, WriteTimeout: m.cfg.callTimeout, ContextTimeoutEnabled: true,
		DisableIdentity: true,
	})
}

// sayName gives a connection a name for people; a user that may not give one does.
func sayName(ctx context.Context, c *redis.Conn) error {
	_ = c.ClientSetName(ctx, "foyer-official").Err()
	return nil
}

func (m *Medium) redis() redis.UniversalClient {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.client
}

// at makes the library's client of one server, for a connection that subscribes. The library would make another when
// the first is lost, say the subscriptions in an order of its own, and stay where the master is no more: so it can make
// one.
func (m *Medium) at(address string) *redis.Client {
	var made atomic.Bool
	return redis.NewClient(&redis.Options{
		Addr: address, Username: m.cfg.User, Password: m.cfg.Password, OnConnect: sayName, MaxRetries: -1, DialerRetries: 1, PoolSize: 1,
		DialTimeout: dialTimeout, ReadTimeout: m.cfg.callTimeout, WriteTimeout: m.cfg.callTimeout, ContextTimeoutEnabled: true, DisableIdentity: true,
		Dialer: func(ctx context.Context, network, address string) (net.Conn, error) {
			if made.Swap(true) {
				return nil, errLost
			}
			return m.dialer.Dial(ctx, network, address)
		},
	})
}

// where is the address of the server at which this node subscribes, a master.
func (m *Medium) where(ctx context.Context) (string, error) {
	c := &m.cfg
	if c.Master != "" {
		var errs []error
		for _, address := range c.Addresses {
			s := redis.NewSentinelClient(&redis.Options{
				Addr: address, Dialer: m.dialer.Dial, Username: c.User, Password: c.Password, MaxRetries: -1, DialerRetries: 1, DialTimeout: dialTimeout,
				ReadTimeout: dialTimeout, ContextTimeoutEnabled: true, DisableIdentity: true,
			})
			found, err := s.GetMasterAddrByName(ctx, c.Master).Result()
			_ = s.Close()
			if err == nil && len(found) == 2 {
				return net.JoinHostPort(found[0], found[1]), nil
			}
			errs = append(errs, err)
		}
		return "", errors.Join(errs...)
	}
	cluster, ok := m.redis().(*redis.ClusterClient)
	if !ok {
		return c.Addresses[0], nil
	}
	cluster.ReloadState(ctx)
	master, err := cluster.MasterForKey(ctx, c.Marker)
	if err != nil {
		return "", err
	}
	return master.Options().Addr, nil
}

// clustered looks whether the one server that this node was told of is of a Redis Cluster, whose servers each count
// their own.
func (m *Medium) clustered(ctx context.Context) {
	client, ok := m.redis().(*redis.Client)
	if !ok || m.cfg.Master != "" {
		return
	}
	info, err := client.Info(ctx, "cluster").Result() // a user that may not ask has to be told of several servers
	if err != nil || !strings.Contains(info, "cluster_enabled:1") {
		return
	}
	m.mu.Lock()
	m.client = m.connect(true)
	m.mu.Unlock()
	_ = client.Close()
}

// Peers implements bridge.Medium. In a Redis Cluster each server, replicas too, counts its own.
func (m *Medium) Peers(ctx context.Context, namespace string) (int, error) {
	all, ours := m.names.Requests(namespace), m.marker(namespace)
	var mu sync.Mutex
	n := int64(0)
	ask := func(ctx context.Context, c redis.Cmdable) error {
		counts, err := c.PubSubNumSub(ctx, all, ours).Result()
		mu.Lock()
		defer mu.Unlock()
		n += counts[all] - counts[ours]
		return err
	}
	m.mu.Lock()
	client, live := m.client, m.live
	m.mu.Unlock()
	if !live { // nobody's answer would be heard
		return 0, errLost
	}
	var err error
	if cluster, ok := client.(*redis.ClusterClient); ok {
		err = cluster.ForEachShard(ctx, func(ctx context.Context, c *redis.Client) error { return ask(ctx, c) })
	} else {
		err = ask(ctx, client)
	}
	if err != nil {
		return 0, err
	}
	return m.counted(namespace, int(max(0, n)))
}

// maxCounts is of how many namespaces the number of peers is kept.
const maxCounts = 1024

// counted notes how many peers there are. Where they are fewer than before Redis was lost, the others may be about to
// come back, and what is asked would look as if all had answered.
func (m *Medium) counted(namespace string, n int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n < m.counts[namespace] && time.Now().Before(m.settling) {
		return 0, errSettling
	}
	switch {
	case n == 0:
		delete(m.counts, namespace)
	case len(m.counts) < maxCounts || m.counts[namespace] > 0:
		m.counts[namespace] = n
	}
	return n, nil
}

var (
	errLost     = errors.New("the connection that hears servers on Node is lost")
	errSettling = errors.New("servers on Node may not be back yet")
)

func (m *Medium) marker(namespace string) string { return m.cfg.Marker + ".in." + namespace }

// check looks whether the server lets this user do what is needed, by the channels of the first namespace, and nothing
// that a server on Node would notice: to be counted for a moment makes their calls wait. That it is out of reach is no
// error.
func (m *Medium) check() error {
	ctx, stop := context.WithTimeout(m.ctx, openWait)
	defer stop()
	m.clustered(ctx)
	address, err := m.where(ctx)
	if err != nil {
		return nil // it is out of reach
	}
	client := m.at(address)
	defer client.Close()
	sub := client.Subscribe(ctx)
	defer sub.Close()
	const namespace = "/"
	unfinished, unfinishedRequests := m.names.Unfinished(namespace)
	for _, pattern := range []string{m.names.AllResponses(), m.names.Pattern(namespace)} {
		if err := m.try(ctx, sub, "PSUBSCRIBE to "+pattern, sub.PSubscribe(ctx, pattern)); err != nil {
			return err
		}
	}
	for _, channel := range []string{m.marker(namespace), unfinished, unfinishedRequests} {
		if err := m.try(ctx, sub, "SUBSCRIBE to "+channel, sub.Subscribe(ctx, channel)); err != nil {
			return err
		}
	}
	channel := m.names.Responses(namespace)
	if err := m.redis().Publish(ctx, channel, `{"requestId":"none"}`).Err(); err != nil {
		return m.refusal("PUBLISH to "+channel, err)
	}
	if err := m.redis().PubSubNumSub(ctx, channel).Err(); err != nil {
		return m.refusal("PUBSUB NUMSUB", err)
	}
	return nil
}

// try waits for what a server says to a subscription.
func (m *Medium) try(ctx context.Context, sub *redis.PubSub, what string, err error) error {
	for err == nil {
		var got any
		if got, err = sub.ReceiveTimeout(ctx, openWait); err == nil {
			if _, is := got.(*redis.Subscription); is {
				return nil
			}
		}
	}
	return m.refusal(what, err)
}

// refusal says what a user has to be allowed; nil: the server has not refused.
func (m *Medium) refusal(what string, err error) error {
	if !refused(err) {
		return nil
	}
	channels := strings.TrimSuffix(m.names.AllResponses(), "-response#*")
	return fmt.Errorf("the Redis server does not let this user %s, and to share rooms with servers on Node Foyer needs SUBSCRIBE, PSUBSCRIBE, PUBLISH and PUBSUB "+
		"with the channels %s* and %s.in.*, and with the patterns %s and %s for each namespace, which its rules have to name letter by letter; else leave --cluster-prefix out: %w",
		what, channels, m.cfg.Marker, m.names.AllResponses(), m.names.Pattern("/"), err)
}

// refused says whether a server has said that a user may not.
func refused(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer) && strings.HasPrefix(answer.Error(), "NOPERM")
}
