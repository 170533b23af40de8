package link

import (
	"encoding/binary"
	"log/slog"
	"net"
	"testing"

	"github.com/pion/stun"
	"github.com/pion/turn/v2"
)

// stunMessage builds a STUN message of raw attributes, padding and length right.
func stunMessage(typ uint16, attrs ...[]byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, typ)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint32(b, stunCookie)
	b = append(b, "transaction!"...)
	for _, a := range attrs {
		b = append(b, a...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-stunHeaderSize))
	return b
}

func stunAttr(typ uint16, value ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, typ)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

// ghsa34rh are datagrams of GHSA-34rh-wp3j-6cxc: an address attribute without a value at
// the end of the message, of which pion/stun v0.6 reads the first two bytes all the same.
func ghsa34rh() map[string][]byte {
	out := map[string][]byte{
		"empty":                 stunMessage(0x0101, stunAttr(attrXORMappedAddress)),
		"draft number, empty":   stunMessage(0x0101, stunAttr(attrXORMappedAddressV0)),
		"request":               stunMessage(0x0001, stunAttr(attrUsername, 'a', ':', 'b'), stunAttr(attrXORMappedAddress)),
		"after a good one":      stunMessage(0x0101, stunAttr(attrSoftware, 'x'), stunAttr(attrXORMappedAddress)),
		"error response, empty": stunMessage(0x0111, stunAttr(attrXORMappedAddress)),
	}
	return out
}

const attrSoftware = 0x8022

// pionPanics decodes as pion does while it gathers, and reports whether that panics.
func pionPanics(b []byte) (panicked bool) {
	defer func() { panicked = recover() != nil }()
	m := &stun.Message{Raw: append([]byte(nil), b...)}
	if m.Decode() != nil {
		return false
	}
	var (
		xor    stun.XORMappedAddress
		mapped stun.MappedAddress
		alt    stun.AlternateServer
		orig   stun.ResponseOrigin
		other  stun.OtherAddress
		code   stun.ErrorCodeAttribute
		unk    stun.UnknownAttributes
		user   stun.Username
		realm  stun.Realm
		nonce  stun.Nonce
		soft   stun.Software
	)
	for _, g := range []stun.Getter{&xor, &mapped, &alt, &orig, &other, &code, &unk, &user, &realm, &nonce, &soft} {
		_ = g.GetFrom(m)
	}
	for _, t := range []stun.AttrType{stun.AttrXORPeerAddress, stun.AttrXORRelayedAddress} {
		_ = xor.GetFromAs(m, t)
	}
	_ = stun.Fingerprint.Check(m)
	_ = stun.NewShortTermIntegrity("password").Check(m)
	_ = m.String()
	for _, a := range m.Attributes {
		_ = a.String()
	}
	return false
}

// The datagrams that kill pion are stopped. Should the first half of this fail, pion
// has been mended, and the guard is one of two.
func TestGuardStopsWhatPionDiesOf(t *testing.T) {
	for name, b := range ghsa34rh() {
		if !pionPanics(b) {
			t.Errorf("%s: pion survives it", name)
		}
		if _, ok := vetSTUN(b); ok {
			t.Errorf("%s: let through", name)
		}
	}
}

