package sharded

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// servers are those of one Redis Cluster, or one alone.
type servers struct {
	cluster *redis.ClusterClient // nil: it is one alone
	one     *redis.Client
}

func (s *servers) close() error {
	if s.cluster != nil {
		return s.cluster.Close()
	}
	return s.one.Close()
}

// connect makes the clients of what the configuration names. Nothing is reached yet. A server that sentinels know is
// not known here before they have been asked.
func (m *Medium) connect() {
	switch c := &m.cfg; {
	case c.Master == "" && len(c.Addresses) == 1:
		m.servers.Store(&servers{one: m.client(c.Addresses[0])})
	case c.Master == "":
		m.servers.Store(m.clustered())
	}
}

// client makes the client of a server, for all but subscriptions. What has no answer may have been done, so nothing is
// done twice.
func (m *Medium) client(address string) *redis.Client { return redis.NewClient(m.options(address)) }

func (m *Medium) options(address string) *redis.Options {
	return &redis.Options{
		Addr: address, Username: m.cfg.User, Password: m.cfg.Password, Dialer: m.dialer.Dial, OnConnect: sayName, MaxRetries: -1, PoolSize: 4,
		DialTimeout: dialTimeout, DialerRetries: 1, ReadTimeout: m.cfg.callTimeout, WriteTimeout: m.cfg.callTimeout, ContextTimeoutEnabled: true,
		DisableIdentity: true,
	}
}

// sayName gives a connection a name for people; a user that may not give one does.
func sayName(ctx context.Context, c *redis.Conn) error {
	_ = c.ClientSetName(ctx, "foyer-official").Err()
	return nil
}

// clustered makes the client of a Redis Cluster. Only its table of slots is used, which it would read by itself after a
// while: that is left to reload.
func (m *Medium) clustered() *servers {
	const never = 1 << 62
	o := m.options("")
	return &servers{cluster: redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: m.cfg.Addresses, Username: o.Username, Password: o.Password, Dialer: o.Dialer, OnConnect: o.OnConnect, MaxRetries: -1, MaxRedirects: -1,
		PoolSize: o.PoolSize, DialTimeout: o.DialTimeout, DialerRetries: o.DialerRetries, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		ContextTimeoutEnabled: true, DisableIdentity: true, ClusterStateReloadInterval: never,
	})}
}

// earClient makes a client for one subscribing connection. The library would make another one when the first is lost,
// and ask there for all channels in one command: so it can make one only.
func (m *Medium) earClient(address string) *redis.Client {
	var made atomic.Bool
	o := m.options(address)
	o.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		if made.Swap(true) {
			return nil, errLost
		}
		return m.dialer.Dial(ctx, network, address)
	}
	return redis.NewClient(o)
}

// errLost is the answer while servers are not reached.
var errLost = errors.New("the Redis server is away")

// at finds the server of a channel, by what is known of slots. It blocks where nothing is known yet.
func (m *Medium) at(ctx context.Context, channel string) (*redis.Client, error) {
	switch s := m.servers.Load(); {
	case s == nil:
		return nil, errLost
	case s.cluster != nil:
		return s.cluster.MasterForKey(ctx, channel)
	default:
		return s.one, nil
	}
}

// everywhere does something at each server that takes messages, at all of them at once.
func (m *Medium) everywhere(ctx context.Context, do func(context.Context, *redis.Client) error) error {
	switch s := m.servers.Load(); {
	case s == nil:
		return errLost
	case s.cluster != nil:
		return s.cluster.ForEachMaster(ctx, do)
	default:
		return do(ctx, s.one)
	}
}

// reload finds out which server has which slots, or which one is the master.
func (m *Medium) reload(ctx context.Context) {
	m.reloading.Lock()
	defer m.reloading.Unlock()
	ctx, stop := context.WithTimeout(ctx, m.cfg.callTimeout)
	defer stop()
	s := m.servers.Load()
	switch {
	case m.cfg.Master != "":
		if address := m.master(ctx); address != "" && (s == nil || s.one.Options().Addr != address) {
			m.replace(&servers{one: m.client(address)})
		}
	case s.cluster != nil:
		_ = s.slots(ctx)
	default: // it may turn out to be of a Redis Cluster
		if shards, err := s.one.ClusterShards(ctx).Result(); err == nil && len(shards) > 0 {
			if next := m.clustered(); next.slots(ctx) == nil {
				m.replace(next)
			} else {
				_ = next.close()
			}
		}
	}
}

// slots has a cluster say which server has which slots. What was known before holds when it does not.
func (s *servers) slots(ctx context.Context) error {
	return s.cluster.ForEachMaster(ctx, func(context.Context, *redis.Client) error { return nil })
}

// replace has other servers be used from now on.
func (m *Medium) replace(next *servers) {
	if before := m.servers.Swap(next); before != nil {
		_ = before.close()
	}
	if m.ctx.Err() != nil {
		_ = next.close()
	}
}

// master asks sentinels where the master is; "": none of them says it.
func (m *Medium) master(ctx context.Context) string {
	votes := map[string]int{}
	best := ""
	for _, sentinel := range m.cfg.Addresses {
		named := func(user, password string) ([]string, error) {
			o := m.options(sentinel)
			o.Username, o.Password = user, password
			o.ReadTimeout, o.DialTimeout = sentinelTimeout, sentinelTimeout
			s := redis.NewSentinelClient(o)
			defer s.Close()
			return s.GetMasterAddrByName(ctx, m.cfg.Master).Result()
		}
		found, err := named("", "")
		if redis.HasErrorPrefix(err, "NOAUTH") { // it wants what the server wants
			found, err = named(m.cfg.User, m.cfg.Password)
		}
		if err != nil || len(found) != 2 {
			continue
		}
		address := net.JoinHostPort(found[0], found[1])
		if votes[address]++; votes[address] > votes[best] {
			best = address
		}
	}
	return best
}

const sentinelTimeout = 500 * time.Millisecond
