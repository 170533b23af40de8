//go:build unix

package term

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadPassword(t *testing.T) {
	for _, tt := range []struct {
		name  string
		do    func(e *terminal, cancel func()) error // once it was asked
		want  string
		check func(error) bool
	}{
		{
			"typed", func(e *terminal, _ func()) error { return e.keys("sësame\r") },
			"sësame", func(err error) bool { return err == nil },
		},
		{
			"cancelled", func(_ *terminal, cancel func()) error { cancel(); return nil },
			"", func(err error) bool { return errors.Is(err, context.Canceled) },
		},
		{
			"signal", func(*terminal, func()) error { return unix.Kill(os.Getpid(), unix.SIGHUP) },
			"", func(err error) bool {
				var sig *SignalError
				return errors.As(err, &sig) && sig.Code() == 128+int(unix.SIGHUP)
			},
		},
		{
			"end", func(e *terminal, _ func()) error { return e.keys("\x04") },
			"", func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := openTerminal(t, DefaultSize).show()
			slave, err := unblock(dup(t, e.slave))
			if err != nil {
				t.Fatal(err)
			}
			defer slave.Close()
			e.slave = slave
			before := e.termios(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			type answer struct {
				line []byte
				err  error
			}
			answered := make(chan answer)
			go func() {
				line, err := readPasswordFrom(ctx, slave, "passphrase: ")
				answered <- answer{line, err}
			}()
			e.expect(t, "passphrase: ")
			if err := tt.do(e, cancel); err != nil {
				t.Error(err)
			}
			if got := <-answered; string(got.line) != tt.want || !tt.check(got.err) {
				t.Errorf("got %q, %v; want %q", got.line, got.err, tt.want)
			}
			if now := e.termios(t); now != before {
				t.Errorf("settings are\n%+v, were\n%+v", now, before)
			}
			if seen, _ := e.output(); strings.Contains(seen, "ë") {
				t.Errorf("the password was shown: %q", seen)
			}
		})
	}
}

func dup(t *testing.T, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), f.Name())
}
