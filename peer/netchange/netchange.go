// Package netchange tells when this machine's networks may have changed: that another
// Wi-Fi, a cable or a VPN is there, an address, or a way out.
package netchange

import (
	"context"
	"time"
)

// settle is how long after a change no other one is told of: they come in bursts.
const settle = 100 * time.Millisecond

// Notify returns a channel that holds a value whenever addresses, interfaces or routes may
// have changed since the last one was taken, until ctx is done. Where the system does not
// tell, there is one every interval. What is there now is for the receiver to see.
func Notify(ctx context.Context, interval time.Duration) <-chan struct{} {
	news, err := subscribe()
	if err != nil {
		return Every(ctx, interval)
	}
	out := make(chan struct{}, 1)
	go func() {
		listen(ctx, news, out)
		repeat(ctx, interval, out) // should the system tell no more
	}()
	return out
}

// Every returns a channel that holds a value every interval, as Notify's does where the
// system does not tell.
func Every(ctx context.Context, interval time.Duration) <-chan struct{} {
	out := make(chan struct{}, 1)
	go repeat(ctx, interval, out)
	return out
}

// listen tells of news until ctx is done, or until there will be no more.
func listen(ctx context.Context, news *subscription, out chan<- struct{}) {
	defer news.Close()
	defer context.AfterFunc(ctx, func() { news.Close() })()
	for news.wait() == nil {
		tell(out)
		select {
		case <-time.After(settle):
		case <-ctx.Done():
			return
		}
		if news.drain() {
			tell(out)
		}
	}
}

func repeat(ctx context.Context, interval time.Duration, out chan<- struct{}) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			tell(out)
		case <-ctx.Done():
			return
		}
	}
}

func tell(out chan<- struct{}) {
	select {
	case out <- struct{}{}:
	default:
	}
}
