package peer_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer"
	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/ticket"
	"github.com/pairterm/pairterm/peer/tunnel"
	"github.com/pairterm/pairterm/signal"
)

// evilServer is a signaling server that lets guests in by itself: each of them
// gets a pipe of its own making, whose far end handle has.
type evilServer struct {
	web    *httptest.Server
	handle func(room signal.Room, guest net.Conn)
	pipes  sync.WaitGroup
}

func newEvilServer(t *testing.T, handle func(signal.Room, net.Conn)) *evilServer {
	s := &evilServer{handle: handle}
	s.web = httptest.NewServer(s)
	t.Cleanup(func() {
		s.web.Close()
		s.pipes.Wait()
	})
	return s
}

func (s *evilServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	room, err := signal.ParseRoom(r.URL.Path[len(signal.PathJoin):])
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set(signal.HeaderServer, signal.Version)
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{signal.Subprotocol}})
	if err != nil {
		return
	}
	s.pipes.Add(1)
	defer s.pipes.Done()
	defer ws.CloseNow()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	ready := &signal.ReadyMsg{Room: room, Guests: 9, Idle: time.Minute, Lifetime: time.Minute, PipeBytes: 1 << 20}
	if ws.Write(ctx, websocket.MessageBinary, ready.Append(nil)) != nil {
		return
	}
	near, far := net.Pipe()
	var work sync.WaitGroup
	work.Go(func() {
		defer far.Close()
		s.handle(room, far)
	})
	work.Go(func() { // to the guest
		defer cancel()
		buf := make([]byte, 8<<10)
		for {
			n, err := near.Read(buf)
			if err != nil {
				return
			}
			if ws.Write(ctx, websocket.MessageBinary, (&signal.DataMsg{Payload: buf[:n]}).Append(nil)) != nil {
				return
			}
		}
	})
	for {
		_, p, err := ws.Read(ctx)
		if err != nil {
			break
		}
		m, err := signal.Decode(p)
		if d, ok := m.(*signal.DataMsg); ok && err == nil {
			if _, err := near.Write(d.Payload); err != nil {
				break
			}
		}
	}
	near.Close()
	work.Wait()
}

// pass copies TLS records from src to dst through damage, which gets each of them with
// its number and returns what is to be passed on in its place.
func pass(dst, src net.Conn, damage func(i int, p []byte) [][]byte) {
	defer dst.Close()
	r := bufio.NewReader(src)
	for i := 0; ; i++ {
		head, err := r.Peek(5)
		if err != nil {
			return
		}
		record := make([]byte, 5+int(head[3])<<8+int(head[4]))
		if _, err := io.ReadFull(r, record); err != nil {
			return
		}
		for _, p := range damage(i, record) {
			if _, err := dst.Write(p); err != nil {
				return
			}
		}
	}
}

func untouched(_ int, p []byte) [][]byte { return [][]byte{p} }

// damaged is the record that is changed: the guest's hello, or one of those with which the
// host proves its session key. Those before are not encrypted.
const damaged = 3

