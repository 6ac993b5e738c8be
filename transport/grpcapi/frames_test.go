package grpcapi

import (
	"encoding/binary"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestProgress holds what is counted against a model, whatever is sent and wherever it is cut.
func TestProgress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type stream struct {
			queue []byte // of messages that are to be sent
			left  int64  // of the one that is being sent
			head  int    // of it: bytes of its head that were sent
			got   int64
		}
		streams := map[uint32]*stream{}
		next := uint32(1)
		var wire []byte
		held := int64(0)
		p := newProgress()
		p.read(make([]byte, clientGreeting))
		pass := func(take func([]byte)) {
			for len(wire) > 0 {
				n := rapid.IntRange(1, len(wire)).Draw(t, "cut")
				take(wire[:n])
				wire = wire[n:]
			}
		}
		read := func(b []byte) { p.read(b) }
		pick := func() uint32 { return rapid.Uint32Range(0, (next-1)/2).Draw(t, "stream")*2 + 1 }
		end := func(id uint32) {
			if s := streams[id]; s != nil {
				held -= s.got
				delete(streams, id)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"open": func(*rapid.T) {
				streams[next] = &stream{}
				wire = append(wire, frameBytes(frameHeaders, 4, next, []byte("headers"))...)
				next += 2
				pass(read)
			},
			"send": func(t *rapid.T) {
				id := pick()
				s := streams[id]
				size := rapid.IntRange(0, 300).Draw(t, "size")
				padding := rapid.IntRange(0, 20).Draw(t, "padding")
				last := rapid.IntRange(0, 9).Draw(t, "last") == 0
				var data []byte
				if s == nil {
					data = make([]byte, size) // gRPC knows no such stream
				} else {
					for len(s.queue) < size {
						n := rapid.IntRange(0, 400).Draw(t, "message")
						s.queue = append(binary.BigEndian.AppendUint32(append(s.queue, 0), uint32(n)), make([]byte, n)...)
					}
					data, s.queue = s.queue[:size], s.queue[size:]
					for _, b := range data { // byte by byte: as simple as it can be
						if s.head < messageHead {
							s.head++
							s.left = s.left<<8 | int64(b)
						} else {
							s.left--
							s.got++
							held++
						}
						if s.head == messageHead && s.left == 0 {
							held -= s.got
							s.head, s.got = 0, 0
						}
					}
				}
				flags, payload := byte(0), data
				if padding > 0 {
					flags |= flagPadded
					payload = append(append([]byte{byte(padding)}, data...), make([]byte, padding)...)
				}
				if last {
					flags |= flagEnd
				}
				wire = append(wire, frameBytes(frameData, flags, id, payload)...)
				pass(func(b []byte) {
					read(b)
					if other := pick(); other != id && rapid.IntRange(0, 3).Draw(t, "meanwhile") == 0 {
						p.wrote(frameBytes(frameHeaders, 4|flagEnd, other, nil))
						end(other)
					}
				})
				if last {
					end(id)
				}
			},
			"reset": func(*rapid.T) {
				id := pick()
				wire = append(wire, frameBytes(frameReset, 0, id, make([]byte, 4))...)
				pass(read)
				end(id)
			},
			"answer": func(t *rapid.T) {
				id := pick()
				last := rapid.Bool().Draw(t, "last")
				var flags byte
				if last {
					flags = flagEnd
				}
				wire = append(wire, frameBytes(frameData, 0, id, make([]byte, 30))...)
				wire = append(wire, frameBytes(frameHeaders, 4|flags, id, []byte("trailers"))...)
				pass(p.wrote)
				if last {
					end(id)
				}
			},
			"other": func(*rapid.T) {
				wire = append(wire, frameBytes(6, 0, 0, make([]byte, 8))...)
				wire = append(wire, frameBytes(4, 0, 0, nil)...)
				wire = append(wire, frameBytes(frameWindow, 0, pick(), []byte{0, 0, 1, 0})...)
				pass(read)
			},
			"": func(t *rapid.T) {
				if p.held != held || len(p.streams) != len(streams) {
					t.Fatalf("counted %d bytes of %d streams, want %d of %d", p.held, len(p.streams), held, len(streams))
				}
			},
		})
	})
}

