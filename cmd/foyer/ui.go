package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"foyer/cmd/foyer/adminui"
	"foyer/cmd/foyer/web"
	"foyer/service"
	"foyer/transport/engineio"
	"foyer/transport/grpcapi"
	"foyer/transport/socketio"
)

const (
	uiPath     = "/ui/"
	uiProtocol = "/socket.io/" // where the page looks for its server unless it is told another path

	maxOperators      = 50 // links of pages
	maxOperatorBytes  = 8 << 20
	operatorQueue     = 1 << 20 // of a page; what is larger goes alone
	operatorBudget    = 64 << 20
	operatorPagesWait = 20 * time.Second // for a page that takes nothing
)

// ui is the Admin UI: its files, and a hall of the operators' own. It is a node without others, which nobody reaches
// but by the admin address. All of it is nil or zero without --ui.
type ui struct {
	users         adminui.Users
	refused, slow atomic.Int64 // logins, and pages that were closed

	node   *service.Node
	engine *engineio.Server
	api    *grpcapi.Server
	memory *grpcapi.Memory
	files  http.Handler
	conns  [2]*grpc.ClientConn // to the hall's API and to ours
	main   *grpcapi.Memory     // of ours
	stop   context.CancelFunc
}

// openUI makes the parts of the Admin UI. The API is there already.
func (f *foyer) openUI() (err error) {
	u := &f.ui
	if !f.s.UI {
		return nil
	}
	told := f.told.Named("ui")
	u.node, err = service.New(service.Config{
		Namespaces:  []service.NamespaceConfig{{Pattern: "/", Connect: service.ConnectHandler}, {Pattern: adminui.Namespace, Connect: service.ConnectHandler}},
		HandlerWait: 2 * time.Second, HoldStream: operatorPagesWait,
		MaxPayloadBytes: maxOperatorBytes, MaxNamespaces: 2, MaxPendingConnects: maxOperators, MaxHandlers: 4, MaxWatchers: 1,
		Budget: service.NewBudget(operatorBudget), Logger: f.log.Named("ui"), Told: told,
	})
	if err != nil {
		return err
	}
	links, err := socketio.New(socketio.Config{MaxNamespaces: 2, MaxPayload: 64 << 10, MaxPacketBytes: 64 << 10, Told: told}, u.node)
	if err != nil {
		return err
	}
	u.engine, err = engineio.New(engineio.Config{
		Path: uiProtocol, MaxPayload: 64 << 10, QueueBytes: operatorQueue, SlowAfter: operatorPagesWait,
		Budget: use{u.node.Budget(), service.UseOutbound}, Inbound: use{u.node.Budget(), service.UseInbound},
		MaxSessions: maxOperators, TrustedProxies: f.s.TrustedProxy, HandshakeRate: 20, HandshakeBurst: 100, MessageRate: 100, MessageBurst: 500, Told: told,
	}, links.Accept)
	if err != nil {
		return err
	}
	if u.api, err = grpcapi.New(grpcapi.Config{Told: told}, u.node); err != nil {
		return err
	}
	u.files, u.memory, u.main = web.AdminUI(uiPath), grpcapi.NewMemory(), grpcapi.NewMemory()
	for i, m := range []*grpcapi.Memory{u.memory, u.main} {
		u.conns[i], err = grpc.NewClient("passthrough:///memory", grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return m.Dial(ctx) }),
			grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(ownToken(f.firstToken)),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
		if err != nil {
			return fmt.Errorf("connect the Admin UI: %w", err)
		}
	}
	return nil
}

// tune has the settings hold that can change while the node runs. The error is of a setting that is wrong.
func (u *ui) tune(s *settings) error {
	if u.engine == nil {
		return nil
	}
	l := u.engine.Limits()
	l.TrustedProxies = s.TrustedProxy
	return u.engine.SetLimits(l)
}

