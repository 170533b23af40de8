package cluster

import (
	"sync/atomic"

	"github.com/pairterm/pairterm/signal/server"
)

// counts are what [Cluster.Stats] tells.
type counts struct {
	connects, lost, yielded, sent, sentBytes, received atomic.Int64

	forged, malformed, replayed, dropped      atomic.Int64
	found, refused, absent, silent, cut, gone atomic.Int64
}

func (n *counts) refuse(why string) {
	switch why {
	case "forged":
		n.forged.Add(1)
	case "replayed":
		n.replayed.Add(1)
	default:
		n.malformed.Add(1)
	}
}

// Stats implements [server.Cluster].
func (c *Cluster) Stats() server.ClusterStats {
	n := &c.counts
	st := server.ClusterStats{
		Connected: c.Ready(),
		Connects:  n.connects.Load(),
		Lost:      n.lost.Load(),
		Yielded:   n.yielded.Load(),
		Sent:      n.sent.Load(),
		SentBytes: n.sentBytes.Load(),
		Received:  n.received.Load(),
		Refused: map[string]int64{
			"forged":    n.forged.Load(),
			"malformed": n.malformed.Load(),
			"replayed":  n.replayed.Load(),
			"overflow":  n.dropped.Load(),
		},
		Joins: map[string]int64{
			"found":   n.found.Load(),
			"refused": n.refused.Load(),
			"no room": n.absent.Load(),
			"silent":  n.silent.Load(),
			"cut off": n.cut.Load(),
			"gave up": n.gone.Load(),
		},
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	st.Peers = int64(c.othersLocked())
	st.Pipes = int64(len(c.pipes))
	return st
}

type counter = atomic.Int64