// TestProgressIsOlder: a message is late when its peer may send and does not, and not when it waits for us.
func TestProgressIsOlder(t *testing.T) {
	p := newProgress()
	p.read(make([]byte, clientGreeting))
	late := func() bool { return p.older(time.Now().Add(time.Hour).UnixNano()) }
	want := func(what string, want bool) {
		t.Helper()
		if late() != want {
			t.Errorf("%s: late %t, want %t", what, !want, want)
		}
	}
	p.read(frameBytes(frameHeaders, 4, 1, nil))
	want("a stream without a message", false)
	const rest = 1000 // beyond the window
	p.read(frameBytes(frameData, 0, 1, []byte{0, 0, (streamWindow + rest) >> 16}))
	want("half a head", true)
	if p.older(time.Now().Add(-time.Hour).UnixNano()) {
		t.Error("a message that has just begun is late")
	}
	p.read(frameBytes(frameData, 0, 1, append([]byte{(streamWindow + rest) >> 8 & 0xff, rest & 0xff}, make([]byte, streamWindow-5)...)))
	want("the window is used up", false)
	p.wrote(frameBytes(frameWindow, 0, 1, []byte{0, 8, 0, 0}))
	want("the peer may go on", true)
	p.read(frameBytes(frameData, 0, 1, make([]byte, rest+5)))
	want("the message is complete", false)
	p.read(frameBytes(frameData, 0, 1, []byte{0, 0, 0, 0, 9}))
	want("the next one has begun", true)
	p.wrote(frameBytes(frameHeaders, 4|flagEnd, 1, nil))
	want("the stream has ended", false)
	p.read(frameBytes(frameData, 0, 1, []byte{0, 0, 0, 0, 9, 1}))
	want("what comes after its end", false)
	if p.held != 0 || len(p.streams) != 0 {
		t.Errorf("%d bytes of %d streams are held, want none", p.held, len(p.streams))
	}
}

// FuzzProgress: whatever a client sends, what is counted is not more than what it has sent, nor less than nothing.
func FuzzProgress(f *testing.F) {
	call := append(make([]byte, clientGreeting), frameBytes(frameHeaders, 4, 1, []byte("headers"))...)
	f.Add(call, uint16(3))
	f.Add(append(call, frameBytes(frameData, flagPadded, 1, []byte{1, 0, 0, 0, 0, 9, 1, 0})...), uint16(40))
	f.Add(append(call, frameBytes(frameData, flagPadded|flagEnd, 1, []byte{200, 0})...), uint16(1000))
	f.Add(append(call, frameBytes(frameData, 0, 1, []byte{0, 255, 255, 255, 255, 1})...), uint16(9))
	f.Fuzz(func(t *testing.T, wire []byte, cut uint16) {
		p, whole := newProgress(), newProgress()
		n := min(int(cut), len(wire))
		p.read(wire[:n])
		p.wrote(wire[:n])
		p.read(wire[n:])
		whole.read(wire[:n])
		whole.wrote(wire[:n])
		for i := range wire[n:] {
			whole.read(wire[n+i : n+i+1])
		}
		if p.held < 0 || p.held > int64(len(wire)) {
			t.Errorf("%d bytes are counted of %d", p.held, len(wire))
		}
		if p.held != whole.held || len(p.streams) != len(whole.streams) {
			t.Errorf("at once %d bytes of %d streams, byte by byte %d of %d", p.held, len(p.streams), whole.held, len(whole.streams))
		}
	})
}

// BenchmarkProgress is what a message costs that comes in one frame, a few with each read.
func BenchmarkProgress(b *testing.B) {
	p := newProgress()
	p.read(append(make([]byte, clientGreeting), frameBytes(frameHeaders, 4, 1, nil)...))
	var wire []byte
	for range 4 {
		wire = append(wire, frameBytes(frameData, 0, 1, append([]byte{0, 0, 0, 0, 150}, make([]byte, 150)...))...)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.read(wire)
	}
	if p.held != 0 {
		b.Fatal("something is held")
	}
}
