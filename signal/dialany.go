package signal

import (
	"context"
	"errors"
	"net"
	"time"
)

// dialStagger is the head start of each URL before the next, as of RFC 8305:
// the first is usually right, and a dead one must not cost its timeout.
const dialStagger = 150 * time.Millisecond

// DialAny connects a guest to a room at whichever of the URLs has it. The
// first is tried at once, the next ones when it has failed or kept us waiting
// for a moment, side by side; the first that leads to the room wins. A server
// that answers but does not know the room wins nothing. If none does, the
// error is a [*DialError]. All attempts have ended when DialAny returns.
func DialAny(ctx context.Context, urls []string, room Room, opts *Options) (net.Conn, Info, error) {
	type result struct {
		url  string
		conn net.Conn
		info Info
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, len(urls))
	stagger := time.NewTimer(0)
	defer stagger.Stop()

	var won *result
	failed := &DialError{}
	for started, running := 0, 0; running > 0 || won == nil && started < len(urls); {
		var next <-chan time.Time
		if won == nil && started < len(urls) {
			next = stagger.C
		}
		select {
		case <-next:
			u := urls[started]
			started++
			running++
			stagger.Reset(dialStagger)
			go func() {
				r := result{url: u}
				r.conn, r.info, r.err = Dial(ctx, u, room, opts)
				results <- r
			}()
		case r := <-results:
			running--
			switch {
			case r.err != nil:
				failed.Attempts = append(failed.Attempts, &AttemptError{URL: r.url, Err: r.err})
				stagger.Reset(0)
			case won == nil:
				won = &r
				cancel()
			default:
				_ = r.conn.Close()
			}
		}
	}
	if won != nil {
		return won.conn, won.info, nil
	}
	failed.sort()
	return nil, Info{}, failed
}

// errNoURLs is for callers that were given nothing to register at.
var errNoURLs = errors.New("no signaling server given")
