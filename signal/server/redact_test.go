package server_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// However connections fail, the log shows only where about their clients are,
// unless it is to say more.
func TestLogShortensAddresses(t *testing.T) {
	for full, want := range map[bool]string{false: "127.0.0.0/16", true: "127.0.0.1"} {
		var log lockedBuffer
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		l, err := server.Listen(t.Context(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := startOn(t, server.Config{Logger: logger, FullAddresses: full, TLS: testTLS().server}, l, "wss://"+l.Addr().String())

		// reset ends a connection in a way that the errors of its other end name both.
		reset := func(c net.Conn) {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
		plain, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := plain.Write([]byte("no TLS at all, and long enough to tell\r\n")); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return strings.Contains(log.String(), "TLS handshake error") })
		_ = plain.Close()

		var tcp net.Conn
		ws, _, err := websocket.Dial(signaltest.Context(t), s.url+signal.PathHost, &websocket.DialOptions{
			Subprotocols: []string{signal.Subprotocol},
			HTTPClient: &http.Client{Transport: &http.Transport{
				TLSClientConfig: testTLS().client,
				DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
					var d net.Dialer
					c, err := d.DialContext(ctx, network, addr)
					tcp = c
					return c, err
				},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		reset(tcp)
		_ = ws.CloseNow()
		waitFor(t, func() bool { return strings.Contains(log.String(), "host refused") })
		if err := s.stop(); err != nil {
			t.Error(err)
		}

		text := log.String()
		if !strings.Contains(text, want) || !full && strings.Contains(text, "127.0.0.1") {
			t.Errorf("with full addresses %v the log says\n%s", full, text)
		}
		for _, what := range []string{"TLS handshake error from " + want, "tcp " + want} {
			if !strings.Contains(text, what) {
				t.Errorf("with full addresses %v the log does not say %q:\n%s", full, what, text)
			}
		}
	}
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
