package link

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pion/ice/v2"
	"github.com/pion/stun"
	"github.com/pion/webrtc/v3"
)

// dtlsRetransmission is the pause before a flight of the DTLS handshake is repeated.
const dtlsRetransmission = 250 * time.Millisecond

// newPeerConnection makes pion's half of a link, with its channels, and ties it to the
// link. The figures for the settings are from measurements of this pion version.
func (l *Link) newPeerConnection(cert webrtc.Certificate, p plan, v view) error {
	var (
		se webrtc.SettingEngine
		to = l.transport.cfg.Timeouts
	)
	se.LoggerFactory = pionLogs{l.log}
	se.SetNet(l.transport.net.guarded)
	se.SetICEUDPMux(l.mux)
	se.SetICECredentials(l.local.Ufrag, l.local.Pwd)
	keepalive := to.Keepalive
	if !l.dialed {
		keepalive *= 2
	}
	se.SetICETimeouts(to.Disconnected, to.Lost, keepalive)
	se.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled) // gathering in 10 ms instead of a second
	// Pion lists interfaces only for TCP; it is to find there what peers are offered.
	se.SetIncludeLoopbackCandidate(true)
	se.SetIPFilter(func(ip net.IP) bool {
		a, _ := netip.AddrFromSlice(ip)
		return slices.Contains(v.addrs, a.Unmap())
	})
	// Never wait for a better pair once one works, unless there is a link already: 0.2 s
	// instead of 0.6 behind NATs.
	se.SetHostAcceptanceMinWait(0)
	se.SetSrflxAcceptanceMinWait(p.patience)
	se.SetPrflxAcceptanceMinWait(p.patience)
	se.SetRelayAcceptanceMinWait(p.patience)
	se.SetICEBindingRequestHandler(func(_ *stun.Message, _, remote ice.Candidate, pair *ice.CandidatePair) bool {
		return l.shouldFollow(remote, pair)
	})
	types := []webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6}
	if l.transport.cfg.TCP {
		types = append(types, webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6)
	}
	se.SetNetworkTypes(types)
	if l.tcp != nil {
		se.SetICETCPMux(l.tcp)
	}
	// Only who dials may be made to open TCP connections to addresses of the peer's.
	se.DisableActiveTCP(!l.dialed)

	// Under 29 % loss each way set-up takes 0.3–1.6 s with this, up to 8 s without.
	se.SetDTLSRetransmissionInterval(dtlsRetransmission)
	// ICE has validated the address, so the cookie exchange would cost a round trip for
	// nothing.
	se.SetDTLSInsecureSkipHelloVerify(true)

	// With both ends set, no packet needs a checksum that DTLS makes superfluous, and a
	// lost INIT does no harm.
	se.EnableSCTPZeroChecksum(true)
	se.SetSCTPMaxReceiveBufferSize(uint32(p.window))
	se.DetachDataChannels()

	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(se)).NewPeerConnection(webrtc.Configuration{
		Certificates: []webrtc.Certificate{cert},
	})
	if err != nil {
		return fmt.Errorf("making a peer connection: %w", err)
	}
	l.pc = pc

	pc.OnICEConnectionStateChange(l.onICEState)
	pc.OnDataChannel(l.onStrayChannel)
	pc.SCTP().OnClose(func(error) { l.fail(ErrPeerClosed) })
	pc.SCTP().Transport().OnStateChange(l.onDTLSState)
	l.iceTransport().OnSelectedCandidatePairChange(l.setPath)

	yes, no, zero := true, false, uint16(0)
	if l.sync, err = l.openChannel("sync", syncID, &webrtc.DataChannelInit{Ordered: &no, MaxRetransmits: &zero, Negotiated: &yes}); err != nil {
		return err
	}
	l.control, err = l.openChannel("control", controlID, &webrtc.DataChannelInit{Ordered: &yes, Negotiated: &yes})
	return err
}

// openChannel declares a channel. It can be used once l.opened is closed.
func (l *Link) openChannel(name string, id uint16, init *webrtc.DataChannelInit) (*Channel, error) {
	init.ID = &id
	dc, err := l.pc.CreateDataChannel(name, init)
	if err != nil {
		return nil, fmt.Errorf("making the %s channel: %w", name, err)
	}
	c := newChannel(l, name, dc)
	dc.OnOpen(func() {
		rw, err := dc.Detach()
		if err != nil {
			l.fail(fmt.Errorf("opening the %s channel: %w", name, err))
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		c.rw = rw
		l.open++
		if l.open == channelCount {
			close(l.opened)
		}
	})
	return c, nil
}

// onICEState notes that a path was found or lost.
func (l *Link) onICEState(s webrtc.ICEConnectionState) {
	l.logState("ICE state", s)
	switch s {
	case webrtc.ICEConnectionStateConnected:
		l.onceConn.Do(func() { close(l.connected) })
	case webrtc.ICEConnectionStateFailed:
		l.fail(ErrPathLost)
	case webrtc.ICEConnectionStateDisconnected:
		select {
		case <-l.opened:
		default:
			// The peer has given up, and pion does not say so before the channels are open.
			l.fail(fmt.Errorf("%w: nothing heard from the peer for %v", ErrHandshake, l.transport.cfg.Timeouts.Disconnected))
		}
	}
}

// onDTLSState notes that the handshake failed. Pion calls it under a lock.
func (l *Link) onDTLSState(s webrtc.DTLSTransportState) {
	l.logState("DTLS state", s)
	if s == webrtc.DTLSTransportStateFailed {
		l.fail(fmt.Errorf("%w: no DTLS connection with the agreed certificates", ErrHandshake))
	}
}

// logState logs the state of a part, but not those that it goes through because the link
// has ended.
func (l *Link) logState(part string, s fmt.Stringer) {
	select {
	case <-l.done:
	default:
		l.log.Debug(part, "state", s)
	}
}

// onStrayChannel closes a channel that the peer opened, and the link if it goes on.
func (l *Link) onStrayChannel(dc *webrtc.DataChannel) {
	if l.strays.Add(1) > strayChannels {
		l.fail(fmt.Errorf("%w: more than %d unknown channels", ErrProtocol, strayChannels))
		return
	}
	dc.OnOpen(func() {
		if rw, err := dc.Detach(); err == nil {
			_ = rw.Close() // the peer's channel, and loss
		}
	})
}
