package signal_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/internal/memnet"
	"github.com/pairterm/pairterm/signal/signaltest"
)

func TestPing(t *testing.T) {
	n := new(memnet.Net)
	url, stop := startServer(t, n, "192.0.2.1")
	opts := from(n, "192.0.2.9")
	p, err := signal.Ping(signaltest.Context(t), url, opts)
	if err != nil || p.Server != url || p.RTT <= 0 || p.Skew.Abs() > 2*time.Second {
		t.Errorf("%+v, %v", p, err)
	}
	stop()
	if _, err := signal.Ping(signaltest.Context(t), url, opts); !errors.Is(err, signal.ErrUnreachable) {
		t.Errorf("a server that has gone: %v", err)
	}
}

// The clock is the server's; whatever else answers is told from a server.
func TestPingAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		skew   time.Duration
		want   error
	}{
		{"a clock that is ahead", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(signal.HeaderServer, signal.Version)
			w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		}, time.Hour, nil},
		{"no clock", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(signal.HeaderServer, signal.Version)
			w.Header()["Date"] = nil
		}, 0, nil},
		{"another web server", func(w http.ResponseWriter, r *http.Request) {}, 0, signal.ErrNotASignalServer},
		{"a server that ends", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(signal.HeaderServer, signal.Version)
			w.WriteHeader(http.StatusServiceUnavailable)
		}, 0, signal.ErrShuttingDown},
		{"a proxy without it", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadGateway) }, 0, signal.ErrUnreachable},
		{"a redirection", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://example.org", http.StatusFound)
		}, 0, signal.ErrNotASignalServer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := signal.Ping(signaltest.Context(t), answering(t, tt.answer), nil)
			if !errors.Is(err, tt.want) || tt.want == nil && (p.Skew-tt.skew).Abs() > 2*time.Second {
				t.Errorf("%+v, %v", p, err)
			}
		})
	}
	if _, err := signal.Ping(signaltest.Context(t), "nonsense://", nil); err == nil {
		t.Error("a URL that is none was pinged")
	}
}
