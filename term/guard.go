package term

import (
	"context"
	"fmt"
	"os"
)

// A SignalError is the cause of the end of a context of Protect: the process
// was asked to end by a signal.
type SignalError struct {
	Signal os.Signal
}

// Error says which signal it was.
func (e *SignalError) Error() string { return fmt.Sprintf("ended by %s", signalName(e.Signal)) }

// Code returns the exit status of a process that a signal ended, as shells
// have it: 128 plus the signal's number.
func (e *SignalError) Code() int { return 128 + signalNumber(e.Signal) }

// Protect watches over the terminal t, which may be nil, while a session lasts.
// On SIGINT, SIGTERM, SIGHUP and SIGQUIT, but for SIGINT and SIGHUP where the process was
// started to ignore them, it restores t and cancels the context
// that it returns, with a *SignalError as its cause, so that the program can
// end in order; a second such signal ends it as if Protect were not there, except
// for SIGHUP, which often comes twice and has no effect any more. On SIGTSTP it gives
// t back and stops the process; when it goes on, t is raw again and repaint is called,
// if it is not nil, from a goroutine of Protect's.
//
// release ends the watch and restores t. It should be deferred: then a panic
// on that goroutine restores t, too. (One on another goroutine runs no
// deferred functions; that is a case for StartKeeper.)
func Protect(ctx context.Context, t *TTY, repaint func()) (protected context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	g := &guard{
		tty:     t,
		repaint: repaint,
		cancel:  cancel,
		quit:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	ready := make(chan struct{})
	go g.run(ready)
	<-ready
	return ctx, g.release
}

type guard struct {
	tty     *TTY
	repaint func()
	cancel  context.CancelCauseFunc
	quit    chan struct{}
	done    chan struct{}
}

func (g *guard) release() {
	if g.tty != nil {
		_ = g.tty.Restore()
	}
	select {
	case <-g.quit:
	default:
		close(g.quit)
	}
	<-g.done
	g.cancel(nil)
}
