package server

import (
	"context"
	"time"

	"github.com/pairterm/pairterm/signal"
)

// returning are the hosts that guests wait for: those of a server that has been
// restarted come back within seconds, and guests that knock meanwhile need not
// know.
type returning struct {
	until time.Time // set once
	rooms map[signal.Room]*awaited
}

// awaited is a room that is not here yet.
type awaited struct {
	come   chan struct{} // closed when its host has come
	guests int           // who wait
}

// await waits for the room's host as long as this may be on its way back, and
// reports whether it has come.
func (s *Server) await(ctx context.Context, room signal.Room) bool {
	left := time.Until(s.returning.until)
	if left <= 0 || s.config.Cluster != nil { // whose other servers have taken them
		return false
	}
	s.mu.Lock()
	if s.rooms[room] != nil {
		s.mu.Unlock()
		return true
	}
	a := s.returning.rooms[room]
	if a == nil {
		a = &awaited{come: make(chan struct{})}
		if s.returning.rooms == nil {
			s.returning.rooms = make(map[signal.Room]*awaited)
		}
		s.returning.rooms[room] = a
	}
	a.guests++
	s.mu.Unlock()

	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-a.come:
		return true
	case <-t.C:
	case <-ctx.Done():
	case <-s.closed.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.guests--; a.guests == 0 && s.returning.rooms[room] == a {
		delete(s.returning.rooms, room)
	}
	return false
}

// comeLocked tells guests who wait for the room that its host is here.
func (r *returning) comeLocked(room signal.Room) {
	if a := r.rooms[room]; a != nil {
		close(a.come)
		delete(r.rooms, room)
	}
}
