package stream

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// maxInbox bounds the datagrams that wait for the loop.
const maxInbox = 256

// maxOwed is how many datagrams are left unacknowledged at most.
const maxOwed = 32

// inbound is a datagram that waits for the loop.
type inbound struct {
	generation uint32
	at         time.Duration
	n          int
	buf        [MaxDatagram + 1]byte
}

var inbounds = sync.Pool{New: func() any { return new(inbound) }}

// poke makes the loop look for work.
func (e *endpoint) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *endpoint) rebind(conn Conn) {
	e.mu.Lock()
	select {
	case <-e.ended:
		e.mu.Unlock()
		conn.Close()
		return
	default:
	}
	old := e.replaced
	e.replaced = conn
	e.mu.Unlock()
	if old != nil {
		old.Close()
	}
	e.poke()
}

// snapshot returns the figures as the loop last left them.
func (e *endpoint) snapshot() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	st := e.stats
	st.Overrun = e.overrun.Load()
	st.Stalled = e.stalled.Load()
	return st
}

// run is the loop.
func (e *endpoint) run(ctx context.Context, notify <-chan struct{}) error {
	if e.started.Swap(true) {
		panic("stream: Run called twice")
	}
	defer e.end()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	armed := time.Duration(0) // when the timer fires; 0 for in an hour
	for {
		if err := e.turn(); err != nil {
			return err
		}
		if e.deadline != armed {
			armed = e.deadline
			wait := time.Hour
			if armed != 0 {
				wait = armed - e.clock()
			}
			timer.Reset(wait)
		}
		news := notify
		if e.side.patient() {
			news = nil // a flood does not wake the loop for each of its pieces
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case in := <-e.inbox:
			e.now = e.clock()
			if err := e.receive(in); err != nil {
				return err
			}
		case <-news:
		case <-e.wake:
		case <-timer.C:
			armed = 0
		}
	}
}

func (e *endpoint) end() {
	e.mu.Lock()
	close(e.ended)
	conn := e.replaced
	e.replaced = nil
	e.mu.Unlock()
	for _, c := range []Conn{conn, e.conn} {
		if c != nil {
			c.Close()
		}
	}
	// A reader may be waiting to tell that its link has ended.
	var drain sync.WaitGroup
	drain.Go(func() {
		for range e.inbox {
		}
	})
	e.tasks.Wait()
	close(e.inbox)
	drain.Wait()
}

// turn does all that is due, and finds the next deadline.
func (e *endpoint) turn() error {
	e.now, e.deadline = e.clock(), 0
	if err := e.receiveWaiting(); err != nil {
		return err
	}
	e.mu.Lock()
	if conn := e.replaced; conn != nil {
		e.replaced = nil
		e.mu.Unlock()
		e.attach(conn)
	} else {
		e.mu.Unlock()
	}
	e.timers()
	if err := e.side.service(); err != nil {
		return err
	}
	e.answer()
	e.publish()
	return nil
}

// receiveWaiting handles what has arrived already, so that one answer serves for
// all; but an acknowledgement tells of 65 datagrams at most.
func (e *endpoint) receiveWaiting() error {
	for range maxInbox {
		if e.owed >= maxOwed {
			return nil
		}
		select {
		case in := <-e.inbox:
			if err := e.receive(in); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

// attach puts conn in place of the present link.
func (e *endpoint) attach(conn Conn) {
	if old := e.conn; old != nil {
		e.tasks.Go(func() { old.Close() })
	}
	if e.generation > 0 {
		e.flight.abandon(e.missing)
		e.flight.recent, e.flight.lasting = 0, 0
		e.rtt, e.pace = rttEstimator{}, newPace()
	}
	e.generation++
	e.conn = conn
	generation := e.generation
	e.tasks.Go(func() { e.read(conn, generation) })
	e.stalled.Store(false)
	e.hasStamp = false
	e.pollAt, e.pollWait = 0, 0
	e.waitSince = 0
	// Let the other side know, and measure the path.
	e.probeAt, e.probeWait = e.now, e.probe
}

// read brings in datagrams until the link ends. It never waits for the loop:
// what that cannot keep up with is lost, as on any link.
func (e *endpoint) read(conn Conn, generation uint32) {
	for {
		in := inbounds.Get().(*inbound)
		n, err := conn.Recv(in.buf[:])
		if errors.Is(err, io.ErrShortBuffer) {
			n, err = 0, nil
		}
		in.generation, in.at, in.n = generation, e.clock(), n
		if err != nil {
			in.n = -1 // the last of this link
			e.inbox <- in
			return
		}
		select {
		case e.inbox <- in:
		default:
			e.overrun.Add(1)
			inbounds.Put(in)
		}
	}
}

// publish makes the figures of the loop visible.
func (e *endpoint) publish() {
	t := &e.tally
	t.RTT, t.RTTVar, t.MinRTT = e.rtt.srtt, e.rtt.rttvar, e.pace.least()
	t.Loss, t.Rate = e.flight.loss(), e.pace.rate()
	t.Window, t.Flight = e.pace.window, e.flight.bytes
	e.side.report(t)
	e.mu.Lock()
	e.stats = *t
	e.mu.Unlock()
}