// What pion itself sends is let through.
func TestGuardPassesPion(t *testing.T) {
	ip4, ip6 := net.IPv4(192, 0, 2, 1), net.ParseIP("2001:db8::1")
	integrity := stun.NewShortTermIntegrity("passwordpasswordpassword")
	control := stun.RawAttribute{Type: stun.AttrICEControlling, Value: make([]byte, 8)}
	use := stun.RawAttribute{Type: stun.AttrUseCandidate}
	prio := stun.RawAttribute{Type: stun.AttrPriority, Value: make([]byte, 4)}
	for name, m := range map[string][]stun.Setter{
		"check":      {stun.BindingRequest, stun.TransactionID, stun.NewUsername("remote:local"), use, control, prio, integrity, stun.Fingerprint},
		"question":   {stun.BindingRequest, stun.TransactionID},
		"answer":     {stun.BindingSuccess, stun.TransactionID, &stun.XORMappedAddress{IP: ip4, Port: 40000}, integrity, stun.Fingerprint},
		"v6 answer":  {stun.BindingSuccess, stun.TransactionID, &stun.XORMappedAddress{IP: ip6, Port: 40000}},
		"old answer": {stun.BindingSuccess, stun.TransactionID, &stun.MappedAddress{IP: ip4, Port: 40000}, stun.NewSoftware("server of somebody")},
		"conflict":   {stun.BindingError, stun.TransactionID, stun.ErrorCodeAttribute{Code: stun.CodeRoleConflict, Reason: []byte("Role Conflict")}, integrity, stun.Fingerprint},
		"unknown":    {stun.BindingSuccess, stun.TransactionID, stun.UnknownAttributes{stun.AttrUseCandidate}, stun.RawAttribute{Type: 0xc057, Value: []byte{1, 2, 3}}},
	} {
		msg, err := stun.Build(m...)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := vetSTUN(msg.Raw); !ok {
			t.Errorf("%s: stopped: %x", name, msg.Raw)
		}
	}
}

func TestGuardReads(t *testing.T) {
	msg, err := stun.Build(stun.BindingSuccess, stun.TransactionID, &stun.XORMappedAddress{IP: net.IPv4(192, 0, 2, 1), Port: 40000}, stun.NewUsername("us:them"))
	if err != nil {
		t.Fatal(err)
	}
	info, ok := vetSTUN(msg.Raw)
	if !ok || string(info.username) != "us:them" || info.class != stunSuccess || info.transaction != msg.TransactionID {
		t.Errorf("%+v, %t", info, ok)
	}
	a, ok := parseSTUNAnswer(info, a4("198.51.100.1:3478"))
	if !ok || a.mapped != a4("192.0.2.1:40000") {
		t.Errorf("%+v, %t", a, ok)
	}
}

func TestGuardStops(t *testing.T) {
	good := stunMessage(0x0001, stunAttr(attrUsername, 'a', ':', 'b'))
	if _, ok := vetSTUN(good); !ok {
		t.Fatal("the message that the others are made from is stopped")
	}
	change := func(f func(b []byte) []byte) []byte { return f(append([]byte(nil), good...)) }
	many := make([][]byte, stunMaxAttrs+1)
	for i := range many {
		many[i] = stunAttr(attrSoftware)
	}
	for name, b := range map[string][]byte{
		"cut":                  good[:len(good)-4],
		"too long":             append(append([]byte(nil), good...), 0, 0, 0, 0),
		"odd length":           append(append([]byte(nil), good...), 0),
		"length field":         change(func(b []byte) []byte { b[3]++; return b }),
		"attribute over end":   change(func(b []byte) []byte { b[23] = 200; return b }),
		"first bits":           change(func(b []byte) []byte { b[0] |= 0x80; return b }),
		"DTLS with the cookie": change(func(b []byte) []byte { b[0] = 22; return b }),
		"indication":           stunMessage(0x0011),
		"TURN allocate":        stunMessage(0x0003),
		"many attributes":      stunMessage(0x0001, many...),
		"huge":                 stunMessage(0x0001, stunAttr(attrSoftware, make([]byte, stunMaxSize)...)),
		"one byte of address":  stunMessage(0x0101, stunAttr(attrXORMappedAddress, 0)),
		"family 0":             stunMessage(0x0101, stunAttr(attrXORMappedAddress, 0, 0, 1, 2, 3, 4, 5, 6)),
		"v4 as v6":             stunMessage(0x0101, stunAttr(attrXORMappedAddress, 0, 2, 1, 2, 3, 4, 5, 6)),
		"v6 as v4":             stunMessage(0x0101, stunAttr(attrXORMappedAddress, append([]byte{0, 1, 1, 2}, make([]byte, 16)...)...)),
		"short integrity":      stunMessage(0x0101, stunAttr(attrMessageIntegrity, 1, 2, 3)),
		"short fingerprint":    stunMessage(0x0101, stunAttr(attrFingerprint, 1, 2)),
		"short error":          stunMessage(0x0111, stunAttr(attrErrorCode, 0)),
		"odd unknown":          stunMessage(0x0111, stunAttr(attrUnknownAttributes, 0)),
		"long user name":       stunMessage(0x0001, stunAttr(attrUsername, make([]byte, stunMaxUsername+1)...)),
		"short priority":       stunMessage(0x0001, stunAttr(attrPriority, 1)),
		"use-candidate value":  stunMessage(0x0001, stunAttr(attrUseCandidate, 1, 2, 3, 4)),
		"short tie breaker":    stunMessage(0x0001, stunAttr(attrICEControlling, 1, 2, 3, 4)),
	} {
		if _, ok := vetSTUN(b); ok {
			t.Errorf("%s: let through: %x", name, b)
		}
		if looksLikeSTUN(b) && harmless(b) {
			t.Errorf("%s: called harmless", name)
		}
	}
	if !harmless([]byte("no STUN at all, twenty bytes and more")) {
		t.Error("what is not STUN is stopped")
	}
}