// withUI puts the Admin UI before the rest of the admin address. Its files are the ones that npm has, for everybody;
// its namespace looks at each login.
func (f *foyer) withUI(rest http.Handler) http.Handler {
	u := &f.ui
	if u.engine == nil {
		return rest
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case path == strings.TrimSuffix(uiPath, "/"):
			http.Redirect(w, r, "ui/", http.StatusMovedPermanently) // relative, so that it works below a proxy's path
		case strings.HasPrefix(path, uiPath):
			u.files.ServeHTTP(w, r)
		case strings.HasPrefix(path, uiProtocol):
			u.engine.ServeHTTP(w, r)
		default:
			rest.ServeHTTP(w, r)
		}
	})
}

// serveUI begins to serve operators. What that takes has the label part=admin-ui in profiles.
func (f *foyer) serveUI() {
	u := &f.ui
	if u.engine == nil || f.adminListener == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	u.stop = cancel
	host, _ := os.Hostname()
	pprof.Do(ctx, pprof.Labels("part", "admin-ui"), func(ctx context.Context) {
		f.loop("ui hall", func() error { return u.api.ServeMemory(u.memory) })
		f.loop("ui api", func() error { return f.api.ServeMemory(u.main) })
		f.serving.Go(func() {
			_ = adminui.Run(ctx, adminui.Config{
				Hall: u.conns[0], API: u.conns[1], Users: &u.users, Token: f.isToken, ReadOnly: f.s.UIReadOnly, Namespaces: f.shownNamespaces,
				Links: f.shownLinks, Hostname: host, PID: os.Getpid(), Log: f.log.Named("ui"), Told: f.told.Named("ui"), Count: u.count,
			})
		})
	})
}

// count counts what the panel has refused or closed.
func (u *ui) count(reason string) {
	switch reason {
	case adminui.ReasonLogin:
		u.refused.Add(1)
	case adminui.ReasonSlow:
		u.slow.Add(1)
	}
}

// ownToken shows a token of the API's own, whichever there is with each call.
type ownToken func() string

// GetRequestMetadata is called by gRPC.
func (o ownToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if token := o(); token != "" {
		return map[string]string{"authorization": "Bearer " + token}, nil
	}
	return map[string]string{}, nil
}

// RequireTransportSecurity is called by gRPC; the connection is in memory.
func (ownToken) RequireTransportSecurity() bool { return false }

// takeUsers reads the file of passwords.
func (u *ui) takeUsers(contents [][]byte) (string, error) {
	news, err := u.users.Take(contents[0])
	if err != nil {
		return "", &contentError{0, err}
	}
	return news, nil
}

// shownNamespaces are those that operators see: the configured ones, whether or not this node has sockets in them, and
// those that are in use here.
func (f *foyer) shownNamespaces(most int) []string {
	names := append([]string{"/"}, f.node.Namespaces(most)...)
	for _, name := range f.s.Namespaces {
		if !strings.HasSuffix(name, "*") {
			names = append(names, service.Canonical(name))
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return names[:min(most, len(names))]
}

// shownLinks are the links of this node.
func (f *foyer) shownLinks() adminui.Links {
	m := f.engine.Measure()
	l := adminui.Links{Polling: m.Sessions[engineio.Polling], Opened: m.Opened}
	for t := range engineio.Transports {
		l.Open += m.Sessions[t]
		l.PacketsIn += m.In[t].Packets
		l.PacketsOut += m.Out[t].Packets
		l.BytesIn += m.In[t].Bytes
		l.BytesOut += m.Out[t].Bytes
	}
	return l
}

// close ends all of it.
func (u *ui) close() {
	if u.engine == nil {
		return
	}
	if u.stop != nil {
		u.stop()
	}
	u.engine.Close()
	u.node.Close()
	u.api.Stop()
	for _, c := range u.conns {
		if c != nil {
			_ = c.Close()
		}
	}
	u.memory.Close()
	u.main.Close()
}

// tellUI says where it is, once the node listens.
func (f *foyer) tellUI() {
	if f.ui.engine != nil && f.adminListener != nil {
		f.log.Info("admin UI", zap.String("url", "http://"+browsable(f.adminListener.Addr())+uiPath), zap.Bool("readonly", f.s.UIReadOnly))
	}
}
