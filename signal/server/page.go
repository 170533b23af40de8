package server

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"strings"

	"github.com/pairterm/pairterm/signal"
)

// page is what a person sees who opens the server's address: to what it says
// there is the base URL, once, and who may use the server.
const page = `This is a pairterm signaling server. It introduces people who share a terminal
with people whose SSH keys they trust, so that their machines find each other.
It sees no terminal: what travels between them is encrypted from end to end, and
goes directly from one machine to the other.

Share your terminal:   pairterm host --signal %s --allow alice.pub
Join one:              pairterm join TICKET

%s`

const (
	pageOpen   = "Everybody may use this server.\n"
	pageHosts  = "Who shares a terminal here needs an SSH key that this server's operator has\nlisted. Who joins needs none.\n"
	pageGuests = "Who shares or joins a terminal here needs an SSH key that this server's\noperator has listed.\n"
)

const pageHTML = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>pairterm signaling server</title>
<style>body{max-width:50em;margin:3em auto;padding:0 1em}pre{white-space:pre-wrap}</style>
<h1>pairterm</h1>
<pre>%s</pre>
</html>
`

func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	scheme := "ws"
	if s.config.Proxies.forwardedTLS(r) {
		scheme = "wss"
	}
	base, err := signal.ParseURL(scheme + "://" + r.Host)
	if err != nil {
		base = "URL"
	}
	who := pageOpen
	if g := s.config.Gate; g != nil {
		who = pageHosts
		if g.Guests {
			who = pageGuests
		}
	}
	text := fmt.Sprintf(page, base, who)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Vary", "Accept")
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, text)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	_, _ = fmt.Fprintf(w, pageHTML, html.EscapeString(text))
}

// serveHealth answers a probe: ok, or what is wrong.
func (s *Server) serveHealth(w http.ResponseWriter, wrong string) {
	if s.isClosing() {
		wrong = "shutting down"
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if wrong != "" {
		http.Error(w, wrong, http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ok\n")
}

// unready is why new clients cannot be served, empty if they can.
func (s *Server) unready() string {
	switch {
	case s.config.Ready != nil && !s.config.Ready():
		return "not ready"
	case s.config.Cluster != nil && !s.config.Cluster.Ready():
		return "cut off from the other servers"
	}
	return ""
}
