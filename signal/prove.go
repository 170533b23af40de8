package signal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pairterm/pairterm/keys"
)

// prove shows to the server that one of the client's keys is one that it
// knows. Meanwhile a person may have to unlock or touch the key, for which
// limit stands still.
func (h *handshake) prove(ctx context.Context, limit *limit, nonce [nonceLen]byte) error {
	ids, offer := offerable(h.opts.Identities)
	if len(ids) == 0 {
		return ErrProofRequired
	}
	if err := h.write(ctx, offer); err != nil {
		return err
	}
	msg, err := h.read(ctx)
	if err != nil {
		return err
	}
	var id keys.Identity
	switch m := msg.(type) {
	case *ChoiceMsg:
		if int(m.Index) >= len(ids) {
			return fmt.Errorf("%w: the server chose key %d of %d", ErrProtocol, m.Index+1, len(ids))
		}
		id = ids[m.Index]
	case *GoodbyeMsg:
		return goodbyeError(m)
	default:
		return fmt.Errorf("%w: unexpected %T", ErrNotASignalServer, msg)
	}

	limit.pause()
	proof, err := id.Sign(ctx, ProveNamespace, ProveInput(h.serverName(), nonce))
	limit.resume()
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrProofRequired, keys.Describe(id.Public(), id.Comment()), err)
	}
	if len(proof) == 0 || len(proof) > MaxProof {
		return fmt.Errorf("%w: a proof of %d bytes cannot be sent", ErrProofRequired, len(proof))
	}
	return h.write(ctx, &ProveMsg{Name: h.serverName(), Proof: proof})
}

// offerable is what fits into an offer, and the offer.
func offerable(all []keys.Identity) ([]keys.Identity, *OfferMsg) {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b keys.Identity) int { return needsTouch(a) - needsTouch(b) })
	var ids []keys.Identity
	offer := &OfferMsg{}
	size := 2
	for _, id := range all {
		blob := id.Public().Marshal()
		if len(ids) == MaxOffers || size+2+len(blob) > MaxOffer {
			continue
		}
		size += 2 + len(blob)
		ids = append(ids, id)
		offer.Keys = append(offer.Keys, blob)
	}
	return ids, offer
}

// needsTouch is 1 for a key on a security key, else 0.
func needsTouch(id keys.Identity) int {
	if strings.HasPrefix(keys.Plain(id.Public()).Type(), "sk-") {
		return 1
	}
	return 0
}

func goodbyeError(m *GoodbyeMsg) *GoodbyeError {
	return &GoodbyeError{Code: m.Code, Retry: min(m.Retry, maxRetryAfter), Text: m.Text}
}

// limit cancels a context some time after it was made, not counting pauses.
type limit struct {
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer   // guarded by mu
	since time.Time     // guarded by mu; the timer runs since
	left  time.Duration // guarded by mu; what the timer was set to
}

// errTimeout is the cause of a context that a limit has cancelled.
var errTimeout = fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)

func newLimit(d time.Duration, cancel context.CancelCauseFunc) *limit {
	l := &limit{cancel: cancel, left: d, since: time.Now()}
	l.timer = time.AfterFunc(d, func() { cancel(errTimeout) })
	return l
}

func (l *limit) pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer.Stop() {
		l.left -= time.Since(l.since)
	}
}

func (l *limit) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since = time.Now()
	l.timer.Reset(max(l.left, time.Second))
}

// stop releases everything; the context ends.
func (l *limit) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer.Stop()
	l.cancel(context.Canceled)
}

// cause is err, or, if a limit is what ended ctx, the limit's words for it.
func cause(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errTimeout) {
		return errTimeout
	}
	return err
}
