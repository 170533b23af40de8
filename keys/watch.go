package keys

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// Run watches the files among the sources, and the clock for entries that
// expire, until ctx ends. It returns the context's error. Run it after the
// first successful Load, and once.
func (a *Allowlist) Run(ctx context.Context) error {
	spent := a.Current().expiredBy(time.Now())
	timer := time.NewTimer(a.Current().untilExpiry(time.Now()))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.loaded:
		case <-timer.C:
		}
		wait := a.poll(ctx)
		// Wall clock times are compared at every turn, instead of trusting one
		// long timer, because timers stand still while a machine sleeps.
		now, list := time.Now(), a.Current()
		if n := list.expiredBy(now); n != spent {
			spent = n
			a.notify()
		}
		timer.Reset(min(wait, list.untilExpiry(now)))
	}
}

// poll reads the watched files once and returns when to do so again: soon if one
// of them is changing.
func (a *Allowlist) poll(ctx context.Context) (wait time.Duration) {
	a.mu.Lock()
	var watched []*grantedList
	for _, l := range a.lists {
		if l.loaded && !l.once && l.grant.Source.kind == SourceFile {
			watched = append(watched, l)
		}
	}
	a.mu.Unlock()

	wait = noPoll
	for _, l := range watched {
		wait = min(wait, pollInterval)
		// The content is compared, never only the time and size of the file:
		// those miss two changes within one tick of a coarse clock, and a
		// network file system serves them from a cache, but not an open.
		c, err := readListFile(ctx, l.grant.Source.arg)
		if ctx.Err() != nil {
			return noPoll
		}
		a.mu.Lock()
		warnings, again := a.observeLocked(l, c, err)
		a.mu.Unlock()
		a.tell(warnings)
		if again {
			wait = settleTime
		}
	}
	return wait
}

// observeLocked takes note of what reading l gave, and tells whether to look
// again soon before it counts.
func (a *Allowlist) observeLocked(l *grantedList, c content, err error) (warnings []error, again bool) {
	if err != nil {
		// A file that is just being replaced may be missing for a moment.
		if l.failures++; l.failures == 1 {
			return nil, true
		}
		return l.newsLocked([]error{fmt.Errorf("%s: keeping the last good list: %w", printablePath(l.grant.Source.name()), err)}), false
	}
	if l.failures > 1 {
		l.warned = ""
	}
	l.failures = 0
	sum := sha256.Sum256(c.data)
	if sum == l.sum {
		l.seen = 0
		return nil, false
	}
	if l.seen == 0 || sum != l.next {
		l.next = sum
		if l.seen++; l.seen < maxSettle {
			return nil, true
		}
	}
	warnings, err = l.applyLocked(c)
	if err != nil {
		warnings = l.newsLocked([]error{err})
	}
	return append(warnings, a.publishLocked()...), false
}

// expiredBy returns how many entries have expired at now.
func (l *List) expiredBy(now time.Time) int {
	n := 0
	for _, e := range l.entries {
		if expired(e.ExpiresAt, now) {
			n++
		}
	}
	return n
}

// untilExpiry returns the time to the next expiry of an entry, at most
// pollInterval, or noPoll if none expires.
func (l *List) untilExpiry(now time.Time) time.Duration {
	wait := noPoll
	for _, e := range l.entries {
		if !e.ExpiresAt.IsZero() && !expired(e.ExpiresAt, now) {
			wait = min(wait, pollInterval, e.ExpiresAt.Sub(now))
		}
	}
	return wait
}

// readListFile reads a list from a file or, once, from a pipe such as the
// shell's <(command).
func readListFile(ctx context.Context, path string) (content, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return content{}, plainPathError(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return content{}, plainPathError(err)
	}
	var c content
	switch mode := info.Mode(); {
	case mode.IsDir():
		return content{}, errors.New("is a directory")
	case !mode.IsRegular():
		c.once = true
		stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
	case worldWritable(mode):
		c.warn = fmt.Errorf("%s: everybody on this machine can write to this list (chmod o-w)", printablePath(path))
	}
	c.data, err = io.ReadAll(io.LimitReader(f, maxListFile+1))
	if err != nil {
		return content{}, plainPathError(err)
	}
	return c, nil
}

// plainPathError drops the operation and path from err, for messages that name
// the file already.
func plainPathError(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
