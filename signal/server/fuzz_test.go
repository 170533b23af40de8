package server_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/internal/memnet"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// FuzzServer plays hosts and guests that say anything at any time. The script
// is a list of steps: an actor, a length, and what the actor then sends. In the
// end another room must work as ever, and nothing may be left behind.
func FuzzServer(f *testing.F) {
	step := func(actor byte, b []byte) []byte { return append([]byte{actor, byte(len(b))}, b...) }
	data := func(pipe uint32) []byte { return (&signal.DataMsg{Pipe: pipe, Payload: []byte("hello")}).Append(nil) }
	cl := func(pipe uint32) []byte { return (&signal.CloseMsg{Pipe: pipe}).Append(nil) }
	script := func(steps ...[]byte) (s []byte) {
		for _, b := range steps {
			s = append(s, b...)
		}
		return s
	}
	f.Add(script(step(actGuest, nil), step(actHost, data(1)), step(actGuest1, data(0)), step(actHost, cl(1)), step(actGuest1, data(0))))
	f.Add(script(step(actGuest, nil), step(actGuest, nil), step(actGuest1, cl(0)), step(actHost, data(1)), step(actHost, data(2))))
	f.Add(script(step(actGuest, nil), step(actReplace, nil), step(actGuest1, data(0)), step(actHost, data(1))))
	f.Add(script(step(actGuest, nil), step(actHost, []byte{0x01}), step(actGuest1, data(7)), step(actWait, []byte{200})))
	f.Add(script(step(actGuest, nil), step(actCut, nil), step(actGuest1, data(0)), step(actShutdown, nil), step(actGuest, nil)))

	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 1000 {
			return // more steps find nothing that fewer do not
		}
		inBubble(t, server.Config{}, func(t *testing.T, n *memnet.Net, s *testServer) {
			p := &play{t: t, n: n, s: s}
			defer p.end()
			p.room = signaltest.RoomOf(playKey)
			p.register()
			for len(script) >= 2 {
				actor, k := script[0], min(int(script[1]), len(script)-2)
				p.step(actor%actors, script[2:2+k])
				script = script[2+k:]
				synctest.Wait()
			}
			if p.down {
				return
			}
			reg := signaltest.Register(t, s.url, signaltest.NewKey(t), from(n, "198.51.100.1"))
			guest := signaltest.Dial(t, s.url, reg.Info().Room, from(n, "198.51.100.2"))
			host := signaltest.Accept(t, reg)
			signaltest.Exchange(t, guest, host, []byte("still well"))
			signaltest.Exchange(t, host, guest, []byte("so am I"))
		})
	})
}

// The actors of a script.
const (
	actHost     = iota // the host sends
	actGuest1          // the first guest sends
	actGuest2          // the second
	actGuest           // another guest comes
	actReplace         // the host registers again
	actCut             // the host's connection is cut
	actWait            // time passes, in seconds
	actShutdown        // the server shuts down
	actors
)

type play struct {
	t    *testing.T
	n    *memnet.Net
	s    *testServer
	room signal.Room
	down bool

	host   *websocket.Conn
	guests []*websocket.Conn
	all    []*websocket.Conn
}

// dial connects somebody who takes all that comes, and keeps the first message.
func (p *play) dial(path string) (*websocket.Conn, signal.Message) {
	tr := &http.Transport{DialContext: p.n.DialFrom("192.0.2.9"), DisableKeepAlives: true}
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, p.s.url+path, &websocket.DialOptions{
		Subprotocols: []string{signal.Subprotocol},
		HTTPClient:   &http.Client{Transport: tr},
	})
	if err != nil {
		return nil, nil
	}
	p.all = append(p.all, ws)
	_, b, err := ws.Read(ctx)
	if err != nil {
		return ws, nil
	}
	m, err := signal.Decode(b)
	if err != nil {
		p.t.Fatalf("the server sent %x: %v", b, err)
	}
	go func() {
		for {
			_, b, err := ws.Read(context.Background())
			if err != nil {
				return
			}
			if _, err := signal.Decode(b); err != nil {
				p.t.Errorf("the server sent %x: %v", b, err)
			}
		}
	}()
	return ws, m
}

func (p *play) send(ws *websocket.Conn, b []byte) {
	if ws != nil {
		_ = ws.Write(context.Background(), websocket.MessageBinary, b)
	}
}

var playKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

func (p *play) register() {
	ws, m := p.dial(signal.PathHost)
	if c, ok := m.(*signal.ChallengeMsg); ok {
		p.send(ws, signed(playKey, "192.0.2.1", c.Nonce).Append(nil))
		p.host = ws
	}

}

func (p *play) step(actor byte, b []byte) {
	switch actor {
	case actHost:
		p.send(p.host, b)
	case actGuest1, actGuest2:
		if i := int(actor - actGuest1); i < len(p.guests) {
			p.send(p.guests[i], b)
		}
	case actGuest:
		ws, _ := p.dial(signal.PathJoin + p.room.String())
		p.guests = append(p.guests, ws)
	case actReplace:
		p.register()
	case actCut:
		if p.host != nil {
			_ = p.host.CloseNow()
		}
	case actWait:
		if len(b) > 0 {
			time.Sleep(time.Duration(b[0]) * time.Second)
		}
	case actShutdown:
		if !p.down {
			p.down = true
			if err := p.s.stop(); err != nil && !errors.Is(err, net.ErrClosed) {
				p.t.Error(err)
			}
		}
	}
}

func (p *play) end() {
	for _, ws := range p.all {
		_ = ws.CloseNow()
	}
}
