package server

import (
	"sync"
	"time"

	"github.com/pairterm/pairterm/signal/internal/ratelimit"
)

// keyUse counts what every key holds and how often it comes. Only keys that
// were proven are counted, so it never has more entries than the gate's list
// has people, and forgets those who are away.
type keyUse struct {
	mu    sync.Mutex
	users map[string]*keyUser // guarded by mu; by fingerprint
}

type keyUser struct {
	bucket ratelimit.Bucket
	held   int
}

// acquire notes that a key holds one connection more, or says that it may not,
// and how long to wait.
func (u *keyUse) acquire(fingerprint string, now time.Time, l *Limits) (wait time.Duration, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	k := u.users[fingerprint]
	if k == nil {
		if u.users == nil {
			u.users = make(map[string]*keyUser)
		}
		k = new(keyUser)
		u.users[fingerprint] = k
	}
	if k.held >= l.KeyConnections {
		return 0, false
	}
	if !k.bucket.Take(now, l.KeyRate, 1) {
		return k.bucket.Wait(now, l.KeyRate, 1), false
	}
	k.held++
	return 0, true
}

// release notes that a key holds one less.
func (u *keyUse) release(fingerprint string, now time.Time, l *Limits) {
	u.mu.Lock()
	defer u.mu.Unlock()
	k := u.users[fingerprint]
	if k.held--; k.held > 0 {
		return
	}
	for f, k := range u.users {
		if k.held == 0 && k.bucket.Full(now, l.KeyRate) {
			delete(u.users, f)
		}
	}
}
