// Command pairterm shares a terminal with trusted peers, directly from one
// machine to the other.
package main

import (
	"context"
	"io"
	"os"
	ossignal "os/signal"
	"syscall"
)

func main() {
	// A reader of our output that is gone is an error of that write, not the end
	// of the session. Children get the default back.
	ossignal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(run(context.Background(), os.Args, stdio{os.Stdin, os.Stdout, os.Stderr}))
}

// stdio is what a command reads and writes. In and Out may be a terminal.
type stdio struct {
	In  *os.File
	Out *os.File
	Err io.Writer
}
