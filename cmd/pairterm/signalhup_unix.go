//go:build unix

package main

import (
	"context"
	"os"
	ossignal "os/signal"
	"syscall"
)

// hangups receives every SIGHUP until ctx ends.
func hangups(ctx context.Context) <-chan os.Signal {
	hup := make(chan os.Signal, 1)
	ossignal.Notify(hup, syscall.SIGHUP)
	context.AfterFunc(ctx, func() { ossignal.Stop(hup) })
	return hup
}
