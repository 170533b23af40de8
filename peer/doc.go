// Package peer shares one thing, in practice a terminal, between a [Host] and
// its guests, directly from machine to machine.
//
// It composes what lies below it: guests meet the host through a signaling
// server (package signal), find out over a tunnel who the other is
// (peer/tunnel), agree inside it on a direct link (peer/link), whose channels
// are sealed with keys from the tunnel (peer/seal), and keep in step over it
// (peer/stream). What is synchronized is the caller's: a stream.Source at the
// host, a stream.Sink at each [Guest].
//
// Promises:
//
//   - Only who proved a key that the host's Authorize lets in becomes a guest,
//     and nothing about the session leaves the host before that.
//   - What a guest types is given to the host's program only while the guest's role
//     permits it, each key once and in order.
//   - A session outlives its link. A guest whose link is lost or silent meets
//     the host again and goes on; the host keeps its place for ResumeGrace.
//   - A guest that is slow, stuck or gone delays nobody.
//
// Neither end writes to a terminal or knows one; package term does.
package peer
