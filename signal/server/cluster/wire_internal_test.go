package cluster

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
)

var messages = []message{
	&beat{},
	&beat{leaving: true},
	&query{id: id{1}},
	&held{id: id{2}, stamp: 3},
	&claim{stamp: 4, instance: [16]byte{5}},
	&join{pipe: id{6}, origin: server.Origin{7}},
	&accept{pipe: id{8}},
	&refuse{pipe: id{9}, code: signal.CodeRoomFull, wait: 1500 * time.Millisecond},
	&open{pipe: id{10}},
	&data{pipe: id{11}, offset: 12, bytes: []byte("hello")},
	&data{pipe: id{11}, offset: 1 << 40, bytes: make([]byte, signal.MaxPayload)},
	&taken{pipe: id{13}, total: 14},
	&closed{pipe: id{15}, reason: signal.ReasonIdle, total: 16},
}

func TestDecode(t *testing.T) {
	for _, m := range messages {
		b := m.append(nil)
		got, err := decode(b)
		if err != nil {
			t.Errorf("%#v: %v", m, err)
			continue
		}
		if !bytes.Equal(got.append(nil), b) {
			t.Errorf("%#v came back as %#v", m, got)
		}
		if _, err := decode(b[:len(b)-1]); !errors.Is(err, errMalformed) && len(b) < maxMessage && b[0] != typeData {
			t.Errorf("%#v without its last byte: %v", m, err)
		}
		if _, err := decode(append(b, 0)); err == nil && (b[0] != typeData || len(b) == maxMessage) {
			t.Errorf("%#v with a byte more was taken", m)
		}
	}
	for _, text := range []string{"", "00", "ff", "0102", "09" + hex.EncodeToString(make([]byte, 24))} {
		b, _ := hex.DecodeString(text)
		if m, err := decode(b); !errors.Is(err, errMalformed) {
			t.Errorf("%q decodes as %#v, %v", text, m, err)
		}
	}
}

// Whatever decodes, encodes to the same bytes again.
func FuzzDecode(f *testing.F) {
	for _, m := range messages {
		f.Add(m.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Fatal(err)
			}
			return
		}
		if got := m.append(nil); !bytes.Equal(got, b) {
			t.Fatalf("%x decodes as %#v, which encodes as %x", b, m, got)
		}
	})
}

