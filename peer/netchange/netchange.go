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
	stop := context.AfterFunc(ctx, func() { news.Close() })
	go func() {
		defer stop()
		for {
			gone := news.wait()
			if ctx.Err() != nil {
				return
			}
			if gone != nil {
				forward(ctx, Every(ctx, interval), out)
				return
			}
			tell(out)
			if pause(ctx, settle) && news.drain() {
				tell(out)
			}
		}
	}()
	return out
}

// Every returns a channel that holds a value every interval, as Notify's does where the
// system does not tell.
func Every(ctx context.Context, interval time.Duration) <-chan struct{} {
	out := make(chan struct{}, 1)
	go func() {
		for pause(ctx, interval) {
			tell(out)
		}
	}()
	return out
}

func tell(out chan<- struct{}) {
	select {
	case out <- struct{}{}:
	default:
	}
}

func forward(ctx context.Context, in <-chan struct{}, out chan<- struct{}) {
	for {
		select {
		case <-in:
			tell(out)
		case <-ctx.Done():
			return
		}
	}
}

// pause reports whether ctx lasted as long.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
