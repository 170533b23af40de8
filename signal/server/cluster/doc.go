// Package cluster joins signaling servers, its replicas, through NATS: any
// of them serves any room, and a host at one and a guest at another meet. A
// [Cluster] is the [server.Cluster] of one replica.
//
// Replicas share nothing but NATS subjects (core NATS: no stream, no store).
// Who has a room listens on a subject of that room; NATS itself knows whether
// anybody does, and says so at once. What a pipe carries goes from one replica
// to the other, each of which has one subject of its own. Registering the same
// session key again takes the room from whichever replica had it. wire.go has
// the messages, and the rules.
//
// # What fails, and what happens then
//
// A replica that dies is noticed by its silence within [lostAfter], or at once
// by whoever sends it something, since NATS tells that nobody listens; pipes to it
// end. Its hosts come back elsewhere by themselves; for [homeless] afterwards
// guests whose room is not to be found are kept waiting for a moment instead
// of being refused. Without NATS a replica serves the rooms that it has, says
// in [Cluster.Ready] that it is cut off, and comes back by itself.
//
// # Who sees what
//
// Everything that replicas send is encrypted and authenticated
// (XChaCha20-Poly1305) under a key made of [Options].Secret and the cluster's
// name, and names of subjects are keyed hashes. So who may use the cluster's
// subjects in NATS, and its operator,
//
//   - sees which replicas there are, how many rooms each has, when one is
//     registered and joined, and how long a pipe lasts and what it carries in bytes;
//   - cannot tell which room that is, also not of a ticket that it has, nor
//     who is in it or from what address;
//   - cannot register, take over or join a room, or say anything to a replica
//     that it takes for a replica's word, an old word said again included;
//   - can drop, delay or flood, and so keep hosts and guests from meeting, as
//     whoever runs the network can.
//
// Guests and hosts see nothing of NATS. A replica, and so whoever has the
// secret, can do what a signaling server can: it is blind to what is in a pipe,
// which is a tunnel that the two ends authenticate themselves.
//
// Without a secret everything works, but whoever can reach the subjects counts
// as a replica.
package cluster