// TestEvilServer puts a server between the two that changes what it carries.
func TestEvilServer(t *testing.T) {
	for name, mangler := range map[string]func() func(int, []byte) [][]byte{
		"replays": func() func(int, []byte) [][]byte {
			return func(i int, p []byte) [][]byte {
				if i == damaged {
					return [][]byte{p, p}
				}
				return [][]byte{p}
			}
		},
		"drops": func() func(int, []byte) [][]byte {
			return func(i int, p []byte) [][]byte {
				if i == damaged {
					return nil
				}
				return [][]byte{p}
			}
		},
		"reorders": func() func(int, []byte) [][]byte {
			var held []byte
			return func(i int, p []byte) [][]byte {
				switch i {
				case damaged:
					held = p
					return nil
				case damaged + 1:
					return [][]byte{p, held}
				}
				return [][]byte{p}
			}
		},
		"truncates": func() func(int, []byte) [][]byte {
			return func(i int, p []byte) [][]byte {
				if i == damaged {
					return [][]byte{p[:len(p)/2]}
				}
				return [][]byte{p}
			}
		},
		"swaps halves": func() func(int, []byte) [][]byte {
			return func(i int, p []byte) [][]byte {
				if i == damaged {
					return [][]byte{p[len(p)/2:], p[:len(p)/2]}
				}
				return [][]byte{p}
			}
		},
		"changes": func() func(int, []byte) [][]byte {
			return func(i int, p []byte) [][]byte {
				if i == damaged {
					p[len(p)/2] ^= 1
				}
				return [][]byte{p}
			}
		},
		"replays another session": func() func(int, []byte) [][]byte {
			// The first attempt is recorded and is what a second one gets.
			return nil
		},
	} {
		for _, direction := range []string{"guest to host", "host to guest"} {
			t.Run(name+" "+direction, func(t *testing.T) {
				n := newNetwork(t)
				n.source.Write([]byte("secret"))
				var old [][]byte // what an earlier session sent in this direction
				var mu sync.Mutex
				first := true
				s := newEvilServer(t, func(room signal.Room, guest net.Conn) {
					host, _, err := signal.Dial(context.Background(), n.web.URL, room, nil)
					if err != nil {
						t.Error(err)
						return
					}
					up, down := untouched, untouched
					mangle := mangler()
					if mangle == nil {
						mangle = func(i int, p []byte) [][]byte {
							mu.Lock()
							defer mu.Unlock()
							if first {
								old = append(old, p)
								return [][]byte{p}
							}
							if i < len(old) {
								return [][]byte{old[i]}
							}
							return nil
						}
					}
					if direction == "guest to host" {
						up = mangle
					} else {
						down = mangle
					}
					var both sync.WaitGroup
					both.Go(func() { pass(host, guest, up) })
					both.Go(func() { pass(guest, host, down) })
					both.Wait()
				})
				evil, err := ticket.New(n.ticket.Pin, s.web.URL)
				if err != nil {
					t.Fatal(err)
				}
				id := newIdentity(t, "alice")
				n.allow(id, keys.RoleType)
				try := func() (*guest, error) {
					g := &guest{page: newPage()}
					g.Guest = peer.NewGuest(peer.GuestConfig[string]{
						Ticket: evil, Identities: []keys.Identity{id}, Sink: g.page,
						Link: link.Config{Loopback: link.LoopbackOnly},
					})
					ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
					defer cancel()
					return g, g.Connect(ctx)
				}
				if mangler() == nil {
					g, err := try()
					if err != nil {
						t.Fatalf("an honest session through the server: %v", err)
					}
					g.Leave()
					g.Close()
					mu.Lock()
					first = false
					mu.Unlock()
				}
				g, err := try()
				t.Cleanup(g.Close)
				if err == nil {
					t.Fatal("joined through a server that changes what it carries")
				}
				if _, info := g.Host(); info != (peer.Info{}) || g.page.Mark() != "" {
					t.Errorf("the guest has been told %+v, %q", info, g.page.Mark())
				}
				if direction == "guest to host" && saw[peer.Joined](n) != (mangler() == nil) {
					t.Error("the host has seen somebody join whose words were changed")
				}
				// What is withheld ends in silence, what is changed is noticed; the word of
				// that may be lost when the pipe breaks under what the other end still sends.
				if !errors.Is(err, tunnel.ErrBroken) && !errors.Is(err, tunnel.ErrSilent) && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the guest reads: %v", err)
				}
			})
		}
	}
}

// TestServerPosesAsHost has the server answer with a certificate of its own.
func TestServerPosesAsHost(t *testing.T) {
	_, own, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	th, err := tunnel.NewHost(own)
	if err != nil {
		t.Fatal(err)
	}
	th.Authorize = func(context.Context, tunnel.Offer, bool, func(string) error) (tunnel.Grant, error) {
		t.Error("the guest has offered its keys to the server")
		return tunnel.Grant{Role: keys.RoleType}, nil
	}
	s := newEvilServer(t, func(_ signal.Room, guest net.Conn) {
		if _, err := th.Accept(context.Background(), guest); err == nil {
			t.Error("the guest took the server for its host")
		}
	})
	tk, err := ticket.New([32]byte{1, 2, 3}, s.web.URL)
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{page: newPage()}
	g.Guest = peer.NewGuest(peer.GuestConfig[string]{Ticket: tk, Identities: []keys.Identity{newIdentity(t, "alice")}, Sink: g.page})
	if _, err := g.attempt(t); !errors.Is(err, tunnel.ErrWrongHost) {
		t.Errorf("guest: %v, want ErrWrongHost", err)
	}
}

// TestServerTriesTheRoom lets the server itself, which knows the room and has
// seen the host's session key, knock with everything but a key.
func TestServerTriesTheRoom(t *testing.T) {
	n := newNetwork(t)
	n.source.Write([]byte("secret"))
	for name, speak := range map[string]func(net.Conn){
		"nothing":    func(c net.Conn) {},
		"plain text": func(c net.Conn) { io.WriteString(c, "GET / HTTP/1.1\r\n\r\n") },
		"no key": func(c net.Conn) {
			g := &tunnel.Guest{Pin: n.ticket.Pin}
			if _, err := g.Dial(t.Context(), c, nil); err == nil {
				t.Error("let in without a key")
			}
		},
		"resuming a session that is not its own": func(c net.Conn) {
			g := &tunnel.Guest{Pin: n.ticket.Pin}
			_, err := g.Dial(t.Context(), c, &tunnel.Resumption{Secret: make([]byte, tunnel.SecretSize)})
			var r *tunnel.RefusedError
			if !errors.As(err, &r) || r.Code != tunnel.RefusedUnknown {
				t.Errorf("resuming: %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, err := signal.Dial(t.Context(), n.web.URL, signal.RoomOf(n.ticket.Pin), nil)
			if err != nil {
				t.Fatal(err)
			}
			speak(c)
			c.Close()
			if gs := n.host.Guests(); len(gs) != 0 {
				t.Errorf("guests: %+v", gs)
			}
		})
	}
	// And the room still serves those who may.
	g := n.allowedGuest("alice", keys.RoleType)
	n.until("the text", func() bool { return g.page.Mark() == "secret" })
}
