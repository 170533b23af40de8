package term

import (
	"os"
	ossignal "os/signal"
	"syscall"
)

func (g *guard) run(ready chan<- struct{}) {
	defer close(g.done)
	ends := make(chan os.Signal, 1)
	ossignal.Notify(ends, os.Interrupt, syscall.SIGTERM)
	defer ossignal.Stop(ends)
	close(ready)
	for {
		select {
		case <-g.quit:
			return
		case sig := <-ends:
			ossignal.Stop(ends)
			if g.tty != nil {
				_ = g.tty.Restore()
			}
			g.cancel(&SignalError{Signal: sig})
		}
	}
}

func signalName(sig os.Signal) string { return sig.String() }

func signalNumber(sig os.Signal) int {
	if s, ok := sig.(syscall.Signal); ok {
		return int(s)
	}
	return 1
}
