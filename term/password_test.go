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
	ask := func(t *testing.T, e *terminal, ctx context.Context) (string, error) {
		type answer struct {
			line []byte
			err  error
		}
		answered := make(chan answer)
		go func() {
			line, err := readPasswordFrom(ctx, e.slave, "passphrase: ")
			answered <- answer{line, err}
		}()
		e.expect(t, "passphrase: ")
		switch t.Name() {
		case "TestReadPassword/cancelled":
			ctx.Value("cancel").(context.CancelFunc)()
		case "TestReadPassword/signal":
			if err := unix.Kill(os.Getpid(), unix.SIGHUP); err != nil {
				t.Error(err)
			}
		case "TestReadPassword/end":
			e.typed(t, "\x04")
		default:
			e.typed(t, "sësame\r")
		}
		a := <-answered
		return string(a.line), a.err
	}
	for _, tt := range []struct {
		name, want string
		check      func(error) bool
	}{
		{"typed", "sësame", func(err error) bool { return err == nil }},
		{"cancelled", "", func(err error) bool { return errors.Is(err, context.Canceled) }},
		{"signal", "", func(err error) bool {
			var sig *SignalError
			return errors.As(err, &sig) && sig.Code() == 128+int(unix.SIGHUP)
		}},
		{"end", "", func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
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
			ctx = context.WithValue(ctx, "cancel", cancel) //nolint:staticcheck // a test's own key
			got, err := ask(t, e, ctx)
			if got != tt.want || !tt.check(err) {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
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