// Nothing that the guard lets through makes any of pion's decoders panic, and pion
// agrees that it is a message.
func FuzzGuard(f *testing.F) {
	for _, b := range ghsa34rh() {
		f.Add(b)
	}
	f.Add(stunMessage(0x0001, stunAttr(attrUsername, 'a', ':', 'b'), stunAttr(attrMessageIntegrity, make([]byte, 20)...), stunAttr(attrFingerprint, 1, 2, 3, 4)))
	f.Add(stunMessage(0x0101, stunAttr(attrXORMappedAddress, 0, 1, 1, 2, 3, 4, 5, 6)))
	f.Add(stunMessage(0x0101, stunAttr(attrXORMappedAddressV0, append([]byte{0, 2, 1, 2}, make([]byte, 16)...)...)))
	f.Add(stunMessage(0x0111, stunAttr(attrErrorCode, 0, 0, 4, 87, 'x')))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, ok := vetSTUN(b)
		if looksLikeSTUN(b) != stun.IsMessage(b) {
			t.Fatalf("pion disagrees on what is STUN: %x", b)
		}
		if !ok {
			return
		}
		if pionPanics(b) {
			t.Fatalf("let through, and pion panics: %x", b)
		}
		m := &stun.Message{Raw: append([]byte(nil), b...)}
		if err := m.Decode(); err != nil {
			t.Fatalf("let through, and pion cannot decode it: %v: %x", err, b)
		}
		if user, err := m.Get(stun.AttrUsername); err == nil && info.username == nil || err != nil && info.username != nil {
			t.Fatalf("pion disagrees on the user name: %q, %q", user, info.username)
		}
		parseSTUNAnswer(info, a4("192.0.2.1:1"))
	})
}

func BenchmarkGuard(b *testing.B) {
	msg, err := stun.Build(stun.BindingRequest, stun.TransactionID, stun.NewUsername("remote12:local123"),
		stun.RawAttribute{Type: stun.AttrICEControlling, Value: make([]byte, 8)},
		stun.RawAttribute{Type: stun.AttrPriority, Value: make([]byte, 4)},
		stun.NewShortTermIntegrity("passwordpasswordpassword"), stun.Fingerprint)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(msg.Raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := vetSTUN(msg.Raw); !ok {
			b.Fatal("stopped")
		}
	}
}

