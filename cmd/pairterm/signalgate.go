package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/signal/server"
)

// gate is the list of who may use a signaling server. A nil gate is an open
// server's.
type gate struct{ list *keys.Allowlist }

// openGate loads the lists of o, nil if there are none.
func openGate(ctx context.Context, o signalOptions, log *slog.Logger) (*gate, error) {
	if len(o.keys) == 0 {
		return nil, nil
	}
	grants, err := parseGrants("authorized-keys", o.keys, keys.RoleType)
	if err != nil {
		return nil, err
	}
	list, err := loadList(ctx, "--authorized-keys", keys.AllowlistOptions{
		Grants: grants,
		Warn:   func(err error) { log.Warn("authorized keys", "why", err) },
	})
	if err != nil {
		return nil, err
	}
	select {
	case <-list.Changes(): // that it was loaded is no news
	default:
	}
	if list.Current().Len() == 0 {
		log.Warn("the list of authorized keys is empty: nobody can use this server until a key is added")
	}
	return &gate{list}, nil
}

func (g *gate) config(guests bool) *server.Gate {
	if g == nil {
		return nil
	}
	return &server.Gate{Guests: guests, List: g.list.Current, Changes: g.list.Changes()}
}

// run watches the lists until ctx ends.
func (g *gate) run(ctx context.Context) error {
	if g == nil {
		return nil
	}
	if err := g.list.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// reload reads the lists again, those from the network too.
func (g *gate) reload(ctx context.Context) error {
	if g == nil {
		return nil
	}
	return g.list.Load(ctx)
}
