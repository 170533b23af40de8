package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer/ticket"
	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
)

// registerTimeout bounds how long a host waits for its signaling servers before
// it gives up. A server that asks who it is may take a passphrase or a touch.
const registerTimeout = 90 * time.Second

// meetingPlace is where a host waits for its guests: its registration at one
// or more signaling servers, of which one may run inside.
type meetingPlace struct {
	listener *signal.Listener
	ticket   ticket.Ticket
	stun     []string // STUN servers that the signaling servers told of
	loopback bool     // guests come from this machine only
	inside   net.Listener
	states   chan signal.State // what became of a registration; drained by the host's loop
	group    *errgroup.Group
	stop     context.CancelFunc
}

// openMeetingPlace registers key at the servers of o, or at one that it starts
// inside, and returns when guests can knock. close it.
func openMeetingPlace(ctx context.Context, key ed25519.PrivateKey, o hostOptions, listen string, ids []keys.Identity) (*meetingPlace, error) {
	ctx, stop := context.WithCancel(ctx)
	p := &meetingPlace{stop: stop, states: make(chan signal.State, 16)}
	var gctx context.Context
	p.group, gctx = errgroup.WithContext(ctx)
	urls, public := o.signal, o.signal
	if len(urls) == 0 {
		l, err := server.Listen(ctx, listen)
		if err != nil {
			stop()
			if o.name != "" && o.signalListen == "" && errors.Is(err, syscall.EADDRINUSE) {
				return nil, fail(exitSystem, err, fmt.Sprintf("another `pairterm host --name %s` may be running; stop it, or choose another --name", o.name))
			}
			return nil, listenFailure(err, "--signal-listen")
		}
		room := signal.RoomOf(signal.Pin(key.Public().(ed25519.PublicKey)))
		s := server.New(server.Config{AllowHost: func(r signal.Room) bool { return r == room }})
		p.group.Go(func() error { return s.Run(gctx, l) })
		p.inside = l
		urls, public = []string{server.SelfURL(l)}, server.LocalURLs(l)
		if o.paths.hidePrivate {
			if public = slices.DeleteFunc(public, isPrivateURL); len(public) == 0 {
				p.close()
				return nil, usage("name a signaling server: --signal URL", "--no-private-addrs leaves no address for the ticket")
			}
		}
	}
	err := p.register(ctx, gctx, key, urls, public, ids)
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *meetingPlace) register(ctx, gctx context.Context, key ed25519.PrivateKey, urls, public []string, ids []keys.Identity) error {
	var err error
	if p.ticket, err = ticket.New(signal.Pin(key.Public().(ed25519.PublicKey)), public...); err != nil {
		return usage("see: pairterm host --help", "%w", err)
	}
	registered := make(chan signal.Info, 1)
	opts := &signal.Options{Identities: ids}
	p.listener, err = signal.NewListener(key, urls, opts, func(s signal.State) {
		if s.Phase == signal.PhaseRegistered {
			select {
			case registered <- s.Info:
			default:
			}
		}
		select {
		case p.states <- s:
		default: // nobody cares for old ones
		}
	})
	if err != nil {
		return usage("for example: --signal wss://signal.example.org", "%w", err)
	}
	// Nobody can be asked for a passphrase once the terminal is raw.
	lctx, raw := withPromptUntil(gctx)
	defer raw()
	p.group.Go(func() error { return p.listener.Run(lctx) })
	wctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	if err := p.listener.WaitRegistered(wctx); err != nil {
		return err
	}
	info := <-registered
	p.stun = info.STUN
	p.loopback = isLoopback(public[0])
	return nil
}

// address is where the server inside listens, empty if there is none.
func (p *meetingPlace) address() string {
	if p.inside == nil {
		return ""
	}
	return p.inside.Addr().String()
}

// close leaves the servers, and waits until all that was started has ended.
func (p *meetingPlace) close() error {
	p.stop()
	err := p.group.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// describeState says what a person wants to know of a registration, empty for
// nothing. What matters most comes first: a narrow window cuts the end.
func describeState(s signal.State) string {
	switch s.Phase {
	case signal.PhaseWaiting:
		return fmt.Sprintf("nobody new can join at %s for now: %v", s.URL, s.Err)
	case signal.PhaseReplaced:
		return fmt.Sprintf("nobody new can join at %s: %v", s.URL, s.Err)
	}
	return ""
}
