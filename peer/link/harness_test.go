package link_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/pairterm/pairterm/peer/link"
	"github.com/pion/logging"
)

// patience bounds tests that would otherwise hang. Nothing waits for it to pass.
const patience = 30 * time.Second

// signaler is one end of an in-memory tunnel. It carries the encoded messages.
type signaler struct {
	out, in chan []byte
	// filter, if set, sees what is sent, and gives what is to arrive instead.
	filter func(link.Message) []link.Message
}

func newSignalers() (a, b *signaler) {
	x, y := make(chan []byte, 256), make(chan []byte, 256)
	return &signaler{out: x, in: y}, &signaler{out: y, in: x}
}

func (s *signaler) Send(ctx context.Context, m link.Message) error {
	msgs := []link.Message{m}
	if s.filter != nil {
		msgs = s.filter(m)
	}
	for _, m := range msgs {
		b, err := m.AppendBinary(nil)
		if err != nil {
			return err
		}
		select {
		case s.out <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (s *signaler) Recv(ctx context.Context) (link.Message, error) {
	select {
	case b, ok := <-s.in:
		if !ok {
			return nil, io.EOF
		}
		return link.ParseMessage(b)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func newTransport(t testing.TB, cfg link.Config) *link.Transport {
	t.Helper()
	tr, err := link.NewTransport(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error("closing a transport:", err)
		}
	})
	return tr
}

// loopback is the configuration of most tests.
func loopback() link.Config { return link.Config{Loopback: link.LoopbackOnly} }

// connect sets up a link between two transports.
func connect(t testing.TB, guest, host *link.Transport) (dialed, accepted *link.Link) {
	t.Helper()
	a, b := newSignalers()
	dialed, accepted, err := connectOver(t, guest, host, a, b)
	if err != nil {
		t.Fatal(err)
	}
	return dialed, accepted
}

func connectOver(t testing.TB, guest, host *link.Transport, a, b link.Signaler) (dialed, accepted *link.Link, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var (
		wg         sync.WaitGroup
		err1, err2 error
	)
	wg.Go(func() { dialed, err1 = guest.Dial(ctx, a) })
	wg.Go(func() { accepted, err2 = host.Accept(ctx, b) })
	wg.Wait()
	return dialed, accepted, errors.Join(err1, err2)
}

// recv reads one message as a string.
func recv(t testing.TB, c *link.Channel) string {
	t.Helper()
	buf := make([]byte, link.MaxMessage)
	n, err := c.Recv(buf)
	if err != nil {
		t.Fatal("receiving:", err)
	}
	return string(buf[:n])
}

func send(t testing.TB, c *link.Channel, msg string) {
	t.Helper()
	if err := c.Send([]byte(msg)); err != nil {
		t.Fatal("sending:", err)
	}
}

// waitDone waits for the end of a link and gives the reason.
func waitDone(t testing.TB, l *link.Link) error {
	t.Helper()
	select {
	case <-l.Done():
		return l.Err()
	case <-time.After(patience):
		t.Fatal("the link did not end")
		return nil
	}
}

// quietLogs swallows what pion says.
type quietLogs struct{}

func (quietLogs) NewLogger(string) logging.LeveledLogger {
	return &logging.DefaultLeveledLogger{}
}
