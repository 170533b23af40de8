//go:build unix

package term

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	ossignal "os/signal"
	"time"

	"golang.org/x/sys/unix"
)

func readPassword(ctx context.Context, prompt string) ([]byte, error) {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: cannot ask for a password: %w", ErrNotTerminal, err)
	}
	defer f.Close()
	return readPasswordFrom(ctx, f, prompt)
}

func readPasswordFrom(ctx context.Context, f *os.File, prompt string) ([]byte, error) {
	before, err := getTermios(f)
	if err != nil {
		return nil, ErrNotTerminal
	}
	// Signals first, so that none can end the process without an echo.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	ossignal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer ossignal.Stop(signals)

	hidden := *before
	hidden.Lflag &^= unix.ECHO | unix.ECHONL
	hidden.Lflag |= unix.ICANON | unix.ISIG
	hidden.Iflag |= unix.ICRNL
	if err := setTermios(f, &hidden); err != nil {
		return nil, err
	}
	defer func() {
		_ = setTermios(f, before)
		_, _ = io.WriteString(f, "\r\n")
	}()
	if _, err := io.WriteString(f, prompt); err != nil {
		return nil, err
	}

	var r deadlineReader = f
	if f.SetReadDeadline(time.Time{}) != nil {
		p := newPump(f)
		defer p.Close()
		r = p
	}
	done := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case sig := <-signals:
			cancel(&SignalError{Signal: sig})
		case <-ctx.Done():
		case <-done:
			return
		}
		_ = r.SetReadDeadline(time.Unix(1, 0))
	}()
	line, err := readLine(r)
	close(done)
	<-watched
	if ctx.Err() != nil {
		clear(line)
		return nil, context.Cause(ctx)
	}
	return line, err
}

// readLine reads up to the end of a line, which a terminal hands over whole.
func readLine(r io.Reader) ([]byte, error) {
	line := make([]byte, 0, maxPassword)
	for {
		if len(line) == cap(line) {
			return nil, errors.New("the password is too long")
		}
		n, err := r.Read(line[len(line):cap(line)])
		line = line[:len(line)+n]
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			return line[:i], nil
		}
		if errors.Is(err, io.EOF) || n == 0 && err == nil {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
	}
}
