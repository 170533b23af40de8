package server

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/netip"
	"regexp"
)

// shorten is an address as the log may have it: an IPv4 /16, or an IPv6 /32.
func shorten(a netip.Addr) string {
	if !a.IsValid() {
		return a.String()
	}
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is4() {
		bits = 16
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return "?"
	}
	return p.String()
}

// ends matches what package net makes of the two ends of a connection.
var ends = regexp.MustCompile(`\[[0-9A-Fa-f:.]+(%[^\]\s]+)?\]:\d+|\b\d{1,3}(\.\d{1,3}){3}:\d+\b`)

// shortenIn shortens the addresses in a text, with their ports: errors of the network
// name both ends of a connection.
func shortenIn(text string) string {
	return ends.ReplaceAllStringFunc(text, func(end string) string {
		ap, err := netip.ParseAddrPort(end)
		if err != nil {
			return "?"
		}
		return shorten(ap.Addr())
	})
}

// shown is an address as this server's log may have it.
func (s *Server) shown(a netip.Addr) string {
	if s.config.FullAddresses {
		return a.String()
	}
	return shorten(a)
}

// shownError is an error as this server's log may have it.
func (s *Server) shownError(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, io.EOF):
		return "connection closed"
	case s.config.FullAddresses:
		return err.Error()
	}
	return shortenIn(err.Error())
}

// ErrorLog is for the ErrorLog of an [net/http.Server]: what clients do wrong, at level
// debug, with addresses shortened unless full is set.
func ErrorLog(to *slog.Logger, full bool) *log.Logger {
	return log.New(errorLog{to, full}, "", 0)
}

type errorLog struct {
	to   *slog.Logger
	full bool
}

// Write implements [io.Writer].
func (l errorLog) Write(b []byte) (int, error) {
	if l.to.Enabled(context.Background(), slog.LevelDebug) {
		text := string(b[:max(0, len(b)-1)]) // without the newline
		if !l.full {
			text = shortenIn(text)
		}
		l.to.Debug(text)
	}
	return len(b), nil
}
