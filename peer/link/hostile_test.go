package link_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pairterm/pairterm/peer/link"
	"github.com/pion/webrtc/v3"
)

// killers are datagrams of GHSA-34rh-wp3j-6cxc for a given question: see the guard's own
// tests for proof that pion dies of them.
func killers(question []byte) [][]byte {
	head := func(typ ...byte) []byte { return append(append(typ, 0, 4), question[4:20]...) }
	return [][]byte{
		append(head(0x01, 0x01), 0x00, 0x20, 0, 0),
		append(head(0x01, 0x01), 0x80, 0x20, 0, 0),
		append(head(0x01, 0x11), 0x00, 0x20, 0, 0),
		append(head(0x00, 0x01), 0x00, 0x20, 0, 0),
	}
}

// The datagrams that kill pion while it gathers do nothing, whether they come from the
// STUN server with the right transaction, or from anybody, at any time.
func TestKillerDatagrams(t *testing.T) {
	server := newSTUNServer(t, "203.0.113.7:4711")
	server.answer = func(q []byte) [][]byte {
		return append(killers(q), stunAnswer(q, server.mapped))
	}
	server.start()
	cfg := loopback()
	cfg.STUN = []string{server.String()}
	guest, host := newTransport(t, cfg), newTransport(t, cfg)
	addrs, err := host.Listen()
	if err != nil {
		t.Fatal(err)
	}
	stranger := listenLoopback(t)
	defer stranger.Close()
	attack := func() {
		q, err := hex.DecodeString("000100002112a442000102030405060708090a0b")
		if err != nil {
			t.Error(err)
		}
		for _, k := range killers(q) {
			for _, a := range addrs {
				if a.Addr().Is4() {
					if _, err := stranger.WriteToUDPAddrPort(k, a); err != nil {
						t.Error(err)
					}
				}
			}
		}
	}
	a, b := newSignalers()
	b.filter = func(m link.Message) []link.Message { attack(); return []link.Message{m} }
	l1, l2, err := connectOver(t, guest, host, a, b)
	if err != nil {
		t.Fatal(err)
	}
	attack()
	send(t, l1.Control(), "alive")
	if got := recv(t, l2.Control()); got != "alive" {
		t.Error(got)
	}
	if got := host.Stats().Malformed; got < 4 {
		t.Errorf("%d datagrams stopped, want more", got)
	}
}

// Strangers get no answer.
func TestStrangersAreIgnored(t *testing.T) {
	host := newTransport(t, loopback())
	addrs, err := host.Listen()
	if err != nil {
		t.Fatal(err)
	}
	var to netip.AddrPort
	for _, a := range addrs {
		if a.Addr().Is4() {
			to = a
		}
	}
	stranger := listenLoopback(t)
	defer stranger.Close()
	check, err := hex.DecodeString("0001000c2112a442000102030405060708090a0b" + "00060007" + hex.EncodeToString([]byte("abcd:ef")) + "00")
	if err != nil {
		t.Fatal(err)
	}
	sent := uint64(0)
	for _, b := range [][]byte{{}, {0}, {22}, bytes.Repeat([]byte{22, 0xfe, 0xfd}, 20), bytes.Repeat([]byte{0xff}, 1400), check, check[:20]} {
		if _, err := stranger.WriteToUDPAddrPort(b, to); err != nil {
			t.Fatal(err)
		}
		sent++
	}
	// They have all been seen when a link is up that was asked for after them.
	connect(t, newTransport(t, loopback()), host)
	if s := host.Stats(); s.Strangers+s.Malformed < sent {
		t.Errorf("%+v, of %d datagrams", s, sent)
	}
	if err := stranger.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if n, _, err := stranger.ReadFrom(make([]byte, 100)); err == nil {
		t.Errorf("got an answer of %d bytes", n)
	}
}

// rawMessage encodes whatever the test wants.
type rawSignaler struct {
	link.Signaler
	msgs chan link.Message
}

