//go:build unix

package main

import (
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/rogpeppe/go-internal/testscript"
)

type natsKey struct{}

// natsCommand runs a NATS server that wants a user "pairterm" with the password
// "secret of the test":
//
//	nats start VAR    sets VAR to its address; the same one as before, if there was one
//	nats stop
func natsCommand(ts *testscript.TestScript, neg bool, args []string) {
	last := ts.Value(natsKey{}).(*atomic.Pointer[natsserver.Server])
	if len(args) == 1 && args[0] == "stop" {
		last.Load().Shutdown()
		last.Load().WaitForShutdown()
		return
	}
	if neg || len(args) != 2 || args[0] != "start" {
		ts.Fatalf("usage: nats start VAR, or nats stop")
	}
	port := -1
	if _, p, err := net.SplitHostPort(ts.Getenv(args[1])); err == nil {
		port, err = strconv.Atoi(p)
		ts.Check(err)
	}
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: port, NoLog: true, NoSigs: true,
		Username: "pairterm", Password: "secret of the test"})
	ts.Check(err)
	go s.Start()
	if !s.ReadyForConnections(patience) {
		ts.Fatalf("the NATS server does not start")
	}
	last.Store(s)
	ts.Defer(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	ts.Setenv(args[1], s.Addr().String())
}

// balanceCommand runs a load balancer: connections go to one address after the
// other, but for those that refuse:
//
//	balance VAR ADDRESSES…    sets VAR to its address
func balanceCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: balance VAR ADDRESSES…")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], l.Addr().String())
	b := &balancer{backends: args[1:]}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { b.serve(c) })
		}
	})
	ts.Defer(func() {
		l.Close()
		b.close()
		wg.Wait()
	})
}

type balancer struct {
	backends []string

	mu    sync.Mutex
	next  int        // guarded by mu
	conns []net.Conn // guarded by mu
	done  bool       // guarded by mu
}

func (b *balancer) serve(c net.Conn) {
	defer c.Close()
	for range b.backends {
		b.mu.Lock()
		addr := b.backends[b.next%len(b.backends)]
		b.next++
		b.mu.Unlock()
		to, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			continue
		}
		defer to.Close()
		if !b.keep(c, to) {
			return
		}
		ended := make(chan struct{}, 2)
		pass := func(dst, src net.Conn) {
			_, _ = io.Copy(dst, src)
			// The end, in this direction; a reset looks the same.
			_ = dst.(*net.TCPConn).CloseWrite()
			ended <- struct{}{}
		}
		go pass(to, c)
		go pass(c, to)
		<-ended
		<-ended
		return
	}
}

func (b *balancer) keep(conns ...net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns = append(b.conns, conns...)
	return !b.done
}

func (b *balancer) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = true
	for _, c := range b.conns {
		c.Close()
	}
}
