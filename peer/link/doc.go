// Package link connects two machines directly: ICE, DTLS and SCTP data channels
// behind a small interface. Everything that touches pion is in here.
//
// Make one [Transport] a process. A guest calls [Transport.Dial], a host
// [Transport.Accept], each with a [Signaler] over an authenticated and encrypted
// tunnel to the other; both return a [Link] as soon as its channels are open.
//
//	t, err := link.NewTransport(link.Config{STUN: []string{"signal.example.org:3478"}})
//	l, err := t.Dial(ctx, signaler)
//	err = l.Control().Send(hello)
//
// [Transport.NAT] finds out what the NATs and firewalls in front of this machine do. The
// two ends of a link being set up tell each other, so that where no path is found a
// [*PathError] says why, for both sides.
//
// Obligations: every channel of a link must be read all the time, because the
// channels share one receive window, and one that is not read stops the others.
// Close links and, at the end, the transport; Close waits for what they started.
//
// Promised: nothing of a peer's descriptions reaches pion as text (the fields are
// checked, and pion reads what this package writes); no datagram reaches pion's STUN
// decoder that could make it panic; strangers' datagrams get no answer and cost no
// memory; a peer's link has bounded queues; candidates pointing at multicast,
// broadcast, loopback and cloud metadata addresses are refused. Nothing is relayed
// unless both ends have PathsAny and one of them names a TURN server; then that is asked
// only where no direct path is found soon, and [PathInfo.Relayed] says so.
//
// Not promised: that what is sent is confidential should the DTLS implementation
// fail. pion/dtls v2 draws AES-GCM nonces at random (GHSA-9f3f-wv7r-qc8r), so seal
// the channels with package seal; [Link.Binding] gives the salt for its keys.
// README.md says more about the faults of the pion versions in use, and what is done
// about each.
package link
