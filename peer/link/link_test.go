package link_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/seal"
)

func TestDialAccept(t *testing.T) {
	guest, host := newTransport(t, loopback()), newTransport(t, loopback())
	a, b := connect(t, guest, host)
	if a.Binding() != b.Binding() {
		t.Error("the ends disagree on the binding")
	}
	if !a.Dialed() || b.Dialed() {
		t.Error("the ends disagree on who dialed")
	}
	for _, dir := range []struct{ from, to *link.Link }{{a, b}, {b, a}} {
		for i := range 200 {
			send(t, dir.from.Control(), fmt.Sprint("message ", i))
		}
		for i := range 200 {
			if got := recv(t, dir.to.Control()); got != fmt.Sprint("message ", i) {
				t.Fatalf("message %d is %q", i, got)
			}
		}
		// Nothing is lost on loopback, so the sync channel can be counted on here.
		for i := range 50 {
			send(t, dir.from.Sync(), fmt.Sprint("key ", i))
			if got := recv(t, dir.to.Sync()); got != fmt.Sprint("key ", i) {
				t.Fatalf("key %d is %q", i, got)
			}
		}
	}
	for _, l := range []*link.Link{a, b} {
		p := l.Path()
		if p.Network != "udp4" && p.Network != "udp6" || p.RTT <= 0 || p.RTT > time.Second || !p.Remote.Addr().IsLoopback() || p.Relayed() {
			t.Errorf("path %+v", p)
		}
		if s := p.String(); !strings.HasPrefix(s, p.Network+" ") || !strings.Contains(s, p.Remote.String()) {
			t.Errorf("path reads %q", s)
		}
		select {
		case <-l.PathChanged():
		default:
			t.Error("the path was never announced")
		}
		if s := l.Stats(); s.BytesSent < 1000 || s.BytesReceived < 1000 || s.CongestionWindow == 0 || s.Silence > time.Minute {
			t.Errorf("stats %+v", s)
		}
		if l.Err() != nil {
			t.Errorf("a live link has the error %v", l.Err())
		}
	}
}

func TestMessageSizes(t *testing.T) {
	var sizes struct {
		sync.Mutex
		largest, datagrams int
	}
	n := newTapNet(t)
	n.out = func(b []byte) bool {
		sizes.Lock()
		defer sizes.Unlock()
		sizes.largest = max(sizes.largest, len(b))
		if len(b) > 700 {
			sizes.datagrams++
		}
		return true
	}
	cfg := loopback()
	cfg.Net = n
	a, b := connect(t, newTransport(t, cfg), newTransport(t, loopback()))
	count := func(size int) int {
		sizes.Lock()
		before := sizes.datagrams
		sizes.Unlock()
		msg := strings.Repeat("x", size)
		send(t, a.Sync(), msg)
		if got := recv(t, b.Sync()); got != msg {
			t.Fatalf("sent %d bytes, got %d", size, len(got))
		}
		sizes.Lock()
		defer sizes.Unlock()
		return sizes.datagrams - before
	}
	if got := count(link.MaxDatagram); got != 1 {
		t.Errorf("the longest datagram took %d packets", got)
	}
	if got := count(2 * link.MaxDatagram); got != 2 {
		t.Errorf("twice that took %d packets", got)
	}
	if got := count(2*link.MaxDatagram + 701); got != 3 {
		t.Errorf("a little more took %d packets", got)
	}
	sizes.Lock()
	largest := sizes.largest
	sizes.Unlock()
	// IPv6's minimum MTU, less the headers of IPv6 and UDP.
	if limit := 1280 - 40 - 8; largest > limit {
		t.Errorf("a packet of %d bytes, which not every path carries; the limit is %d", largest, limit)
	}

	for _, c := range []struct{ from, to *link.Channel }{{a.Control(), b.Control()}, {b.Sync(), a.Sync()}} {
		for _, size := range []int{0, 1, link.MaxMessage} {
			msg := strings.Repeat("y", size)
			send(t, c.from, msg)
			if got := recv(t, c.to); got != msg {
				t.Errorf("sent %d bytes, got %d", size, len(got))
			}
		}
		if err := c.from.Send(make([]byte, link.MaxMessage+1)); !errors.Is(err, link.ErrTooBig) {
			t.Errorf("a message too big: %v", err)
		}
	}
}