func (s rawSignaler) Recv(ctx context.Context) (link.Message, error) {
	select {
	case m := <-s.msgs:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func goodDescription(setup link.Setup) link.Description {
	return link.Description{Setup: setup, Ufrag: "abcdefgh", Pwd: "abcdefghijklmnopqrstuvwxyz012345", Fingerprint: [32]byte{1}}
}

func TestHostileDescriptions(t *testing.T) {
	guest := link.SetupActPass
	desc := goodDescription(guest)
	cand := link.Candidate{Type: link.CandidateHost, Transport: link.CandidateUDP, Priority: 1, Addr: netip.MustParseAddrPort("127.0.0.1:9")}
	with := func(f func(*link.Description)) link.Description { d := desc; f(&d); return d }
	many := []link.Message{desc}
	for i := range 5000 {
		c := cand
		c.Addr = netip.AddrPortFrom(c.Addr.Addr(), uint16(i+1))
		many = append(many, c)
	}
	for name, msgs := range map[string][]link.Message{
		"nothing":             {nil},
		"candidate first":     {cand},
		"end first":           {link.EndOfCandidates{}},
		"two descriptions":    {desc, desc},
		"wrong role":          {goodDescription(link.SetupActive)},
		"no role":             {goodDescription(0)},
		"CRLF in ufrag":       {with(func(d *link.Description) { d.Ufrag = "abcd\r\na=setup:passive" })},
		"CRLF in pwd":         {with(func(d *link.Description) { d.Pwd += "\r\na=fingerprint:md5 00:11" })},
		"empty ufrag":         {with(func(d *link.Description) { d.Ufrag = "" })},
		"megabytes of pwd":    {with(func(d *link.Description) { d.Pwd = strings.Repeat("a", 1<<20) })},
		"thousands":           many,
		"candidate port 0":    {desc, link.Candidate{Type: 1, Transport: 1, Priority: 1, Addr: netip.MustParseAddrPort("127.0.0.1:0")}},
		"candidate type 77":   {desc, link.Candidate{Type: 77, Transport: 1, Priority: 1, Addr: cand.Addr}},
		"candidate with zone": {desc, link.Candidate{Type: 1, Transport: 1, Priority: 1, Addr: netip.MustParseAddrPort("[fe80::1%lo]:9")}},
	} {
		t.Run(name, func(t *testing.T) {
			host := newTransport(t, loopback())
			_, s := newSignalers()
			raw := rawSignaler{s, make(chan link.Message, len(msgs))}
			for _, m := range msgs {
				raw.msgs <- m
			}
			if l, err := host.Accept(context.Background(), raw); l != nil || !errors.Is(err, link.ErrProtocol) {
				t.Errorf("%v, %v", l, err)
			}
		})
	}
}

// Candidates where a peer has no business are not sent a single packet.
func TestHostileCandidates(t *testing.T) {
	cfg := link.Config{Loopback: link.LoopbackAlways, Timeouts: link.Timeouts{Path: 250 * time.Millisecond}}
	var (
		mu sync.Mutex
		n  = newTapNet(t)
	)
	sent := 0
	n.out = func([]byte) bool { mu.Lock(); defer mu.Unlock(); sent++; return false }
	cfg.Net = n
	host := newTransport(t, cfg)
	_, s := newSignalers()
	raw := rawSignaler{s, make(chan link.Message, 40)}
	raw.msgs <- goodDescription(link.SetupActPass)
	bad := []string{
		"169.254.169.254:80", "[fd00:ec2::254]:80", "224.0.0.251:5353", "[ff02::fb]:5353", "255.255.255.255:9",
		"0.0.0.0:9", "[::]:9", "240.0.0.1:9", "169.254.7.7:9", "[fe80::1]:9", "100.100.100.200:80",
		"[64:ff9b::a9fe:a9fe]:80", "[2002:a9fe:a9fe::1]:80", "[::169.254.169.254]:80", "[fd00::5efe:a9fe:a9fe]:80",
	}
	for _, a := range bad {
		raw.msgs <- link.Candidate{Type: link.CandidateHost, Transport: link.CandidateUDP, Priority: 1, Addr: netip.MustParseAddrPort(a)}
	}
	raw.msgs <- link.EndOfCandidates{}
	_, err := host.Accept(context.Background(), raw)
	var pe *link.PathError
	if !errors.As(err, &pe) || pe.Refused != len(bad) || len(pe.Tried) != 0 {
		t.Errorf("%v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if sent != 0 {
		t.Errorf("%d packets sent", sent)
	}
}

// rawPeer is a guest made with pion alone, which does as it likes.
type rawPeer struct {
	pc  *webrtc.PeerConnection
	sig *signaler
}

func newRawPeer(t *testing.T, sig *signaler) *rawPeer {
	t.Helper()
	var se webrtc.SettingEngine
	se.DetachDataChannels()
	se.SetIncludeLoopbackCandidate(true)
	se.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() && ip.To4() != nil })
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	se.SetICEMulticastDNSMode(1) // disabled
	se.SetHostAcceptanceMinWait(0)
	se.SetPrflxAcceptanceMinWait(0)
	se.EnableSCTPZeroChecksum(true)
	se.LoggerFactory = quietLogs{}
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(se)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	p := &rawPeer{pc: pc, sig: sig}
	t.Cleanup(func() { _ = pc.GracefulClose() })
	return p
}

// negotiated opens one of the agreed channels.
func (p *rawPeer) negotiated(t *testing.T, id uint16) <-chan io.ReadWriteCloser {
	t.Helper()
	yes := true
	dc, err := p.pc.CreateDataChannel("x", &webrtc.DataChannelInit{Negotiated: &yes, ID: &id})
	if err != nil {
		t.Fatal(err)
	}
	open := make(chan io.ReadWriteCloser, 1)
	dc.OnOpen(func() {
		rw, err := dc.Detach()
		if err != nil {
			t.Error(err)
			return
		}
		open <- rw
	})
	return open
}

// dial offers, with changes to the description that the host gets.
func (p *rawPeer) dial(t *testing.T, change func(*link.Description)) {
	t.Helper()
	ctx := context.Background()
	gathered := webrtc.GatheringCompletePromise(p.pc)
	offer, err := p.pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.pc.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	<-gathered
	d := link.Description{Setup: link.SetupActPass}
	var cands []netip.AddrPort
	for _, line := range strings.Split(p.pc.LocalDescription().SDP, "\r\n") {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "a=ice-ufrag":
			d.Ufrag = value
		case "a=ice-pwd":
			d.Pwd = value
		case "a=fingerprint":
			raw, err := hex.DecodeString(strings.ReplaceAll(strings.TrimPrefix(value, "sha-256 "), ":", ""))
			if err != nil {
				t.Fatal(err)
			}
			d.Fingerprint = [32]byte(raw)
		case "a=candidate":
			f := strings.Fields(value)
			cands = append(cands, netip.MustParseAddrPort(f[4]+":"+f[5]))
		}
	}
	if change != nil {
		change(&d)
	}
	if err := p.sig.Send(ctx, d); err != nil {
		t.Fatal(err)
	}
	for _, a := range cands[:1] {
		if err := p.sig.Send(ctx, link.Candidate{Type: link.CandidateHost, Transport: link.CandidateUDP, Priority: 100, Addr: a}); err != nil {
			t.Fatal(err)
		}
	}
	m, err := p.sig.Recv(ctx)
	if err != nil {
		t.Fatal(err)
	}
	host := m.(link.Description)
	var fp []string
	for _, b := range host.Fingerprint {
		fp = append(fp, fmt.Sprintf("%02X", b))
	}
	sdp := "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n" +
		"c=IN IP4 0.0.0.0\r\na=mid:0\r\na=setup:active\r\na=ice-ufrag:" + host.Ufrag + "\r\na=ice-pwd:" + host.Pwd +
		"\r\na=fingerprint:sha-256 " + strings.Join(fp, ":") + "\r\na=sctp-port:5000\r\n"
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdp}); err != nil {
		t.Fatal(err)
	}
}

