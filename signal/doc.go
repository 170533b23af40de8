// Package signal introduces hosts and guests to each other: it is the client
// of a signaling server, and the definition of what both say (wire.go). The
// server is in the package server below it.
//
// A host owns a session key (Ed25519). It registers the room that follows from
// that key ([Register], or [Listener] to stay registered, at several servers,
// for as long as it lives) and gets a [net.Conn] for every guest. A guest
// knows the room and one or more URLs ([Dial], [DialAny]) and gets the other
// end.
//
// Such a connection is a pipe through a stranger's machine. The server, and
// whoever else knows the room, may read, change, cut or flood it: nothing that
// comes out of it may be trusted before a tunnel with mutual authentication
// stands on it. It is also meant to be short-lived; servers limit how many
// bytes it carries, how long it may be silent and how long it may last
// ([Info]).
//
// All memory that a server or a peer can make this package use is bounded.
// Errors are sentinels below, wrapped together with their cause; a refusal by
// the server is a [*GoodbyeError], the end of a single pipe a [*PipeError].
package signal
