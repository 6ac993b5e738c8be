package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	foyerv1 "foyer/gen/foyer/v1"
)

// foyerDriver drives a Foyer node by its gRPC API: emits by one EmitStream, echoes by one handler.
type foyerDriver struct {
	b      *bench
	conn   *grpc.ClientConn
	rooms  foyerv1.RoomServiceClient
	emits  grpc.BidiStreamingClient[foyerv1.EmitStreamRequest, foyerv1.EmitStreamResponse]
	cancel context.CancelFunc
	ctx    context.Context // of the run, with the token
	args   string          // of every event, behind its number

	reading sync.WaitGroup
}

// most of an API call: rooms of a target, items of a message.
const apiBatch = 1000

func newFoyerDriver(ctx context.Context, b *bench) (*foyerDriver, error) {
	o := b.o
	creds := insecure.NewCredentials()
	if o.APITLS {
		creds = credentials.NewTLS(o.tls("")) // by the name of the address
	}
	conn, err := grpc.NewClient("passthrough:///"+o.API, grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return b.server.dialer(ctx, "tcp", addr) }))
	if err != nil {
		return nil, err
	}
	d := &foyerDriver{b: b, conn: conn, rooms: foyerv1.NewRoomServiceClient(conn), args: `,"` + pad(o.Bytes) + `"]`}
	d.ctx, d.cancel = context.WithCancel(ctx)
	if o.Token != "" {
		d.ctx = metadata.AppendToOutgoingContext(d.ctx, "authorization", "Bearer "+o.Token)
	}
	late := d.soon()
	defer late.Stop()
	if d.emits, err = foyerv1.NewEmitServiceClient(conn).EmitStream(d.ctx); err != nil {
		d.close()
		if err = d.explain(err); !strings.Contains(err.Error(), "while dialing") { //nolint:misspell // gRPC's word
			// Somebody is there, but who?
			err = fmt.Errorf("%w (is it Foyer's API, and does it speak TLS: --api-tls?)", err)
		}
		return nil, err
	}
	d.reading.Go(func() {
		for {
			m, err := d.emits.Recv()
			if err != nil {
				b.fail(d.explain(err))
				return
			}
			for _, r := range m.GetResults() {
				switch ok := r.GetOk(); {
				case ok == nil:
					b.fail(fmt.Errorf("an emit is refused: %s", r.GetError().GetMessage()))
				case ok.GetDroppedSlow() > 0:
					b.fail(fmt.Errorf("%d recipients of an emit were too slow", ok.GetDroppedSlow()))
				}
			}
		}
	})
	return d, nil
}

func (d *foyerDriver) soon() *time.Timer { return d.b.soon("the API at " + d.b.o.API) }

// explain says whose error it is.
func (d *foyerDriver) explain(err error) error {
	if status.Code(err) == codes.Unauthenticated {
		if d.b.o.Token == "" {
			return fmt.Errorf("the API at %s needs a token: give --api-token-file", d.b.o.API)
		}
		return fmt.Errorf("the API at %s does not know the token, which is the first one in --api-token-file", d.b.o.API)
	}
	return fmt.Errorf("the API at %s: %s", d.b.o.API, status.Convert(err).Message())
}

func (d *foyerDriver) join(_ context.Context, clients []*client, room func(who *client) string) error {
	byRoom := map[string][]string{}
	for _, c := range clients {
		byRoom[room(c)] = append(byRoom[room(c)], c.id)
	}
	for name, ids := range byRoom {
		for part := range slices.Chunk(ids, apiBatch) {
			late := d.soon()
			r, err := d.rooms.JoinRooms(d.ctx, &foyerv1.JoinRoomsRequest{Target: &foyerv1.Target{Rooms: part}, Rooms: []string{name}})
			late.Stop()
			if err != nil {
				return d.explain(err)
			}
			if err := d.known(r.GetMatched(), len(part)); err != nil {
				return err
			}
		}
	}
	return nil
}

// known says whether the API knows the clients.
func (d *foyerDriver) known(matched int32, n int) error {
	if int(matched) != n {
		return fmt.Errorf("the API at %s knows %d of %d clients: is it that of the same node?", d.b.o.API, matched, n)
	}
	return nil
}

func (d *foyerDriver) toggle(_ context.Context, who *client, room string) error {
	late := d.soon()
	defer late.Stop()
	target, rooms := &foyerv1.Target{Rooms: []string{who.id}}, []string{room}
	r, err := d.rooms.JoinRooms(d.ctx, &foyerv1.JoinRoomsRequest{Target: target, Rooms: rooms})
	if err != nil {
		return d.explain(err)
	}
	if err := d.known(r.GetMatched(), 1); err != nil {
		return err
	}
	if _, err := d.rooms.LeaveRooms(d.ctx, &foyerv1.LeaveRoomsRequest{Target: target, Rooms: rooms}); err != nil {
		return d.explain(err)
	}
	return nil
}

func (d *foyerDriver) emit(rooms []string, numbers []int64) error {
	items := make([]*foyerv1.EmitStreamItem, len(rooms))
	for i := range rooms {
		items[i] = &foyerv1.EmitStreamItem{Id: uint64(numbers[i]), Emit: &foyerv1.EmitRequest{
			Target:  &foyerv1.Target{Rooms: rooms[i : i+1 : i+1]},
			Payload: &foyerv1.Payload{Event: "bench", Args: &foyerv1.Payload_Json{Json: `[` + strconv.FormatInt(numbers[i], 10) + d.args}},
		}}
	}
	for part := range slices.Chunk(items, apiBatch) {
		if err := d.emits.Send(&foyerv1.EmitStreamRequest{Items: part}); err != nil {
			<-d.ctx.Done() // why, only the receiving side hears
			return context.Cause(d.ctx)
		}
	}
	return nil
}

// echo attaches a handler that sends back what it is asked.
func (d *foyerDriver) echo(context.Context) error {
	late := d.soon()
	defer late.Stop()
	stream, err := foyerv1.NewHandlerServiceClient(d.conn).Attach(d.ctx)
	if err != nil {
		return d.explain(err)
	}
	err = stream.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{
		Namespaces: []string{"/"}, Group: "bench", Events: []string{"bench:echo"}, MaxInFlight: 1 << 16,
	}}})
	if err != nil && !errors.Is(err, io.EOF) { // why it has ended, Recv says
		return d.explain(err)
	}
	for { // sockets that are there already are told of along with it
		m, err := stream.Recv()
		if err != nil {
			return d.explain(err)
		}
		if m.GetRegistered() != nil {
			break
		}
	}
	d.reading.Go(func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				d.b.fail(d.explain(err))
				return
			}
			e := m.GetEvent()
			if e == nil {
				continue
			}
			_ = stream.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_EventReply{EventReply: &foyerv1.EventReply{
				CallId: e.GetCallId(), Args: &foyerv1.Args{Args: &foyerv1.Args_Json{Json: e.GetPayload().GetJson()}},
			}}}) // why it does not go, the next Recv says
		}
	})
	return nil
}

func (d *foyerDriver) acknowledged([]byte) {}

func (d *foyerDriver) close() {
	d.cancel()
	_ = d.conn.Close()
	d.reading.Wait()
}
