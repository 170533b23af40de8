package main

import (
	"log/slog"

	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/portmap"
)

// portmap returns what has the router forward ports; nil if that is not wanted, or of no
// use because everybody who meets at these signaling servers is on this machine. Tell,
// which may be nil, is told what becomes of it.
func (o pathOptions) portmap(signal []string, tell func(string), log *slog.Logger) *portmap.Client {
	useful := false
	for _, u := range signal {
		useful = useful || !isLoopback(u)
	}
	if !useful || o.noPortmap || o.paths == link.PathsLAN {
		return nil
	}
	cfg := portmap.Config{Logger: log}
	if tell != nil {
		cfg.Observe = func(m portmap.Mapping) {
			if m.External.IsValid() || m.Network == "udp4" && m.Err != nil {
				tell("port mapping: " + m.String())
			}
		}
	}
	return portmap.New(cfg)
}

// asPortMapper keeps a nil pointer out of an interface.
func asPortMapper(c *portmap.Client) link.PortMapper {
	if c == nil {
		return nil
	}
	return c
}