// accept runs the host's end beside a raw peer.
func accept(t *testing.T, host *link.Transport, sig link.Signaler) <-chan *link.Link {
	t.Helper()
	out := make(chan *link.Link, 1)
	go func() {
		l, err := host.Accept(context.Background(), sig)
		if err != nil {
			t.Error(err)
		}
		out <- l
	}()
	return out
}

// A peer that opens channels of its own has them closed; if it goes on, the link.
func TestStrayChannels(t *testing.T) {
	a, b := newSignalers()
	p := newRawPeer(t, a)
	control := p.negotiated(t, 1)
	host := newTransport(t, loopback())
	accepted := accept(t, host, b)
	p.dial(t, nil)
	l := <-accepted
	rw := <-control

	stray, err := p.pc.CreateDataChannel("mine", nil)
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	stray.OnOpen(func() {
		mine, err := stray.Detach()
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			_, err := mine.Read(make([]byte, 100))
			closed <- err
		}()
	})
	if err := <-closed; !errors.Is(err, io.EOF) {
		t.Errorf("a stray channel ended with %v", err)
	}
	if _, err := rw.Write([]byte("still good")); err != nil {
		t.Fatal(err)
	}
	if got := recv(t, l.Control()); got != "still good" {
		t.Error(got)
	}
	for i := range 50 {
		if _, err := p.pc.CreateDataChannel(fmt.Sprint("more ", i), nil); err != nil {
			break // the host has had enough
		}
	}
	if err := waitDone(t, l); !errors.Is(err, link.ErrProtocol) {
		t.Error(err)
	}
}

