package signal_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pairterm/pairterm/signal"
)

// samples are one or more of every message, with their encoding.
var samples = []struct {
	msg signal.Message
	hex string
}{
	{&signal.ChallengeMsg{Nonce: [32]byte{1, 2, 31: 3}}, "81 00 0102" + strings.Repeat("00", 29) + "03"},
	{&signal.ChallengeMsg{Prove: true}, "81 01" + strings.Repeat("00", 32)},
	{&signal.OfferMsg{Keys: [][]byte{{1, 2, 3}, {4}}}, "03 02 0003 010203 0001 04"},
	{&signal.ChoiceMsg{Index: 15}, "85 0f"},
	{&signal.ProveMsg{Name: "a.b", Proof: []byte{7}}, "02 0003 612e62 07"},
	{
		&signal.ProveMsg{Name: strings.Repeat("a", 253) + ":4000", Proof: []byte{7}},
		"02 0102" + strings.Repeat("61", 253) + "3a34303030 07",
	},
	{
		&signal.RegisterMsg{Key: [32]byte{1}, Instance: [16]byte{2}, Signature: [64]byte{3}, Name: "[::1]:81"},
		"01 01" + strings.Repeat("00", 31) + "02" + strings.Repeat("00", 15) + "03" + strings.Repeat("00", 63) + "5b3a3a315d3a3831",
	},
	{
		&signal.ReadyMsg{Room: signal.Room{9}, Guests: 64, Idle: time.Second, Lifetime: time.Minute, PipeBytes: 1 << 18},
		"82 09" + strings.Repeat("00", 15) + "0040 000003e8 0000ea60 00040000 00",
	},
	{
		&signal.ReadyMsg{STUNPorts: []uint16{3478, 1}, STUNHost: "s.x"},
		"82" + strings.Repeat("00", 16) + "0000 00000000 00000000 00000000 02 0d96 0001 732e78",
	},
	{&signal.OpenMsg{Pipe: 258, Source: 1<<63 + 1}, "83 00000102 8000000000000001"},
	{&signal.DataMsg{Pipe: 1, Payload: []byte("hi")}, "10 00000001 6869"},
	{&signal.CloseMsg{Pipe: 1, Reason: signal.ReasonQuota}, "11 00000001 03"},
	{&signal.GoodbyeMsg{Code: signal.CodeNoRoom}, "84 07 00000000"},
	{&signal.GoodbyeMsg{Code: 200, Retry: 1500 * time.Millisecond, Text: "später"}, "84 c8 000005dc 7370c3a4746572"},
}

