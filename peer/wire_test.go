package peer

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer/link"
)

func TestControlRoundTrip(t *testing.T) {
	for _, m := range []any{
		controlHello{keys.RoleView},
		controlRole{keys.RoleType},
		controlRole{keys.RoleView},
		controlRoam{},
		Goodbye{Reason: ReasonEnded, Status: 137},
		Goodbye{Reason: ReasonFailed, Status: -1, Text: "no luck"},
	} {
		p := appendControl(nil, m)
		got, err := parseControl(p)
		if err != nil || got != m {
			t.Errorf("parse(append(%+v)) = %+v, %v", m, got, err)
		}
		for n := range p {
			if _, err := parseControl(p[:n]); err == nil {
				t.Errorf("%T cut to %d bytes is accepted", m, n)
			}
		}
		if _, err := parseControl(append(p, 0)); err == nil {
			t.Errorf("%T with a byte too many is accepted", m)
		}
	}
	if n := len(appendControl(nil, Goodbye{Text: strings.Repeat("x", 1<<16)})); n > maxControl {
		t.Errorf("a long goodbye has %d bytes", n)
	}
}

func TestInfoRoundTrip(t *testing.T) {
	want := Info{Cols: 200, Rows: 50, User: "bob", Host: "box", Session: "work", Title: "vim — notes"}
	p := want.append(nil)
	if got, err := parseInfo(p); err != nil || got != want {
		t.Errorf("parse(append(%+v)) = %+v, %v", want, got, err)
	}
	if got, err := parseInfo(append(p, "of a later version"...)); err != nil || got != want {
		t.Errorf("with a later version's fields: %+v, %v", got, err)
	}
	for n := range p {
		if _, err := parseInfo(p[:n]); err == nil {
			t.Errorf("cut to %d bytes it is accepted", n)
		}
	}
}

func FuzzControl(f *testing.F) {
	f.Add(appendControl(nil, controlHello{keys.RoleView}))
	f.Add(appendControl(nil, controlHistory{true, "lines"}))
	f.Add(appendControl(nil, controlBeside{7, "message"}))
	f.Add(appendControl(nil, controlRoam{}))
	f.Add(appendControl(nil, controlAsk{1 << 40}))
	f.Add(appendControl(nil, Goodbye{Reason: ReasonEnded, Status: 1, Text: "x"}))
	f.Fuzz(func(t *testing.T, p []byte) {
		m, err := parseControl(p)
		if err != nil {
			return
		}
		if g, ok := m.(Goodbye); ok && len(g.Text) > maxText {
			return // accepted, though we would not send it
		}
		if again := appendControl(nil, m); !bytes.Equal(again, p) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", p, m, again)
		}
	})
}

func FuzzInfo(f *testing.F) {
	f.Add(Info{Cols: 80, Rows: 24, User: "u", Host: "h"}.append(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		i, err := parseInfo(p)
		if err != nil || len(i.Title) > maxText || p[0] != infoVersion {
			return
		}
		if again := i.append(nil); !bytes.HasPrefix(p, again) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", p, i, again)
		}
	})
}

// TestGivenUp has a guest give up the link that it was setting up beside another one.
func TestGivenUp(t *testing.T) {
	s := &session{link: new(link.Link), beside: make(chan controlBeside, 2)}
	ctx, cancel := context.WithCancel(t.Context())
	sig := &besideSignaler{s: s, attempt: 3, giveUp: cancel}
	s.handBeside(controlBeside{attempt: 2}) // late words of another one
	s.handBeside(controlBeside{attempt: 3})
	if _, err := sig.Recv(ctx); !errors.Is(err, errGivenUp) {
		t.Errorf("receiving: %v", err)
	}
	if ctx.Err() == nil {
		t.Error("the host goes on")
	}
}