// A message that is too big for the agreement ends the link.
func TestPeerSendsTooMuch(t *testing.T) {
	a, b := newSignalers()
	p := newRawPeer(t, a)
	control := p.negotiated(t, 1)
	accepted := accept(t, newTransport(t, loopback()), b)
	p.dial(t, nil)
	l := <-accepted
	rw := <-control
	if _, err := rw.Write(make([]byte, 60<<10)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Control().Recv(make([]byte, link.MaxMessage)); !errors.Is(err, link.ErrProtocol) {
		t.Error(err)
	}
	if err := waitDone(t, l); !errors.Is(err, link.ErrProtocol) {
		t.Error(err)
	}
}

// A peer that resets an agreed channel has ended the link.
func TestPeerResetsChannel(t *testing.T) {
	a, b := newSignalers()
	p := newRawPeer(t, a)
	control := p.negotiated(t, 1)
	accepted := accept(t, newTransport(t, loopback()), b)
	p.dial(t, nil)
	l := <-accepted
	rw := <-control
	if err := rw.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Control().Recv(make([]byte, link.MaxMessage)); !errors.Is(err, link.ErrPeerClosed) {
		t.Error(err)
	}
	if err := waitDone(t, l); !errors.Is(err, link.ErrPeerClosed) {
		t.Error(err)
	}
}

// Who has not the certificate of the description gets no link.
func TestWrongCertificate(t *testing.T) {
	a, b := newSignalers()
	a.filter = func(m link.Message) []link.Message {
		if d, ok := m.(link.Description); ok {
			d.Fingerprint[5] ^= 1
			return []link.Message{d}
		}
		return []link.Message{m}
	}
	cfg := loopback()
	cfg.Timeouts.Keepalive, cfg.Timeouts.Disconnected = 20*time.Millisecond, 200*time.Millisecond
	guest, host := newTransport(t, cfg), newTransport(t, cfg)
	var errs [2]error
	var wg sync.WaitGroup
	wg.Go(func() { _, errs[0] = guest.Dial(context.Background(), a) })
	wg.Go(func() { _, errs[1] = host.Accept(context.Background(), b) })
	wg.Wait()
	if !errors.Is(errs[1], link.ErrHandshake) {
		t.Errorf("the end that was deceived: %v", errs[1])
	}
	if !errors.Is(errs[0], link.ErrHandshake) {
		t.Errorf("the other end: %v", errs[0])
	}
}

// Nothing of pion's goes to stderr or above debug level.
func TestLogging(t *testing.T) {
	var (
		mu  sync.Mutex
		out bytes.Buffer
	)
	cfg := loopback()
	cfg.Logger = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(p)
	}), &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
	l1, l2 := connect(t, newTransport(t, cfg), newTransport(t, cfg))
	if err := errors.Join(l1.Close(), l2.Close()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	text := out.String()
	for _, want := range []string{"pion=ice", "path selected", "candidate of the peer"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log does not tell %q", want)
		}
	}
	for _, bad := range []string{"level=INFO", "level=WARN", "level=ERROR"} {
		if strings.Contains(text, bad) {
			t.Errorf("the log has %s", bad)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
