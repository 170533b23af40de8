package peer

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// knockLimiter keeps strangers who knock again and again from filling the
// host's screen.
type knockLimiter struct {
	mu         sync.Mutex
	limiter    *rate.Limiter // guarded by mu
	suppressed int           // guarded by mu
}

// Three knocks at once are shown, then one in ten seconds.
func newKnockLimiter() *knockLimiter {
	return &knockLimiter{limiter: rate.NewLimiter(rate.Every(10*time.Second), 3)}
}

// allow reports whether a knock at now may be shown, and how many were not
// since the last that was.
func (l *knockLimiter) allow(now time.Time) (suppressed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.limiter.AllowN(now, 1) {
		l.suppressed++
		return 0, false
	}
	suppressed, l.suppressed = l.suppressed, 0
	return suppressed, true
}
