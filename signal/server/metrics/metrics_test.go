package metrics_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/server/cluster"
	"github.com/pairterm/pairterm/signal/server/metrics"
	"github.com/pairterm/pairterm/signal/stun"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHandler(t *testing.T) {
	s := server.New(server.Config{})
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	t.Cleanup(func() { _ = s.Shutdown(t.Context()) })
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	reg, err := signal.Register(t.Context(), web.URL, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	guest, _, err := signal.Dial(t.Context(), web.URL, reg.Info().Room, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = guest.Close() })
	host, err := reg.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := guest.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(host, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := signal.Dial(t.Context(), web.URL, signal.Room{}, nil); !errors.Is(err, signal.ErrNoRoom) {
		t.Fatal(err)
	}

	for s.Stats().BytesToHost == 0 { // counted after it was sent
		runtime.Gosched()
	}
	w := httptest.NewRecorder()
	metrics.Handler(s, stun.New(stun.Limits{})).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	for _, want := range []string{
		"pairterm_signal_rooms 1",
		"pairterm_signal_guests 1",
		"pairterm_signal_connections 2",
		`pairterm_signal_setups_total{role="host"} 1`,
		`pairterm_signal_setups_total{role="guest"} 1`,
		`pairterm_signal_refused_total{reason="no such room"} 1`,
		`pairterm_signal_pipe_bytes_total{to="host"} 5`,
		`pairterm_signal_handshake_seconds_bucket{role="guest",le="+Inf"} 1`,
		`pairterm_signal_handshake_seconds_bucket{role="host",le="0.003"}`,
		`pairterm_signal_stun_requests_total{outcome="answered"} 0`,
		"go_goroutines",
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("there is no %s", want)
		}
	}
}

// A server that is alone has no word about others; one that is not says how it is.
func TestCluster(t *testing.T) {
	c, err := cluster.New(cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for config, want := range map[*server.Config]bool{{}: false, {Cluster: c}: true} {
		w := httptest.NewRecorder()
		metrics.Handler(server.New(*config), nil).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		if w.Code != http.StatusOK {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		for _, line := range []string{
			"pairterm_signal_cluster_connected 0",
			"pairterm_signal_cluster_peers 0",
			"pairterm_signal_cluster_pipes 0",
			"pairterm_signal_cluster_connects_total 0",
			"pairterm_signal_cluster_peers_lost_total 0",
			"pairterm_signal_cluster_rooms_yielded_total 0",
			`pairterm_signal_cluster_joins_total{outcome="found"} 0`,
			`pairterm_signal_cluster_messages_total{direction="sent"} 0`,
			"pairterm_signal_cluster_sent_bytes_total 0",
			`pairterm_signal_cluster_messages_refused_total{reason="forged"} 0`,
		} {
			if strings.Contains(w.Body.String(), line) != want {
				t.Errorf("cluster %v: %s: want it there: %v", config.Cluster != nil, line, want)
			}
		}
	}
}
