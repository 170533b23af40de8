// Package stream keeps a guest's copy of a state up to date, and carries what
// the guest types back, over a link that loses, delays, reorders and
// duplicates datagrams.
//
// The host has a [Sender], the guest a [Receiver]. What is synchronized is
// generic: a [Source] has a growing log of bytes, which can also be looked at
// as a sequence of states, and knows how to turn one state into another; a
// [Sink] is what is built from it at the other end. A terminal is one such
// thing: its log is its output, its state the screen.
//
//   - Host to guest: while the guest keeps up it gets the bytes of the log as
//     they are ([ModeLog]). When it does not (a slow link, a flood, loss) it is
//     spared the history and gets frames ([ModeFrame]): what turns the last
//     state that it acknowledged into the present one. Frames go out as fast as
//     they were seen to arrive, so that the guest is about a round trip behind
//     the present whatever the host prints. As soon as it has caught up, bytes
//     flow again.
//   - Guest to host: a log of events, keys and window sizes. Each arrives once
//     and in order, or the guest can say how much of it did not.
//   - Both survive their link: [Sender.Rebind] and [Receiver.Rebind] put a new
//     one under the same streams, which go on where they were.
//
// Everything is repeated by the streams themselves, on timers from the
// measured round trip, so a [Conn] should not repeat anything: a data channel
// that is unordered and without retransmissions is right.
//
// A constructor starts nothing. Run does the work, and returns after all that
// it started has ended. The other methods may be called from any goroutine, at
// any time.
//
// What the package does not do: it does not encrypt or authenticate, does not
// find or replace links (it says when one is silent, see Config.OnStall), and
// has no goodbye: that belongs on a reliable channel beside it.
package stream