// killersOfTURN are messages with an attribute of which the TURN client reads more than
// there is.
func killersOfTURN() map[string][]byte {
	return map[string][]byte{
		"data from nowhere":       stunMessage(0x0017, stunAttr(0x0013, 'x'), stunAttr(attrXORPeerAddress)),
		"allocation without port": stunMessage(0x0103, stunAttr(attrLifetime, 0, 0, 1, 0), stunAttr(attrXORRelayedAddress)),
		"no lifetime":             stunMessage(0x0103, stunAttr(attrLifetime)),
		"short channel data":      {0x40, 0, 0, 9, 1, 2, 3},
		"a request":               stunMessage(0x0001, stunAttr(attrUsername, 'a', ':', 'b')),
		"a send indication":       stunMessage(0x0016, stunAttr(0x0013, 'x')),
		"a connection attempt":    stunMessage(0x001c, stunAttr(attrXORPeerAddress, 0, 1, 0, 1, 1, 2, 3, 4)),
		"nothing":                 {},
	}
}

func TestGuardTURN(t *testing.T) {
	for name, b := range killersOfTURN() {
		if vetTURN(b) {
			t.Errorf("%s passes", name)
		}
	}
	for name, b := range map[string][]byte{
		"data":         stunMessage(0x0017, stunAttr(attrXORPeerAddress, 0, 1, 0, 1, 1, 2, 3, 4), stunAttr(0x0013, make([]byte, 1300)...)),
		"allocation":   stunMessage(0x0103, stunAttr(attrXORRelayedAddress, 0, 1, 0, 1, 1, 2, 3, 4), stunAttr(attrLifetime, 0, 0, 2, 0x58)),
		"challenge":    stunMessage(0x0113, stunAttr(attrErrorCode, 0, 0, 4, 1), stunAttr(0x0014, 'r'), stunAttr(0x0015, 'n')),
		"permission":   stunMessage(0x0108),
		"channel":      stunMessage(0x0109),
		"refresh":      stunMessage(0x0104, stunAttr(attrLifetime, 0, 0, 2, 0x58)),
		"channel data": {0x40, 0, 0, 3, 1, 2, 3, 0},
	} {
		if !vetTURN(b) {
			t.Errorf("%s does not pass", name)
		}
	}
}

// What the guard lets pass of what a TURN server says does the client no harm.
func FuzzGuardTURN(f *testing.F) {
	for _, b := range killersOfTURN() {
		f.Add(b)
	}
	f.Add(stunMessage(0x0017, stunAttr(attrXORPeerAddress, 0, 1, 0, 1, 1, 2, 3, 4), stunAttr(0x0013, 'x')))
	f.Add(stunMessage(0x0103, stunAttr(attrXORRelayedAddress, 0, 1, 0, 1, 1, 2, 3, 4), stunAttr(attrLifetime, 0, 0, 2, 0x58)))
	f.Add(stunMessage(0x0113, stunAttr(attrErrorCode, 0, 0, 4, 1), stunAttr(0x0014, 'r'), stunAttr(0x0015, 'n')))
	f.Fuzz(func(t *testing.T, b []byte) {
		if !vetTURN(b) {
			return
		}
		client, err := turn.NewClient(&turn.ClientConfig{Conn: turnSocket{}, LoggerFactory: pionLogs{slog.New(slog.DiscardHandler)}})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		_, _ = client.HandleInbound(b, turnServerAddr)
		m := &stun.Message{Raw: append([]byte(nil), b...)}
		if isChannelData(b) || m.Decode() != nil {
			return
		}
		// What it reads of the answers to its questions.
		var (
			relayed stun.XORMappedAddress
			code    stun.ErrorCodeAttribute
			nonce   stun.Nonce
			realm   stun.Realm
		)
		_ = relayed.GetFromAs(m, stun.AttrXORRelayedAddress)
		_ = relayed.GetFromAs(m, stun.AttrXORPeerAddress)
		_, _, _ = code.GetFrom(m), nonce.GetFrom(m), realm.GetFrom(m)
	})
}
