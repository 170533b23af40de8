package server

import (
	"time"

	"github.com/pairterm/pairterm/signal/internal/ratelimit"
)

// Rate is a token bucket: how often something may happen.
type Rate = ratelimit.Rate

// Limits bounds what strangers can do. A zero field means its default; there
// is no way to say unlimited. An address here is an IPv4 address, or an IPv6
// /64. The size of one message is fixed by the wire format
// ([signal.MaxMessage], 16 KiB). What is said of a room or a pipe holds for guests
// at all servers of a [Cluster] together; the rest holds at each of them.
type Limits struct {
	// Connections is how many WebSockets, of hosts and guests, the server holds.
	Connections int
	// Rooms is how many hosts may be registered.
	Rooms int

	// AddressConnections is how many WebSockets one address may hold.
	AddressConnections int
	// AddressRate is how often one address may open a WebSocket.
	AddressRate Rate
	// Addresses is how many addresses are remembered; further ones share one budget.
	Addresses int

	// KeyConnections is how many WebSockets one key may hold, where a gate asks
	// for keys.
	KeyConnections int
	// KeyRate is how often one key may open one.
	KeyRate Rate

	// Guests is how many guests a room may have at once.
	Guests int
	// AddressGuests is how many of them may come from one address.
	AddressGuests int
	// RoomRate is how often guests may join one room.
	RoomRate Rate

	// PipeBytes is what a guest's pipe may carry in each direction, in bytes.
	PipeBytes int
	// PipeQueue is how many bytes from the host may wait for a slow guest.
	PipeQueue int
	// QueuedBytes is how many bytes may wait in the whole server.
	QueuedBytes int

	// Handshake bounds the time from connecting to the end of the registration.
	Handshake time.Duration
	// Proof is how much longer somebody may take whose key a gate knows: to enter
	// a passphrase, or to touch a security key.
	Proof time.Duration
	// HostIdle is the silence after which a host counts as gone. Hosts ping at
	// a third of it.
	HostIdle time.Duration
	// GuestIdle is how long no byte may pass over a pipe, in either direction.
	GuestIdle time.Duration
	// GuestLifetime is how long a pipe may last.
	GuestLifetime time.Duration
	// Message is how long one message may take to arrive, or to be sent.
	Message time.Duration

	// Drain is how long open pipes may go on after a goodbye to their host.
	Drain time.Duration
	// Spread is over how long clients are told to spread their return at most;
	// few are back sooner.
	Spread time.Duration
}

// DefaultLimits suits a public server on a small machine: full, it holds about
// half a GiB.
func DefaultLimits() Limits {
	return Limits{
		Connections:        32 << 10,
		Rooms:              16 << 10,
		AddressConnections: 256, // many hosts and guests live behind one carrier NAT
		AddressRate:        Rate{PerSecond: 20, Burst: 200},
		Addresses:          64 << 10,
		KeyConnections:     256, // a CI system's key may host from many machines
		KeyRate:            Rate{PerSecond: 5, Burst: 100},
		Guests:             128,
		AddressGuests:      64, // a class room behind one router
		RoomRate:           Rate{PerSecond: 10, Burst: 100},
		PipeBytes:          256 << 10, // setting up a connection takes about 10 KiB
		PipeQueue:          64 << 10,
		QueuedBytes:        64 << 20,
		Handshake:          10 * time.Second,
		Proof:              time.Minute,
		HostIdle:           90 * time.Second,
		GuestIdle:          2 * time.Minute,
		GuestLifetime:      10 * time.Minute,
		Message:            10 * time.Second,
		Drain:              3 * time.Second,
		Spread:             10 * time.Second,
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	orDefault(&l.Connections, d.Connections)
	orDefault(&l.Rooms, d.Rooms)
	orDefault(&l.AddressConnections, d.AddressConnections)
	orDefault(&l.AddressRate, d.AddressRate)
	orDefault(&l.Addresses, d.Addresses)
	orDefault(&l.KeyConnections, d.KeyConnections)
	orDefault(&l.KeyRate, d.KeyRate)
	orDefault(&l.Guests, d.Guests)
	orDefault(&l.AddressGuests, d.AddressGuests)
	orDefault(&l.RoomRate, d.RoomRate)
	orDefault(&l.PipeBytes, d.PipeBytes)
	orDefault(&l.PipeQueue, d.PipeQueue)
	orDefault(&l.QueuedBytes, d.QueuedBytes)
	orDefault(&l.Handshake, d.Handshake)
	orDefault(&l.Proof, d.Proof)
	orDefault(&l.HostIdle, d.HostIdle)
	orDefault(&l.GuestIdle, d.GuestIdle)
	orDefault(&l.GuestLifetime, d.GuestLifetime)
	orDefault(&l.Message, d.Message)
	orDefault(&l.Drain, d.Drain)
	orDefault(&l.Spread, d.Spread)
	return l
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
