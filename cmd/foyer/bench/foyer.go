package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	foyerv1 "foyer/gen/foyer/v1"
)

// foyerDriver drives a Foyer node by its gRPC API: emits by one EmitStream, echoes by one handler.
type foyerDriver struct {
	conn   *grpc.ClientConn
	rooms  foyerv1.RoomServiceClient
	emits  grpc.BidiStreamingClient[foyerv1.EmitStreamRequest, foyerv1.EmitStreamResponse]
	cancel context.CancelFunc
	ctx    context.Context // of the streams
	args   string          // of every event, behind its number

	failed  atomic.Pointer[error]
	reading sync.WaitGroup
}

// most of an API call: rooms of a target, items of a message.
const apiBatch = 1000

func newFoyerDriver(ctx context.Context, addr, token string, bytes int) (*foyerDriver, error) {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	d := &foyerDriver{conn: conn, rooms: foyerv1.NewRoomServiceClient(conn), args: `,"` + pad(bytes) + `"]`}
	d.ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if token != "" {
		d.ctx = metadata.AppendToOutgoingContext(d.ctx, "authorization", "Bearer "+token)
	}
	if d.emits, err = foyerv1.NewEmitServiceClient(conn).EmitStream(d.ctx); err != nil {
		d.close()
		return nil, fmt.Errorf("the API at %s: %w", addr, err)
	}
	d.reading.Go(func() {
		for {
			m, err := d.emits.Recv()
			if err != nil {
				d.fail(fmt.Errorf("EmitStream: %w", err))
				return
			}
			for _, r := range m.GetResults() {
				switch ok := r.GetOk(); {
				case ok == nil:
					d.fail(fmt.Errorf("an emit is refused: %s", r.GetError().GetMessage()))
				case ok.GetDroppedSlow() > 0:
					d.fail(fmt.Errorf("%d recipients of an emit were too slow", ok.GetDroppedSlow()))
				}
			}
		}
	})
	return d, nil
}

func (d *foyerDriver) fail(err error) {
	if d.ctx.Err() == nil {
		d.failed.CompareAndSwap(nil, &err)
	}
}

func (d *foyerDriver) err() error {
	if err := d.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (d *foyerDriver) join(_ context.Context, clients []*client, room func(who *client) string) error {
	byRoom := map[string][]string{}
	for _, c := range clients {
		byRoom[room(c)] = append(byRoom[room(c)], c.id)
	}
	for name, ids := range byRoom {
		for part := range slices.Chunk(ids, apiBatch) {
			r, err := d.rooms.JoinRooms(d.ctx, &foyerv1.JoinRoomsRequest{Target: &foyerv1.Target{Rooms: part}, Rooms: []string{name}})
			if err != nil {
				return fmt.Errorf("join: %w", err)
			}
			if int(r.GetMatched()) != len(part) {
				return fmt.Errorf("join: %d of %d clients are known to the API: is it that of the same node?", r.GetMatched(), len(part))
			}
		}
	}
	return nil
}

func (d *foyerDriver) toggle(_ context.Context, who *client, room string) error {
	target, rooms := &foyerv1.Target{Rooms: []string{who.id}}, []string{room}
	if _, err := d.rooms.JoinRooms(d.ctx, &foyerv1.JoinRoomsRequest{Target: target, Rooms: rooms}); err != nil {
		return err
	}
	_, err := d.rooms.LeaveRooms(d.ctx, &foyerv1.LeaveRoomsRequest{Target: target, Rooms: rooms})
	return err
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
			return errors.Join(d.err(), err)
		}
	}
	return nil
}

// echo attaches a handler that sends back what it is asked.
func (d *foyerDriver) echo(context.Context) error {
	stream, err := foyerv1.NewHandlerServiceClient(d.conn).Attach(d.ctx)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	err = stream.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{
		Namespaces: []string{"/"}, Group: "bench", Events: []string{"bench:echo"}, MaxInFlight: 1 << 16,
	}}})
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("attach: %w", err)
	}
	for { // sockets that are there already are told of along with it
		m, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("attach: %w", err)
		}
		if m.GetRegistered() != nil {
			break
		}
	}
	d.reading.Go(func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				d.fail(fmt.Errorf("the handler's stream: %w", err))
				return
			}
			e := m.GetEvent()
			if e == nil {
				continue
			}
			err = stream.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_EventReply{EventReply: &foyerv1.EventReply{
				CallId: e.GetCallId(), Args: &foyerv1.Args{Args: &foyerv1.Args_Json{Json: e.GetPayload().GetJson()}},
			}}})
			if err != nil {
				d.fail(fmt.Errorf("the handler's stream: %w", err))
				return
			}
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