func TestWire(t *testing.T) {
	for _, s := range samples {
		want, err := hex.DecodeString(strings.ReplaceAll(s.hex, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.msg.Append(nil); !bytes.Equal(got, want) {
			t.Errorf("%#v encodes as\n%x, want\n%x", s.msg, got, want)
		}
		got, err := signal.Decode(want)
		if err != nil || !reflect.DeepEqual(got, s.msg) {
			t.Errorf("%x decodes as %#v, %v", want, got, err)
		}
		// No prefix of a message is the same message, nor is it with more behind it.
		for n := range want {
			if m, err := signal.Decode(want[:n]); err == nil && reflect.DeepEqual(m, s.msg) {
				t.Errorf("%x decodes as %#v", want[:n], m)
			}
		}
	}
}

func TestWireRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":                    {},
		"unknown type":             {0x42, 0, 0, 0, 0},
		"empty data":               {0x10, 0, 0, 0, 0},
		"long data":                append([]byte{0x10}, make([]byte, signal.MaxMessage)...),
		"short close":              {0x11, 0, 0, 0, 0},
		"long close":               {0x11, 0, 0, 0, 0, 0, 0},
		"offer of nothing":         {0x03, 0},
		"offer of too many":        append([]byte{0x03, 17}, bytes.Repeat([]byte{0, 1, 9}, 17)...),
		"offer of an empty key":    {0x03, 1, 0, 0},
		"offer with more behind":   {0x03, 1, 0, 1, 9, 9},
		"long offer":               append([]byte{0x03, 1, 0x30, 0}, make([]byte, 0x3000)...),
		"choice of the 17th":       {0x85, 16},
		"long choice":              {0x85, 0, 0},
		"short open":               {0x83, 0, 0, 0, 0},
		"unknown flag":             append([]byte{0x81, 2}, make([]byte, 32)...),
		"register without a name":  append([]byte{0x01}, make([]byte, 112)...),
		"register of upper case":   append(append([]byte{0x01}, make([]byte, 112)...), "Example"...),
		"register of default port": append(append([]byte{0x01}, make([]byte, 112)...), "x:443"...),
		"register of control":      append(append([]byte{0x01}, make([]byte, 112)...), "x\x1b"...),
		"proof without a name":     {0x02, 0, 0, 1, 2},
		"proof of nothing":         {0x02, 0, 1, 'x'},
		"proof cut off":            {0x02, 0},
		"proof with long name":     {0x02, 0, 9, 'x', 'y'},
		"three STUN ports":         append(append([]byte{0x82}, make([]byte, 30)...), 3, 0, 1, 0, 1, 0, 1),
		"STUN port 0":              append(append([]byte{0x82}, make([]byte, 30)...), 1, 0, 0),
		"missing STUN port":        append(append([]byte{0x82}, make([]byte, 30)...), 1, 0),
		"STUN host, no port":       append(append([]byte{0x82}, make([]byte, 30)...), 0, 'x'),
		"STUN host of control":     append(append([]byte{0x82}, make([]byte, 30)...), 1, 0, 1, 0x1b),
		"escape in goodbye":        append([]byte{0x84, 1, 0, 0, 0, 0}, "\x1b[2J"...),
		"line break in goodbye":    append([]byte{0x84, 1, 0, 0, 0, 0}, "a\nb"...),
		"bidi in goodbye":          append([]byte{0x84, 1, 0, 0, 0, 0}, "a\u202eb"...),
		"no UTF-8 in goodbye":      {0x84, 1, 0, 0, 0, 0, 0xff},
		"long goodbye":             append([]byte{0x84, 1, 0, 0, 0, 0}, strings.Repeat("a", 201)...),
	} {
		if m, err := signal.Decode(b); !errors.Is(err, signal.ErrMalformed) {
			t.Errorf("%s: %#v, %v", name, m, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range samples {
		f.Add(s.msg.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := signal.Decode(b)
		if err != nil {
			if m != nil || !errors.Is(err, signal.ErrMalformed) {
				t.Fatalf("%#v, %v", m, err)
			}
			return
		}
		if got := m.Append(nil); !bytes.Equal(got, b) {
			t.Fatalf("%x decodes as %#v, which encodes as %x", b, m, got)
		}
	})
}

// Every code and reason has words, and the unknown ones do too.
func TestWords(t *testing.T) {
	words := map[string]bool{}
	for c := range signal.CodeDetached {
		words[(c + 1).String()] = true
	}
	if len(words) != int(signal.CodeDetached) || words["code 14"] {
		t.Errorf("codes: %v", words)
	}
	words = map[string]bool{}
	for r := range signal.ReasonMalformed + 1 {
		words[r.String()] = true
	}
	if len(words) != int(signal.ReasonMalformed)+1 || words["reason 8"] {
		t.Errorf("reasons: %v", words)
	}
	if signal.Code(99).String() != "code 99" || signal.Reason(99).String() != "reason 99" {
		t.Error("an unknown code or reason has no words")
	}
}

func TestPinIsOfTheSubjectPublicKeyInfo(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if signal.Pin(key) != sha256.Sum256(spki) {
		t.Error("the pin is not SHA-256 of the SubjectPublicKeyInfo")
	}
	// Tickets that are out there hold pins; rooms must not move.
	if got := signal.RoomOf(signal.Pin(key)).String(); got != "8630f8b85d68e98993ceed21d96c627c" {
		t.Errorf("room of the all-zero seed: %s", got)
	}
}

func TestParseRoom(t *testing.T) {
	r := signal.Room{0xab, 15: 0x01}
	got, err := signal.ParseRoom(r.String())
	if err != nil || got != r {
		t.Errorf("ParseRoom(%q) = %v, %v", r, got, err)
	}
	for _, s := range []string{"", "ab", r.String() + "0", r.String()[:31], strings.ToUpper(r.String()), r.String()[:31] + "g", r.String()[:30] + "/.", strings.Repeat("é", 16)} {
		if _, err := signal.ParseRoom(s); err == nil {
			t.Errorf("ParseRoom(%q) succeeds", s)
		}
	}
}

func FuzzParseRoom(f *testing.F) {
	f.Add("00112233445566778899aabbccddeeff")
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := signal.ParseRoom(s); err == nil && r.String() != s {
			t.Fatalf("%q parses as %q", s, r)
		}
	})
}
