package peer

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"io"
	"time"
)

// What a guest has missed while it was brought up to date by other means than
// the log of the streams: it asks for it when it has use for it, and gets it on
// the control channel, in small pieces, never in front of the present.

const (
	// MaxHistory bounds what a guest is sent of HostConfig.History at once, in
	// bytes.
	MaxHistory = 256 << 10
	// historyPiece is how much of it goes into a message, in bytes, historyAhead how
	// much may be on its way at once, so that a key never waits behind much of it.
	historyPiece = 2 << 10
	historyAhead = 4 << 10
	// historyGap is the least time between two answers to a guest: it costs the host
	// some milliseconds.
	historyGap = 250 * time.Millisecond
)

var errHistory = errors.New("peer: malformed history")

// compressHistory returns p as it travels.
func compressHistory(p []byte) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.DefaultCompression)
	if err != nil {
		panic(err) // the level is right
	}
	// A bytes.Buffer takes everything.
	_, _ = w.Write(p)
	_ = w.Close()
	return b.Bytes()
}

func expandHistory(p []byte) ([]byte, error) {
	out, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(p)), MaxHistory+1))
	if err != nil || len(out) > MaxHistory {
		return nil, errHistory
	}
	return out, nil
}

// historyAsk is what a guest asks for, in a session.
type historyAsk struct {
	session *session
	from    uint64
}

// ask notes what a guest asks for. What it asked for before and has not got does
// not count any more.
func (g *guest[S]) ask(a historyAsk) {
	for {
		select {
		case g.asks <- a:
			return
		default:
		}
		select {
		case <-g.asks:
		default:
		}
	}
}

// tellHistory sends what the guest asks for until ctx ends.
func (g *guest[S]) tellHistory(ctx context.Context) {
	gap := time.NewTimer(0)
	defer gap.Stop()
	for {
		select {
		case <-gap.C:
		case <-ctx.Done():
			return
		}
		select {
		case a := <-g.asks:
			g.sendHistory(ctx, a)
		case <-ctx.Done():
			return
		}
		gap.Reset(historyGap)
	}
}

// sendHistory sends what was asked for, as fast as the link takes it without making
// anything else wait.
func (g *guest[S]) sendHistory(ctx context.Context, a historyAsk) {
	if g.host.cfg.History == nil {
		return
	}
	history := g.host.cfg.History(a.from)
	if len(history) == 0 || len(history) > MaxHistory {
		return
	}
	history = compressHistory(history)
	for len(history) > 0 {
		piece := history[:min(len(history), historyPiece)]
		history = history[len(piece):]
		if a.session.link.Control().WaitBelow(ctx, historyAhead) != nil {
			return
		}
		if a.session.send(controlHistory{len(history) == 0, string(piece)}) != nil {
			return
		}
	}
}

// AskHistory asks the host for its HostConfig.History since from, which means what
// the application wants it to mean. It comes to OnHistory, unless the link is lost
// meanwhile or the host has none.
func (g *Guest[S]) AskHistory(from uint64) error {
	g.mu.Lock()
	s := g.session
	g.mu.Unlock()
	if s == nil {
		return errors.New("peer: there is no link")
	}
	return s.send(controlAsk{from})
}

// historyReader puts the pieces of a history together.
type historyReader struct{ got []byte }

// add takes a piece, and returns the history when it is complete.
func (r *historyReader) add(m controlHistory) (history []byte, complete bool, err error) {
	// What does not get shorter by compression gets a little longer.
	if len(r.got)+len(m.piece) > MaxHistory+MaxHistory/64 {
		return nil, false, errHistory
	}
	r.got = append(r.got, m.piece...)
	if !m.last {
		return nil, false, nil
	}
	history, err = expandHistory(r.got)
	r.got = nil
	return history, err == nil, err
}
