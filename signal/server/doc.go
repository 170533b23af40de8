// Package server is pairterm's signaling server: a host registers the room of
// its session key, guests who know the room get a byte pipe to the host, and
// that is all. What travels over a pipe is a tunnel that the server cannot
// look into.
//
// [New] makes a [Server], which is an [http.Handler] for use behind any HTTP
// server; [Server.Run] serves listeners by itself and shuts down in good
// order. pairterm signal uses it, and a host without a configured server runs
// it on its own addresses, see [Listen] and [LocalURLs].
//
// A [Gate] asks people for an SSH key that is on a list; [Proxies] says whose
// word about clients' addresses counts. Certificates are in the package certs
// below, what Prometheus asks for in metrics, what joins several servers in
// cluster; ../deploy is how to run it all.
//
// The server holds no state but live connections. Everything that a stranger
// can make it do or hold is bounded by [Limits]. What one room does costs
// other rooms nothing: nobody waits for a host's or a guest's network but the
// goroutines of that room, no queue is without bound, and whoever does not
// keep up loses their own connection.
//
// Cost: an idle host is one goroutine and about 14 KiB, with TLS 22 KiB;
// deadlines are the runtime's, and no other timer or goroutine watches over a
// connection that says nothing. See BenchmarkIdleRooms and BenchmarkSetups.
package server
