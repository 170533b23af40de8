// Package metrics tells Prometheus what a signaling server does. The handler
// that [Handler] returns belongs on an address of its own, which strangers
// cannot reach: the numbers say how many people use the server, though not who.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/stun"
)

// Handler serves the metrics of both servers, of the Go runtime and of the
// process. The STUN server may be nil.
func Handler(s *server.Server, st *stun.Server) http.Handler {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(
		&collector{s, st},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
	})
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("pairterm_signal_"+name, help, labels, nil)
}

var (
	connections = desc("connections", "WebSockets that are open.")
	rooms       = desc("rooms", "Hosts that are registered.")
	guests      = desc("guests", "Guests that have a pipe to a host here, or are about to.")
	queued      = desc("queued_bytes", "Bytes that wait for slow guests.")
	setups      = desc("setups_total", "Handshakes that succeeded: registrations of hosts, and pipes opened for guests.", "role")
	refused     = desc("refused_total", "Requests and handshakes that were refused, and goodbyes to registered hosts, by reason.", "reason")
	allowed     = desc("allowed_total", "Proofs of a key on the list.")
	ended       = desc("pipes_ended_total", "Pipes that ended, by reason.", "reason")
	bytes       = desc("pipe_bytes_total", "Payload carried by pipes.", "to")
	handshakes  = desc("handshake_seconds", "Time from a request to its registration or open pipe, what people take for their passphrases included.", "role")

	// Of servers that are part of a cluster only.
	clusterConnected = desc("cluster_connected", "1 if the other servers can be reached, 0 if not.")
	clusterPeers     = desc("cluster_peers", "Other servers.")
	clusterPipes     = desc("cluster_pipes", "Pipes to other servers, and those about to be.")
	clusterConnects  = desc("cluster_connects_total", "Times that the way to the other servers was found, or found again.")
	clusterLost      = desc("cluster_peers_lost_total", "Other servers that vanished without a word.")
	clusterYielded   = desc("cluster_rooms_yielded_total", "Rooms that were taken at another server.")
	clusterJoins     = desc("cluster_joins_total", "Guests whose room was looked for at other servers, by outcome.", "outcome")
	clusterMessages  = desc("cluster_messages_total", "Messages to and from other servers.", "direction")
	clusterBytes     = desc("cluster_sent_bytes_total", "Bytes sent to other servers.")
	clusterRefused   = desc("cluster_messages_refused_total", "Messages from other servers, or what passes for them, that were thrown away, by reason.", "reason")

	stunTotal = desc("stun_requests_total", "Datagrams to the STUN port: answered, over the limits, or no binding requests.", "outcome")
)

// collector reads the counters when it is asked.
type collector struct {
	server *server.Server
	stun   *stun.Server
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{connections, rooms, guests, queued, setups, refused, allowed, ended, bytes, handshakes} {
		ch <- d
	}
	if c.server.Stats().Cluster != nil {
		for _, d := range []*prometheus.Desc{clusterConnected, clusterPeers, clusterPipes, clusterConnects, clusterLost, clusterYielded, clusterJoins, clusterMessages, clusterBytes, clusterRefused} {
			ch <- d
		}
	}
	if c.stun != nil {
		ch <- stunTotal
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	st := c.server.Stats()
	gauge(connections, st.Connections)
	gauge(rooms, st.Rooms)
	gauge(guests, st.Guests)
	gauge(queued, st.QueuedBytes)
	counter(setups, st.Registrations, "host")
	counter(setups, st.Pipes, "guest")
	counter(allowed, st.Allowed)
	for code, n := range st.Refused {
		counter(refused, n, code.String())
	}
	for reason, n := range st.PipesEnded {
		counter(ended, n, reason.String())
	}
	counter(bytes, st.BytesToHost, "host")
	counter(bytes, st.BytesToGuest, "guest")
	for role, l := range map[string]server.Latency{"host": st.HostLatency, "guest": st.GuestLatency} {
		buckets := make(map[float64]uint64, len(l.Buckets))
		for d, n := range l.Buckets {
			buckets[d.Seconds()] = n
		}
		ch <- prometheus.MustNewConstHistogram(handshakes, l.Count, l.Sum.Seconds(), buckets, role)
	}
	if cl := st.Cluster; cl != nil {
		connected := int64(0)
		if cl.Connected {
			connected = 1
		}
		gauge(clusterConnected, connected)
		gauge(clusterPeers, cl.Peers)
		gauge(clusterPipes, cl.Pipes)
		counter(clusterConnects, cl.Connects)
		counter(clusterLost, cl.Lost)
		counter(clusterYielded, cl.Yielded)
		counter(clusterMessages, cl.Sent, "sent")
		counter(clusterMessages, cl.Received, "received")
		counter(clusterBytes, cl.SentBytes)
		for outcome, n := range cl.Joins {
			counter(clusterJoins, n, outcome)
		}
		for reason, n := range cl.Refused {
			counter(clusterRefused, n, reason)
		}
	}
	if c.stun != nil {
		u := c.stun.Stats()
		counter(stunTotal, u.Answered, "answered")
		counter(stunTotal, u.Limited, "limited")
		counter(stunTotal, u.Ignored, "ignored")
	}
}
