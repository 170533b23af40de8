package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// trace keeps what happens on the way to a direct path, for `join --trace`: the addresses
// and pairs of addresses, and what became of them. It is printed where nobody's terminal is
// raw. Its methods may be called concurrently.
type trace struct {
	begin time.Time // set once

	mu    sync.Mutex
	lines []string // guarded by mu; not printed yet
	more  int      // guarded by mu; how many there was no room for
	ended bool     // guarded by mu; nothing is noted any more
}

// maxTrace bounds the lines that wait to be printed.
const maxTrace = 2000

func newTrace() *trace { return &trace{begin: time.Now()} }

// take returns what has not been printed yet.
func (t *trace) take() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := t.lines
	if t.more > 0 {
		lines = append(lines, fmt.Sprintf("and %d lines more", t.more))
	}
	t.lines, t.more = nil, 0
	return lines
}

// end has nothing more noted: the guest leaves, and how links end then is of no interest. A
// nil trace may end.
func (t *trace) end() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
}

// printTo prints it. A nil trace prints nothing.
func (t *trace) printTo(ui *ui) {
	if t == nil {
		return
	}
	for _, line := range t.take() {
		ui.printf("pairterm: trace: %s", line)
	}
}

// over returns a logger of links, whose messages go to log and into the trace. With a nil
// trace that is log.
func (t *trace) over(log *slog.Logger) *slog.Logger {
	if t == nil {
		return log
	}
	return slog.New(&traceHandler{trace: t, next: log.Handler()})
}

// traceHandler notes what package link logs. What pion says is left out: it is told by its
// attribute.
type traceHandler struct {
	trace *trace
	next  slog.Handler
	link  string // which one
	pion  bool
}

// Enabled implements [slog.Handler].
func (h *traceHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return !h.pion && l >= slog.LevelDebug || h.next.Enabled(ctx, l)
}

// Handle implements [slog.Handler].
func (h *traceHandler) Handle(ctx context.Context, r slog.Record) error {
	if !h.pion && r.Level >= slog.LevelDebug {
		h.note(r)
	}
	// A log that was asked for gets what is traced, whatever its level.
	return h.next.Handle(ctx, r)
}

func (h *traceHandler) note(r slog.Record) {
	var b strings.Builder
	fmt.Fprintf(&b, "%6d ms  ", r.Time.Sub(h.trace.begin).Milliseconds())
	if h.link != "" {
		fmt.Fprintf(&b, "link %s  ", h.link)
	}
	b.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, "  %s=%v", a.Key, a.Value)
		return true
	})
	h.trace.mu.Lock()
	defer h.trace.mu.Unlock()
	if h.trace.ended {
		return
	}
	if len(h.trace.lines) == maxTrace {
		h.trace.more++
		return
	}
	h.trace.lines = append(h.trace.lines, b.String())
}

// WithAttrs implements [slog.Handler].
func (h *traceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.next = h.next.WithAttrs(attrs)
	c.pion = c.pion || slices.ContainsFunc(attrs, func(a slog.Attr) bool { return a.Key == "pion" })
	for _, a := range attrs {
		if a.Key == "link" {
			c.link = a.Value.String()
		}
	}
	return &c
}

// WithGroup implements [slog.Handler].
func (h *traceHandler) WithGroup(name string) slog.Handler {
	c := *h
	c.next = h.next.WithGroup(name)
	return &c
}