func testKeys(t testing.TB, name, secret string) *keys {
	t.Helper()
	k, err := newKeys(name, []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A sealed message opens with the same secret, under the same name, at the same
// subject, and unchanged; else not.
func TestSeal(t *testing.T) {
	a, b := testKeys(t, "x", "secret"), testKeys(t, "x", "secret")
	for _, m := range messages {
		s := a.seal("here", m)
		if len(s) != sealed+len(m.append(nil)) {
			t.Errorf("%#v: sealed in %d bytes", m, len(s))
		}
		sender, _, got, err := b.unseal("here", s)
		if err != nil || sender != a.self || !bytes.Equal(got.append(nil), m.append(nil)) {
			t.Errorf("%#v came as %#v from %s, %v", m, got, sender, err)
		}
		for name, open := range map[string]func() error{
			"another secret":  func() error { _, _, _, err := testKeys(t, "x", "other").unseal("here", s); return err },
			"another cluster": func() error { _, _, _, err := testKeys(t, "y", "secret").unseal("here", s); return err },
			"another subject": func() error { _, _, _, err := b.unseal("there", s); return err },
			"one bit changed": func() error {
				c := slices.Clone(s)
				c[len(c)/2] ^= 1
				_, _, _, err := b.unseal("here", c)
				return err
			},
			"another sender": func() error {
				c := slices.Clone(s)
				copy(c, b.self[:])
				_, _, _, err := b.unseal("here", c)
				return err
			},
			"cut off": func() error { _, _, _, err := b.unseal("here", s[:sealed-1]); return err },
		} {
			if err := open(); !errors.Is(err, errForged) {
				t.Errorf("%#v with %s: %v", m, name, err)
			}
		}
	}
	if bytes.Equal(a.seal("here", messages[0]), a.seal("here", messages[0])) {
		t.Error("the same message twice is the same bytes twice")
	}
}

// Subjects say nothing of a room to who has not the secret.
func TestSubjects(t *testing.T) {
	room := signal.Room{1, 2, 3}
	a, b, c := testKeys(t, "x", "secret"), testKeys(t, "x", "secret"), testKeys(t, "x", "other")
	if a.roomSubject(room) != b.roomSubject(room) {
		t.Error("two replicas do not agree on the subject of a room")
	}
	if a.roomSubject(room) == c.roomSubject(room) || a.roomSubject(room) == a.roomSubject(signal.Room{1, 2, 4}) {
		t.Error("two subjects are one")
	}
	if bytes.Contains([]byte(a.roomSubject(room)), []byte(room.String()[:8])) {
		t.Errorf("the room %s shows in %s", room, a.roomSubject(room))
	}
	if a.self == b.self {
		t.Error("two replicas have the same id")
	}
}

func TestReplays(t *testing.T) {
	var r replays
	for _, c := range []struct {
		n     uint64
		fresh bool
	}{
		{1, true}, {1, false}, {3, true}, {2, true}, {2, false}, {3, false},
		{100, true}, {37, true}, {36, false}, {37, false}, {99, true}, {100, false},
		{math.MaxUint64, true}, {100, false}, {math.MaxUint64, false}, {math.MaxUint64 - 1, true},
	} {
		if got := r.fresh(c.n); got != c.fresh {
			t.Errorf("fresh(%d) = %v", c.n, got)
		}
	}
}

// What a replica said before it was lost does not make it live again; what it
// says now does.
func TestOldWords(t *testing.T) {
	c, err := New(Options{Secret: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	other := testKeys(t, DefaultName, "secret")
	subject := c.keys.beatSubject()
	say := func(b []byte, peers int64) {
		t.Helper()
		c.handle(&nats.Msg{Subject: subject, Data: b})
		if n := c.Stats().Peers; n != peers {
			t.Errorf("%d peers, want %d", n, peers)
		}
	}
	old := [][]byte{other.seal(subject, &beat{}), other.seal(subject, &beat{})}
	say(old[0], 1)
	say(old[1], 1)
	c.lose(other.self, "a test")
	say(old[0], 0)
	say(old[1], 0)
	say(other.seal(subject, &beat{}), 1)
	if n := c.Stats().Refused["replayed"]; n != 2 {
		t.Errorf("%d messages count as replayed", n)
	}
}

// fakeRoom takes every guest, up to a hundred.
type fakeRoom struct {
	ends    []*fakeEnd
	yielded int
}

func (r *fakeRoom) Reserve(_ server.Origin, way server.ClusterPipe) (server.ClusterEnd, signal.Code, time.Duration) {
	if len(r.ends) == 100 {
		return nil, signal.CodeRoomFull, 0
	}
	e := &fakeEnd{way: way}
	r.ends = append(r.ends, e)
	return e, 0, 0
}

func (r *fakeRoom) Yield([16]byte) { r.yielded++ }

// fakeEnd checks what it is told: nothing after the end, no more than fits.
type fakeEnd struct {
	way    server.ClusterPipe
	got    int
	closed bool
	wrong  string
}

func (e *fakeEnd) Opened() { e.live("opened") }
func (e *fakeEnd) Deliver(b []byte) {
	e.live("delivered")
	if e.got += len(b); e.got > server.ClusterWindow {
		e.wrong = "more than the window"
	}
}
func (e *fakeEnd) Closed(signal.Reason) {
	e.live("closed")
	e.closed = true
}
func (e *fakeEnd) live(what string) {
	if e.closed {
		e.wrong = what + " after the end"
	}
}

// FuzzHandle has a replica that went mad say anything to another: nobody but its
// own pipes suffers. The input is cut into messages; where they go to is in
// their first byte.
func FuzzHandle(f *testing.F) {
	var all []byte
	for _, m := range messages[:10] {
		b := m.append(nil)
		all = append(append(all, byte(len(b)), 'r'), b...)
		all = append(append(all, byte(len(b)), 'i'), b...)
	}
	f.Add(all)
	say := func(to byte, m message) []byte {
		b := m.append(nil)
		return append([]byte{byte(len(b)), to}, b...)
	}
	f.Add(slices.Concat(
		say('r', &join{pipe: id{1}}), say('i', &open{pipe: id{1}}), say('i', &data{pipe: id{1}, bytes: []byte("hello")}),
		say('i', &data{pipe: id{1}, offset: 6, bytes: []byte("gap")}), say('i', &closed{pipe: id{1}}), say('t', &query{id: id{1}})))
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := New(Options{Secret: []byte("secret")})
		if err != nil {
			t.Fatal(err)
		}
		local := new(fakeRoom)
		at := signal.Room{7}
		leave := c.Enter(context.Background(), at, [16]byte{}, local)
		mad := testKeys(t, DefaultName, "secret")
		for len(in) >= 2 {
			n, to := int(in[0]), in[1]
			in = in[2:]
			n = min(n, len(in))
			m, err := decode(in[:n])
			raw := in[:n]
			in = in[n:]
			subject := c.keys.replicaSubject(c.keys.self)
			switch to {
			case 'r':
				subject = c.keys.roomSubject(at)
			case 'b':
				subject = c.keys.beatSubject()
			case 't':
				c.handle(&nats.Msg{Subject: subject + "." + hex.EncodeToString(raw), Header: nats.Header{"Status": {"503"}}})
				continue
			}
			if err != nil {
				c.handle(&nats.Msg{Subject: subject, Data: raw})
				continue
			}
			c.handle(&nats.Msg{Subject: subject, Data: mad.seal(subject, m)})
		}
		c.lose(mad.self, "the end")
		for _, e := range local.ends {
			if e.wrong != "" {
				t.Fatal(e.wrong)
			}
			e.way.Close(signal.ReasonDone)
		}
		if local.yielded > 1 {
			t.Fatalf("the room was yielded %d times", local.yielded)
		}
		leave()
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.pipes) > 0 || len(c.rooms) > 0 || len(c.queries) > 0 {
			t.Fatalf("left behind: %d pipes, %d rooms, %d queries", len(c.pipes), len(c.rooms), len(c.queries))
		}
	})
}

// The greatest claim holds whoever hears of whom when.
func TestContest(t *testing.T) {
	c, err := New(Options{Secret: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	other := testKeys(t, DefaultName, "secret")
	for _, tt := range []struct {
		name  string
		stamp func(ours uint64) uint64
		self  id
		yield bool
	}{
		{"later", func(o uint64) uint64 { return o + 1 }, id{}, true},
		{"earlier", func(o uint64) uint64 { return o - 1 }, id{0xff}, false},
		{"same, greater replica", func(o uint64) uint64 { return o }, id{0xff, 0xff, 0xff, 0xff}, true},
		{"same, smaller replica", func(o uint64) uint64 { return o }, id{}, false},
		{"far in the future", func(uint64) uint64 { return math.MaxUint64 }, id{}, true},
	} {
		local := new(fakeRoom)
		at := signal.Room{9}
		leave := c.Enter(t.Context(), at, [16]byte{}, local)
		subject := c.keys.roomSubject(at)
		other.self = tt.self
		m := &claim{stamp: tt.stamp(c.rooms[subject].stamp)}
		c.handle(&nats.Msg{Subject: subject, Data: other.seal(subject, m)})
		if (local.yielded == 1) != tt.yield {
			t.Errorf("%s: yielded %d times", tt.name, local.yielded)
		}
		leave()
		leave()
		if len(c.rooms) != 0 {
			t.Errorf("%s: the room is still there", tt.name)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"pairterm": true, "a-b_C9": true, "": false, "a.b": false, "a b": false, "*": false, ">": false, "é": false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestCheckURL(t *testing.T) {
	for url, ok := range map[string]bool{
		"nats://127.0.0.1:4222": true, "tls://a.example": true, "ws://a:80": true, "wss://[::1]:443": true,
		"http://a": false, "a:4222": false, "nats://": false, "nats://u:geheim@": false, "nats://u:geheim@ x": false,
	} {
		err := CheckURL(url)
		if (err == nil) != ok {
			t.Errorf("%q: %v", url, err)
		}
		if err != nil && bytes.Contains([]byte(err.Error()), []byte("geheim")) {
			t.Errorf("the password shows in %q", err)
		}
	}
}
