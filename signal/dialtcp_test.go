package signal

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// dialed is a connection that counts itself.
type dialed struct {
	net.Conn
	n    int
	open *atomic.Int32
}

func (d *dialed) Close() error { d.open.Add(-1); return nil }

func TestImpatient(t *testing.T) {
	refused := errors.New("refused")
	const never = time.Hour
	type attempt struct {
		takes time.Duration
		err   error
	}
	for _, tc := range []struct {
		name     string
		attempts []attempt // further ones are like the last
		within   time.Duration
		took     time.Duration
		won      int // from 1; 0: none
		err      error
		begun    int32
	}{
		{"at once", []attempt{{0, nil}}, never, 0, 1, nil, 1},
		{"before the second", []attempt{{200 * time.Millisecond, nil}}, never, 200 * time.Millisecond, 1, nil, 1},
		{"the first SYN was lost", []attempt{{time.Second, nil}, {100 * time.Millisecond, nil}}, never, 350 * time.Millisecond, 2, nil, 2},
		{"the first after all", []attempt{{300 * time.Millisecond, nil}, {200 * time.Millisecond, nil}}, never, 300 * time.Millisecond, 1, nil, 2},
		{"far away", []attempt{{600 * time.Millisecond, nil}}, never, 600 * time.Millisecond, 1, nil, 3},
		{"refused", []attempt{{50 * time.Millisecond, refused}}, never, 50 * time.Millisecond, 0, refused, 1},
		{"refused late", []attempt{{time.Second, refused}, {100 * time.Millisecond, nil}}, never, 350 * time.Millisecond, 2, nil, 2},
		{"refused while another is under way", []attempt{{300 * time.Millisecond, refused}, {100 * time.Millisecond, nil}}, never, 300*time.Millisecond + 50*time.Millisecond, 2, nil, 2},
		{"nobody there", []attempt{{never, nil}}, 10 * time.Second, 10 * time.Second, 0, context.DeadlineExceeded, maxConnects},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var begun, open atomic.Int32
				dial := impatient(func(ctx context.Context, _, _ string) (net.Conn, error) {
					n := int(begun.Add(1))
					a := tc.attempts[min(n, len(tc.attempts))-1]
					timer := time.NewTimer(a.takes)
					defer timer.Stop()
					select {
					case <-timer.C:
					case <-ctx.Done():
						return nil, ctx.Err()
					}
					if a.err != nil {
						return nil, a.err
					}
					open.Add(1)
					return &dialed{n: n, open: &open}, nil
				})
				ctx, cancel := context.WithTimeout(t.Context(), tc.within)
				defer cancel()
				begin := time.Now()
				c, err := dial(ctx, "tcp", "192.0.2.1:443")
				if took := time.Since(begin); took != tc.took {
					t.Errorf("took %v, want %v", took, tc.took)
				}
				won := 0
				if c != nil {
					won = c.(*dialed).n
				}
				if won != tc.won || !errors.Is(err, tc.err) || begun.Load() != tc.begun {
					t.Errorf("attempt %d of %d won, %v", won, begun.Load(), err)
				}
				if left := open.Load(); (c != nil && left != 1) || (c == nil && left != 0) {
					t.Errorf("%d connections left open", left)
				}
			})
		})
	}
}
