package seal_test

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/pairterm/pairterm/peer/seal"
)

// pipe is one direction-pair of an in-memory channel whose messages the test can
// touch on the way.
type pipe struct {
	out, in chan []byte
	tamper  func([]byte) [][]byte // what arrives instead of a message
	refuse  error                 // announced by CheckSend
	fail    error                 // returned by Send

	closeOnce sync.Once
	closed    chan struct{}
}

func newPipe() (a, b *pipe) {
	x, y := make(chan []byte, 64), make(chan []byte, 64)
	return &pipe{out: x, in: y, closed: make(chan struct{})}, &pipe{out: y, in: x, closed: make(chan struct{})}
}

func (p *pipe) Send(m []byte) error {
	if p.fail != nil {
		return p.fail
	}
	msgs := [][]byte{append([]byte(nil), m...)}
	if p.tamper != nil {
		msgs = p.tamper(msgs[0])
	}
	for _, m := range msgs {
		p.out <- m
	}
	return nil
}

func (p *pipe) CheckSend(int) error { return p.refuse }

func (p *pipe) Recv(b []byte) (int, error) {
	select {
	case m := <-p.in:
		return copy(b, m), nil
	case <-p.closed:
		return 0, io.EOF
	}
}

func (p *pipe) Buffered() uint64 { return uint64(len(p.out)) }

func (p *pipe) Close() error {
	p.closeOnce.Do(func() { close(p.closed) })
	return nil
}

func wrapPair(t *testing.T, ordered bool) (a, b *seal.Channel, pa, pb *pipe) {
	t.Helper()
	pa, pb = newPipe()
	cfg := seal.Config{Send: testKey(t, "a to b"), Recv: testKey(t, "b to a"), Context: "c", Ordered: ordered, MaxMessage: 100}
	back := cfg
	back.Send, back.Recv = cfg.Recv, cfg.Send
	return seal.Wrap(pa, cfg), seal.Wrap(pb, back), pa, pb
}

func recvString(t *testing.T, c *seal.Channel) string {
	t.Helper()
	buf := make([]byte, 100)
	n, err := c.Recv(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestChannel(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		a, b, _, _ := wrapPair(t, ordered)
		for i := range 5 {
			if err := a.Send(fmt.Appendf(nil, "there %d", i)); err != nil {
				t.Fatal(err)
			}
			if err := b.Send(fmt.Appendf(nil, "back %d", i)); err != nil {
				t.Fatal(err)
			}
		}
		if a.Buffered() != 5 {
			t.Errorf("buffered %d", a.Buffered())
		}
		for i := range 5 {
			if got := recvString(t, b); got != fmt.Sprintf("there %d", i) {
				t.Fatal(got)
			}
			if got := recvString(t, a); got != fmt.Sprintf("back %d", i) {
				t.Fatal(got)
			}
		}
		if err := a.Send(make([]byte, 101)); !errors.Is(err, seal.ErrTooBig) {
			t.Errorf("101 bytes: %v", err)
		}
		if err := a.Send(make([]byte, 100)); err != nil {
			t.Errorf("100 bytes: %v", err)
		}
		if _, err := b.Recv(make([]byte, 99)); !errors.Is(err, io.ErrShortBuffer) {
			t.Errorf("99 bytes of room for 100: %v", err)
		}
	}
}

// A message reflected to its sender, replayed, or changed is dropped and counted;
// the next real one arrives.
func TestUnorderedDropsAndCounts(t *testing.T) {
	a, b, pa, _ := wrapPair(t, false)
	pa.tamper = func(m []byte) [][]byte {
		bad := append([]byte(nil), m...)
		bad[len(bad)-1] ^= 1
		return [][]byte{bad, m[:3], m, m}
	}
	for _, m := range []string{"one", "two"} {
		if err := a.Send([]byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	pa.tamper = nil
	if err := a.Send([]byte("three")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "two", "three"} {
		if got := recvString(t, b); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	if got := b.Dropped(); got != 6 {
		t.Errorf("%d records dropped, want 6", got)
	}
}

func TestReflectionRefused(t *testing.T) {
	pa, pb := newPipe()
	pa.in, pb.in = pa.out, pb.out // what is sent comes back
	a := seal.Wrap(pa, seal.Config{Send: testKey(t, "a to b"), Recv: testKey(t, "b to a"), Ordered: true, MaxMessage: 10})
	if err := a.Send([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Recv(make([]byte, 10)); !errors.Is(err, seal.ErrForged) {
		t.Fatalf("own message returned: %v", err)
	}
}

func TestOrderedEndsOnBadRecord(t *testing.T) {
	for name, tc := range map[string]struct {
		tamper func([]byte) [][]byte
		want   error
	}{
		"changed":   {func(m []byte) [][]byte { m[10] ^= 1; return [][]byte{m} }, seal.ErrForged},
		"removed":   {func([]byte) [][]byte { return nil }, seal.ErrOutOfOrder},
		"truncated": {func(m []byte) [][]byte { return [][]byte{m[:9]} }, seal.ErrShort},
	} {
		t.Run(name, func(t *testing.T) {
			a, b, pa, pb := wrapPair(t, true)
			pa.tamper = tc.tamper
			if err := a.Send([]byte("first")); err != nil {
				t.Fatal(err)
			}
			pa.tamper = nil
			if err := a.Send([]byte("second")); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := b.Recv(make([]byte, 100)); !errors.Is(err, tc.want) {
					t.Fatalf("got %v, want %v", err, tc.want)
				}
			}
			select {
			case <-pb.closed:
			default:
				t.Error("the channel below was left open")
			}
		})
	}
}

// A refusal announced beforehand costs no sequence number; a failure does, and on
// an ordered channel it is final.
func TestSendFailures(t *testing.T) {
	busy, broken := errors.New("busy"), errors.New("broken")
	for _, ordered := range []bool{false, true} {
		a, b, pa, _ := wrapPair(t, ordered)
		pa.refuse = busy
		if err := a.Send([]byte("x")); !errors.Is(err, busy) {
			t.Fatal(err)
		}
		pa.refuse = nil
		if err := a.Send([]byte("y")); err != nil {
			t.Fatal(err)
		}
		if got := recvString(t, b); got != "y" {
			t.Fatal(got)
		}
		pa.fail = broken
		if err := a.Send([]byte("x")); !errors.Is(err, broken) {
			t.Fatal(err)
		}
		pa.fail = nil
		if err := a.Send([]byte("z")); (err != nil) != ordered {
			t.Fatalf("ordered=%t: after a failure %v", ordered, err)
		}
	}
}

func TestCloseUnblocks(t *testing.T) {
	a, b, _, pb := wrapPair(t, false)
	done := make(chan error)
	go func() {
		_, err := b.Recv(make([]byte, 10))
		done <- err
	}()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
	<-pb.closed
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestConcurrentSends(t *testing.T) {
	a, b, _, _ := wrapPair(t, true)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if err := a.Send([]byte("m")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 400 {
		if got := recvString(t, b); got != "m" {
			t.Fatal(got)
		}
	}
	wg.Wait()
}
