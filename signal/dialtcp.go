package signal

import (
	"context"
	"net"
	"time"

	"github.com/pairterm/pairterm/signal/internal/thin"
)

const (
	// connectGap is how long a connection may keep us waiting before another one
	// to the same address is begun beside it (RFC 8305's Connection Attempt
	// Delay): a lost SYN is sent again only after a second, and what a system
	// learned from that makes it slow afterwards, too.
	connectGap = 250 * time.Millisecond
	// maxConnects bounds them. A server that is slow on purpose, or not there,
	// sees no more than so many.
	maxConnects = 5
)

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// impatient returns a dialFunc that begins another connection when the first
// one takes long. Whichever is made first is taken, the others are called off.
// A failure counts when no other attempt is under way. All attempts have ended
// when it returns.
func impatient(dial dialFunc) dialFunc {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	type result struct {
		conn net.Conn
		err  error
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		results := make(chan result, maxConnects)
		started, running := 0, 0
		start := func() {
			started++
			running++
			go func() {
				c, err := dial(ctx, network, addr)
				results <- result{c, err}
			}()
		}
		start()
		gap := time.NewTicker(connectGap)
		defer gap.Stop()
		var won net.Conn
		var failed error // the first: later ones may only tell that they were called off
		for running > 0 {
			select {
			case <-gap.C:
				if won == nil && failed == nil && started < maxConnects {
					start()
				}
			case r := <-results:
				running--
				switch {
				case r.err != nil:
					if failed == nil {
						failed = r.err
					}
				case won == nil:
					won = r.conn
					cancel()
				default:
					_ = r.conn.Close()
				}
			}
		}
		if won == nil {
			return nil, failed
		}
		thin.Set(won)
		return won, nil
	}
}