func TestPeerCloses(t *testing.T) {
	for _, closer := range []string{"guest", "host"} {
		t.Run(closer, func(t *testing.T) {
			a, b := connect(t, newTransport(t, loopback()), newTransport(t, loopback()))
			if closer == "host" {
				a, b = b, a
			}
			reading := make(chan error, 2)
			for _, c := range []*link.Channel{b.Sync(), b.Control()} {
				go func() {
					_, err := c.Recv(make([]byte, link.MaxMessage))
					reading <- err
				}()
			}
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			if err := a.Err(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the end that closed: %v", err)
			}
			if err := waitDone(t, b); !errors.Is(err, link.ErrPeerClosed) {
				t.Errorf("the other end: %v", err)
			}
			for range 2 {
				if err := <-reading; !errors.Is(err, link.ErrPeerClosed) {
					t.Errorf("a blocked Recv: %v", err)
				}
			}
			if err := b.Control().Send([]byte("x")); !errors.Is(err, link.ErrPeerClosed) {
				t.Errorf("sending: %v", err)
			}
			if err := b.Control().WaitBelow(context.Background(), 0); err != nil && !errors.Is(err, link.ErrPeerClosed) {
				t.Errorf("waiting: %v", err)
			}
			for range 2 { // closing again, and closing what the peer has closed
				if err := errors.Join(a.Close(), b.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A goodbye that was waited for arrives, although the link is closed right after.
func TestWaitBelow(t *testing.T) {
	a, b := connect(t, newTransport(t, loopback()), newTransport(t, loopback()))
	total := 64
	go func() {
		for range total {
			if err := a.Control().Send(make([]byte, link.MaxMessage)); err != nil {
				t.Error(err)
			}
		}
		if err := a.Control().Send([]byte("goodbye")); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := a.Control().WaitBelow(ctx, 0); err != nil {
			t.Error(err)
		}
		if got := a.Control().Buffered(); got != 0 {
			t.Errorf("%d bytes still buffered", got)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	for range total {
		recv(t, b.Control())
	}
	if got := recv(t, b.Control()); got != "goodbye" {
		t.Errorf("got %q", got)
	}
	if err := waitDone(t, b); !errors.Is(err, link.ErrPeerClosed) {
		t.Error(err)
	}
}

// A peer that does not read fills our buffers up to a bound, and no more.
func TestSendIsBounded(t *testing.T) {
	a, b := connect(t, newTransport(t, loopback()), newTransport(t, loopback()))
	msg := make([]byte, link.MaxMessage)
	var err error
	for n := 0; err == nil; n++ {
		if n > 2*link.MaxBuffered/len(msg)+100 {
			t.Fatal("no end of it")
		}
		err = a.Control().Send(msg)
	}
	if !errors.Is(err, link.ErrFull) {
		t.Fatal(err)
	}
	if got := a.Control().Buffered(); got > link.MaxBuffered+link.MaxMessage {
		t.Errorf("%d bytes buffered", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.Control().WaitBelow(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting in vain: %v", err)
	}
	// Once the peer reads, it goes on.
	go func() {
		buf := make([]byte, link.MaxMessage)
		for {
			if _, err := b.Control().Recv(buf); err != nil {
				return
			}
		}
	}()
	ctx, cancel = context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := a.Control().WaitBelow(ctx, link.MaxBuffered/2); err != nil {
		t.Fatal(err)
	}
	send(t, a.Control(), "more")
}

// Several links between the same two processes, one being set up beside the other.
func TestTwoLinksAtOnce(t *testing.T) {
	guest, host := newTransport(t, loopback()), newTransport(t, loopback())
	type pair struct{ a, b *link.Link }
	pairs := make([]pair, 2)
	var wg sync.WaitGroup
	for i := range pairs {
		s1, s2 := newSignalers()
		wg.Go(func() {
			var err error
			if pairs[i].a, pairs[i].b, err = connectOver(t, guest, host, s1, s2); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if pairs[0].a.Binding() == pairs[1].a.Binding() {
		t.Error("two links with one binding")
	}
	for i, p := range pairs {
		send(t, p.a.Sync(), fmt.Sprint("link ", i))
		send(t, p.b.Control(), fmt.Sprint("back ", i))
	}
	for i, p := range pairs {
		if got := recv(t, p.b.Sync()); got != fmt.Sprint("link ", i) {
			t.Errorf("link %d got %q", i, got)
		}
		if got := recv(t, p.a.Control()); got != fmt.Sprint("back ", i) {
			t.Errorf("link %d got %q", i, got)
		}
	}
	if err := pairs[0].a.Close(); err != nil {
		t.Fatal(err)
	}
	waitDone(t, pairs[0].b)
	send(t, pairs[1].a.Sync(), "still here")
	if got := recv(t, pairs[1].b.Sync()); got != "still here" {
		t.Error(got)
	}
}

func TestManyLinks(t *testing.T) {
	const n = 32
	cfg := loopback() // 32 handshakes at a time take a busy machine long
	cfg.Timeouts = link.Timeouts{Disconnected: patience, Path: patience, Handshake: patience}
	host := newTransport(t, cfg)
	guests := [4]*link.Transport{}
	for i := range guests {
		guests[i] = newTransport(t, cfg)
	}
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		all = make(map[string]*link.Link)
	)
	for i := range n {
		wg.Go(func() {
			s1, s2 := newSignalers()
			a, b, err := connectOver(t, guests[i%len(guests)], host, s1, s2)
			if err != nil {
				t.Error(err)
				return
			}
			name := fmt.Sprint("guest ", i)
			if err := a.Control().Send([]byte(name)); err != nil {
				t.Error(err)
			}
			buf := make([]byte, link.MaxMessage)
			m, err := b.Control().Recv(buf)
			if err != nil || string(buf[:m]) != name {
				t.Errorf("%q, %v", buf[:m], err)
			}
			mu.Lock()
			defer mu.Unlock()
			all[name] = b
		})
	}
	wg.Wait()
	if len(all) != n {
		t.Errorf("%d links", len(all))
	}
	// Closing the host's transport ends them all; see the leak check for the rest.
	if err := host.Close(); err != nil {
		t.Error(err)
	}
	for name, l := range all {
		if err := waitDone(t, l); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAcceptIsBounded(t *testing.T) {
	cfg := loopback()
	cfg.MaxPending = 2
	host := newTransport(t, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range cfg.MaxPending {
		_, s := newSignalers()
		started := make(chan struct{})
		var once sync.Once
		s.filter = func(m link.Message) []link.Message {
			once.Do(func() { close(started) })
			return []link.Message{m}
		}
		wg.Go(func() {
			if _, err := host.Accept(ctx, s); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		<-started
	}
	_, s := newSignalers()
	if _, err := host.Accept(ctx, s); !errors.Is(err, link.ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	cancel()
	wg.Wait()
	connect(t, newTransport(t, loopback()), host)
}

// Everything can be given up at any time, and nothing is left behind.
func TestGivingUp(t *testing.T) {
	t.Run("context", func(t *testing.T) {
		guest := newTransport(t, loopback())
		ctx, cancel := context.WithCancel(context.Background())
		s, _ := newSignalers()
		s.filter = func(m link.Message) []link.Message { cancel(); return nil }
		if l, err := guest.Dial(ctx, s); l != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("%v, %v", l, err)
		}
	})
	t.Run("transport", func(t *testing.T) {
		guest := newTransport(t, loopback())
		s, _ := newSignalers()
		closed := make(chan error, 1)
		var once sync.Once
		s.filter = func(m link.Message) []link.Message {
			once.Do(func() { go func() { closed <- guest.Close() }() })
			return nil
		}
		if l, err := guest.Dial(context.Background(), s); l != nil || !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v, %v", l, err)
		}
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if _, err := guest.Dial(context.Background(), s); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dialing afterwards: %v", err)
		}
		if _, err := guest.Accept(context.Background(), s); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accepting afterwards: %v", err)
		}
	})
	// At each of the messages in turn, either end.
	for n := range 4 {
		for _, who := range []string{"guest", "host"} {
			t.Run(fmt.Sprint(who, " after ", n), func(t *testing.T) {
				guest, host := newTransport(t, loopback()), newTransport(t, loopback())
				a, b := newSignalers()
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				var seen atomic.Int32
				a.filter = func(m link.Message) []link.Message {
					if int(seen.Add(1)) == n+1 {
						if who == "guest" {
							_ = guest.Close()
						} else {
							_ = host.Close()
						}
						cancel()
					}
					return []link.Message{m}
				}
				var wg sync.WaitGroup
				wg.Go(func() { _, _ = guest.Dial(ctx, a) })
				wg.Go(func() { _, _ = host.Accept(ctx, b) })
				wg.Wait()
			})
		}
	}
}

func TestConfig(t *testing.T) {
	for name, cfg := range map[string]link.Config{
		"port":           {Port: 70000},
		"negative port":  {Port: -1},
		"STUN":           {STUN: []string{"example.org"}},
		"STUN no host":   {STUN: []string{":3478"}},
		"STUN no port":   {STUN: []string{"stun:example.org:"}},
		"STUN URL, TURN": {STUN: []string{"turn:example.org"}},
	} {
		if tr, err := link.NewTransport(cfg); err == nil {
			t.Errorf("%s: accepted", name)
			_ = tr.Close()
		}
	}
}

func TestListen(t *testing.T) {
	host := newTransport(t, loopback())
	addrs, err := host.Listen()
	if err != nil || len(addrs) == 0 {
		t.Fatal(addrs, err)
	}
	for _, a := range addrs {
		if !a.Addr().IsLoopback() || a.Port() == 0 {
			t.Errorf("listens on %v", a)
		}
	}
	cfg := loopback()
	cfg.Port = int(addrs[0].Port())
	other := newTransport(t, cfg)
	if _, err := other.Listen(); err == nil || !strings.Contains(err.Error(), fmt.Sprint(cfg.Port)) {
		t.Errorf("a port that is taken: %v", err)
	}
	if _, err := other.Accept(context.Background(), nil); err == nil {
		t.Error("accepting on a port that is taken")
	}
}

// Without any configuration, two processes on one machine find each other over its own
// address, or over loopback if it has no other.
func TestDefaults(t *testing.T) {
	guest, host := newTransport(t, link.Config{}), newTransport(t, link.Config{})
	addrs, err := host.Listen()
	if err != nil {
		t.Fatal(err)
	}
	loop := 0
	for _, a := range addrs {
		if a.Addr().IsLoopback() {
			loop++
		}
	}
	if loop != 0 && loop != len(addrs) {
		t.Errorf("loopback beside other addresses: %v", addrs)
	}
	a, b := connect(t, guest, host)
	send(t, a.Control(), "hello")
	if got := recv(t, b.Control()); got != "hello" {
		t.Error(got)
	}
}

// Sealed with keys of the link's binding, the channels work as before, and another
// link's records are worth nothing on them.
func TestSealed(t *testing.T) {
	guest, host := newTransport(t, loopback()), newTransport(t, loopback())
	wrap := func(l *link.Link, c *link.Channel, ordered bool) *seal.Channel {
		binding := l.Binding()
		key := func(dir string) seal.Key {
			k, err := seal.Derive([]byte("exported from the tunnel"), binding[:], dir)
			if err != nil {
				t.Fatal(err)
			}
			return k
		}
		cfg := seal.Config{Send: key("guest to host"), Recv: key("host to guest"), Ordered: ordered, MaxMessage: link.MaxMessage - seal.Overhead}
		if !l.Dialed() {
			cfg.Send, cfg.Recv = cfg.Recv, cfg.Send
		}
		return seal.Wrap(c, cfg)
	}
	a, b := connect(t, guest, host)
	for _, ordered := range []bool{false, true} {
		near, far := wrap(a, a.Sync(), false), wrap(b, b.Sync(), false)
		if ordered {
			near, far = wrap(a, a.Control(), true), wrap(b, b.Control(), true)
		}
		buf := make([]byte, link.MaxMessage)
		for _, dir := range []struct{ from, to *seal.Channel }{{near, far}, {far, near}} {
			for _, size := range []int{0, 1, link.MaxDatagram - seal.Overhead, link.MaxMessage - seal.Overhead} {
				msg := strings.Repeat("s", size)
				if err := dir.from.Send([]byte(msg)); err != nil {
					t.Fatal(err)
				}
				if n, err := dir.to.Recv(buf); err != nil || string(buf[:n]) != msg {
					t.Fatalf("%d bytes: got %d, %v", size, n, err)
				}
			}
		}
		if ordered {
			// A record under another link's keys ends the channel, and with it the link.
			c, _ := connect(t, guest, host)
			forger := seal.NewSealer(seal.Key{}, "")
			rec, err := forger.Seal(nil, []byte("forged"))
			if err != nil {
				t.Fatal(err)
			}
			send(t, a.Control(), string(rec))
			if _, err := far.Recv(buf); err == nil {
				t.Error("a forged record was accepted")
			}
			if err := waitDone(t, b); !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
			if c.Err() != nil {
				t.Errorf("another link has ended too: %v", c.Err())
			}
		}
	}
}
