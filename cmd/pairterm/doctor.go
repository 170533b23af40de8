package main

import (
	"context"
	"time"

	"github.com/pairterm/pairterm/term"
)

// doctorTimeout bounds an examination. What has not answered by then is reported as
// that.
const doctorTimeout = 9 * time.Second

// runDoctor finds out what works here.
func runDoctor(ctx context.Context, std stdio, ui *ui, o doctorOptions) error {
	ctx, cancel := context.WithTimeout(withoutPrompt(ctx), doctorTimeout)
	defer cancel()
	e := &examination{Version: 1}
	printer := newFindingPrinter(std.Out)
	// Progress would be in the way of findings that come to the terminal later, from a
	// program that reads them.
	progress := term.IsTerminal(std.Out)
	for _, c := range newDoctor(std, o).start(ctx) {
		if progress {
			ui.stage(c.what)
		}
		found := <-c.findings
		ui.done()
		e.add(found...)
		if !o.json {
			for _, f := range found {
				printer.print(f)
			}
		}
	}
	if o.json {
		if err := e.printJSON(std.Out); err != nil {
			return err
		}
	} else {
		ui.infof("%s", e.summary())
	}
	if code := e.Verdict.code(); code != exitOK {
		return exitStatus(code)
	}
	return nil
}

// doctor is an examination under way.
type doctor struct {
	std  stdio
	opts doctorOptions
}

func newDoctor(std stdio, o doctorOptions) *doctor { return &doctor{std, o} }

// check is one part of an examination, which runs beside the others.
type check struct {
	what     string         // in words, while it is waited for
	findings chan []finding // gets the outcome, once
}

// start begins all checks, and returns them in the order in which they are told.
func (d *doctor) start(ctx context.Context) []check {
	var checks []check
	begin := func(what string, examine func(ctx context.Context) []finding) {
		c := check{what, make(chan []finding, 1)}
		checks = append(checks, c)
		go func() { c.findings <- examine(ctx) }()
	}
	servers := newPromise[[]serverResult]()
	host := newPromise[ticketResult]()
	router := newPromise[routerResult]()
	go func() { router.keep(d.askRouter(ctx)) }()
	begin("looking for keys", d.keys)
	begin("reading lists", d.allowed)
	begin("looking at the terminal", d.terminal)
	begin("asking the signaling server", func(ctx context.Context) []finding {
		return reportServers(servers.keep(d.askServers(ctx)))
	})
	begin("asking STUN servers", func(ctx context.Context) []finding {
		return d.explore(ctx, servers.wait(), host.wait()).findings(router.wait())
	})
	begin("looking for the host", func(ctx context.Context) []finding {
		return host.keep(d.askTicket(ctx)).findings()
	})
	return checks
}

// promise is what one check finds for another.
type promise[T any] struct {
	made  chan struct{}
	value T
}

func newPromise[T any]() *promise[T] { return &promise[T]{made: make(chan struct{})} }

// keep sets the value, once, and returns it.
func (p *promise[T]) keep(v T) T {
	p.value = v
	close(p.made)
	return v
}

func (p *promise[T]) wait() T {
	<-p.made
	return p.value
}
