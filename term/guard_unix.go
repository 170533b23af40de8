//go:build unix

package term

import (
	"os"
	ossignal "os/signal"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// stopPatience is how long a process that was stopped waits for word that it was
// continued, as time passes for it.
const stopPatience = 500 * time.Millisecond

// endPatience is how long a process that was continued waits for a signal to end, before
// it takes its terminal again: shells end a stopped job by that and SIGCONT, and leave it
// in the background, where to touch the terminal stops it once more.
const endPatience = 20 * time.Millisecond

// heeded are the signals that end a session, but SIGHUP and SIGINT not if this process
// was started to ignore them, as by nohup and by a script's "&". (Of others Go does not
// say.)
var heeded = slices.DeleteFunc([]os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT}, ossignal.Ignored)

func (g *guard) run(ready chan<- struct{}) {
	defer close(g.done)
	ends := make(chan os.Signal, 1)
	ossignal.Notify(ends, heeded...)
	defer ossignal.Stop(ends)
	stops := make(chan os.Signal, 1)
	continues := make(chan os.Signal, 1)
	if g.tty != nil {
		ossignal.Notify(stops, unix.SIGTSTP)
		defer ossignal.Stop(stops)
		ossignal.Notify(continues, unix.SIGCONT)
		defer ossignal.Stop(continues)
	}
	close(ready)
	for {
		select {
		case <-g.quit:
			return
		case sig := <-ends:
			g.end(sig, ends)
		case <-stops:
			g.suspend(continues)
			g.resume(ends)
		case <-continues:
			g.resume(ends)
		}
	}
}

func (g *guard) end(sig os.Signal, ends chan os.Signal) {
	// A window that is closed is told of by the system, and by the shell in it, too.
	ossignal.Ignore(unix.SIGHUP)
	ossignal.Stop(ends)
	if g.tty != nil {
		_ = g.tty.Restore()
	}
	g.cancel(&SignalError{Signal: sig})
}

// resume takes the terminal again, unless the process was continued to end.
func (g *guard) resume(ends chan os.Signal) {
	select {
	case sig := <-ends:
		g.end(sig, ends)
	case <-time.After(endPatience):
		g.again()
	}
}

// suspend stops the process as SIGTSTP would have without us. It takes SIGSTOP: Go
// keeps its handler for a signal that was once notified of, which ignores this one.
func (g *guard) suspend(continues <-chan os.Signal) {
	if err := g.tty.Suspend(); err != nil {
		return
	}
	if isJob() && unix.Kill(unix.Getpid(), unix.SIGSTOP) == nil {
		select {
		case <-continues:
		case <-time.After(stopPatience):
		case <-g.quit:
		}
	}
}

// isJob reports whether this process is in a group that a shell has made for it, and
// can continue. Others are not stopped by SIGTSTP either (POSIX: orphaned process
// groups), since nobody would continue them.
func isJob() bool {
	session, err := unix.Getsid(0)
	return err == nil && unix.Getpgrp() != session
}

func (g *guard) again() {
	if g.tty.Again() && g.repaint != nil {
		g.repaint()
	}
}

func signalName(sig os.Signal) string {
	if s, ok := sig.(unix.Signal); ok {
		if name := unix.SignalName(s); name != "" {
			return name
		}
	}
	return sig.String()
}

func signalNumber(sig os.Signal) int {
	if s, ok := sig.(unix.Signal); ok {
		return int(s)
	}
	return 1
}
