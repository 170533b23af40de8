package signal

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
)

// Registration is a host's presence at one server: the room of its session
// key, for as long as the connection to the server lasts. See [Listener] for
// one that outlives it. Its methods are safe for concurrent use.
type Registration struct {
	s *session
}

// Register connects to a server and opens the room of key. Errors wrap the
// sentinels of this package; ctx bounds the call, not the registration.
func Register(ctx context.Context, serverURL string, key ed25519.PrivateKey, opts *Options) (*Registration, error) {
	return register(ctx, serverURL, key, newInstance(), opts)
}

func newInstance() (id [16]byte) {
	rand.Read(id[:]) // never fails, see its documentation
	return id
}

func register(ctx context.Context, serverURL string, key ed25519.PrivateKey, instance [16]byte, opts *Options) (*Registration, error) {
	ctx, limit, opts := opts.start(ctx)
	defer limit.stop()

	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("session key of %d bytes, want an Ed25519 private key", len(key))
	}
	room := RoomOf(Pin(pub))
	h, err := connect(ctx, serverURL, PathHost, opts)
	if err != nil {
		return nil, err
	}
	info, err := h.register(ctx, limit, key, instance, room)
	if err != nil {
		_ = h.ws.CloseNow()
		return nil, err
	}
	s := newSession(h.ws, info, Addr{Server: info.Server, Room: room})
	s.conns = make(chan *pipe, acceptBacklog)
	s.start()
	return &Registration{s: s}, nil
}

func (h *handshake) register(ctx context.Context, limit *limit, key ed25519.PrivateKey, instance [16]byte, room Room) (Info, error) {
	msg, err := h.read(ctx)
	if err != nil {
		return Info{}, err
	}
	c, ok := msg.(*ChallengeMsg)
	if !ok {
		return h.ready(msg, nil, room) // a goodbye, or out of order
	}
	if c.Prove {
		if err := h.prove(ctx, limit, c.Nonce); err != nil {
			return Info{}, err
		}
	}
	reg := &RegisterMsg{
		Key:      [32]byte(key.Public().(ed25519.PublicKey)),
		Instance: instance,
		Name:     h.serverName(),
	}
	reg.Signature = [64]byte(ed25519.Sign(key, RegisterInput(h.serverName(), c.Nonce, instance)))
	if err := h.write(ctx, reg); err != nil {
		return Info{}, err
	}
	msg, err = h.read(ctx)
	return h.ready(msg, err, room)
}

// Accept returns the next guest's pipe, whose RemoteAddr is an [Addr]. When
// the server has said goodbye or is lost, and all guests that came before have
// been accepted, it returns why: a [*GoodbyeError] (test for [ErrReplaced]),
// [ErrLost] with its cause, or [net.ErrClosed] after Close.
//
// After a goodbye, pipes that are open go on until the server closes them, or
// Close is called.
func (r *Registration) Accept(ctx context.Context) (net.Conn, error) {
	select {
	case p := <-r.s.conns:
		return p, nil
	default:
	}
	select {
	case p := <-r.s.conns:
		return p, nil
	case <-r.s.leaving:
		return nil, r.s.reason()
	case <-r.s.done:
		return nil, r.s.reason()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Info is what the server said about the room.
func (r *Registration) Info() Info { return r.s.info }

// Done is closed when the connection to the server is gone, and with it all
// its pipes.
func (r *Registration) Done() <-chan struct{} { return r.s.done }

// Close closes the room and all its pipes. It returns when that is done or a
// second has passed, and everything that belongs to it has ended. Calling it
// again does nothing.
func (r *Registration) Close() error {
	r.s.shutdown()
	return nil
}
