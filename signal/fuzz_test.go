package signal_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/internal/memnet"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// FuzzClient plays a server that says anything once it has said Ready. The
// script is a list of lengths and messages. A host that accepts all and echoes
// must get through it, and everything must end when it closes.
func FuzzClient(f *testing.F) {
	script := func(msgs ...signal.Message) (s []byte) {
		for _, m := range msgs {
			b := m.Append(nil)
			s = append(append(s, byte(len(b))), b...)
		}
		return s
	}
	f.Add(script(&signal.OpenMsg{Pipe: 1}, &signal.DataMsg{Pipe: 1, Payload: []byte("hello")}, &signal.CloseMsg{Pipe: 1}))
	f.Add(script(&signal.OpenMsg{Pipe: 1}, &signal.OpenMsg{Pipe: 9}, &signal.CloseMsg{Pipe: 9, Reason: 77}, &signal.GoodbyeMsg{Code: signal.CodeReplaced}))
	f.Add(script(&signal.GoodbyeMsg{Code: 1}, &signal.GoodbyeMsg{Code: 2}, &signal.OpenMsg{Pipe: 1}))
	f.Add(script(&signal.OpenMsg{Pipe: 2}, &signal.OpenMsg{Pipe: 1}))
	key := signaltest.NewKey(f)

	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 2000 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			n := new(memnet.Net)
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{signal.Subprotocol}})
				if err != nil {
					t.Error(err)
					return
				}
				defer func() { _ = ws.CloseNow() }()
				ctx := context.Background()
				send(ctx, ws, &signal.ChallengeMsg{})
				_, _, _ = ws.Read(ctx)
				send(ctx, ws, &signal.ReadyMsg{Room: signaltest.RoomOf(key), PipeBytes: 1 << 20})
				go func() {
					for s := script; len(s) > 0; {
						k := min(int(s[0]), len(s)-1)
						_ = ws.Write(ctx, websocket.MessageBinary, s[1:1+k])
						s = s[1+k:]
					}
				}()
				for {
					_, b, err := ws.Read(ctx)
					if err != nil {
						return
					}
					if _, err := signal.Decode(b); err != nil {
						t.Errorf("the host sent %x: %v", b, err)
					}
				}
			})}
			l := n.Listen("192.0.2.1:80")
			go func() { _ = srv.Serve(l) }()
			defer func() { _ = srv.Close() }()

			reg, err := signal.Register(t.Context(), "ws://192.0.2.1", key, from(n, "192.0.2.9"))
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for {
					c, err := reg.Accept(t.Context())
					if err != nil {
						return
					}
					go func() {
						_, _ = io.Copy(c, c)
						_ = c.Close()
					}()
				}
			}()
			synctest.Wait()
			start := time.Now()
			_ = reg.Close()
			if d := time.Since(start); d > time.Second {
				t.Errorf("closing took %v", d)
			}
		})
	})
}
